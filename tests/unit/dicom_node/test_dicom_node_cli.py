"""The command line as a person and a script meet it: sentences in place of tracebacks, and the exit codes that are promised."""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result

from dicom_node.cli import cli
from tests.unit.inference.made import write_series

CONFIG = """
[site]
timezone = "Europe/Zurich"
[paths]
state = "{state}"
[receive]
host = "127.0.0.1"
port = {port}
calling_ae_titles = ["PACS"]
[[pacs]]
name = "pacs-main"
ae_title = "PACS"
host = "127.0.0.1"
port = {closed}
"""
LOGS = ("", "dicom_node", "storage", "hl7", "inference", "pynetdicom", "pydicom", "highdicom", "apscheduler")
ORDERS = ("hold", "release", "requeue", "withdraw")

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process without settings of ours, left as it was: commands set mask and log of the one they are run in."""
    for name in [name for name in os.environ if name.startswith("DICOM_NODE")]:
        monkeypatch.delenv(name)
    logs = [logging.getLogger(name) for name in LOGS]
    mask, handlers, levels = os.umask(0o022), logs[0].handlers[:], [log.level for log in logs]
    yield
    os.umask(mask)
    logs[0].handlers[:] = handlers
    for log, level in zip(logs, levels, strict=True):
        log.setLevel(level)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, for as long as the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def config(tmp_path: Path, closed_port: int) -> Path:
    path = tmp_path / "config.toml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    path.write_text(CONFIG.format(state=tmp_path / "state", port=free, closed=closed_port))
    return path


def run(*arguments: object) -> Result:
    """The exit code and all that was said; never a traceback."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def node(config: Path) -> Run:
    return lambda *arguments: run("--config", config, *arguments)


def fits(schema: str, text: str) -> None:
    file = resources.files("dicom_node") / "schemas" / f"{schema}.schema.json"
    jsonschema.validate(json.loads(text), json.loads(file.read_text()))


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


