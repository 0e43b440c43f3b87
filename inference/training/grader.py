"""The trainer of the grader: malignancy, texture, spiculation, lobulation and calcification from features of own outlines.

`train` chooses, fits and calibrates on all patients that it may see. `cross_fit` does all of that five times, each time
without the patients of a fold, and gives the scores of those: what the whole procedure is worth. Beside them stand, from the same
folds, the diameter and a logistic model of 14 features on the readers' own masks. Malignancy is the readers' opinion.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from config.catalogue import find_entry
from inference.scoring import TARGETS, Score, to_arrays
from inference.training.crops import Crop, load_native, patient_key
from inference.training.grader_kept import chosen
from inference.training.grader_models import CANDIDATES, Candidate, Chosen, Flags, linear, texture_thresholds
from inference.training.grader_table import MALIGNANT, Measured, labels_of, measure_crops
from inference.training.own_outlines import FoldsOutlining, Outlining, ShippedOutlining, fold_entries
from inference.training.patients import patients_file, write_patients
from inference.training.plan import Plan, Progress, Trained

NAME: Final = "grade-features"
FOURTEEN: Final = (
    "diameter", "area_diameter", "long_axis", "short_axis", "hu_mean", "hu_p10", "hu_median", "hu_p90", "hu_sd",
    "calcium_share", "axis_ratio", "roundness", "filling", "lobes",
)  # fmt: skip
"""Size, density and shape: what the comparison on the readers' own masks uses."""
_FOURTEEN_CANDIDATES: Final = tuple(linear("14 features", FOURTEEN, c) for c in (0.1, 0.3, 1.0))


@dataclass(frozen=True)
class CrossFitted:
    """One nodule as graded by models that never saw its patient: `scores` by target, one a point (None: no outline from
    there), `thresholds` by target of the model that graded it; `readers`: the 14-feature model on the readers' mask (malignancy), `prior`:
    the malignant share in what that model learned from; `own_mm`: diameters of the own outlines."""

    key: str
    patient: str
    fold: int
    diameter_mm: float
    ratings: Mapping[str, float]
    scores: Mapping[str, Sequence[float | None]]
    thresholds: Mapping[str, float]
    readers: float
    prior: float
    own_mm: Sequence[float | None]
    dice: Sequence[float]


class _TimeUp(Exception):
    """The minutes of the plan are over; what was fitted is kept."""


def train(plan: Plan, say: Progress) -> Trained:
    """Weights of the grader from the crops of a data folder.

    Where the plan names a fold column, the cross-fit stands in `cross_fit.json` of the output beside the weights; with a fold
    of it, that fold's patients are left out of the weights.
    """
    try:
        return _train(plan, _ending(plan, say))
    except _TimeUp:
        return Trained(finished=False, weights=None, card=None)


def _ending(plan: Plan, say: Progress) -> Progress:
    """`say`, which ends the work when the plan's minutes are over."""
    ends = None if plan.minutes_max is None else time.monotonic() + 60 * plan.minutes_max

    def tell(line: str) -> None:
        say(line)
        if ends is not None and time.monotonic() > ends:
            raise _TimeUp

    return tell


