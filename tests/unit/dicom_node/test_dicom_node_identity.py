"""Whose images these are (promise 4)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.identity import differences, doubts, filled
from inference.headers import Header
from storage.rows import Identity

ANNA = Identity("4711", "HOSP", "Test^Anna", "19500101", "F")
IMAGE = Header(
    sop_instance_uid="1.2.3",
    patient_id="4711",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    pixel_sha256="a",
    accession="A1",
)


@pytest.mark.parametrize("name", ["patient_id", "issuer", "name", "birth_date", "sex"])
def test_another_value_is_a_doubt_and_a_missing_one_is_not(name: str) -> None:
    assert doubts(ANNA, replace(ANNA, **{name: "other"}))
    assert not doubts(ANNA, replace(ANNA, **{name: ""}))
    assert not doubts(replace(ANNA, **{name: ""}), ANNA)


@pytest.mark.parametrize("name", ["test^anna", "TEST^ANNA^^^", "Test^Anna ", "Test^Anna=検査^花", "Test^Anna^"])
def test_what_two_senders_may_write_differently_is_one_name(name: str) -> None:
    assert not doubts(ANNA, replace(ANNA, name=name))


@given(st.sampled_from(["4711", "0815", ""]), st.sampled_from(["HOSP", "OTHER", ""]))
def test_a_doubt_is_the_same_from_both_sides(patient_id: str, issuer: str) -> None:
    other = replace(ANNA, patient_id=patient_id, issuer=issuer)
    assert doubts(ANNA, other) == doubts(other, ANNA)


def test_what_one_copy_lacks_is_filled_in_and_nothing_is_replaced() -> None:
    assert filled(replace(ANNA, issuer=""), replace(ANNA, issuer="HOSP", name="Other")) == ANNA


def test_a_second_copy_with_other_pixels_differs_in_the_same_syntax_only() -> None:
    """Another syntax of the same headers is taken for the same image; the conformance statement says so."""
    assert differences(IMAGE, replace(IMAGE, pixel_sha256="b")) == ("pixels",)
    assert differences(IMAGE, replace(IMAGE, pixel_sha256="b", transfer_syntax_uid="1.2.840.10008.1.2.4.80")) == ()


def test_a_second_copy_with_another_accession_differs_and_one_without_does_not() -> None:
    assert differences(IMAGE, replace(IMAGE, accession="A2")) == ("accession",)
    assert differences(IMAGE, replace(IMAGE, accession="")) == ()


def test_a_second_copy_at_another_place_differs() -> None:
    assert differences(IMAGE, replace(IMAGE, position=(0.0, 0.0, 1.0))) == ("position",)
