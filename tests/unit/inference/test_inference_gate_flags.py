"""What is odd about a scan that is read all the same stands in its result, in words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.gate import flags
from inference.lungs import LEFT, RIGHT, Lungs
from inference.volume import Volume

from .balls import affine_of, volume_of


def scan(spacing_mm: tuple[float, float, float] = (2.0, 0.8, 0.8), lung_hu: int = -850, **facts: Any) -> Volume:
    hu = np.full((20, 64, 64), lung_hu, np.int16)
    return replace(volume_of(hu, affine_of(spacing_mm)), **{"kernel": "B31f", "thickness_mm": 2.0, **facts})


def lungs(left_share: float = 0.5) -> Lungs:
    labels = np.full((20, 64, 64), RIGHT, np.uint8)
    labels[:, :, round(64 * (1 - left_share)) :] = LEFT
    return Lungs(labels, 4000.0, (0.0, 0.0), 200.0, 0.0)


def test_a_usual_scan_has_no_flag() -> None:
    assert flags(scan(), lungs()) == ()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (scan((3.0, 0.8, 0.8), thickness_mm=3.0), "Slices of 3.0 mm"),
        (scan((3.0, 0.8, 0.8), thickness_mm=1.0), "lie 3.0 mm apart"),
        (scan((2.0, 1.17, 1.17)), "Pixels of 1.17 mm"),
        (scan(kernel=""), "do not name their reconstruction kernel"),
        (scan(kernel="BONE", manufacturer="GE MEDICAL SYSTEMS"), "sharp kernel (BONE)"),
        (scan(lung_hu=-520), "median is -520 HU"),
    ],
)
def test_what_is_unusual_is_said_once(volume: Volume, words: str) -> None:
    (said,) = flags(volume, lungs())
    assert words in said
    assert said.isascii()


def test_a_lung_kernel_is_usual() -> None:
    assert flags(scan(kernel="LUNG", manufacturer="GE MEDICAL SYSTEMS"), lungs()) == ()


def test_a_lung_without_air_is_said_to_be_looked_through_in_part() -> None:
    (said,) = flags(scan(), lungs(left_share=0.1))
    assert "of the left lung" in said
    assert "not looked through" in said
    (said,) = flags(scan(), lungs(left_share=1.0))
    assert "Only 0 ml of the right lung" in said
