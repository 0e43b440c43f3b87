"""What may stand in no file, and what a page may not claim."""

import re
from pathlib import Path

import click
import pytest

from tests.contract.tree import ROOT, modules, tracked

# Where this was written is nobody's business, and a path or a host of one place works nowhere else.
# Each is written in two parts, so that this file does not find itself.
FORBIDDEN = (
    "/wo" + "rk/",
    "/ro" + "ot/",
    r"/ho" + r"me/[a-z]",
    "/op" + "t/pypi",
    r"https?://[^\s\"'<>)]*(?:pypi" + r"|artifactory|nexus|devpi)",
    "extra-index" + "-url",
    "TO" + "DO",
    "FIX" + "ME",
)
TEXT_BYTES_MAX = 2_000_000


def texts() -> list[tuple[Path, str]]:
    """Every text file of the repository; of lock files and pictures nothing."""
    found = []
    for path in tracked():
        if (ROOT / path).stat().st_size <= TEXT_BYTES_MAX:
            content = (ROOT / path).read_bytes()
            if b"\0" not in content:
                found.append((path, content.decode("utf-8", errors="replace")))
    return found


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_file_holds_what_belongs_to_one_place_only(word: str) -> None:
    pattern = re.compile(rf"(?<![\w.]){word}")
    assert [str(path) for path, text in texts() if pattern.search(text)] == []


def test_text_files_are_utf8_with_plain_line_ends() -> None:
    odd = [
        str(path)
        for path, text in texts()
        if path.parts[0] != "tests" and ("\ufffd" in text or "\r" in text or (text and not text.endswith("\n")))
    ]
    assert odd == []


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def test_a_page_links_to_what_is_there() -> None:
    broken = [
        f"{page}: {target}"
        for page in pages()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (ROOT / page.parent / target).exists()
    ]
    assert broken == []


def test_a_page_names_files_that_are_there() -> None:
    """`hl7/ack.py` in a page is a claim that the file exists; globs must match something."""
    tops = {path.parts[0] for path in tracked() if len(path.parts) > 1}
    missing = [
        f"{page}: {name}"
        for page in pages()
        for name in re.findall(r"`([\w.*/-]+/[\w.*-]+)`", (ROOT / page).read_text(encoding="utf-8"))
        if name.split("/")[0] in tops and not any(ROOT.glob(name.rstrip("/")))
    ]
    assert missing == []


def test_a_page_names_targets_of_make_that_are_there() -> None:
    makefile = ROOT / "Makefile"
    targets = set(re.findall(r"(?m)^([a-z][a-z0-9-]*):", makefile.read_text(encoding="utf-8")))
    named = {
        (str(page), target)
        for page in pages()
        for target in re.findall(r"`make ([a-z][a-z0-9-]*)[ `]", (ROOT / page).read_text(encoding="utf-8"))
    }
    assert sorted(f"{page}: make {target}" for page, target in named if target not in targets) == []


def test_a_command_that_a_page_or_an_error_names_is_there() -> None:
    """`dicom-node status --why` in a sentence is what a person types next."""
    from dicom_node.cli import cli  # here, so that the other rules look without loading the node

    wrong = {
        f"{path}: dicom-node {words}"
        for path in [*modules(), *pages()]
        for words in re.findall(r"`dicom-node ([a-z][^`\n]*)`", (ROOT / path).read_text(encoding="utf-8"))
        if not _is_command(cli, words.split())
    }
    assert sorted(wrong) == []


def _is_command(command: click.Command, words: list[str]) -> bool:
    """Whether the words name a command; of what follows one, its options."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.commands.get(words[0])
        return inner is not None and _is_command(inner, words[1:])
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return all(word.split("=")[0] in known | {"--help"} for word in words if word.startswith("-"))


def test_a_reference_is_a_name_and_never_a_line_number() -> None:
    numbered = [
        f"{path}: {hit}"
        for path in [*modules(), *pages()]
        for hit in re.findall(r"\b[\w/]+\.(?:py|md|toml):\d+\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert numbered == []
