"""Models that people install: from a server, a file, a zip or a folder, verified before they have their name."""

import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from config.catalogue import EVALUATION_FILE, Entry, find_entry, installed, models_folder
from config.settings import Settings, Site
from dicom_node.cli import cli
from dicom_node.errors import NotReached, Precondition, Refused, UsageFault
from dicom_node.models import Models, Offer
from inference.bundle_digest import bundle_digest
from inference.errors import ModelRefused
from inference.evaluation.request import described
from inference.stored import verify_weights, weights_file
from tests.file_server import FileServer, file_server
from tests.installed import WEIGHTS, entry_fields, put_model, weights_bytes

CONTENT = weights_bytes()
UNPICKLED = Path(tempfile.gettempdir()) / f"dicom-node-unpickled-{os.getpid()}"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process without settings and proxies of ours, and its mask as it was."""
    for name in [name for name in os.environ if name.startswith("DICOM_NODE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mask = os.umask(0o022)
    yield
    os.umask(mask)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def models(tmp_path: Path) -> Models:
    settings = Settings(site=Site(timezone="UTC"))
    disk = settings.disk.model_copy(update={"free_mib_min": 1})
    paths = settings.paths.model_copy(update={"state": str(tmp_path / "state")})
    return Models(settings.model_copy(update={"paths": paths, "disk": disk}), wait_s=0)


def toml(fields: dict[str, Any]) -> bytes:
    """An entry file as a person writes it."""
    plain = {key: value for key, value in fields.items() if value not in ("", {}, None)}
    table = plain.pop("parameters", {})
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    return "\n".join([*lines, "[parameters]", *(f"{key} = {json.dumps(v)}" for key, v in table.items())]).encode()


def entry_file(**changes: Any) -> bytes:
    return toml(entry_fields("of-the-site", CONTENT, **changes))


def put_file(folder: Path, entry: bytes | None = None, content: bytes = CONTENT) -> str:
    """A file of weights with its entry file beside it."""
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(content)
    (folder / "weights.toml").write_bytes(entry_file() if entry is None else entry)
    return str(folder / WEIGHTS)


def put_bundle(folder: Path, **metadata: str) -> Path:
    """A bundle of the layout of the model zoo, with files that nobody here could load."""
    for name in ("configs", "models", "scripts", "docs"):
        (folder / name).mkdir(parents=True)
    said = {
        "name": "Lung nodule CT detection",
        "version": "0.6.8",
        "copyright": "Copyright (c) M",
        "data_source": "LUNA",
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(said | metadata))
    (folder / "configs" / "inference.json").write_text("{}")
    (folder / "models" / "model.pt").write_bytes(pickle.dumps(_Planted()))
    (folder / "scripts" / "__init__.py").write_text("raise SystemExit('run at install')\n")
    return folder


class _Planted:
    """Unpickled, it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {UNPICKLED}",)


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            package.write(file, top + file.relative_to(folder).as_posix())
    return path


def here(models: Models) -> dict[str, Any]:
    return dict(installed(models.folder))


def nothing_left(models: Models) -> bool:
    """No half-made model, no download."""
    left = [p.name for p in models.folder.rglob("*") if p.name not in (".lock", ".downloads")]
    return left == []


def test_a_file_with_its_entry_beside_it_is_installed(models: Models, tmp_path: Path) -> None:
    entry, new = models.install(Offer(put_file(tmp_path / "in")))
    assert new
    assert (entry.name, entry.sha256, entry.size_bytes) == ("of-the-site", SHA256, len(CONTENT))
    assert here(models) == {"of-the-site": entry}
    assert weights_file(entry).read_bytes() == CONTENT
    verify_weights(entry)


def test_a_second_time_it_is_here_already(models: Models, tmp_path: Path) -> None:
    source = put_file(tmp_path / "in")
    first, _ = models.install(Offer(source))
    assert models.install(Offer(source)) == (first, False)


