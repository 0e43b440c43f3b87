"""Each gate sees the fault that it is there for: a gate over an empty folder, or with a mistyped name, is always green.

A fault is planted in a copy of the tree: one for each contract of import-linter, one for each package before mypy and
ruff, and one for each rule of this folder.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.tree import PACKAGES, ROOT

# Contract, file, and the line that breaks it there.
PLANTS = {
    "packages": ("storage/states.py", "import hl7.text"),
    "hl7-findings": ("hl7/text.py", "from inference import matching"),
    "hl7-light": ("inference/findings.py", "import scipy"),  # the long way round
    "storage-blind": ("storage/states.py", "import pydicom"),
    "headers-light": ("inference/errors.py", "import scipy"),
    "findings-plain": ("inference/findings.py", "import pydicom"),
    "tests-only": ("inference/volume.py", "import SimpleITK"),
    "pydicom": ("inference/volume.py", "from pydicom import dcmread"),
    "pynetdicom": ("dicom_node/worker.py", "import pynetdicom"),
    "highdicom": ("dicom_node/worker.py", "import highdicom"),
    "sqlalchemy": ("dicom_node/worker.py", "import sqlalchemy"),
    "hl7apy": ("hl7/client.py", "import hl7apy"),
    "torch": ("storage/states.py", "import torch"),
    "torch-process": ("inference/kept.py", "import torch"),
    "learn": ("inference/volume.py", "import matplotlib"),
    "receiver-blind": ("dicom_node/net/conformance.py", "import storage.ledger"),
    "demo": ("dicom_node/courier.py", "import dicom_node.demo"),
    "rooms-config": ("config/planted.py", ""),
    "rooms-inference": ("inference/planted.py", ""),
    "rooms-hl7": ("hl7/planted.py", ""),
    "rooms-storage": ("storage/planted.py", ""),
    "rooms-node": ("dicom_node/worker.py", "import dicom_node.courier"),
    "rooms-results": ("dicom_node/results/seg.py", "import dicom_node.results.sr"),
    "rooms-net": ("dicom_node/net/planted.py", ""),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five packages, the pages and the rules of this folder, where no other run looks."""
    tree = tmp_path_factory.mktemp("tree")
    without_caches = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in (*PACKAGES, "docs", "tests/contract"):
        shutil.copytree(ROOT / name, tree / name, ignore=without_caches)
    (tree / "tests" / "peers").mkdir()
    needed = ("tests/__init__.py", "tests/conftest.py", "tests/peers/__init__.py", "tests/peers/tools.py")
    for name in ("pyproject.toml", "Makefile", "CONTRIBUTING.md", "LICENSE", *needed):
        shutil.copy(ROOT / name, tree / name)
    return tree


