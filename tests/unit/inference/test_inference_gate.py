"""What is no adult patient is turned away with its reason, and what is read in spite of a doubt says so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import Select
from inference.findings import Reason
from inference.headers import Header, read_header
from inference.selection import Choice, Found, SeriesView, choose
from tests.unit.inference.made import ct_dataset, header, patient, radiograph, stack, write


def chosen(headers: list[Header], rules: Select = Select()) -> Choice:  # noqa: B008 - frozen
    return choose([SeriesView("1.2.3", headers)], rules, models=frozenset({"nodule", "radiograph"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"patient_name": "PHANTOM^CHEST"},
        {"patient_id": "QA-phantom-7"},
        {"series_description": "CatPhan 600 CTP"},
        {"study_description": "Lungman, dose series"},
        {"model": "Chest phantom"},
        {"protocol": "ChestPhantomRoutine"},
    ],
)
def test_a_phantom_is_turned_away_with_the_word_that_says_so(changes: dict[str, Any]) -> None:
    choice = chosen(stack(**changes))
    (verdict,) = choice.verdicts
    assert (verdict.outcome, verdict.reason.code if verdict.reason else "") == ("passed_over", "phantom")
    assert verdict.reason
    assert "no patient" in verdict.reason.text
    assert not choice.report


def test_a_site_that_has_phantoms_read_finds_it_said_in_the_result() -> None:
    choice = chosen(stack(patient_name="PHANTOM^CHEST"), Select(phantoms=True))
    assert choice.to_read == ("1.2.3",)
    assert any("phantom was read, no patient" in note for note in choice.notes)
    assert chosen(stack(), Select(phantoms=True)).notes == ()


def test_a_radiograph_of_a_phantom_is_no_patient_either() -> None:
    assert chosen([radiograph(patient_name="PHANTOM^CHEST")]).verdicts[0].outcome == "passed_over"


@pytest.mark.parametrize(
    "changes",
    [
        {"species": "Canis lupus familiaris"},
        {"animal": "a breed is named"},
        {"study_description": "Canine thorax"},
        {"institution": "Veterinary Clinic"},
    ],
)
def test_an_animal_is_turned_away(changes: dict[str, Any]) -> None:
    (verdict,) = chosen(stack(**changes)).verdicts
    assert (verdict.outcome, verdict.reason.code if verdict.reason else "") == ("passed_over", "not_human")


def test_a_species_that_is_human_outweighs_words() -> None:
    assert chosen(stack(species="Homo sapiens", institution="Former veterinary school")).to_read


def test_a_child_is_turned_away_and_an_unknown_age_is_said() -> None:
    (verdict,) = chosen(stack(age_years=9.0)).verdicts
    assert verdict.reason
    assert (verdict.outcome, verdict.reason.code) == ("passed_over", "child")
    choice = chosen([replace(h, age_years=None) for h in stack()])
    assert choice.to_read
    assert choice.notes == ("The images do not tell the patient's age; only patients from 18 years are read",)
    assert chosen(stack()).notes == ()


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"PatientBreedDescription": "Beagle"}, "a breed is named"),
        ({"PatientSexNeutered": "ALTERED"}, "it is said whether it is neutered"),
        ({"ResponsiblePerson": "Doe^J", "ResponsiblePersonRole": "OWNER"}, "an owner is named"),
        ({"ResponsiblePerson": "Doe^J", "ResponsiblePersonRole": "PARENT"}, ""),
        ({}, ""),
    ],
)
def test_what_is_told_of_animals_alone_is_found_in_the_header(
    tmp_path: Path, elements: dict[str, str], told: str
) -> None:
    path = write(ct_dataset(0, np.asarray(patient(), np.int16), **elements), tmp_path / "a.dcm")
    assert read_header(path).animal == told


def test_lung_bases_are_not_for_us_unless_the_headers_call_it_chest() -> None:
    found = Found("passed_over", Reason("lung_base", "only 80 of 450 mm have lung"))
    belly = stack(body_part="", series_description="Abdomen pv")
    verdicts = [
        choose([SeriesView("1.2.3", headers, found=found)], Select()).verdicts[0] for headers in (belly, stack())
    ]
    assert [v.outcome for v in verdicts] == ["passed_over", "declined"]


def test_words_are_whole_ones() -> None:
    assert chosen(stack(patient_name="Phantomas^J")).to_read
    assert header(patient_name="x").animal == ""