def test_a_url_with_an_entry_file_beside_it_is_installed_and_resumed(models: Models, server: FileServer) -> None:
    server.files = {"/m/weights.safetensors": CONTENT, "/m/weights.toml": entry_file()}
    server.cuts = [10**6, 50]  # the entry comes whole, the weights in two pieces
    entry, _ = models.install(Offer(server.url("/m/weights.safetensors")))
    assert entry.source_url == server.url("/m/weights.safetensors")
    assert weights_file(entry).read_bytes() == CONTENT
    assert [headers.get("range") for _, headers in server.asked] == [None, None, "bytes=50-"]
    assert list((models.folder / ".downloads").iterdir()) == []


def test_a_url_needs_a_digest_from_somewhere(models: Models, server: FileServer, tmp_path: Path) -> None:
    zipped(put_bundle(tmp_path / "bundle"), tmp_path / "b.zip")
    server.files = {"/b.zip": (tmp_path / "b.zip").read_bytes()}
    with pytest.raises(UsageFault, match="no digest is given") as refused:
        models.install(Offer(server.url("/b.zip")))
    assert "--sha256" in refused.value.do
    assert [path for path, _ in server.asked] == ["/b.toml"]


def test_a_published_bundle_is_installed_from_its_address_and_nothing_of_it_is_run(
    models: Models, server: FileServer, tmp_path: Path
) -> None:
    folder = put_bundle(tmp_path / "bundle")
    archive = zipped(folder, tmp_path / "b.zip", "lung_nodule_ct_detection/")
    server.files = {"/b.zip": archive.read_bytes()}
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    entry, _ = models.install(Offer(server.url("/b.zip"), sha256))
    assert (entry.name, entry.version, entry.kind) == ("lung-nodule-ct-detection", "0.6.8", "monai-bundle")
    assert entry.sha256 == bundle_digest(folder) == bundle_digest(weights_file(entry))
    assert (entry.validation, entry.measured) == ("demonstration", "")
    assert entry.lungs
    assert entry.outliner
    assert not UNPICKLED.exists()
    assert list(weights_file(entry).rglob("__pycache__")) == []


def test_a_bundle_with_an_entry_of_its_own_has_the_operating_point_of_that(models: Models, tmp_path: Path) -> None:
    folder = put_bundle(tmp_path / "bundle")
    fields = entry_fields("of-the-site", b"", kind="monai-bundle", parameters={"score_min": 0.7}, weights="")
    fields["sha256"] = bundle_digest(folder)
    (folder / "entry.toml").write_bytes(toml(fields))
    entry, _ = models.install(Offer(str(folder)))
    assert entry.parameters == {"score_min": 0.7}
    verify_weights(entry)


def test_a_changed_file_of_a_bundle_is_refused_at_install_and_later(models: Models, tmp_path: Path) -> None:
    folder = put_bundle(tmp_path / "bundle")
    fields = entry_fields("of-the-site", b"", kind="monai-bundle", weights="") | {"sha256": bundle_digest(folder)}
    (folder / "entry.toml").write_bytes(toml(fields))
    script = folder / "scripts" / "__init__.py"
    before = script.read_text()
    script.write_text("import os\n")
    with pytest.raises(Precondition, match="the SHA-256 of the weights is"):
        models.install(Offer(str(folder)))
    assert nothing_left(models)
    script.write_text(before)
    entry, _ = models.install(Offer(str(folder)))
    (weights_file(entry) / "scripts" / "more.py").write_text("import os\n")
    with pytest.raises(ModelRefused, match="install the model again"):
        verify_weights(entry)


def test_a_wrong_checksum_installs_nothing_and_the_next_try_fetches_anew(
    models: Models, server: FileServer, tmp_path: Path
) -> None:
    server.files = {"/m.safetensors": weights_bytes(1), "/m.toml": entry_file()}
    with pytest.raises(Precondition, match="nothing was installed"):
        models.install(Offer(server.url("/m.safetensors")))
    assert nothing_left(models)
    with pytest.raises(Precondition, match="--sha256 says"):
        models.install(Offer(server.url("/m.safetensors"), SHA256))
    assert nothing_left(models)
    server.files["/m.safetensors"] = CONTENT
    assert models.install(Offer(server.url("/m.safetensors"), SHA256))[1]


