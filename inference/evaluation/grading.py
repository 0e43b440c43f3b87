"""From graded nodules to the figures of a grader. Pure: knows cases, no models and no files.

Malignant is a mean rating above 3, benign below 3; 3 is left out. Calcified is a mode of 1 to 5 against 6 (absent). Texture
is non-solid (mean at most 2), part-solid, solid (at least 4); spiculation and lobulation are marked at a mean of 3 or more.
No class under 15: its figures are None. A nodule without a grade (no outline) is counted in `n_not_graded` and scores
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.evaluation.calibration import brier, calibration_error_of, expected_calibration_error, reliability
from inference.evaluation.intervals import CLASS_MIN, Interval, bootstrap, mean_of, rounded, rounded_ci, share
from inference.evaluation.ranking import (
    auc,
    auc_of,
    confusion,
    drawn_together,
    f1_of,
    in_order,
    matched_pairs,
    paired_auc,
)
from inference.evaluation.strata import by_group, texture_class

MID_SIZES_MM: Final = (5.0, 15.0)
PAIR_APART_MM_MAX: Final = 0.5
MARKED_MIN: Final = 3.0
ABSENT: Final = 6.0
TEXTURES: Final = ("non-solid", "part-solid", "solid")


@dataclass(frozen=True)
class Graded:
    """One nodule, what readers said (`ratings`) and what the grader said; None = it did not say. `called` is whether
    malignancy lies at or above the threshold of the weights that graded it. `beside`: scores of other methods on this
    nodule, by name. `prior`: what stands for malignancy where there is no grade, when all nodules are counted. `groups`: see
    `strata`."""

    key: str
    patient: str
    diameter_mm: float
    ratings: Mapping[str, float]
    groups: Mapping[str, str]
    malignancy: float | None = None
    called: bool | None = None
    texture: str | None = None
    calcified: bool | None = None
    spiculation: float | None = None
    lobulation: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    prior: float | None = None


Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def grading_metrics(cases: Sequence[Graded], threshold: float | None) -> dict[str, Any]:
    """The figures of interfaces.md: malignancy, texture, calcified, spiculation, lobulation.

    Args:
        threshold: of malignancy in the shipped weights; None where it differs from fold to fold.
    """
    return {
        "malignancy": malignancy_metrics(cases, threshold),
        "texture": texture_metrics(cases),
        "calcified": calcified_metrics(cases),
        "spiculation": marked_metrics(cases, "spiculation"),
        "lobulation": marked_metrics(cases, "lobulation"),
    }


def rated_malignant(case: Graded) -> bool | None:
    """Malignant, benign, or None: the readers are undecided or did not say."""
    mean = case.ratings.get("malignancy")
    return None if mean is None or mean == 3.0 else mean > 3.0


def malignancy_metrics(cases: Sequence[Graded], threshold: float | None) -> dict[str, Any]:
    """AUC (all, 5 to 15 mm, pairs of one size), rates at the threshold, calibration, strata; diameter alone beside it."""
    rated = [case for case in cases if rated_malignant(case) is not None]
    graded = [case for case in rated if case.malignancy is not None]
    positive = np.array([rated_malignant(case) is True for case in graded], bool)
    score = np.array([case.malignancy for case in graded], np.float64)
    figures = {
        "n": len(graded),
        "n_malignant": int(positive.sum()),
        "n_patients": len({case.patient for case in graded}),
        "n_not_graded": len(rated) - len(graded),
        **_aucs(graded, positive, score),
        "threshold": threshold,
        **_rates(positive, np.array([bool(case.called) for case in graded], bool), graded),
        "calibration": _calibration(positive, score, graded),
    }
    figures["beside"] = _beside(graded)
    figures["all_nodules"] = _all_nodules(rated)
    figures["strata"] = by_group(
        [case.groups for case in graded], lambda places: _auc(graded, positive, score, np.array(places, np.intp))
    )
    return figures


def _beside(cases: Sequence[Graded]) -> dict[str, Any]:
    """The same AUCs of the diameter alone and of the other methods, on the same nodules."""
    positive = np.array([rated_malignant(case) is True for case in cases], bool)
    scores = {"diameter": np.array([case.diameter_mm for case in cases], np.float64)}
    for name in sorted({name for case in cases for name in case.beside}):
        scores[name] = np.array([case.beside.get(name, np.nan) for case in cases], np.float64)
    return {name: _aucs(cases, positive, score) for name, score in scores.items()}


def _all_nodules(cases: Sequence[Graded]) -> dict[str, Any] | None:
    """The AUCs with the nodules that have no grade, which the prior stands for; None where there is no prior."""
    if any(case.malignancy is None and case.prior is None for case in cases):
        return None
    positive = np.array([rated_malignant(case) is True for case in cases], bool)
    score = np.array([case.prior if case.malignancy is None else case.malignancy for case in cases], np.float64)
    return {"n": len(cases), **_aucs(cases, positive, score), "beside": _beside(cases)}


def _aucs(cases: Sequence[Graded], positive: Flags, score: Scores) -> dict[str, Any]:
    """AUC of all, of 5 to 15 mm and of pairs matched by diameter, of those that have a score."""
    diameter = np.array([case.diameter_mm for case in cases], np.float64)
    known = np.isfinite(score)
    everything = _auc(cases, positive, score, np.flatnonzero(known))
    middle = known & (diameter >= MID_SIZES_MM[0]) & (diameter <= MID_SIZES_MM[1])
    mid_sizes = _auc(cases, positive, score, np.flatnonzero(middle))
    return {
        "auc": everything["auc"],
        "auc_ci": everything["auc_ci"],
        "auc_n": everything["n"],
        "auc_5_15mm": mid_sizes["auc"],
        "auc_5_15mm_ci": mid_sizes["auc_ci"],
        "auc_5_15mm_n": mid_sizes["n"],
        **_matched(cases, positive & known, ~positive & known, score, diameter),
    }


def _auc(cases: Sequence[Graded], positive: Flags, score: Scores, places: npt.NDArray[np.intp]) -> dict[str, Any]:
    flags, values = positive[places], score[places]
    n_positive = int(flags.sum())
    figure: dict[str, Any] = {"auc": None, "auc_ci": None, "n": len(places), "n_positive": n_positive}
    if min(n_positive, len(places) - n_positive) >= CLASS_MIN:
        interval = bootstrap(auc_of(flags, values), [cases[n].patient for n in places])
        if interval is not None:
            figure |= {"auc": rounded(auc(flags, values)), "auc_ci": rounded_ci(interval)}
    return figure


def _matched(
    cases: Sequence[Graded], positive: Flags, negative: Flags, score: Scores, diameter: Scores
) -> dict[str, Any]:
    """Pairs are made once; pairs that share a patient are drawn together."""
    used = np.flatnonzero(positive | negative)
    pairs = matched_pairs(positive[used], diameter[used], PAIR_APART_MM_MAX)
    figure: dict[str, Any] = {
        "auc_size_matched": None,
        "auc_size_matched_ci": None,
        "auc_size_matched_pairs": len(pairs),
    }
    if len(pairs) < CLASS_MIN:
        return figure
    pairs = used[pairs]
    interval = bootstrap(mean_of(in_order(score, pairs)), drawn_together([case.patient for case in cases], pairs))
    if interval is not None:
        figure |= {
            "auc_size_matched": rounded(paired_auc(score, pairs)),
            "auc_size_matched_ci": rounded_ci(interval),
        }
    return figure


def _rates(positive: Flags, called: Flags, cases: Sequence[Graded]) -> dict[str, Any]:
    """Sensitivity to confusion at the threshold; counts have exact intervals, F1 a bootstrapped one."""
    counts = confusion(positive, called)
    figures: dict[str, Any] = {"confusion": None}
    of = {
        "sensitivity": (counts.true_positive, counts.true_positive + counts.false_negative),
        "specificity": (counts.true_negative, counts.true_negative + counts.false_positive),
        "precision": (counts.true_positive, counts.true_positive + counts.false_positive),
        "accuracy": (counts.true_positive + counts.true_negative, counts.n),
    }
    enough = min(int(positive.sum()), int((~positive).sum())) >= CLASS_MIN
    for name, (part, whole) in of.items():
        value, interval = share(part, whole) if enough else (None, None)
        figures |= {name: value, f"{name}_ci": interval, f"{name}_n": whole}
    interval_f1: Interval | None = None
    if enough:
        interval_f1 = bootstrap(f1_of(positive, called), [case.patient for case in cases])
        figures["confusion"] = [
            [counts.true_negative, counts.false_positive],
            [counts.false_negative, counts.true_positive],
        ]
    figures |= {"f1": rounded(counts.f1) if interval_f1 else None, "f1_ci": rounded_ci(interval_f1)}
    return figures


def _calibration(positive: Flags, score: Scores, cases: Sequence[Graded]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "n": len(score),
        "ece": None,
        "ece_ci": None,
        "brier": None,
        "brier_ci": None,
        "bins": [],
    }
    if min(int(positive.sum()), int((~positive).sum())) < CLASS_MIN or (score.min() < 0 or score.max() > 1):
        return figures
    patients = [case.patient for case in cases]
    squares = (score - positive) ** 2
    for name, value, statistic in (
        ("ece", expected_calibration_error(positive, score), calibration_error_of(positive, score)),
        ("brier", brier(positive, score), mean_of(squares)),
    ):
        interval = bootstrap(statistic, patients)
        figures |= {name: rounded(value) if interval else None, f"{name}_ci": rounded_ci(interval)}
    figures["bins"] = [
        {
            "low": b.low,
            "high": b.high,
            "n": b.n,
            "mean_score": rounded(b.mean_score),
            "share_positive": rounded(b.share_positive),
        }
        for b in reliability(positive, score)
    ]
    return figures


def marked_metrics(cases: Sequence[Graded], name: str) -> dict[str, Any]:
    """AUC of spiculation or lobulation: marked (mean rating 3 or more) against not."""
    graded = [case for case in cases if name in case.ratings and getattr(case, name) is not None]
    positive = np.array([case.ratings[name] >= MARKED_MIN for case in graded], bool)
    score = np.array([getattr(case, name) for case in graded], np.float64)
    return {
        **_auc(graded, positive, score, np.arange(len(graded))),
        "n_patients": len({case.patient for case in graded}),
        "calibration": _calibration(positive, score, graded),
    }


def calcified_metrics(cases: Sequence[Graded]) -> dict[str, Any]:
    """Calcified or not, as the grader called it."""
    graded = [case for case in cases if "calcification" in case.ratings and case.calcified is not None]
    positive = np.array([case.ratings["calcification"] < ABSENT for case in graded], bool)
    return {
        "n": len(graded),
        "n_positive": int(positive.sum()),
        "n_patients": len({case.patient for case in graded}),
        **_rates(positive, np.array([bool(case.calcified) for case in graded], bool), graded),
    }


def texture_metrics(cases: Sequence[Graded]) -> dict[str, Any]:
    """Three classes: the sensitivity of each that has 15 nodules, accuracy, and the table (rows truth, columns called)."""
    graded = [case for case in cases if texture_class(case.ratings.get("texture")) and case.texture in TEXTURES]
    truth = [texture_class(case.ratings.get("texture")) for case in graded]
    called = [str(case.texture) for case in graded]
    table = [[sum(t == a and c == b for t, c in zip(truth, called, strict=True)) for b in TEXTURES] for a in TEXTURES]
    classes: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(TEXTURES):
        n = sum(table[place])
        value, interval = share(table[place][place], n) if n >= CLASS_MIN else (None, None)
        classes[name] = {"n": n, "sensitivity": value, "sensitivity_ci": interval}
    right = sum(table[place][place] for place in range(len(TEXTURES)))
    value, interval = share(right, len(graded)) if len(graded) >= CLASS_MIN else (None, None)
    said = [c["sensitivity"] for c in classes.values()]
    return {
        "n": len(graded),
        "n_patients": len({case.patient for case in graded}),
        "accuracy": value,
        "accuracy_ci": interval,
        "balanced_accuracy": rounded(float(np.mean(said))) if None not in said else None,
        "classes": classes,
        "confusion": table,
    }
