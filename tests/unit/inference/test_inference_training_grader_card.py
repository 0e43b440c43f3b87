"""The grader's card says what was measured, and nothing more."""

import re
from typing import Any

from inference.training.grader_card import card

AUCS: dict[str, Any] = {
    "auc": 0.912, "auc_ci": [0.89, 0.93], "auc_5_15mm": 0.853, "auc_5_15mm_ci": [0.81, 0.89], "auc_5_15mm_n": 321,
    "auc_size_matched": 0.787, "auc_size_matched_ci": [0.71, 0.85], "auc_size_matched_pairs": 107,
}  # fmt: skip
TRAINING = {
    "n": 722, "n_patients": 394, "no_outline": [26, 27],
    "chosen": {"malignancy": {"model": "logistic, all, C 0.3", "threshold": 0.4321, "log_losses": {}}},
}  # fmt: skip
EVALUATION: dict[str, Any] = {
    "mode": "cross_fit", "rule_for_n": "Intervals are 95 %.",
    "malignancy": {
        **AUCS, "n": 585, "n_malignant": 290, "n_patients": 351, "n_not_graded": 24, "beside": {"diameter": AUCS},
        "sensitivity": 0.861, "sensitivity_ci": [0.82, 0.9], "sensitivity_n": 290, "f1": None, "f1_ci": None,
        "calibration": {"n": 585, "ece": 0.0345, "ece_ci": [0.03, 0.06], "brier": None, "brier_ci": None},
    },
    "spiculation": {"auc": None, "auc_ci": None, "n": 696, "n_positive": 12},
    "lobulation": {"auc": 0.777, "auc_ci": [0.7, 0.8], "n": 696, "n_positive": 79},
    "calcified": {"sensitivity": 0.91, "sensitivity_ci": [0.83, 0.96], "sensitivity_n": 78},
    "texture": {"classes": {"solid": {"n": 610, "sensitivity": 0.97, "sensitivity_ci": [0.95, 0.98]},
                            "part-solid": {"n": 3, "sensitivity": None, "sensitivity_ci": None}}},
}  # fmt: skip


def test_every_figure_of_the_card_was_measured() -> None:
    text = card(EVALUATION, TRAINING)
    known = {f"{v:.3f}" for v in _numbers([EVALUATION, TRAINING])}
    shown = set(re.findall(r"\b0\.\d{3}\b", text))
    assert shown <= known
    assert {"0.912", "0.853", "0.787", "0.777", "0.432"} <= shown


def test_what_was_not_measured_is_not_in_it() -> None:
    text = card(EVALUATION, TRAINING)
    for absent in ("malignancy, F1", "brier", "spiculation, AUC", "part-solid, sensitivity", "calcified, precision", "None", " nan"):
        assert absent not in text


def test_it_says_that_malignancy_is_an_opinion_and_how_many_had_no_outline() -> None:
    text = card(EVALUATION, TRAINING)
    assert "never pathology" in text
    assert "24 more had no outline" in text
    assert "26, 27" in text


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for each in value.values() for n in _numbers(each)]
    if isinstance(value, list):
        return [n for each in value for n in _numbers(each)]
    return [float(value)] if isinstance(value, int | float) else []
