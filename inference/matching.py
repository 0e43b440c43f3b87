"""Which nodule of a new revision is which of the last: matched by place, so that number and tracking UID stay with it.

Pure. Numbers are never used again; who is matched keeps both, whatever its rank is now.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from inference.findings import Nodule


def match(
    previous: Sequence[Nodule], new: Sequence[Nodule], used_numbers: int, tracking_uid_for: Callable[[int], str]
) -> tuple[Nodule, ...]:
    """Give `new` the numbers and tracking UIDs of `previous` where they are the same nodule, else new ones.

    Same: their centres are within half the larger of the two mean diameters. Nearest pairs are joined first, each nodule
    once. Both sides must be in one frame of reference (LPS mm), or nothing will match.
    Args:
        previous: nodules of the last result.
        new: nodules just found, in order of rank; their numbers are replaced.
        used_numbers: the highest number ever given in this study, also to nodules that have vanished since.
        tracking_uid_for: makes the tracking UID of a new number.
    Returns:
        The new nodules in order of number.
    """
    pairs = sorted(
        (distance, was, now)
        for was, old in enumerate(previous)
        for now, nodule in enumerate(new)
        if (distance := math.dist(old.centre_lps_mm, nodule.centre_lps_mm))
        <= max(old.mean_diameter_mm, nodule.mean_diameter_mm) / 2
    )
    same: dict[int, int] = {}
    for _, was, now in pairs:
        if now not in same and was not in same.values():
            same[now] = was
    number = max([used_numbers, *(nodule.number for nodule in previous)])
    named: list[Nodule] = []
    for now, nodule in enumerate(new):
        if now in same:
            old = previous[same[now]]
            named.append(dataclasses.replace(nodule, number=old.number, tracking_uid=old.tracking_uid))
        else:
            number += 1
            named.append(dataclasses.replace(nodule, number=number, tracking_uid=tracking_uid_for(number)))
    return tuple(sorted(named, key=lambda nodule: nodule.number))


def vanished(previous: Sequence[Nodule], now: Sequence[Nodule]) -> tuple[Nodule, ...]:
    """The nodules of the last result whose number the new one has no more."""
    numbers = {nodule.number for nodule in now}
    return tuple(nodule for nodule in previous if nodule.number not in numbers)