def test_no_such_address_and_no_server_are_told_apart(models: Models, server: FileServer) -> None:
    with pytest.raises(Refused, match="404"):
        models.install(Offer(server.url("/none.zip"), SHA256))
    address = server.url("/m.zip")
    server.shutdown()
    server.server_close()
    with pytest.raises(NotReached, match="can't be reached"):
        models.install(Offer(address, SHA256))
    server.serve_forever = lambda *_: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licens": "MIT"}, "licens: Extra inputs are not permitted"),
        ({"folder": "/etc"}, "folder: no such field"),
        ({"name": "../other"}, "name: String should match pattern"),
        ({"text": "\x1b[2J nothing to see"}, "control characters"),
        ({"lungs": "none-such"}, "no lungs of this name in the catalogue: none-such"),
        ({"name": "hessian-dot"}, "a model of this name came with the software"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"kind": "crystal-ball"}, "no method of this software"),
    ],
)
def test_an_entry_that_says_something_wrong_is_refused(
    change: dict[str, str], said: str, models: Models, tmp_path: Path
) -> None:
    with pytest.raises(Precondition, match=said):
        models.install(Offer(put_file(tmp_path / "in", entry_file(**change))))
    assert nothing_left(models)


def test_what_is_no_safetensors_file_is_refused_and_never_opened_otherwise(models: Models, tmp_path: Path) -> None:
    planted = pickle.dumps(_Planted())
    entry = toml(entry_fields("of-the-site", planted))
    with pytest.raises(Precondition, match="no safetensors file"):
        models.install(Offer(put_file(tmp_path / "in", entry, planted)))
    pt = toml(entry_fields("of-the-site", planted, weights="model.pt"))
    with pytest.raises(Precondition, match="other formats can hold code"):
        models.install(Offer(put_file(tmp_path / "in", pt, planted)))
    assert nothing_left(models)
    assert not UNPICKLED.exists()


@pytest.mark.parametrize("content", [b"[" * 5000, b"\xff\xfe", b"name = ", b"x" * 70_000, b"[[entry]]\n[[entry]]\n"])
def test_an_entry_file_that_is_none_is_refused(content: bytes, models: Models, tmp_path: Path) -> None:
    with pytest.raises(Precondition):
        models.install(Offer(put_file(tmp_path / "in", content)))
    assert nothing_left(models)