@contextmanager
def planted(path: Path, text: str) -> Iterator[None]:
    """Append to a file, or make one, for the time of a look."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((before or b"") + f"\n{text}\n".encode())
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A gate, as a program of its own that sees the copy and not the tree."""
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTHONPATH")}
    return subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=tree,
        env=environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def contracts() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [contract["id"] for contract in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def test_every_contract_has_a_fault_to_see() -> None:
    assert sorted(PLANTS) == sorted(contracts())


def test_the_tree_as_it_is_keeps_every_contract(copy: Path) -> None:
    answer = run(copy, "lint-imports", "--no-cache")
    assert answer.returncode == 0, answer.stdout
    assert f"{len(PLANTS)} kept, 0 broken" in answer.stdout


@pytest.mark.parametrize("contract", PLANTS)
def test_a_forbidden_import_breaks_its_contract(copy: Path, contract: str) -> None:
    name, line = PLANTS[contract]
    with planted(copy / name, line):
        answer = run(copy, "lint-imports", "--no-cache", "--contract", contract)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "0 kept, 1 broken" in answer.stdout, answer.stdout
    assert (line.split()[-1] if "." in line.split(" ")[-1] else Path(name).stem) in answer.stdout


def test_mypy_is_asked_about_every_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["mypy"]
    assert sorted(settings["packages"]) == sorted(PACKAGES)
    assert settings["strict"] is True


def test_mypy_sees_a_wrong_type_in_every_package(copy: Path, tmp_path: Path) -> None:
    """And a function without types, which only the strict mode sees."""
    faults = '"""Planted."""\n\n\ndef count() -> int:\n    return "one"\n\n\ndef untyped(x):\n    return x\n'
    names = [f"{package}/planted.py" for package in PACKAGES]
    for name in names:
        (copy / name).write_text(faults)
    try:
        answer = run(copy, "mypy", "--cache-dir", str(tmp_path), *names)
    finally:
        for name in names:
            (copy / name).unlink()
    assert answer.returncode == 1, answer.stdout + answer.stderr
    for name in names:
        assert re.search(rf"{name}:5: error: .*\[return-value\]", answer.stdout), answer.stdout
        assert re.search(rf"{name}:8: error: .*\[no-untyped-def\]", answer.stdout), answer.stdout


def test_ruff_sees_a_fault_in_every_package_and_in_the_tests(copy: Path) -> None:
    faults = (
        "import os\nfrom datetime import datetime\n\n\ndef now():\n    try:\n        print(datetime.now())\n"
        "    except Exception:\n        return None\n"
    )
    names = [f"{folder}/planted.py" for folder in (*PACKAGES, "tests/contract")]
    for name in names:
        (copy / name).write_text(faults)
    try:
        answer = run(copy, "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    finally:
        for name in names:
            (copy / name).unlink()
    assert answer.returncode == 1, answer.stdout + answer.stderr
    for name in names:
        seen = set(re.findall(rf"(?m)^{name}:\d+:\d+: ([A-Z]+\d+)", answer.stdout))
        assert {"F401", "DTZ005", "T201", "BLE001"} <= seen, answer.stdout
        assert name.startswith("tests/") or "D100" in seen


# Test of this folder, file, and what breaks it there.
RULES = {
    "test_every_module_says_what_it_is_for": ("hl7/planted_silent.py", "x = 1"),
    "test_an_init_is_a_docstring_and_no_more": ("hl7/__init__.py", "import hl7.text"),
    "test_no_module_grows_past_its_subject": ("hl7/planted_long.py", '"""Long."""\n' + "x = 1\n" * 501),
    "test_an_error_that_leaves_its_module_derives_from_node_error": (
        "hl7/planted_user.py",
        '"""User."""\nfrom hl7.planted_error import Stray',
    ),
    "test_the_errors_of_a_package_stand_in_the_tree_at_the_top_of_its_file[hl7]": (
        "hl7/errors.py",
        'class Undrawn(NodeError):\n    """Not in the tree."""',
    ),
    "test_every_error_survives_a_process_boundary[hl7]": (
        "hl7/errors.py",
        'class Lost(NodeError):\n    """Forgets."""\n\n    def __init__(self, text: str): super().__init__("x" + text)',
    ),
    "test_no_file_holds_what_belongs_to_one_place_only": ("docs/planted.md", "see /wo" + "rk/main"),
    "test_text_files_are_utf8_with_plain_line_ends": ("docs/planted-ends.md", "a\r"),
    "test_a_page_links_to_what_is_there": ("docs/planted-link.md", "[a](nowhere.md)"),
    "test_a_page_names_files_that_are_there": ("docs/planted-name.md", "`hl7/nowhere.py`"),
    "test_a_page_names_targets_of_make_that_are_there": ("docs/planted-target.md", "`make nothing`"),
    "test_a_command_that_a_page_or_an_error_names_is_there": ("docs/planted-command.md", "`dicom-node status --wy`"),
    "test_a_reference_is_a_name_and_never_a_line_number": ("docs/planted-number.md", "hl7/ack.py" + ":12"),
    "test_every_dependency_has_its_reason": ("docs/dependencies.md", "| leftpad | why not | MIT |"),
    "test_the_licence_is_apache_2": ("LICENSE", "é"),
}


def test_every_rule_of_this_folder_sees_its_fault(copy: Path) -> None:
    with planted(copy / "hl7/planted_error.py", '"""Stray."""\n\n\nclass Stray(ValueError):\n    """Of no tree."""'):
        for name, text in RULES.values():
            path = copy / name
            with path.open("a") as file:
                file.write(f"\n{text}\n")
        answer = run(
            copy,
            "pytest",
            *("-q", "-p", "no:cacheprovider", "--tb=no", "-k", "not wheel and not imported"),
            *(f"tests/contract/{name}.py" for name in ("test_modules", "test_texts", "test_distribution")),
        )
    seen = re.findall(r"FAILED \S+?::(test_\w+(?:\[\w+\])?)", answer.stdout)
    assert [rule for rule in RULES if rule not in seen] == [], answer.stdout
