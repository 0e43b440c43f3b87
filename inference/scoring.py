"""From features to scores: a linear part and trees, in log odds, then calibrated. Plain arrays and numpy, no learner.

The log odds of a score are `slope * (linear(x) + trees(x)) + offset` (Platt 1999); either part may be missing. The linear part
takes standardised features, held within 4 standard deviations, so that a body unlike any in the training can't run away.
Trees are scikit-learn's histogram gradient boosting as flat arrays: at a node x <= threshold goes left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.errors import ModelRefused
from inference.features import NAMES

TARGETS: Final = ("malignancy", "not_solid", "non_solid", "spiculation", "lobulation", "calcified")
"""`not_solid`: texture below 4 of 5 (part-solid or non-solid); `non_solid`: at most 2."""

BOUND_SD: Final = 4.0

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[np.generic]]

_NAMES_KEY: Final = "names"
_MISSING: Final = -1


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees one after the other, one entry a node. `feature`: column of the features, -1 in a leaf; `left`, `right`: nodes;
    `value`: of a leaf, in log odds; `cover`: training nodules that came through; `roots`: first node of each tree."""

    feature: Places
    threshold: Numbers
    left: Places
    right: Places
    value: Numbers
    cover: Numbers
    roots: Places

    def leaves(self, x: Numbers) -> Places:
        """The leaf of each tree for each nodule: (nodules, features) to (nodules, trees)."""
        at = np.tile(self.roots, (len(x), 1))
        rows = np.arange(len(x))[:, None]
        while True:
            split = self.feature[at]
            if (split == _MISSING).all():
                return at
            following = np.where(x[rows, split] <= self.threshold[at], self.left[at], self.right[at])
            at = np.where(split == _MISSING, at, following)


@dataclass(frozen=True, eq=False)
class Linear:
    """`coefficient` on (x - centre) / width, held within BOUND_SD; all as many numbers as features, 0 where one is unused."""

    centre: Numbers
    width: Numbers
    coefficient: Numbers

    def standardised(self, x: Numbers) -> Numbers:
        """Of one nodule or many (the last axis is the features)."""
        z: Numbers = np.clip((x - self.centre) / self.width, -BOUND_SD, BOUND_SD)
        return z


@dataclass(frozen=True, eq=False)
class Score:
    """One target. `base` is what no feature has a part in, before calibration; `threshold` on the calibrated score."""

    base: float
    linear: Linear | None
    trees: Trees | None
    slope: float
    offset: float
    threshold: float

    def raw(self, x: Numbers) -> Numbers:
        """Log odds before calibration: (nodules, features) to (nodules,)."""
        said = np.full(len(x), self.base)
        if self.linear is not None:
            said += self.linear.standardised(x) @ self.linear.coefficient
        if self.trees is not None:
            said += self.trees.value[self.trees.leaves(x)].sum(axis=1)
        return said

    def scores(self, x: Numbers) -> Numbers:
        """The calibrated scores, 0 to 1, of many nodules."""
        scores: Numbers = 1 / (1 + np.exp(-np.clip(self.slope * self.raw(x) + self.offset, -50, 50)))
        return scores


def to_arrays(scores: Mapping[str, Score]) -> Arrays:
    """Scores as arrays to be stored, with the names of the features that they were made for."""
    arrays: dict[str, npt.NDArray[np.generic]] = {_NAMES_KEY: np.frombuffer("\n".join(NAMES).encode(), np.uint8).copy()}
    for target, one in scores.items():
        arrays[f"{target}.calibration"] = np.array([one.base, one.slope, one.offset, one.threshold], np.float64)
        for name, part in (("linear", one.linear), ("trees", one.trees)):
            if part is not None:
                arrays |= {f"{target}.{name}.{field}": values for field, values in vars(part).items()}
    return arrays


def from_arrays(arrays: Arrays, which: str) -> Mapping[str, Score]:
    """The scores of stored arrays.

    Args:
        which: the entry, for the error.
    Raises:
        ModelRefused: a target is missing, or they were made for features that this software does not measure.
    """
    names = bytes(np.asarray(arrays.get(_NAMES_KEY, ()), np.uint8)).decode(errors="replace").split("\n")
    if not set(names) <= set(NAMES) or len(set(names)) != len(names):
        raise ModelRefused("made for other features than this software measures", which, "train it again")
    try:
        scores = {target: score_of(arrays, target, names) for target in TARGETS}
    except (KeyError, ValueError) as error:
        raise ModelRefused(f"arrays are missing or of another shape: {error}", which, "train it again") from error
    return scores


def score_of(arrays: Arrays, target: str, names: Sequence[str] = NAMES) -> Score:
    """One target's score.

    Args:
        names: the features that the arrays were made for, of those that are measured.
    Raises:
        KeyError, ValueError: arrays are missing or don't fit.
    """
    base, slope, offset, threshold = (float(v) for v in _floats(arrays, f"{target}.calibration", 4))
    linear = trees = None
    if f"{target}.linear.centre" in arrays:
        columns = [NAMES.index(name) for name in names]
        linear = Linear(
            *(
                _spread(_floats(arrays, f"{target}.linear.{n}", len(names)), columns, unused)
                for n, unused in (("centre", 0.0), ("width", 1.0), ("coefficient", 0.0))
            )
        )
    if f"{target}.trees.feature" in arrays:
        at = f"{target}.trees"
        stored = _places(arrays, f"{at}.feature")
        if (stored >= len(names)).any() or (stored < _MISSING).any():
            raise ValueError("a tree asks for a feature that there is not")
        feature = np.where(stored == _MISSING, _MISSING, np.array([NAMES.index(name) for name in names])[stored])
        nodes = len(feature)
        trees = Trees(
            feature=feature,
            threshold=_floats(arrays, f"{at}.threshold", nodes),
            left=_places(arrays, f"{at}.left"),
            right=_places(arrays, f"{at}.right"),
            value=_floats(arrays, f"{at}.value", nodes),
            cover=_floats(arrays, f"{at}.cover", nodes),
            roots=_places(arrays, f"{at}.roots"),
        )
        _check(trees)
    return Score(base, linear, trees, slope, offset, threshold)


def _check(trees: Trees) -> None:
    """A walk through the trees ends: children stand behind their parents and exist.

    Raises:
        ValueError: they don't.
    """
    if not len(trees.feature) == len(trees.left) == len(trees.right):
        raise ValueError("a tree lacks branches")
    inner = np.flatnonzero(trees.feature != _MISSING)
    for children in (trees.left[inner], trees.right[inner]):
        if (children <= inner).any() or (children >= len(trees.feature)).any():
            raise ValueError("a tree leads nowhere")
    if (trees.roots < 0).any() or (trees.roots >= len(trees.feature)).any():
        raise ValueError("a tree without a root")


def _floats(arrays: Arrays, name: str, count: int) -> Numbers:
    values = np.asarray(arrays[name], np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{name} {values.shape}")
    return values


def _spread(values: Numbers, columns: Sequence[int], unused: float) -> Numbers:
    """Numbers of some features as numbers of all."""
    every = np.full(len(NAMES), unused)
    every[list(columns)] = values
    return every


def _places(arrays: Arrays, name: str) -> Places:
    return np.asarray(arrays[name], np.int64).reshape(-1)