def test_a_bundle_without_its_files_is_refused(models: Models, tmp_path: Path) -> None:
    folder = put_bundle(tmp_path / "bundle")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(Precondition, match=r"models/model\.pt is missing"):
        models.install(Offer(str(folder)))
    (folder / "models" / "model.pt").write_bytes(b"1")
    (folder / "configs" / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(Precondition, match="no JSON"):
        models.install(Offer(str(folder)))
    assert nothing_left(models)


def test_another_model_of_the_same_name_is_refused_until_the_first_is_removed(models: Models, tmp_path: Path) -> None:
    models.install(Offer(put_file(tmp_path / "in")))
    other = weights_bytes(1)
    source = put_file(tmp_path / "other", toml(entry_fields("of-the-site", other)), other)
    with pytest.raises(Precondition, match="another model of this name is installed"):
        models.install(Offer(source))
    assert models.install(Offer(source, name="second"))[0].name == "second"
    models.remove("of-the-site")
    assert models.install(Offer(source))[1]


def test_a_damaged_model_is_repaired_by_installing_it_again(models: Models, tmp_path: Path) -> None:
    source = put_file(tmp_path / "in")
    entry, _ = models.install(Offer(source))
    file = weights_file(entry)
    file.chmod(0o600)
    file.write_bytes(b"damaged")
    with pytest.raises(ModelRefused):
        verify_weights(entry)
    repaired, new = models.install(Offer(source))
    assert new
    verify_weights(repaired)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    settings = Settings(site=Site(timezone="UTC"))
    paths = settings.paths.model_copy(update={"state": str(tmp_path / "state")})
    disk = settings.disk.model_copy(update={"free_mib_min": 10**9})
    models = Models(settings.model_copy(update={"paths": paths, "disk": disk}))
    with pytest.raises(Precondition, match="MiB free") as full:
        models.install(Offer(put_file(tmp_path / "in")))
    assert "disk.free_mib_min" in full.value.do
    assert nothing_left(models)


def test_two_commands_at_a_time_are_one_too_many(models: Models, tmp_path: Path) -> None:
    source = put_file(tmp_path / "in")
    with models._alone(), pytest.raises(Precondition, match="another command installs"):
        models.install(Offer(source))
    assert models.install(Offer(source))[1]


def test_what_a_killed_command_left_is_removed(models: Models, tmp_path: Path) -> None:
    left = models.folder / ".new-1" / "model"
    left.mkdir(parents=True)
    models.install(Offer(put_file(tmp_path / "in")))
    assert not left.exists()


def metrics_of(entry: Entry, /, **changes: Any) -> dict[str, Any]:
    """What `dicom-node evaluate detector` says of an entry and the lungs of its chain."""
    return {
        "task": entry.task,
        "mode": "shipped",
        "in_sample_patients": 0,
        "entries": described([find_entry(entry.lungs, "lungs"), entry]),
        "sensitivity": 0.9,
        "sensitivity_ci": [0.8, 0.95],
        "n": 40,
        "n_patients": 11,
        "fp_per_scan": 1.25,
        "fp_per_scan_ci": [0.9, 1.7],
        "fp_scans": 12,
        **changes,
    }


def test_an_evaluation_of_exactly_this_model_marks_it_as_measured(models: Models, tmp_path: Path) -> None:
    entry, _ = models.install(Offer(put_file(tmp_path / "in")))
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(entry)))
    measured = models.record("of-the-site", tmp_path / "metrics.json")
    assert measured.validation == "measured"
    assert "sensitivity 0.9 [0.8-0.95] of 40 nodules of 11 patients" in measured.measured
    assert "1.25 [0.9-1.7] false positives a scan on 12 scans" in measured.measured
    assert here(models)["of-the-site"].validation == "measured"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entries": [{"name": "of-the-site", "sha256": "0" * 64}]}, "another model"),
        ({"entries": [{"name": "of-the-site", "sha256": SHA256, "digest": "0" * 64}]}, "other parameters"),
        ({"task": "outliner"}, "another model"),
        ({"mode": "cross_fit"}, "never saw"),
        ({"in_sample_patients": 3}, "never saw"),
        ({"sensitivity": None}, "no figure of the detector"),
        ({"entries": None}, "another model"),
    ],
)
def test_an_evaluation_of_something_else_marks_nothing(
    changes: dict[str, Any], said: str, models: Models, tmp_path: Path
) -> None:
    entry, _ = models.install(Offer(put_file(tmp_path / "in")))
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(entry, **changes)))
    with pytest.raises(Precondition, match=said):
        models.record("of-the-site", tmp_path / "metrics.json")
    assert not (models.folder / "of-the-site" / EVALUATION_FILE).exists()


# the command line


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    text = f'[site]\ntimezone = "UTC"\n[paths]\nstate = "{tmp_path / "state"}"\n[disk]\nfree_mib_min = 64\nreserve_mib = 32\n'
    path.write_text(text + '[receive]\nhost = "127.0.0.1"\nport = 1\n[read]\ndetector = "of-the-site"\n')
    return path


