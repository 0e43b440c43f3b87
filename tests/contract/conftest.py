"""The wheel, built once for all that look into it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.tree import ROOT, data_files, modules


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of what is packed, so that no folder of the tree is touched."""
    source = tmp_path_factory.mktemp("source")
    for path in [*modules(), *(p.relative_to(ROOT) for p in data_files()), Path("pyproject.toml"), Path("LICENSE")]:
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / path).read_bytes())
    (source / "README.md").write_text("made for a test\n")
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").touch()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    answer = subprocess.run([*command, "-w", str(folder), str(source)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    [path] = folder.glob("*.whl")
    return path
