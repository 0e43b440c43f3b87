"""The files of this repository, as the rules on the code see them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("config", "inference", "hl7", "storage", "dicom_node")


def modules() -> Iterator[Path]:
    """Every module of the five packages, below the root."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT)


def data_files() -> list[Path]:
    """Every file of the five packages that is no module."""
    return [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]


def tracked() -> list[Path]:
    """Every file of the repository that is or would be committed; of an unpacked release: every file."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [name for name in listing.stdout.decode().split("\0") if name]
        return [Path(name) for name in names if (ROOT / name).is_file()]
    skipped = {".venv", ".git", "__pycache__", "build", "dist"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths if not skipped & set(path.parts)]
