"""A guideline speaks only where the site's words ask for it, and says what it could not know."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import dicom_node
from config.settings import Guideline
from dicom_node.guidance import with_guideline
from dicom_node.summary import series_entry
from inference.findings import LUNG_RADS, Assessment, Nodule, Report, Status, sentences
from inference.headers import Header
from inference.kept import report_from_json, report_to_json
from tests.result_sources import Series, ball, ct_reading, ct_series, graded, report_of

SCREENING = Guideline(screening_words=("screening",), first_words=("baseline",))
INCIDENTAL = Guideline(incidental_words=("incidental",), incidental_eligible=True)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return ct_series(tmp_path / "ct", pixels=False)


def headers(description: str, age: float | None = 60.0) -> list[Header]:
    return [Header(f"1.2.{n}", study_description=description, age_years=age) for n in range(3)]


def nodule(series: Series, number: int, mm: float, texture: str | None, calcified: bool | None = False) -> Nodule:
    return dataclasses.replace(graded(ball(series, number, (5, 20, 20)), texture, calcified), mean_diameter_mm=mm)


def said(report: Report, description: str, rules: Guideline, age: float | None = 60.0) -> Assessment:
    found = with_guideline(report, headers(description, age), rules).assessment
    assert found is not None
    return found


def test_without_words_of_the_site_nothing_changes(series: Series) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 9.0, "solid")]))
    assert with_guideline(report, headers("CT lung screening baseline incidental"), Guideline()) is report
    assert with_guideline(report, headers("CT chest"), SCREENING) is report
    assert not any("Lung-RADS" in sentence for sentence in sentences(report))


def test_a_first_screening_gets_its_category(series: Series) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 5.0, "solid"), nodule(series, 2, 9.0, "solid")]))
    found = said(report, "Low dose CT, Screening, baseline", SCREENING)
    assert (found.guideline, found.category, found.nodule) == (LUNG_RADS, "4A", 2)
    assert "screening (word screening)" in found.inputs
    assert "juxtapleural shape" in found.not_assessed


@pytest.mark.parametrize(
    ("description", "texture", "calcified", "missing"),
    [
        ("CT screening", "solid", False, "no earlier CT compared"),
        ("CT screening baseline", None, False, "texture of nodule 1"),
        ("CT screening baseline", "part-solid", False, "size of the solid part of nodule 1"),
        ("CT screening baseline", "solid", True, "pattern of the calcification of nodule 1"),
    ],
)
def test_a_screening_ct_without_an_input_names_it(
    series: Series, description: str, texture: str | None, calcified: bool, missing: str
) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 9.0, texture, calcified)]))
    found = said(report, description, SCREENING)
    assert found.category is None
    assert any(missing in what for what in found.missing)
    words = " ".join(sentences(dataclasses.replace(report, assessment=found)))
    assert "no category, for these are missing:" in words
    assert missing in words
    assert "for research" in words


def test_nothing_marked_is_no_category_1_and_half_lungs_are_no_whole_ones(series: Series) -> None:
    none = said(report_of(ct_reading(series)), "screening baseline", SCREENING)
    assert (none.category, none.missing) == (None, ("a reader's word that there is no nodule",))
    half = report_of(ct_reading(series, [nodule(series, 1, 9.0, "solid")], Status.PARTIAL))
    assert said(half, "screening baseline", SCREENING).missing == ("whether both lungs were read whole",)


@pytest.mark.parametrize("words", ["screening baseline", "incidental"])
def test_a_result_that_does_not_show_all_has_no_category(series: Series, words: str) -> None:
    shown = ct_reading(series, [nodule(series, 1, 12.0, "solid")])
    both = Guideline(
        **{**SCREENING.model_dump(), **INCIDENTAL.model_dump(include={"incidental_words", "incidental_eligible"})}
    )
    assert said(report_of(shown), words, both).category is not None
    limited = said(report_of(dataclasses.replace(shown, limited=True)), words, both)
    assert (limited.category, limited.missing) == (None, ("whether both lungs were read whole",))


def test_a_finding_by_chance_gets_advice_where_the_risk_does_not_matter(series: Series) -> None:
    large = report_of(ct_reading(series, [nodule(series, 1, 12.0, "solid")]))
    assert said(large, "incidental", INCIDENTAL).category == "one solid, above 8 mm"
    small = report_of(ct_reading(series, [nodule(series, 1, 7.0, "solid")]))
    assert said(small, "incidental", INCIDENTAL).missing == ("risk (smoking and others)",)


def test_what_the_site_does_not_vouch_for_is_missing(series: Series) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 12.0, "solid")]))
    found = said(report, "incidental", Guideline(incidental_words=("incidental",)), age=None)
    assert found.missing == ("age", "whether a cancer is known", "whether the immune system is weakened")


def test_the_young_are_left_out(series: Series) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 12.0, "solid")]))
    assert said(report, "incidental", INCIDENTAL, age=34.0).excluded == ("the patient is under 35 years",)


def test_a_study_that_is_called_both_gets_neither(series: Series) -> None:
    both = Guideline(screening_words=("screening",), incidental_words=("incidental",))
    report = report_of(ct_reading(series, [nodule(series, 1, 12.0, "solid")]))
    found = said(report, "screening, incidental", both)
    assert found.category is None
    assert "both" in found.excluded[0]


@pytest.mark.parametrize("description", ["screening baseline", "screening"])
def test_it_is_kept_and_shown_as_the_schema_says(series: Series, description: str) -> None:
    report = report_of(ct_reading(series, [nodule(series, 1, 9.0, "solid")]))
    report = with_guideline(report, headers(description), SCREENING)
    assert report_from_json(json.loads(json.dumps(report_to_json(report)))).assessment == report.assessment
    entry: dict[str, Any] = series_entry(
        study_uid="1.2",
        series_uid=series.uid,
        modality="CT",
        status="completed",
        reason=None,
        evidence="a folder of files",
        reading=report.readings[0],
        assessment=report.assessment,
    )
    schema = json.loads((Path(dicom_node.__file__).parent / "schemas" / "summary.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads(json.dumps({"schema_version": 1, "series": [entry]})))
    assert entry["guideline"]["research"] is True
    assert entry["guideline"]["text"] in sentences(report)
    assert entry["nodules"][0]["mass_mg"] == 101


def test_a_report_kept_before_guidelines_is_still_read(series: Series) -> None:
    plain = report_to_json(report_of(ct_reading(series)))
    del plain["assessment"]
    assert report_from_json(json.loads(json.dumps(plain))).assessment is None
