"""Dice on whole scans: the outline whose spot hits a nodule, beside the nodule; no spot is no Dice."""

from collections.abc import Sequence

import numpy as np
import pytest

from inference.findings import Algorithm, MaskCrop
from inference.lungs import Lungs
from inference.reader import Chain, Progress, Spot
from inference.training.outliner_scans import dice_of, judge_scan
from inference.training.scans import Scan, Truth
from inference.volume import Volume

from .balls import affine_of, all_lung, volume_of

SHAPE = (20, 40, 40)
MADE = Algorithm("detector", "made", "1", "0" * 64, "demonstration")


def cube(corner: tuple[int, int, int], side: int) -> MaskCrop:
    return MaskCrop(corner, np.ones((side, side, side), bool))


class AllLung:
    algorithm = MADE

    def segment(self, volume: Volume) -> Lungs:
        return all_lung(volume)


class Fixed:
    """Spots and masks that a test wrote down."""

    algorithm = MADE
    diameter_mm_min = 3.0

    def __init__(self, *found: tuple[tuple[float, float, float], float, MaskCrop | None]) -> None:
        self._found = found

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        return [Spot(place, response, 6.0) for place, response, _ in self._found]

    def is_strong(self, spot: Spot) -> bool:
        return spot.response > 1

    def outline(self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress) -> list[MaskCrop | None]:
        by_place = {place: mask for place, _, mask in self._found}
        return [by_place[spot.centre] for spot in spots]


def truth(number: int, centre_kji: tuple[float, float, float], mask: MaskCrop | None, readers: int = 4) -> Truth:
    k, j, i = centre_kji
    return Truth(number, (i, j, k), 6.0, readers, mask, {})


def test_each_nodule_has_the_first_outline_that_hits_it() -> None:
    volume = volume_of(np.full(SHAPE, -850, np.int16), affine_of((1.0, 1.0, 1.0)))
    scan = Scan(
        "made",
        "P-1",
        volume,
        (
            truth(1, (7.5, 7.5, 7.5), cube((5, 5, 5), 6)),  # hit twice
            truth(2, (7.5, 27.5, 7.5), cube((5, 25, 5), 6)),  # a weak spot only
            truth(3, (7.5, 27.5, 27.5), cube((5, 25, 25), 6)),  # hit, without an outline
            truth(4, (7.5, 7.5, 27.5), cube((5, 5, 25), 6), readers=2),  # does not count
        ),
        True,
    )
    parts = Fixed(
        ((7.0, 7.0, 7.0), 5.0, cube((5, 5, 5), 5)),
        ((8.0, 8.0, 8.0), 4.0, None),
        ((7.0, 27.0, 7.0), 0.5, cube((5, 25, 5), 6)),
        ((7.0, 27.0, 27.0), 3.0, None),
    )
    rows = judge_scan(scan, Chain(AllLung(), parts, parts))
    assert [(row.number, row.dice) for row in rows] == [(1, round(2 * 125 / (125 + 216), 3)), (2, None), (3, 0.0)]
    assert [row.spotted for row in rows] == [True, False, True]
    assert [row.volume_error for row in rows] == [round(125 / 216 - 1, 3), None, -1.0]
    assert {row.scan for row in rows} == {"made"}


def test_dice_is_that_of_the_definition_wherever_the_boxes_lie() -> None:
    assert dice_of(cube((0, 0, 0), 4), cube((2, 0, 0), 4)) == pytest.approx(0.5)
    assert dice_of(cube((0, 0, 0), 2), cube((5, 5, 5), 2)) == 0.0
    assert dice_of(cube((3, 3, 3), 3), cube((3, 3, 3), 3)) == 1.0
