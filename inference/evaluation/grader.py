"""How well a grader grades: on the crops, from the node's own outlines, each from a point that was moved by up to 3 mm.

Cross-fit: choice of model, fit, calibration and thresholds of each fold are made without it, by the training's own
`cross_fit`; beside it the diameter, the 14-feature model on the readers' masks and stored scores of networks. Shipped: the part that a reading uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from config.catalogue import Entry
from inference.chain import build_part
from inference.device import choose_device
from inference.evaluation.grader_pages import body_of
from inference.evaluation.grading import Graded, grading_metrics
from inference.evaluation.report import Written, write
from inference.evaluation.request import IN_SAMPLE, Request, described, fold_entry, in_sample, need_column
from inference.evaluation.strata import size_group, slice_group, texture_class
from inference.grade import texture_of
from inference.lungs import RIGHT, Lungs
from inference.measure import measure_nodule, sphere_diameter_mm
from inference.reader import Grader
from inference.training.crops import Crop, load_native, volume_of
from inference.training.grader import CrossFitted, cross_fit
from inference.training.grader_nets import FILE, hash_of, read_scores, with_mean
from inference.training.own_outlines import FoldsOutlining, Outlined, Outlining, ShippedOutlining, outline_crops
from inference.training.plan import Plan, Progress

READERS_14: Final = "14 features of the readers' masks"
POINT: Final = 0  # of the points that the training draws, the first


def evaluate(request: Request, say: Progress) -> Written:
    """Measure a grader on the crops of a data folder; writes metrics.json and report.html.

    Raises:
        NoSuchData: the crops or the column of folds are missing, or the chain has no grader.
        InSample, ModelRefused: see `request`.
    """
    need_column(request)
    crops = load_native(request.data)
    by_key = {crop.key: crop for crop in crops}
    chain = request.entries()
    seen = 0
    if request.folds:
        rows = cross_fit(_plan(request), say, _outlining(request, chain["outliner"], crops, say))
        networks = _networks(request)
        cases = [_crossed(row, by_key[row.key], networks) for row in rows]
        figures = grading_metrics(cases, None)
        figures["malignancy"]["thresholds"] = {str(row.fold): round(row.thresholds["malignancy"], 4) for row in rows}
        entries = described(chain[task] for task in ("outliner", "grader") if task in chain)
    else:
        used = [chain["outliner"], chain["grader"]]
        seen = in_sample(request, used, {crop.patient for crop in crops})
        grader: Grader = build_part(chain["grader"], choose_device(request.device))
        outlined = outline_crops(crops, ShippedOutlining(chain["outliner"]), request.output / "outlines", POINT, say)
        threshold = getattr(grader, "thresholds", {}).get("malignancy")
        cases = [_graded(crop, outlined[crop.key], grader, threshold) for crop in crops]
        figures = grading_metrics(cases, threshold)
        entries = described(used)
    stamp = IN_SAMPLE if seen else ""
    return write(request, figures, entries, seen, stamp, lambda: body_of(figures, cases, by_key, stamp))


def _outlining(request: Request, outliner: Entry, crops: Sequence[Crop], say: Progress) -> Outlining:
    """An outliner that has learned outlines each fold with weights that never saw it."""
    if not outliner.weights:
        return ShippedOutlining(outliner)
    members = {fold: {crop.patient for crop in crops if crop.fold == fold} for fold in {crop.fold for crop in crops}}
    return FoldsOutlining({fold: fold_entry(request, outliner, fold, members[fold], say) for fold in sorted(members)})


def _plan(request: Request) -> Plan:
    """The training's cross-fit."""
    return Plan(
        task="grader",
        data=request.data,
        output=request.output / "folds" / "grader",
        minutes_max=None,
        seed=request.seed,
        folds=request.folds,
    )


def _groups(crop: Crop) -> Mapping[str, str]:
    return {
        "size_mm": size_group(sphere_diameter_mm(crop.mask, crop.spacing_mm)),
        "texture": texture_class(crop.ratings.get("texture")),
        "slice_mm": slice_group(crop.spacing_mm[0]),
    }


def _networks(request: Request) -> Mapping[str, Mapping[str, float]]:
    """Scores of the networks that stand beside, by name and hash of the nodule, where a file of them lies with the folds' weights."""
    said = read_scores(request.fold_weights / FILE)
    return with_mean({f"{name}, {_made(one['made'])}": one["scores"] for name, one in said.items()})


def _made(how: Mapping[str, Any]) -> str:
    return f"{how['steps']} steps of {how['batch']}"


def _crossed(row: CrossFitted, crop: Crop, networks: Mapping[str, Mapping[str, float]]) -> Graded:
    """What the models of a fold said of a nodule that they never saw."""
    score = {target: scores[POINT] for target, scores in row.scores.items()}
    called = {t: None if s is None else s >= row.thresholds[t] for t, s in score.items()}
    not_solid, non_solid = called["not_solid"], called["non_solid"]
    texture = None if not_solid is None or non_solid is None else texture_of(not_solid, non_solid)
    return Graded(
        key=row.key,
        patient=row.patient,
        diameter_mm=row.diameter_mm,
        ratings=row.ratings,
        groups=_groups(crop),
        malignancy=score["malignancy"],
        called=called["malignancy"],
        texture=texture,
        calcified=called["calcified"],
        spiculation=score["spiculation"],
        lobulation=score["lobulation"],
        beside={
            **({READERS_14: row.readers} if np.isfinite(row.readers) else {}),
            **{name: scores[hash_of(row.key)] for name, scores in networks.items() if hash_of(row.key) in scores},
        },
        prior=row.prior,
    )


def _graded(crop: Crop, outlined: Outlined, grader: Grader, threshold: float | None) -> Graded:
    """What the grader says of a nodule, as a reading would ask it."""
    plain = Graded(
        key=crop.key,
        patient=crop.patient,
        diameter_mm=sphere_diameter_mm(crop.mask, crop.spacing_mm),
        ratings=crop.ratings,
        groups=_groups(crop),
    )
    if outlined.own is None:
        return plain
    volume = volume_of(crop, outlined.hu)
    lungs = Lungs(np.full(outlined.hu.shape, RIGHT, np.uint8), 0.0, (0.0, 0.0), 1.0, 0.0)
    (nodule,) = grader.grade(volume, [measure_nodule(volume, outlined.own, 1, lungs)], _silent)
    return replace(
        plain,
        malignancy=nodule.malignancy,
        called=None if threshold is None or nodule.malignancy is None else nodule.malignancy >= threshold,
        texture=nodule.texture,
        calcified=nodule.calcified,
        spiculation=nodule.spiculation,
        lobulation=nodule.lobulation,
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""
