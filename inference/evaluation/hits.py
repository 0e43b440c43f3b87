"""Which finding is a hit, which a false positive, and which counts as neither.

Whether a centre lies on a nodule is said by `Scan.hits` (inference/training/scans.py), the one place of that rule, or for
LUNA16's tables by its own. Here: one finding hits one nodule; more findings on it are false positives; ignore zones (fewer
than 3 readers) count as neither; where both apply, the nodule's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from inference.findings import Point
from inference.training.scans import Scan


@dataclass(frozen=True, eq=False)
class Target:
    """One nodule of the truth, or with `counts` False an ignore zone. `hit_by` says whether a centre (LPS mm) lies on it.
    `facts`: what else is known of it (`diameter_mm`, ratings)."""

    centre_lps_mm: Point
    hit_by: Callable[[Point], bool]
    counts: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


def targets_of(scan: Scan) -> tuple[Target, ...]:
    """The truth of a scan by the rule of the project."""
    return tuple(
        Target(
            truth.centre_lps_mm,
            partial(scan.hits, truth),
            truth.counts,
            {"number": truth.number, "diameter_mm": truth.diameter_mm, **truth.ratings},
        )
        for truth in scan.truth
    )


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
