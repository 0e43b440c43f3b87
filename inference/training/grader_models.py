"""Models of a grade from features: which may be chosen, how one is fitted, calibrated and turned into arrays.

The choice is made by five-fold log loss over patients inside what it is given, so whoever gives it the training part of a
fold has chosen without the rest. A nodule's outlines from several points are one nodule: they stay together and share its
weight. Calibration is Platt's, on scores that no nodule had a part in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.features import NAMES
from inference.scoring import Linear, Numbers, Score, Trees

INNER_FOLDS: Final = 5
_OUTER: Final = ("diameter", *NAMES[4:12])  # hang on where an outline ends along the patient, which crops don't show
THICK: Final = tuple(name for name in NAMES if name not in _OUTER)
"""What measures a crop as it does a whole series."""
_SIZE: Final = ("thick_diameter", "area_diameter", "long_axis", "short_axis", "inscribed")
_DENSITY: Final = (
    "thick_hu_mean", "thick_hu_p10", "thick_hu_median", "thick_hu_p90", "thick_hu_sd", "thick_calcium_share", "glass_share",
    "solid_share", "solid_diameter", "peak_hu", "core_hu", "core_rise", "inner_hu", "shell_hu",
)  # fmt: skip

_THRESHOLDS: Final = 60

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """`kind` linear (logistic regression, L2), trees (histogram gradient boosting) or both (the mean of their log odds), its
    features, and the `settings` of the learner; of both those of trees with the C of the logistic regression."""

    kind: str
    features: tuple[str, ...]
    settings: Mapping[str, Any]
    name: str


def linear(name: str, features: Sequence[str], c: float) -> Candidate:
    """A logistic regression; `c` is the inverse of its L2 penalty."""
    return Candidate("linear", tuple(features), {"C": c}, f"logistic, {name}, C {c:g}")


_TREES: Final[Mapping[str, Any]] = {
    "max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 4, "min_samples_leaf": 20, "l2_regularization": 10.0, "max_features": 0.3,
}  # fmt: skip
CANDIDATES: Final = (
    linear("size and density", (*_SIZE, *_DENSITY), 0.1),
    linear("thick", THICK, 0.03),
    linear("thick", THICK, 0.1),
    linear("thick", THICK, 0.3),
    Candidate("trees", THICK, _TREES, "boosting, thick, 200 trees of 4 leaves"),
    Candidate(
        "both", THICK, {**_TREES, "C": 0.3}, "mean of logistic, thick, C 0.3 and boosting, 200 trees of 4 leaves"
    ),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of features with the nodule, patient and label of each; several rows may be one nodule's."""

    x: Numbers
    positive: Flags
    nodule: Sequence[str]
    patient: Sequence[str]

    def part(self, rows: Flags) -> "Table":
        """Some of the rows."""
        at = np.flatnonzero(rows).tolist()
        return Table(self.x[at], self.positive[at], [self.nodule[n] for n in at], [self.patient[n] for n in at])

    @property
    def weights(self) -> Numbers:
        """One nodule weighs 1."""
        _, of, counts = np.unique(np.array(self.nodule), return_inverse=True, return_counts=True)
        return 1.0 / counts[of]


@dataclass(frozen=True)
class Chosen:
    """The fitted score, the candidate that was chosen, the inner log loss of each, and the scores of the table's rows by models
    that did not see the row's patient (`crossed`): what thresholds are found on."""

    score: Score
    candidate: Candidate
    losses: Mapping[str, float]
    crossed: Numbers


def choose(table: Table, seed: int, candidates: Sequence[Candidate] = CANDIDATES) -> Chosen:
    """Choose, calibrate and fit on a table; nothing outside of it has a part."""
    folds = patient_folds(table.patient, seed)
    raws = [crossed(candidate, table, folds, seed) for candidate in candidates]
    losses = [log_loss(table, platted(table, raw, folds)) for raw in raws]
    best = int(np.argmin(losses))
    candidate, raw = candidates[best], raws[best]
    slope, offset = platt(raw, table.positive, table.weights)
    calibrated = 1 / (1 + np.exp(-(slope * raw + offset)))
    threshold = best_threshold(calibrated, table.positive, table.weights)
    fitted = fit(candidate, table, seed)
    score = Score(fitted.base, fitted.linear, fitted.trees, slope, offset, threshold)
    said = {c.name: round(loss, 5) for c, loss in zip(candidates, losses, strict=True)}
    return Chosen(score, candidate, said, calibrated)


