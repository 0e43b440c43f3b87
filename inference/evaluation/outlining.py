"""From outlines beside the readers' to the figures of an outliner. Pure: knows cases, no models and no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.evaluation.intervals import CLASS_MIN, bootstrap, mean_of, median_of, rounded, rounded_ci, share
from inference.evaluation.strata import by_group


@dataclass(frozen=True)
class OutlineCase:
    """One nodule: Dice (0 without an outline) and (found - true) / true of the volume (-1 without an outline). `groups`:
    see `strata`."""

    key: str
    patient: str
    dice: float
    volume_error: float
    outlined: bool
    groups: Mapping[str, str]


def outlining_metrics(cases: Sequence[OutlineCase]) -> dict[str, Any]:
    """Dice and volume error with intervals over patients, and Dice by group. None under 15 nodules or 10 patients."""
    patients = [case.patient for case in cases]
    overlap = np.array([case.dice for case in cases], np.float64)
    error = np.array([case.volume_error for case in cases], np.float64)
    seen, seen_ci = share(sum(case.outlined for case in cases), len(cases))
    return {
        "dice": {**_mean(overlap, patients), **_median(overlap, patients)},
        "volume_error": {
            **_mean(error, patients),
            **_median(error, patients),
            "mean_absolute": _mean(np.abs(error), patients)["mean"],
            "mean_absolute_ci": _mean(np.abs(error), patients)["ci"],
        },
        "outlined": {"share": seen, "ci": seen_ci, "n": len(cases)},
        "strata": by_group(
            [case.groups for case in cases], lambda places: _mean(overlap[list(places)], [patients[n] for n in places])
        ),
    }


def _mean(values: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    figure: dict[str, Any] = {"mean": None, "ci": None, "n": len(values), "n_patients": len(set(patients))}
    if len(values) >= CLASS_MIN:
        interval = bootstrap(mean_of(values), patients)
        if interval is not None:
            figure |= {"mean": rounded(float(values.mean())), "ci": rounded_ci(interval)}
    return figure


def _median(values: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    figure: dict[str, Any] = {"median": None, "median_ci": None}
    if len(values) >= CLASS_MIN:
        interval = bootstrap(median_of(values), patients)
        if interval is not None:
            figure |= {"median": rounded(float(np.median(values))), "median_ci": rounded_ci(interval)}
    return figure