def _train(plan: Plan, tell: Progress) -> Trained:
    measured = _measured(plan, tell)
    used = np.array([plan.fold is None or crop.fold != plan.fold for crop in measured.crops], bool)
    fits = _fit(measured, used, plan, tell)
    weights = plan.output / (f"{NAME}.safetensors" if plan.fold is None else f"{NAME}-fold{plan.fold}.safetensors")
    save_file(dict(to_arrays({target: one.score for target, one in fits.items()})), weights)
    patients = [crop.patient for crop, seen in zip(measured.crops, used, strict=True) if seen]
    write_patients(patients_file(weights), patients)
    metrics: dict[str, Any] = {
        "n": int(used.sum()),
        "n_patients": len(set(patients)),
        "no_outline": [int(np.isnan(rows[used, 0]).sum()) for rows in measured.own],
        "chosen": {
            target: {"model": one.candidate.name, "threshold": round(one.score.threshold, 4), "log_losses": one.losses}
            for target, one in fits.items()
        },
    }
    if plan.folds and plan.fold is None:
        rows = cross_fit(plan, tell)
        metrics["auc_by_point"] = aucs_by_point(rows)
        (plan.output / "cross_fit.json").write_text(
            json.dumps([asdict(row) for row in rows], indent=0), encoding="utf-8"
        )
    (plan.output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return Trained(finished=True, weights=weights, card=None, metrics=metrics)


def cross_fit(plan: Plan, say: Progress, outlining: Outlining | None = None) -> Sequence[CrossFitted]:
    """Every nodule graded without its patient: choice of models and features, fit, calibration and thresholds of each fold
    are made from the others.

    Args:
        outlining: who outlines the crops, in place of whom the plan's recipe names.
    """
    measured = _measured(plan, say, outlining)
    folds, diameters = measured.folds, measured.diameters_mm
    rows: list[CrossFitted] = []
    for fold in sorted(set(folds)):
        inside = folds != fold
        fits = _fit(measured, inside, plan, say)
        readers = chosen(
            "malignancy",
            measured.readers_table("malignancy", inside),
            plan.seed,
            plan.output / "fits",
            _FOURTEEN_CANDIDATES,
            say,
        ).score
        labels = labels_of(measured.crops, "malignancy")[inside]
        prior = float(np.nanmean(labels))
        for at in np.flatnonzero(~inside).tolist():
            crop = measured.crops[at]
            rows.append(
                CrossFitted(
                    key=crop.key,
                    patient=crop.patient,
                    fold=crop.fold,
                    diameter_mm=round(float(diameters[at]), 3),
                    ratings=crop.ratings,
                    scores={target: _scores(one.score, measured, at) for target, one in fits.items()},
                    thresholds={target: one.score.threshold for target, one in fits.items()},
                    readers=float(readers.scores(measured.readers[at][None])[0]),
                    prior=prior,
                    own_mm=_each(measured, at, lambda x: float(np.exp(x[0]))),
                    dice=[round(float(d), 4) for d in measured.dice[:, at]],
                )
            )
    return rows


def aucs_by_point(rows: Sequence[CrossFitted]) -> Sequence[float]:
    """Malignancy AUC of all nodules that the readers are decided on, from each point; the prior stands for those without an
    outline. How much hangs on the point."""
    from sklearn.metrics import roc_auc_score

    rated = [row for row in rows if row.ratings["malignancy"] != MALIGNANT]
    positive = [row.ratings["malignancy"] > MALIGNANT for row in rated]
    said = [[row.prior if s is None else s for s in row.scores["malignancy"]] for row in rated]
    return [round(float(roc_auc_score(positive, scores)), 4) for scores in zip(*said, strict=True)]


def _measured(plan: Plan, say: Progress, outlining: Outlining | None = None) -> Measured:
    plan.output.mkdir(parents=True, exist_ok=True)
    held_out = {patient_key(patient) for patient in plan.held_out}
    crops = load_native(plan.data, held_out)
    return measure_crops(crops, outlining or outlining_of(plan, crops), plan.output, say)


def outlining_of(plan: Plan, crops: Sequence[Crop]) -> Outlining:
    """Who outlines the crops: the outliner of the recipe's `detector`, or, with `outliner` and `outliner_folds` (a folder), the
    weights of each fold. Raises: see `fold_entries`."""
    folder = plan.recipe.get("outliner_folds")
    if folder:
        entry = find_entry(str(plan.recipe["outliner"]), "outliner")
        return FoldsOutlining(fold_entries(entry, Path(str(folder)), crops))
    detector = find_entry(str(plan.recipe.get("detector", "hessian-dot")), "detector")
    return ShippedOutlining(find_entry(detector.outliner, "outliner"))


def _fit(measured: Measured, used: Flags, plan: Plan, say: Progress) -> Mapping[str, Chosen]:
    folder = plan.output / "fits"
    fits = {
        target: chosen(target, measured.table(target, used), plan.seed, folder, _candidates(target), say)
        for target in TARGETS
    }
    return {**fits, **_with_texture_thresholds(fits["not_solid"], fits["non_solid"], measured, used)}


def _with_texture_thresholds(
    not_solid: Chosen, non_solid: Chosen, measured: Measured, used: Flags
) -> Mapping[str, Chosen]:
    """The two scores that make one word, with thresholds that were found together."""
    faint, less = (measured.table(target, used) for target in ("non_solid", "not_solid"))
    classes = np.where(faint.positive, 0, np.where(less.positive, 1, 2)).astype(np.int64)
    thresholds = texture_thresholds(not_solid.crossed, non_solid.crossed, classes, faint.weights)
    both = {"not_solid": not_solid, "non_solid": non_solid}
    return {
        target: replace(one, score=replace(one.score, threshold=threshold))
        for (target, one), threshold in zip(both.items(), thresholds, strict=True)
    }


def _candidates(target: str) -> Sequence[Candidate]:
    """All for malignancy; of the other grades under a hundred nodules have each, too few for trees."""
    return [one for one in CANDIDATES if target == "malignancy" or one.kind == "linear"]


def _scores(score: Score, measured: Measured, at: int) -> Sequence[float | None]:
    return _each(measured, at, lambda x: float(score.scores(x[None])[0]))


def _each(measured: Measured, at: int, of: Callable[[np.ndarray], float]) -> Sequence[float | None]:
    """A number from each own outline of a crop."""
    return [round(of(rows[at]), 6) if np.isfinite(rows[at, 0]) else None for rows in measured.own]


def read_cross_fit(file: Path) -> Sequence[CrossFitted]:
    """What `train` wrote."""
    return [CrossFitted(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
