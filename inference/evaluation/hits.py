"""When a finding hits a nodule: the one place of that rule.

Hit: the centre lies in the truth's mask dilated by 2 mm, or within max(diameter / 2, 3 mm) of its centre. One finding hits
one nodule; more findings on it are false positives. Ignore zones (fewer than 3 readers, by the same rule) count as neither;
where both apply, the nodule's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.findings import MaskCrop, Point

DILATE_MM: Final = 2.0
NEAR_MM_MIN: Final = 3.0
READERS_MIN: Final = 3


def reach_of(diameter_mm: float) -> float:
    """How far from the centre of a nodule a finding may lie, mm."""
    return max(diameter_mm / 2, NEAR_MM_MIN)


def crop_of(mask: npt.NDArray[np.bool_]) -> MaskCrop:
    """The box of a mask [k, j, i] that is not empty."""
    kji = np.argwhere(mask)
    low, high = kji.min(axis=0), kji.max(axis=0) + 1
    return MaskCrop((int(low[0]), int(low[1]), int(low[2])), mask[tuple(map(slice, low, high))])


@dataclass(frozen=True, eq=False)
class Target:
    """One nodule of the truth, or with `counts` False an ignore zone.

    `reach_mm`: see `reach_of`. `mask` [k, j, i] lies on the grid of `affine` ((k, j, i, 1) to LPS mm); None where none was
    drawn. `facts`: what else is known of it (diameter_mm, texture, ...).
    """

    number: int
    centre_lps_mm: Point
    reach_mm: float
    counts: bool = True
    mask: MaskCrop | None = None
    affine: npt.NDArray[np.float64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def hit_by(self, centre_lps_mm: Point) -> bool:
        """Whether a finding's centre hits."""
        if math.dist(centre_lps_mm, self.centre_lps_mm) <= self.reach_mm:
            return True
        if self.mask is None or self.affine is None:
            return False
        voxel = np.rint(np.linalg.solve(self.affine, [*centre_lps_mm, 1.0])[:3])
        apart = np.argwhere(self.mask.voxels) + np.array(self.mask.start) - voxel
        return bool(np.linalg.norm(apart @ self.affine[:3, :3].T, axis=1).min() <= DILATE_MM)


class Verdict(StrEnum):
    """What a finding is."""

    HIT = "hit"
    REPEAT = "repeat"  # on a nodule that a better finding has hit: a false positive
    IGNORED = "ignored"
    FALSE = "false"


@dataclass(frozen=True)
class Judged:
    """The verdict on one finding; `target` is the place of the nodule or zone that it lies on, None for a false one."""

    verdict: Verdict
    target: int | None

    @property
    def false_positive(self) -> bool:
        """Whether it counts as a false alarm."""
        return self.verdict in (Verdict.REPEAT, Verdict.FALSE)


def judge(centres: Sequence[Point], scores: Sequence[float], targets: Sequence[Target]) -> tuple[Judged, ...]:
    """Judge the findings of one scan, in their order. The highest score has the first choice, then the first in order; of
    several nodules that it hits it takes the one with the nearest centre that is still free."""
    judged: dict[int, Judged] = {}
    taken: set[int] = set()
    for place in sorted(range(len(centres)), key=lambda n: -scores[n]):
        centre = centres[place]
        near = [n for n, target in enumerate(targets) if target.hit_by(centre)]
        near.sort(key=lambda n: math.dist(centre, targets[n].centre_lps_mm))
        nodules = [n for n in near if targets[n].counts]
        free = [n for n in nodules if n not in taken]
        if free:
            taken.add(free[0])
            judged[place] = Judged(Verdict.HIT, free[0])
        elif nodules:
            judged[place] = Judged(Verdict.REPEAT, nodules[0])
        elif near:
            judged[place] = Judged(Verdict.IGNORED, near[0])
        else:
            judged[place] = Judged(Verdict.FALSE, None)
    return tuple(judged[place] for place in range(len(centres)))