@pytest.mark.parametrize("words", commands(cli), ids=" ".join)
def test_every_command_and_every_option_says_what_it_is_for(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert command.help
    assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []
    assert run(*words, "--help").exit_code == 0


def test_init_writes_a_file_that_only_lacks_what_a_site_must_say(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    assert run("init", "-o", path).exit_code == 0
    fault = run("--config", path, "check")
    assert fault.exit_code == 2
    assert "1 fault" in fault.output
    assert "site.timezone" in fault.output
    assert run("init", "-o", path).exit_code == 3
    assert run("init", "-o", path, "--force").exit_code == 0


def test_no_configuration_at_all_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dicom_node.cli.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    result = run("status")
    assert result.exit_code == 2
    assert "dicom-node init" in result.output


def test_mistakes_of_file_and_environment_stand_in_one_report(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(config.read_text().replace("[receive]", "[receive]\nprot = 1").replace("timezone", "timezne"))
    monkeypatch.setenv("DICOM_NODE__SELECT__GPA", "partial")
    for arguments in (("check",), ("status",), ("serve",), ("analyse", config.parent, "--output", config.parent / "o")):
        result = run("--config", config, *arguments)
        assert result.exit_code == 2
        for words in ("receive.prot", "site.timezne", "site.timezone", "DICOM_NODE__SELECT__GPA", "__SELECT__GAP"):
            assert words in result.output


def test_check_reaches_out_and_says_what_it_could_not_reach(node: Run) -> None:
    result = node("check")
    assert result.exit_code == 4
    assert "NOT reached     pacs-main" in result.output
    assert node("check", "--no-peers").exit_code == 0


def test_check_says_that_an_address_is_not_of_this_machine(config: Path) -> None:
    config.write_text(config.read_text().replace('host = "127.0.0.1"', 'host = "192.0.2.1"', 1))
    result = run("--config", config, "check", "--no-peers")
    assert result.exit_code == 4
    assert "receive.host" in result.output


def test_a_state_folder_that_cannot_be_made_is_a_sentence(config: Path) -> None:
    (config.parent / "file").write_text("no folder")
    config.write_text(config.read_text().replace(str(config.parent / "state"), str(config.parent / "file" / "state")))
    assert run("--config", config, "check", "--no-peers").exit_code == 1
    assert run("--config", config, "status").exit_code == 1
    assert run("analyse", config.parent, "--output", config.parent / "file" / "out").exit_code == 1


def test_an_empty_node_says_that_it_is_empty(node: Run) -> None:
    result = node("status")
    assert result.exit_code == 0
    assert "none yet" in result.output
    assert "shadow mode" in result.output
    fits("status", node("status", "--json").output)
    assert node("deliveries", "list").output == "no deliveries yet\n"
    fits("deliveries", node("deliveries", "list", "--json").output)
    assert node("peers", "refused").output == "no caller was rejected\n"
    assert "agree" in node("ledger", "verify").output


def test_what_the_node_does_not_know_is_a_mistake_of_the_command_line(node: Run) -> None:
    asked = [("status", "--why", "17"), *((order, "17", "--why", "test") for order in ORDERS)]
    asked += [
        ("deliveries", "replay", "4", "--why", "test"),
        ("deliveries", "replay", "--why", "test"),
        ("deliveries", "list", "--to", "nobody"),
        ("deliveries", "list", "--state", "gone"),
        ("deliveries", "pause", "--to", "nobody", "--why", "test"),
        ("peers", "echo", "--to", "nobody"),
    ]
    for arguments in asked:
        result = node(*arguments)
        assert result.exit_code == 2, arguments
        assert {"17", "4", "nobody", "gone", "replay"} & set(result.output.replace("'", " ").replace(":", " ").split())


@pytest.mark.parametrize("order", ORDERS)
def test_a_decision_needs_its_reason(order: str, node: Run) -> None:
    for arguments in ((order, "1"), (order, "1", "--why", " ")):
        result = node(*arguments)
        assert result.exit_code == 2
        assert "--why" in result.output


def test_a_destination_that_is_not_there_is_not_reached(node: Run) -> None:
    assert node("peers", "echo").exit_code == 4
    assert json.loads(node("peers", "echo", "--json").output)[0]["reached"] is False


def test_a_pause_says_who_and_why_until_it_ends(node: Run) -> None:
    node("deliveries", "pause", "--to", "pacs-main", "--by", "anna", "--why", "new disk")
    assert "paused by anna: new disk" in node("deliveries", "list").output
    node("deliveries", "resume", "--to", "pacs-main", "--by", "anna", "--why", "done")
    assert "paused" not in node("deliveries", "list").output


def test_a_copy_of_the_ledger_is_kept_before_it_is_migrated(node: Run, tmp_path: Path) -> None:
    node("status")
    assert node("ledger", "migrate").exit_code == 0
    (kept,) = (tmp_path / "state").glob("ledger.sqlite.before-*")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_rebuild_asks_first(config: Path) -> None:
    result = CliRunner().invoke(cli, ["--config", str(config), "ledger", "rebuild"], input="n\n")
    assert result.exit_code == 130
    assert run("--config", config, "ledger", "rebuild", "--yes").exit_code == 0


def test_sending_names_what_is_wrong_with_the_address(tmp_path: Path, closed_port: int) -> None:
    (file,) = write_series(tmp_path, 1)
    for address in ("PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", "@host:104"):
        result = run("send", file, "--to", address)
        assert result.exit_code == 2
        assert "AE@HOST:PORT" in result.output
    assert run("send", file, "--to", f"PACS@127.0.0.1:{closed_port}").exit_code == 4


def test_a_folder_of_rubbish_is_analysed_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "rubbish"
    folder.mkdir()
    assert run("analyse", folder, "--output", tmp_path / "none").exit_code == 2
    (folder / "a.dcm").write_bytes(os.urandom(3000))
    (folder / "b.txt").write_text("hello")
    (folder / "c.dcm").touch()
    result = run("analyse", folder, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "3 files were no DICOM instances" in result.output
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"schema_version": 1, "series": []}
    assert run("analyse", folder, "--output", tmp_path / "out").exit_code == 3


def test_a_series_that_cannot_be_read_is_analysed_to_a_reason(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    write_series(tmp_path / "ct", 1)
    result = run("analyse", tmp_path / "ct", "--output", tmp_path / "out")
    assert result.exit_code == 0
    text = (tmp_path / "out" / "summary.json").read_text()
    fits("summary", text)
    (entry,) = json.loads(text)["series"]
    assert entry["status"] in ("not_analysed", "passed_over")
    assert entry["reason"]["text"] in result.output
