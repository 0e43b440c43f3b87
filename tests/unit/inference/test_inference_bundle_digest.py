import shutil
import subprocess
from pathlib import Path

import pytest

from inference.bundle_digest import bundle_digest
from inference.errors import ModelRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    for name, content in (("configs/a.json", "{}"), ("models/model.pt", "weights"), ("scripts/__init__.py", "")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content)
    return made


def test_a_copy_of_a_bundle_elsewhere_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    assert bundle_digest(tmp_path / "other") == bundle_digest(folder)


def test_the_digest_is_what_anybody_can_work_out_with_sha256sum(folder: Path) -> None:
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    said = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert bundle_digest(folder) == said.split()[0]


@pytest.mark.parametrize("change", ["changed", "added", "removed", "moved", "compiled"])
def test_any_change_of_a_file_changes_the_digest(folder: Path, change: str) -> None:
    before = bundle_digest(folder)
    model = folder / "models/model.pt"
    if change == "changed":
        model.write_text("Weights")
    elif change == "added":
        (folder / "scripts/more.py").write_text("")
    elif change == "removed":
        (folder / "scripts/__init__.py").unlink()
    elif change == "moved":
        model.rename(folder / "configs/model.pt")
    else:
        (folder / "scripts/__pycache__").mkdir()
        (folder / "scripts/__pycache__/__init__.cpython-311.pyc").write_bytes(b"code")
    assert bundle_digest(folder) != before


def test_a_link_that_leads_out_of_the_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("")
    (folder / "scripts/more.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(ModelRefused, match=r"scripts/more\.py: .*links are not followed"):
        bundle_digest(folder)


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="install the model"):
        bundle_digest(tmp_path / "nothing")
