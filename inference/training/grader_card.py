"""The grader's model card, from what was measured and nothing else.

`python -m inference.training.grader_card EVALUATION TRAINING CARD`: metrics.json of `evaluate grader --folds`, metrics.json of
`train grader`, and the file to write.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TARGETS = {
    "malignancy": "malignant: mean rating above 3 against below 3",
    "not_solid": "not solid: mean texture below 4",
    "non_solid": "non-solid: mean texture at most 2",
    "spiculation": "spiculated: mean 3 or more",
    "lobulation": "lobulated: mean 3 or more",
    "calcified": "calcified: mode 1 to 5 against absent",
}


def card(evaluation: Mapping[str, Any], training: Mapping[str, Any], name: str = "grade-features") -> str:
    """The text of the card; a figure that was not measured is not in it."""
    malignancy = evaluation["malignancy"]
    lines = [
        f"# {name}",
        "",
        "Grades a nodule from measured features of the node's own outline: malignancy, texture, spiculation, lobulation, calcified or",
        "not. Research software, not for diagnosis. **Malignancy is what radiologists thought, never pathology**; a score is",
        "calibrated on their opinion and is no probability of cancer.",
        "",
        "## Data",
        (
            f"LIDC-IDRI (Armato et al. 2011, CC BY 3.0, doi 10.7937/K9/TCIA.2015.LO9QL9SX): {training['n']} nodules of "
            f"{training['n_patients']} patients, each marked by 3"
        ),
        (
            f"or more readers. Outlines are the node's own, from {len(training['no_outline'])} points of up to 3 mm beside the middle; from these "
            f"{', '.join(map(str, training['no_outline']))} nodules had no"
        ),
        "outline and taught nothing. An outliner that has learned outlined each nodule with the weights of its fold, which never saw its",
        "patient, also here in training: what the weights learned from is like what they will see. Nothing was turned away as too",
        "unlikely: that a crop is a nodule is the detection's to say. So the outliner of a nodule in training may have seen patients of",
        "the fold that is held out: models, features and thresholds have not, the outlines of the others are not wholly blind to it.",
        "Patients that were learned from are in the hashes beside the weights.",
        "",
        "## Use and limits",
        "Nodules that a chain has outlined; one too small to measure (under 3 mm or 6 pixels) keeps empty grades. Crops of the training",
        "end with the nodule along the patient and were continued with their end slices, so what ships uses nothing that hangs on where",
        "an outline ends there (features of the thick part only). Readers did not use the scales of spiculation",
        "and lobulation all in the same direction in the first cases. Not for follow-up, not for nodules of known kind.",
        "",
        "## Models",
        "Chosen by log loss over patients inside the training data among logistic regressions, gradient boosting and the mean of both;",
        "Platt-calibrated. Thresholds: the largest F1, of both texture scores together the largest mean F1 of the three classes.",
        "",
        "| target | model | threshold |",
        "| --- | --- | --- |",
    ]
    for target, chosen in training["chosen"].items():
        lines.append(f"| {_TARGETS[target]} | {chosen['model']} | {chosen['threshold']:.3f} |")
    lines += [
        "",
        "## Measured",
        f"Mode {evaluation['mode']}: choice, fit, calibration and thresholds of each fold without its patients. {evaluation['rule_for_n']}",
        "",
        (
            f"Malignancy, n = {malignancy['n']} graded nodules ({malignancy['n_malignant']} malignant, {malignancy['n_patients']} patients); "
            f"{malignancy['n_not_graded']} more had no outline."
        ),
        "",
        "| AUC of | all | 5 to 15 mm | pairs of one diameter |",
        "| --- | --- | --- | --- |",
    ]
    lines += [_aucs("own outlines", malignancy)]
    lines += [_aucs(f"{what}, the same nodules", aucs) for what, aucs in malignancy["beside"].items()]
    everything = malignancy.get("all_nodules")
    if everything:
        lines.append(_aucs(f"own outlines, all {everything['n']}: the prior where there is no outline", everything))
        lines += [_aucs(f"{what}, all {everything['n']}", aucs) for what, aucs in everything["beside"].items()]
    if training.get("auc_by_point"):
        each = ", ".join(f"{auc:.3f}" for auc in training["auc_by_point"])
        mean = sum(training["auc_by_point"]) / len(training["auc_by_point"])
        lines += [
            "",
            f"The first point stands above. AUC of all, the prior where there is no outline, from each point: {each}; mean {mean:.3f}.",
        ]
    lines += ["", "| figure | value | n |", "| --- | --- | --- |"]
    for figure in ("sensitivity", "specificity", "precision", "accuracy"):
        lines += _row(
            f"malignancy, {figure}",
            malignancy.get(figure),
            malignancy.get(f"{figure}_ci"),
            malignancy.get(f"{figure}_n"),
        )
    lines += _row("malignancy, F1", malignancy.get("f1"), malignancy.get("f1_ci"), malignancy["n"])
    calibration = malignancy["calibration"]
    for figure in ("ece", "brier"):
        lines += _row(
            f"malignancy, {figure}", calibration.get(figure), calibration.get(f"{figure}_ci"), calibration["n"]
        )
    for target in ("spiculation", "lobulation"):
        said = evaluation[target]
        lines += _row(f"{target}, AUC", said["auc"], said["auc_ci"], f"{said['n']} ({said['n_positive']} marked)")
    calcified = evaluation["calcified"]
    for figure in ("sensitivity", "specificity", "precision"):
        lines += _row(
            f"calcified, {figure}", calcified.get(figure), calcified.get(f"{figure}_ci"), calcified.get(f"{figure}_n")
        )
    for word, one in evaluation["texture"]["classes"].items():
        lines += _row(f"{word}, sensitivity", one["sensitivity"], one["sensitivity_ci"], one["n"])
    lines += _row("texture, mean of the classes", evaluation["texture"].get("balanced_accuracy"), None, "3 classes")
    table = evaluation["texture"].get("confusion")
    if table:
        names = list(evaluation["texture"]["classes"])
        lines += ["", f"| texture by the readers | called {' | '.join(names)} |", "| --- | --- | --- | --- |"]
        lines += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(names, table, strict=True)]
    return "\n".join(lines) + "\n"


def _aucs(what: str, figures: Mapping[str, Any]) -> str:
    cells = [
        shown(figures.get(name), figures.get(f"{name}_ci")) + (f" (n {figures[count]})" if figures.get(count) else "")
        for name, count in (
            ("auc", "auc_n"),
            ("auc_5_15mm", "auc_5_15mm_n"),
            ("auc_size_matched", "auc_size_matched_pairs"),
        )
    ]
    return f"| {what} | {' | '.join(cells)} |"


def _row(what: str, value: float | None, interval: Any, n: Any) -> list[str]:
    return [] if value is None else [f"| {what} | {shown(value, interval)} | {n} |"]


def shown(value: float | None, interval: Any) -> str:
    """A figure with its interval; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}-{interval[1]:.3f}]" if interval else "")


if __name__ == "__main__":
    evaluated, trained, written = map(Path, sys.argv[1:4])
    written.write_text(card(json.loads(evaluated.read_text()), json.loads(trained.read_text())), encoding="utf-8")
