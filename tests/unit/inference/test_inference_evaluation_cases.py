"""From cases to the figures of metrics.json: each has its n and interval, and is left out where n is too small."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sklearn import metrics as sk

import dicom_node
from inference.errors import NoSuchData
from inference.evaluation.detection import Found, ScanCase, detection_metrics
from inference.evaluation.grading import Graded, grading_metrics, rated_malignant
from inference.evaluation.hits import Target
from inference.evaluation.luna16 import is_luna16, load_luna16
from inference.evaluation.outlining import OutlineCase, outlining_metrics
from inference.evaluation.outlining_scans import OutlinedScans
from inference.evaluation.strata import scanner_groups, size_group, slice_group, texture_class
from inference.training.outliner_scans import SpottedRow
from tests.unit.inference.made import header

SCHEMA = json.loads((Path(dicom_node.__file__).parent / "schemas/metrics.schema.json").read_text(encoding="utf-8"))
META = {
    "schema_version": 1,
    "mode": "shipped",
    "folds": None,
    "in_sample_patients": 0,
    "entries": [],
    "rule_for_n": "as it says",
}


def fits(task: str, figures: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    plain = json.loads(json.dumps({**META, "task": task, **figures}, allow_nan=False))
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(plain)] == []


def nodules(n: int, seed: int = 3) -> list[Graded]:
    """Two a patient; the score knows the readers somewhat."""
    draw = np.random.default_rng(seed)
    cases = []
    for k in range(n):
        mean = float(draw.choice([1.5, 2.5, 3.0, 3.5, 4.5]))
        score = float(np.clip(draw.normal(mean / 5, 0.2), 0, 1))
        texture = float(draw.choice([1.0, 3.0, 5.0]))
        calcification = float(draw.choice([3.0, 6.0]))
        cases.append(
            Graded(
                key=str(k),
                patient=str(k // 2),
                diameter_mm=float(draw.uniform(3, 25)),
                ratings={
                    "malignancy": mean,
                    "texture": texture,
                    "calcification": calcification,
                    "spiculation": mean,
                    "lobulation": 1.0,
                },
                groups={"size_mm": "3-5" if k < 4 else "5-8"},
                malignancy=score,
                called=score >= 0.6,
                texture=texture_class(texture) if k % 4 else "solid",
                calcified=calcification < 6 if k % 5 else True,
                spiculation=score,
                lobulation=score,
                prior=0.4,
            )
        )
    return cases


def test_undecided_nodules_are_left_out_and_the_figures_are_those_of_scikit_learn() -> None:
    cases = nodules(200)
    figures = grading_metrics(cases, 0.6)
    fits("grader", figures)
    decided = [case for case in cases if case.ratings["malignancy"] != 3.0]
    truth = [case.ratings["malignancy"] > 3 for case in decided]
    score = [case.malignancy or 0.0 for case in decided]
    called = [bool(case.called) for case in decided]
    one = figures["malignancy"]
    assert (one["n"], one["n_malignant"], one["n_patients"]) == (
        len(decided),
        sum(truth),
        len({c.patient for c in decided}),
    )
    assert one["auc"] == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-4)
    assert one["auc_ci"][0] < one["auc"] < one["auc_ci"][1]
    assert one["sensitivity"] == pytest.approx(sk.recall_score(truth, called), abs=1e-4)
    assert one["precision"] == pytest.approx(sk.precision_score(truth, called), abs=1e-4)
    assert one["f1"] == pytest.approx(sk.f1_score(truth, called), abs=1e-4)
    assert one["confusion"] == sk.confusion_matrix(truth, called).tolist()
    middle = [n for n, case in enumerate(decided) if 5 <= case.diameter_mm <= 15]
    expected = sk.roc_auc_score([truth[n] for n in middle], [score[n] for n in middle])
    assert (one["auc_5_15mm_n"], one["auc_5_15mm"]) == (len(middle), pytest.approx(expected, abs=1e-4))
    assert one["auc_size_matched"] == pytest.approx(one["auc"], abs=0.12)  # this score knows nothing of the size
    assert one["beside"]["diameter"]["auc"] == pytest.approx(0.5, abs=0.12)
    assert one["beside"]["diameter"]["auc_size_matched"] == pytest.approx(0.5, abs=0.15)
    assert one["calibration"]["n"] == len(decided)
    texture = figures["texture"]
    assert (
        texture["confusion"]
        == sk.confusion_matrix(
            [texture_class(c.ratings["texture"]) for c in cases],
            [c.texture for c in cases],
            labels=["non-solid", "part-solid", "solid"],
        ).tolist()
    )
    calcified = figures["calcified"]
    assert calcified["accuracy"] == pytest.approx(
        sk.accuracy_score([c.ratings["calcification"] < 6 for c in cases], [c.calcified for c in cases]), abs=1e-4
    )


def test_a_class_of_fourteen_has_no_figure() -> None:
    cases = nodules(400)
    malignant = [case for case in cases if rated_malignant(case)]
    benign = [case for case in cases if rated_malignant(case) is False]
    few = grading_metrics(malignant[:14] + benign[:100], 0.6)
    fits("grader", few)
    for name in ("auc", "auc_ci", "sensitivity", "specificity", "precision", "f1", "accuracy", "confusion"):
        assert few["malignancy"][name] is None, name
    assert few["malignancy"]["calibration"]["ece"] is None
    assert few["malignancy"]["n_malignant"] == 14
    assert few["lobulation"]["auc"] is None  # nobody marked it
    enough = grading_metrics(malignant[:15] + benign[:100], 0.6)
    assert enough["malignancy"]["auc"] is not None
    fits("grader", grading_metrics([], None))


def test_nodules_without_an_outline_are_counted_and_stand_at_the_prior_in_the_figure_of_all() -> None:
    cases = nodules(200)
    some = [replace(c, malignancy=None, called=None) if n % 4 == 0 else c for n, c in enumerate(cases)]
    one = grading_metrics(some, None)["malignancy"]
    rated = [case for case in some if rated_malignant(case) is not None]
    assert one["n_not_graded"] == sum(case.malignancy is None for case in rated)
    assert one["n"] + one["n_not_graded"] == one["all_nodules"]["n"] == len(rated)
    truth = [rated_malignant(case) for case in rated]
    score = [0.4 if case.malignancy is None else case.malignancy for case in rated]
    assert one["all_nodules"]["auc"] == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-4)
    without = grading_metrics([replace(c, prior=None) for c in some], None)["malignancy"]
    assert without["all_nodules"] is None


def test_groups_carry_their_n_and_small_ones_no_figure() -> None:
    one = grading_metrics(nodules(200), 0.6)["malignancy"]["strata"]["size_mm"]
    assert one["3-5"]["auc"] is None
    assert one["3-5"]["n"] <= 4
    assert one["5-8"]["auc"] is not None


def test_dice_and_volume_error_have_means_medians_and_intervals_over_patients() -> None:
    draw = np.random.default_rng(1)
    cases = [
        OutlineCase(
            str(n), str(n // 2), float(draw.uniform(0.5, 1)), float(draw.normal(0, 0.2)), True, {"texture": "solid"}
        )
        for n in range(60)
    ]
    figures = outlining_metrics(cases)
    scans = OutlinedScans((SpottedRow("one", 1, 8.0, True, 0.9, 0.1),), (("two", "no lung"),)).figures
    fits("outliner", {**figures, "cubes": outlining_metrics(cases[:10]), "prompt_moved_mm_max": 3.0, "scans": scans})
    values = [case.dice for case in cases]
    assert figures["dice"]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
    assert figures["dice"]["median"] == pytest.approx(np.median(values), abs=1e-4)
    assert figures["dice"]["ci"][0] < figures["dice"]["mean"] < figures["dice"]["ci"][1]
    assert figures["volume_error"]["mean_absolute"] == pytest.approx(
        np.mean([abs(c.volume_error) for c in cases]), abs=1e-4
    )
    assert outlining_metrics(cases[:14])["dice"]["mean"] is None
    assert outlining_metrics([replace(case, patient="one") for case in cases])["dice"]["mean"] is None


def target(x: float, *, counts: bool = True) -> Target:
    return Target(
        (x, 0, 0), lambda place: math.dist(place, (x, 0, 0)) <= 4, counts, {"diameter_mm": 8.0, "texture": 5.0}
    )


def scan(name: str, targets: list[Target], found: list[tuple[float, float]], **changes: Any) -> ScanCase:
    reported = tuple(Found((x, 0.0, 0.0), score) for x, score in found)
    plain = ScanCase(name, name, name, tuple(targets), reported, reported, complete=True, seconds=1.0)
    return replace(plain, **changes)


def test_the_figures_of_three_scans_by_hand() -> None:
    """One hit, one missed, one repeat, one false alarm, one ignored; a scan that is not labelled whole has no false alarms."""
    cases = [
        scan("a", [target(0), target(50), target(100, counts=False)], [(0, 0.9), (1, 0.5), (100, 0.4), (200, 0.3)]),
        scan("b", [], [(0, 0.2)], groups={"maker": "GE"}),
        scan("c", [target(0)], [(0, 0.9), (70, 0.8)], complete=False, groups={"maker": "GE"}),
        scan("d", [target(0)], [], not_read="too thick"),
    ]
    figures = detection_metrics(cases)
    fits("detector", figures)
    assert [(s["hits"], s["truth"], s["false_positives"], s["repeats"], s["ignored"]) for s in figures["scans"]] == [
        (1, 2, 2, 1, 1),
        (0, 0, 1, 0, 0),
        (1, 1, None, 0, 0),
        (0, 1, None, 0, 0),
    ]
    assert (figures["n"], figures["hits"], figures["n_nodules_not_read"]) == (3, 2, 1)
    assert figures["sensitivity"] is None  # three nodules are too few to say a share
    assert (figures["fp_per_scan"], figures["fp_scans"], figures["fp_max"]) == (1.5, 2, 2)
    assert figures["cpm"] is None  # two scans can't have an eighth of an alarm
    at = {point["fp_per_scan"]: point["sensitivity"] for point in figures["froc"]}
    assert (at[0.125], at[8.0]) == (0.5, 0.5)
    assert figures["strata"]["maker"] == {
        "GE": {"sensitivity": None, "sensitivity_ci": None, "hits": 1, "n": 1},
    }


def test_five_nodules_have_a_sensitivity_with_its_exact_interval() -> None:
    figures = detection_metrics([scan("a", [target(20.0 * n) for n in range(5)], [(20.0 * n, 1.0) for n in range(4)])])
    assert figures["sensitivity"] == 0.8
    assert figures["sensitivity_ci"] == [0.2836, 0.9949]  # Clopper and Pearson, 4 of 5


def write_luna16(folder: Path, results: str) -> None:
    (folder / "annotations.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\n" + "".join(f"s{n},0,0,{n},10\n" for n in range(10))
    )
    (folder / "annotations_excluded.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\ns0,100,0,0,-1\n")
    (folder / "results.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n" + results)


def test_the_tables_of_luna16_are_scored_as_the_challenge_does(tmp_path: Path) -> None:
    """Nine of ten found; a repeat and an excluded finding cost nothing; 5 mm off the centre is no hit; one more scan without
    nodule."""
    lines = [f"s{n},0,0,{n},0.9\n" for n in range(9)]
    lines += ["s0,1,0,0,0.95\n", "s0,102,0,0,0.99\n", "s9,5,0,9,0.5\n", "s10,0,0,0,0.1\n"]
    write_luna16(tmp_path, "".join(lines))
    (tmp_path / "seriesuids.csv").write_text("".join(f"s{n}\n" for n in range(16)))
    assert is_luna16(tmp_path)
    figures = detection_metrics(load_luna16(tmp_path))
    fits("detector", {**figures})
    assert (figures["n"], figures["hits"], figures["n_scans"]) == (10, 9, 16)
    assert figures["fp_per_scan"] == 2 / 16
    assert figures["cpm"] == 0.9
    assert all(point["sensitivity"] == 0.9 for point in figures["froc"])


@pytest.mark.parametrize(("results", "said"), [("", None), ("s1,a,0,0,1\n", "line 2"), ("s1,0,0,0\n", "line 2")])
def test_tables_that_are_none_are_refused_with_their_line(tmp_path: Path, results: str, said: str | None) -> None:
    write_luna16(tmp_path, results)
    if said is None:
        assert detection_metrics(load_luna16(tmp_path))["hits"] == 0
    else:
        with pytest.raises(NoSuchData, match=said):
            load_luna16(tmp_path)
    (tmp_path / "more.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n")
    with pytest.raises(NoSuchData, match=r"more\.csv, results\.csv"):
        load_luna16(tmp_path)


@pytest.mark.shared
def test_the_truth_of_luna16_scores_itself_perfectly(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "tables/luna16_annotations.csv").read_text()
    (tmp_path / "luna16_annotations.csv").write_text(text)
    rows = [line.rsplit(",", 1)[0] + ",1.0" for line in text.splitlines()[1:]]
    (tmp_path / "results.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,probability", *rows]) + "\n")
    figures = detection_metrics(load_luna16(tmp_path))
    assert (figures["n"], figures["hits"], figures["fp_max"], figures["cpm"]) == (860, 860, 0, 1.0)


def test_groups_of_a_scan_come_from_its_header_and_say_nothing_where_it_does_not() -> None:
    assert scanner_groups(header(sex="F", age_years=66.0)) == {
        "maker": "GE",
        "kernel": "soft",
        "slice_mm": "to 1.25",
        "sex": "F",
        "age": "65-74",
    }
    assert scanner_groups(header(manufacturer="SIEMENS", kernel="B70f", slice_thickness=3.0))["kernel"] == "sharp"
    silent = header(manufacturer="", kernel="", slice_thickness=None, age_years=None)
    assert set(scanner_groups(silent).values()) == {""}
    assert [size_group(mm) for mm in (3, 5, 8, 15, 40)] == ["3-5", "5-8", "8-15", "above 15", "above 15"]
    assert [slice_group(mm) for mm in (0.8, 1.25, 2.0, 3.0, 5.0)] == ["to 1.25", "to 1.25", "1.25-2", "2-3", "above 3"]
    assert [texture_class(x) for x in (2.0, 2.1, 3.9, 4.0, None)] == [
        "non-solid",
        "part-solid",
        "part-solid",
        "solid",
        "",
    ]
