"""What is installed beside us, and what of us is installed."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.contract.tree import PACKAGES, ROOT, data_files, modules


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def test_no_other_distribution_provides_one_of_our_import_names() -> None:
    """`config`, `storage` and `hl7` are common words: python-hl7 beside us would be imported in our place."""
    claims = sorted(
        {
            f"{distribution.name} provides {top}"
            for distribution in distributions()
            if distribution.name.lower().replace("_", "-") != "dicom-node"
            for file in distribution.files or ()
            if (top := file.parts[0].removesuffix(".py")) in PACKAGES
        }
    )
    assert claims == []


def test_our_names_are_imported_from_here() -> None:
    code = f"import {', '.join(PACKAGES)}; print(*[m.__file__ for m in ({', '.join(PACKAGES)})], sep=chr(10))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [Path(line).parent for line in answer.stdout.splitlines()] == [ROOT / package for package in PACKAGES]


@pytest.fixture
def wheel(wheel_file: Path) -> list[str]:
    """The names inside the wheel."""
    with zipfile.ZipFile(wheel_file) as package:
        return package.namelist()


def test_the_wheel_holds_our_packages_and_no_tests(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_module_and_every_data_file(wheel: list[str]) -> None:
    expected = {path.as_posix() for path in modules()} | {path.relative_to(ROOT).as_posix() for path in data_files()}
    assert expected - set(wheel) == set()


def test_the_wheel_holds_the_licence(wheel: list[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="ascii")
    assert project()["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_dependency_has_its_reason() -> None:
    declared = project()
    extras = declared["optional-dependencies"]
    assert isinstance(extras, dict)
    run, develop, learn = declared["dependencies"], extras["dev"], extras["learn"]
    assert isinstance(run, list)
    names = [re.split(r"[^A-Za-z0-9_.-]", text)[0] for text in [*run, *develop, *learn]]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = re.findall(r"(?m)^\| ([A-Za-z0-9_.-]+) \|", page)
    assert sorted(name for name in explained if name not in ("package", "---")) == sorted(names)
