"""Why a score is what it is: each feature's part in the log odds, exact and additive.

For the linear part a feature's part is its coefficient times its standardised value: against a nodule that is average in all.
For trees it is the Shapley value under the trees' own covers (what path-dependent TreeSHAP computes: Lundberg et al., Nat
Mach Intell 2020;2:56). Parts and base add up to the log odds of the score.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np
import numpy.typing as npt

from inference.features import NAMES
from inference.scoring import Numbers, Score, Trees

_Way = dict[int, tuple[float, float, float]]
"""Of a leaf: for each feature on the way to it the range that leads there, and the share of nodules that goes on."""


@dataclass(frozen=True, eq=False)
class Parts:
    """`base` and `parts` (one number a feature, in the order of NAMES) add up to the log odds of the calibrated score."""

    base: float
    parts: Numbers


def explain(score: Score, x: Numbers) -> Parts:
    """Each feature's part in one nodule's score."""
    base, parts = score.base, np.zeros(len(NAMES))
    if score.linear is not None:
        parts += score.linear.coefficient * score.linear.standardised(x)
    if score.trees is not None:
        base += expected_value(score.trees)
        parts += tree_parts(score.trees, x)
    return Parts(score.slope * base + score.offset, score.slope * parts)


def expected_value(trees: Trees) -> float:
    """The mean of the trees' sum over the nodules that they were made from."""
    at, weight, total = trees.roots.copy(), np.ones(len(trees.roots)), 0.0
    while at.size:
        leaf = trees.feature[at] < 0
        total += float((weight[leaf] * trees.value[at[leaf]]).sum())
        at, weight = at[~leaf], weight[~leaf]
        sides = (trees.left[at], trees.right[at])
        weight = np.concatenate([weight * trees.cover[side] / trees.cover[at] for side in sides])
        at = np.concatenate(sides)
    return total


def tree_parts(trees: Trees, x: Numbers) -> Numbers:
    """Shapley values of all trees together: of each leaf over the features on its way, a game of few players.

    A leaf's worth for a set of known features is its value times `one` (0 or 1: the nodule goes this way) for each of these and
    times `zero` (the share of nodules that does) for each of the others; sums over sets are a polynomial in their size.
    """
    parts = np.zeros(len(x))
    for way in _ways_of(trees):
        count = way.feature.shape[1]
        known = x[way.feature]
        up_to_high, above_low = known <= way.high, ~(known <= way.low)  # as the trees ask: what is no number goes right
        one = ((up_to_high | (way.high == np.inf)) & (above_low | (way.low == -np.inf))).astype(np.float64)
        weights = [factorial(size) * factorial(count - 1 - size) / factorial(count) for size in range(count)]
        for place in range(count):
            sets = np.ones((1, len(one)))  # worth of all sets of the other features, by their size
            for other in range(count):
                if other != place:
                    without, with_ = sets * way.zero[:, other], sets * one[:, other]
                    sets = np.pad(without, ((0, 1), (0, 0))) + np.pad(with_, ((1, 0), (0, 0)))
            share = np.array(weights) @ sets
            np.add.at(parts, way.feature[:, place], share * (one - way.zero)[:, place] * way.value)
    return parts


@dataclass(frozen=True, eq=False)
class _Ways:
    """The leaves of all trees that have so many features on their way, (leaves, features): which, the range (above `low`, up to
    `high`) that leads there, and the share of nodules `zero` that goes on where a feature is unknown; `value` (leaves,)."""

    feature: npt.NDArray[np.int64]
    low: Numbers
    high: Numbers
    zero: Numbers
    value: Numbers


@lru_cache(maxsize=32)
def _ways_of(trees: Trees) -> tuple[_Ways, ...]:
    """By the number of features; a leaf that is a whole tree has none and no part in anything."""
    found: dict[int, list[tuple[_Way, float]]] = {}
    todo: list[tuple[int, _Way]] = [(int(root), {}) for root in trees.roots]
    while todo:
        node, way = todo.pop()
        split = int(trees.feature[node])
        if split < 0:
            found.setdefault(len(way), []).append((way, float(trees.value[node])))
            continue
        low, high, zero = way.get(split, (-np.inf, np.inf, 1.0))
        limit = float(trees.threshold[node])
        for side, low_, high_ in ((trees.left, low, min(high, limit)), (trees.right, max(low, limit), high)):
            below = int(side[node])
            share = zero * float(trees.cover[below] / trees.cover[node])
            todo.append((below, {**way, split: (low_, high_, share)}))
    ways = []
    for count in sorted(found.keys() - {0}):
        features = np.array([list(way) for way, _ in found[count]], np.int64)
        low, high, zero = np.moveaxis(np.array([list(way.values()) for way, _ in found[count]]), -1, 0)
        ways.append(_Ways(features, low, high, zero, np.array([value for _, value in found[count]])))
    return tuple(ways)