def run(config: Path, *arguments: object) -> Result:
    """The exit code and all that was said; never a traceback."""
    result = CliRunner().invoke(cli, ["--config", str(config), *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_detector_that_the_settings_name_can_be_installed_after_it_was_named(config: Path, tmp_path: Path) -> None:
    """`check` says what to do, `install` does it, `show`, `list` and `verify` tell of it, `remove` refuses while it is used."""
    missing = run(config, "check", "--no-peers")
    assert (missing.exit_code, "models install" in missing.output) == (2, True)
    done = run(config, "models", "install", put_file(tmp_path / "in"))
    assert done.exit_code == 0, done.output
    assert SHA256 in done.output
    shown = run(config, "models", "show", "of-the-site").output
    for word in (
        f"of-the-site {find_entry('hessian-dot', 'detector').version}",
        "demonstration",
        "Apache-2.0",
        SHA256,
        f"{len(CONTENT)} bytes",
        "measured    nothing",
    ):
        assert word in shown
    assert "this site, read.detector" in run(config, "models", "list").output
    assert run(config, "models", "verify").exit_code == 0
    assert "of-the-site 1." in run(config, "check", "--no-peers").output
    kept = run(config, "models", "remove", "of-the-site")
    assert (kept.exit_code, "read.detector reads with it" in kept.output) == (3, True)


def test_changed_weights_are_named_by_check_and_verify(config: Path, tmp_path: Path) -> None:
    folder = models_folder(str(tmp_path / "state"))
    put_model(folder, "of-the-site")
    (folder / "of-the-site" / WEIGHTS).write_bytes(b"other")
    checked = run(config, "check", "--no-peers")
    assert checked.exit_code == 3
    for word in ("read.detector", "of-the-site", "SHA-256", "install the model again"):
        assert word in checked.output
    verified = run(config, "models", "verify", "--json")
    assert verified.exit_code == 3
    assert [row["name"] for row in json.loads(verified.output) if not row["verified"]] == ["of-the-site"]
    assert run(config, "models", "verify", "hessian-dot").exit_code == 0


def test_a_damaged_model_is_listed_and_refused_and_stops_nothing_else(config: Path, tmp_path: Path) -> None:
    folder = models_folder(str(tmp_path / "state"))
    put_model(folder, "of-the-site")
    (folder / "of-the-site" / "entry.json").write_text("{trunc")
    listed = run(config, "models", "list")
    assert listed.exit_code == 1
    assert "of-the-site" in next(line for line in listed.output.splitlines() if "DAMAGED" in line)
    checked = run(config, "check", "--no-peers")
    assert (checked.exit_code, "read.detector = 'of-the-site' can't be read with" in checked.output) == (3, True)
    assert run(config, "status").exit_code == 0


def test_exit_codes_tell_scripts_what_happened(config: Path, server: FileServer, tmp_path: Path) -> None:
    server.files = {"/m.safetensors": CONTENT}
    assert run(config, "models", "install", server.url("/m.zip"), "--sha256", SHA256).exit_code == 4
    assert run(config, "models", "install", server.url("/m.safetensors"), "--sha256", SHA256).exit_code == 2
    assert run(config, "models", "install", tmp_path / "none.zip").exit_code == 2
    assert run(config, "models", "install", "ftp://h/m.zip").exit_code == 2
    assert run(config, "models", "install", "https://h:abc/m.zip", "--sha256", SHA256).exit_code == 2
    assert run(config, "models", "install", "https://[::1/m.zip").exit_code == 2
    assert run(config, "models", "install", server.url("/m.zip"), "--sha256", "12").exit_code == 2
    assert run(config, "models", "install", put_file(tmp_path / "in"), "--sha256", "0" * 64).exit_code == 3
    assert run(config, "models", "show", "none").exit_code == 2
    assert run(config, "models", "remove", "hessian-dot").exit_code == 3


def test_lists_are_json_for_scripts(config: Path, tmp_path: Path) -> None:
    run(config, "models", "install", put_file(tmp_path / "in"))
    listed = json.loads(run(config, "models", "list", "--json").output)
    schema = resources.files("dicom_node") / "schemas" / "models.schema.json"
    jsonschema.validate(listed, json.loads(schema.read_text()))
    rows = {row["name"]: row for row in listed}
    assert (rows["of-the-site"]["origin"], rows["hessian-dot"]["origin"]) == ("site", "software")
    one = json.loads(run(config, "models", "show", "of-the-site", "--json").output)
    assert one == rows["of-the-site"]
