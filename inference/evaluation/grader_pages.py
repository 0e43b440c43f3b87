"""The pages of a grader's report: ROC, calibration, confusion, tables by group, and the nodules that were called wrongly."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from inference.evaluation.calibration import reliability
from inference.evaluation.grading import TEXTURES, Graded, rated_malignant
from inference.evaluation.page import figure, gallery, heading, paragraph, shown, table
from inference.evaluation.pictures import TRUTH, patch
from inference.evaluation.ranking import roc
from inference.evaluation.report import strata_tables
from inference.training.crops import Crop

SHOWN: Final = 40


def body_of(figures: Mapping[str, Any], cases: Sequence[Graded], crops: Mapping[str, Crop], stamp: str) -> list[str]:
    """The parts of the report."""
    return [
        *_malignancy(figures["malignancy"], cases, stamp),
        *_wrongly_called(cases, crops),
        *_texture(figures["texture"], stamp),
        *_others(figures, stamp),
    ]


def _malignancy(one: Mapping[str, Any], cases: Sequence[Graded], stamp: str) -> list[str]:
    from inference.evaluation.plots import calibration_plot, confusion_plot, roc_plot

    text = (
        "Malignant is a mean rating above 3 of the readers, benign below 3; never pathology. "
        f"{one['n']} nodules of {one['n_patients']} patients, {one['n_malignant']} malignant; {one['n_not_graded']} more had no outline."
    )
    rows = [("model", *_auc_cells(one)), *((name, *_auc_cells(other)) for name, other in one["beside"].items())]
    head = ["score", "AUC", "AUC within 5-15 mm", "AUC of pairs of one size", "pairs"]
    body = [heading("Malignancy"), paragraph(text), table(head, rows)]
    if one["all_nodules"] is not None:
        everything = one["all_nodules"]
        rows = [("model, the prior where there is no outline", *_auc_cells(everything))]
        rows += [(name, *_auc_cells(other)) for name, other in everything["beside"].items()]
        body += [paragraph(f"With all {everything['n']} nodules:"), table(head, rows)]
    names = ("sensitivity", "specificity", "precision", "f1", "accuracy")
    cells = [(name, one.get(f"{name}_n", one["n"]), shown(one[name], one[f"{name}_ci"])) for name in names]
    calibration = one["calibration"]
    cells += [
        (name, calibration["n"], shown(calibration[name], calibration[f"{name}_ci"])) for name in ("ece", "brier")
    ]
    body.append(table(["at the threshold", "n", "value [95 %]"], cells))
    graded = [case for case in cases if case.malignancy is not None and rated_malignant(case) is not None]
    if one["auc"] is not None:
        positive = np.array([rated_malignant(case) is True for case in graded], bool)
        curves = {"model": np.array([case.malignancy for case in graded], np.float64)}
        curves["diameter"] = np.array([case.diameter_mm for case in graded], np.float64)
        point = (1 - one["specificity"], one["sensitivity"]) if one["sensitivity"] is not None else None
        drawn = [(name, roc(positive, score)) for name, score in curves.items()]
        for name in sorted({name for case in graded for name in case.beside}):
            known = np.array([name in case.beside for case in graded], bool)
            score = np.array([case.beside.get(name, np.nan) for case in graded], np.float64)
            drawn.append((name, roc(positive[known], score[known])))
        body.append(figure(roc_plot(drawn, point, stamp), f"ROC, n = {one['n']}"))
        if calibration["bins"]:
            png = calibration_plot(reliability(positive, curves["model"]), stamp)
            body.append(
                figure(png, f"Calibration, n in each bin; ECE {shown(calibration['ece'], calibration['ece_ci'])}")
            )
    if one["confusion"] is not None:
        png = confusion_plot(one["confusion"], ["benign", "malignant"], stamp)
        body.append(figure(png, f"At the threshold, n = {one['n']}"))
    return body + strata_tables(one["strata"], "auc", "auc_ci", "AUC")


def _auc_cells(one: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return (
        f"{shown(one['auc'], one['auc_ci'])}, n = {one['auc_n']}",
        f"{shown(one['auc_5_15mm'], one['auc_5_15mm_ci'])}, n = {one['auc_5_15mm_n']}",
        shown(one["auc_size_matched"], one["auc_size_matched_ci"]),
        one["auc_size_matched_pairs"],
    )


def _wrongly_called(cases: Sequence[Graded], crops: Mapping[str, Crop]) -> list[str]:
    """Malignant ones that were missed, lowest score first; false alarms, highest first."""
    called = [case for case in cases if case.called is not None and case.malignancy is not None]
    missed = sorted((c for c in called if rated_malignant(c) is True and not c.called), key=lambda c: c.malignancy or 0)
    alarms = sorted((c for c in called if rated_malignant(c) is False and c.called), key=lambda c: -(c.malignancy or 0))
    body = []
    for title, wrong in (("Missed", missed), ("False alarms", alarms)):
        first = f"The first {SHOWN} of {len(wrong)}. " if len(wrong) > SHOWN else ""
        body += [
            heading(f"{title}: {len(wrong)}", 3),
            paragraph(f"{first}Blue: the readers' outline; 50 mm wide."),
            gallery((_picture(crops[case.key]), _caption(case)) for case in wrong[:SHOWN]),
        ]
    return body


def _caption(case: Graded) -> str:
    return (
        f"{case.key}: score {case.malignancy:.2f}, readers {case.ratings['malignancy']:.1f}, {case.diameter_mm:.1f} mm"
    )


def _picture(crop: Crop) -> bytes:
    key = int(crop.mask.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(crop.mask[key])
    centre = (float(rows.mean()), float(columns.mean()))
    return patch(crop.hu[key], crop.spacing_mm[1:], centre, [(crop.mask[key], TRUTH)])


def _texture(one: Mapping[str, Any], stamp: str) -> list[str]:
    from inference.evaluation.plots import confusion_plot

    rows = [(name, c["n"], shown(c["sensitivity"], c["sensitivity_ci"])) for name, c in one["classes"].items()]
    rows.append(("accuracy", one["n"], shown(one["accuracy"], one["accuracy_ci"])))
    rows.append(("mean of the classes", one["n"], shown(one["balanced_accuracy"])))
    body = [heading("Texture"), table(["class", "n", "called so [95 %]"], rows)]
    if one["n"]:
        body.append(figure(confusion_plot(one["confusion"], TEXTURES, stamp), f"Texture, n = {one['n']}"))
    return body


def _others(figures: Mapping[str, Any], stamp: str) -> list[str]:
    from inference.evaluation.plots import confusion_plot

    one = figures["calcified"]
    names = ("sensitivity", "specificity", "precision", "f1", "accuracy")
    rows = [(name, one.get(f"{name}_n", one["n"]), shown(one[name], one[f"{name}_ci"])) for name in names]
    text = f"{one['n']} nodules, {one['n_positive']} calcified (mode of the readers 1 to 5)."
    body = [heading("Calcified"), paragraph(text), table(["figure", "n", "value [95 %]"], rows)]
    if one["confusion"] is not None:
        body.append(figure(confusion_plot(one["confusion"], ["absent", "calcified"], stamp), f"n = {one['n']}"))
    marked = [
        (name, figures[name]["n"], figures[name]["n_positive"], shown(figures[name]["auc"], figures[name]["auc_ci"]))
        for name in ("spiculation", "lobulation")
    ]
    body += [
        heading("Spiculation and lobulation"),
        table(["marked (mean 3 or more)", "n", "marked", "AUC [95 %]"], marked),
    ]
    return body
