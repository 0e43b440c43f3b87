"""Validators that are not ours find no fault in the phantom's files."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.demo.phantom import write_ct_phantom, write_radiograph
from inference.phantom import chest_phantom, radiograph_phantom

NOW = datetime(2026, 1, 5, 10, 15, 30, tzinfo=UTC)


@pytest.mark.peer
def test_ct_localizer_reformat_and_radiographs_are_valid_and_agree(
    tmp_path: Path, dciodvfy: Callable[[Path], list[str]], dcentvfy: Callable[[list[Path]], list[str]]
) -> None:
    chest = chest_phantom(seed=2, spacing_mm=(5, 3.8, 3.8), shape=(60, 96, 96))
    ct = write_ct_phantom(tmp_path, NOW, chest)
    picture = radiograph_phantom(shape=(200, 240))
    rays = [write_radiograph(tmp_path, NOW, picture, computed=computed)[0] for computed in (False, True)]
    for path in [ct[0], ct[1], ct[30], ct[-1], *rays]:
        assert dciodvfy(path) == []
    assert dcentvfy([*ct, *rays]) == []