def patient_folds(patients: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row, the same for all rows of a patient."""
    names = sorted(set(patients))
    of = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % INNER_FOLDS, strict=True))
    return np.array([of[patient] for patient in patients], np.int64)


def crossed(candidate: Candidate, table: Table, folds: npt.NDArray[np.int64], seed: int) -> Numbers:
    """Raw log odds of each row by a model that did not see its patient."""
    raw = np.zeros(len(table.positive))
    for fold in range(INNER_FOLDS):
        out = folds == fold
        score = fit(candidate, table.part(~out), seed)
        raw[out] = score.raw(table.x[out])
    return raw


def platted(table: Table, raw: Numbers, folds: npt.NDArray[np.int64]) -> Numbers:
    """Calibrated scores of raw ones, each by a calibration that did not see the row's patient."""
    scores = np.zeros(len(raw))
    for fold in range(INNER_FOLDS):
        out = folds == fold
        slope, offset = platt(raw[~out], table.positive[~out], table.weights[~out])
        scores[out] = 1 / (1 + np.exp(-(slope * raw[out] + offset)))
    return scores


def platt(raw: Numbers, positive: Flags, weights: Numbers) -> tuple[float, float]:
    """Slope and offset of the log odds (Platt 1999), hardly shrunk."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=100.0).fit(raw[:, None], positive, sample_weight=weights)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def log_loss(table: Table, scores: Numbers) -> float:
    """Mean log loss, a nodule weighs 1."""
    held = np.clip(scores, 1e-6, 1 - 1e-6)
    each = -np.log(np.where(table.positive, held, 1 - held))
    return float(np.average(each, weights=table.weights))


def best_threshold(scores: Numbers, positive: Flags, weights: Numbers) -> float:
    """Where F1 is the largest: a class that is rare is not lost. Halfway to the next lower score."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum((weights * positive)[order])
    called = np.cumsum(weights[order])
    f1 = 2 * hits / (called + (weights * positive).sum())
    best = int(np.argmax(f1))
    falling = scores[order]
    return float((falling[best] + falling[min(best + 1, len(falling) - 1)]) / 2)


def texture_thresholds(
    not_solid: Numbers, non_solid: Numbers, classes: npt.NDArray[np.int64], weights: Numbers
) -> tuple[float, float]:
    """The two thresholds whose calls (see `inference.grade.texture_of`) have the largest mean F1 of the three classes: one by
    one, part-solid nodules, which are few and lie between the others, would hardly be called.

    Args:
        not_solid, non_solid: calibrated scores of models that did not see the row's patient.
        classes: of each row; 0 non-solid, 1 part-solid, 2 solid.
    """
    best, at = -1.0, (0.5, 0.5)
    for first in _between(non_solid):
        faint = non_solid >= first
        for second in _between(not_solid):
            called = np.where(faint, 0, np.where(not_solid >= second, 1, 2))
            f1 = macro_f1(classes, called, weights)
            if f1 > best:
                best, at = f1, (float(second), float(first))
    return at


def macro_f1(classes: npt.NDArray[np.int64], called: npt.NDArray[np.int64], weights: Numbers) -> float:
    """Mean F1 of three classes."""
    table = np.bincount(3 * classes + called, weights, minlength=9).reshape(3, 3)
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1e-9)))


def _between(scores: Numbers) -> Numbers:
    """Thresholds worth a try: more of them where scores are high and few."""
    return np.unique(np.quantile(scores, 1 - np.geomspace(0.005, 0.6, _THRESHOLDS)))


def fit(candidate: Candidate, table: Table, seed: int) -> Score:
    """A candidate on all rows, without calibration."""
    columns = np.array([NAMES.index(name) for name in candidate.features])
    settings = dict(candidate.settings)
    if candidate.kind == "linear":
        return _fit_linear(settings, table, columns)
    if candidate.kind == "trees":
        return _fit_trees(settings, table, columns, seed)
    flat, wooded = _fit_linear({"C": settings.pop("C")}, table, columns), _fit_trees(settings, table, columns, seed)
    assert flat.linear is not None
    assert wooded.trees is not None
    return Score(
        (flat.base + wooded.base) / 2,
        replace(flat.linear, coefficient=flat.linear.coefficient / 2),
        replace(wooded.trees, value=wooded.trees.value / 2),
        1.0,
        0.0,
        0.5,
    )


def _fit_linear(settings: Mapping[str, Any], table: Table, columns: npt.NDArray[np.int64]) -> Score:
    from sklearn.linear_model import LogisticRegression

    weights = table.weights
    centre = np.average(table.x, axis=0, weights=weights)
    width = np.sqrt(np.average(np.square(table.x - centre), axis=0, weights=weights))
    linear = Linear(centre, np.maximum(width, 1e-6), np.zeros(len(NAMES)))
    z = linear.standardised(table.x)[:, columns]
    fitted = LogisticRegression(max_iter=5000, **settings).fit(z, table.positive, sample_weight=weights)
    linear.coefficient[columns] = fitted.coef_[0]
    return Score(float(fitted.intercept_[0]), linear, None, 1.0, 0.0, 0.5)


def _fit_trees(settings: Mapping[str, Any], table: Table, columns: npt.NDArray[np.int64], seed: int) -> Score:
    from sklearn.ensemble import HistGradientBoostingClassifier

    fitted = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **settings)
    fitted.fit(table.x[:, columns], table.positive, sample_weight=table.weights)
    return Score(float(fitted._baseline_prediction.ravel()[0]), None, trees_of(fitted, columns), 1.0, 0.0, 0.5)


def trees_of(fitted: Any, columns: npt.NDArray[np.int64]) -> Trees:
    """A fitted two-class HistGradientBoostingClassifier as flat arrays; `columns`: its features among NAMES."""
    nodes = [predictor.nodes for (predictor,) in fitted._predictors]
    starts = np.cumsum([0, *(len(each) for each in nodes)])[:-1]
    together = np.concatenate(nodes)
    shift = np.repeat(starts, [len(each) for each in nodes])
    leaf = together["is_leaf"].astype(bool)
    return Trees(
        feature=np.where(leaf, -1, columns[together["feature_idx"]]).astype(np.int64),
        threshold=np.where(leaf, 0.0, together["num_threshold"]).astype(np.float64),
        left=np.where(leaf, 0, together["left"] + shift).astype(np.int64),
        right=np.where(leaf, 0, together["right"] + shift).astype(np.int64),
        value=np.where(leaf, together["value"], 0.0).astype(np.float64),
        cover=together["count"].astype(np.float64),
        roots=starts.astype(np.int64),
    )
