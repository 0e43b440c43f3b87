"""Why a score is what it is: each feature's part in the log odds, exact and additive.

For the linear part a feature's part is its coefficient times its standardised value: against a nodule that is average in all.
For trees it is the Shapley value under the trees' own covers (path-dependent TreeSHAP: Lundberg et al., Nat Mach Intell
2020;2:56, algorithm 2). Parts and base add up to the log odds of the score.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.features import NAMES
from inference.scoring import Numbers, Score, Trees


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
    """Shapley values of all trees together."""
    parts = np.zeros(len(x))
    for root in trees.roots:
        _descend(trees, x, parts, int(root), _Path.empty(), 1.0, 1.0, -1)
    return parts


@dataclass(frozen=True, eq=False)
class _Path:
    """The features on the way to a node: which, the share of nodules that goes on when each is unknown (`zero`) or known
    (`one`), and the weights of subsets by their size."""

    feature: npt.NDArray[np.int64]
    zero: Numbers
    one: Numbers
    weight: Numbers

    @classmethod
    def empty(cls) -> "_Path":
        nothing = np.zeros(0)
        return cls(np.zeros(0, np.int64), nothing, nothing, nothing)

    def extended(self, zero: float, one: float, feature: int) -> "_Path":
        """One feature more (EXTEND)."""
        length = len(self.weight)
        weight = np.append(self.weight, 1.0 if length == 0 else 0.0)
        for i in range(length - 1, -1, -1):
            weight[i + 1] += one * weight[i] * (i + 1) / (length + 1)
            weight[i] = zero * weight[i] * (length - i) / (length + 1)
        return _Path(np.append(self.feature, feature), np.append(self.zero, zero), np.append(self.one, one), weight)

    def without(self, place: int) -> "_Path":
        """One feature less (UNWIND)."""
        length = len(self.weight) - 1
        weight, following = self.weight.copy(), self.weight[length]
        zero, one = self.zero[place], self.one[place]
        for i in range(length - 1, -1, -1):
            if one:
                kept = weight[i]
                weight[i] = following * (length + 1) / ((i + 1) * one)
                following = kept - weight[i] * zero * (length - i) / (length + 1)
            else:
                weight[i] = weight[i] * (length + 1) / (zero * (length - i))
        others = np.arange(length + 1) != place
        return _Path(self.feature[others], self.zero[others], self.one[others], weight[:length])


def _descend(
    trees: Trees, x: Numbers, parts: Numbers, node: int, path: _Path, zero: float, one: float, feature: int
) -> None:
    path = path.extended(zero, one, feature)
    split = int(trees.feature[node])
    if split < 0:
        for place in range(1, len(path.weight)):
            share = float(path.without(place).weight.sum())
            parts[path.feature[place]] += share * (path.one[place] - path.zero[place]) * trees.value[node]
        return
    sides = (int(trees.left[node]), int(trees.right[node]))
    hot, cold = sides if x[split] <= trees.threshold[node] else sides[::-1]
    zero = one = 1.0
    seen = np.flatnonzero(path.feature[1:] == split) + 1
    if seen.size:
        place = int(seen[0])
        zero, one = float(path.zero[place]), float(path.one[place])
        path = path.without(place)
    cover = trees.cover
    _descend(trees, x, parts, hot, path, zero * cover[hot] / cover[node], one, split)
    _descend(trees, x, parts, cold, path, zero * cover[cold] / cover[node], 0.0, split)
