"""Fleischner 2017, row by row: the table here was written from the publication, not from the code."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.guidelines.fleischner import Incidental, Person, fleischner, whole_mm

LOW = Person(60.0, cancer=False, weak_immunity=False, high_risk=False)
HIGH = replace(LOW, high_risk=True)
UNKNOWN = replace(LOW, high_risk=None)

# mm of the largest, several?, high risk? -> months to the next CT, words of the advice
SOLID = [
    (5, False, False, None, "no routine"),
    (5, False, True, (12, 12), "optional CT at 12"),
    (6, False, False, (6, 12), "consider CT at 18 to 24"),
    (8, False, False, (6, 12), "consider CT at 18 to 24"),
    (6, False, True, (6, 12), "then CT at 18 to 24"),
    (8, False, True, (6, 12), "then CT at 18 to 24"),
    (9, False, False, (3, 3), "PET/CT or tissue"),
    (9, False, True, (3, 3), "PET/CT or tissue"),
    (5, True, False, None, "no routine"),
    (5, True, True, (12, 12), "optional CT at 12"),
    (6, True, False, (3, 6), "consider CT at 18 to 24"),
    (6, True, True, (3, 6), "then CT at 18 to 24"),
    (9, True, False, (3, 6), "consider CT at 18 to 24"),
    (30, True, True, (3, 6), "then CT at 18 to 24"),
]
SUBSOLID = [
    ("non-solid", 5, None, False, None, "no routine"),
    ("non-solid", 6, None, False, (6, 12), "every 2 years until 5 years"),
    ("non-solid", 30, None, False, (6, 12), "every 2 years until 5 years"),
    ("part-solid", 5, None, False, None, "no routine"),
    ("part-solid", 6, 5.4, False, (3, 6), "yearly CT for 5 years"),
    ("part-solid", 20, 5.5, False, (3, 6), "highly suspicious"),
    ("non-solid", 5, None, True, (3, 6), "2 and 4 years"),
    ("part-solid", 6, None, True, (3, 6), "most suspicious"),
    ("non-solid", 20, None, True, (3, 6), "most suspicious"),
]


@pytest.mark.parametrize(("mm", "several", "high", "months", "words"), SOLID)
def test_solid_nodules(mm: float, several: bool, high: bool, months: tuple[int, int] | None, words: str) -> None:
    nodules = {2: Incidental(mm, "solid", benign=False)} | (
        {5: Incidental(4, "solid", benign=False)} if several else {}
    )
    said = fleischner(nodules, HIGH if high else LOW)
    assert said.missing == said.excluded == said.not_assessed == ()
    assert (said.next_ct_months, said.nodule) == (months, 2)
    assert words in said.advice
    assert said.category is not None
    assert ("several" if several else "one") in said.category


@pytest.mark.parametrize(("texture", "mm", "solid_mm", "several", "months", "words"), SUBSOLID)
@pytest.mark.parametrize("person", [LOW, HIGH, UNKNOWN])
def test_subsolid_nodules_whatever_the_risk(
    texture: str,
    mm: float,
    solid_mm: float | None,
    several: bool,
    months: tuple[int, int] | None,
    words: str,
    person: Person,
) -> None:
    nodules = {1: Incidental(mm, texture, solid_mm)} | ({2: Incidental(4, "non-solid")} if several else {})
    said = fleischner(nodules, person)
    assert (said.next_ct_months, said.missing) == (months, ())
    assert words in said.advice


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"age_years": None}, "age"),
        ({"cancer": None}, "cancer"),
        ({"weak_immunity": None}, "immune"),
        ({"screening": None}, "screening"),
        ({"high_risk": None}, "smoking"),
    ],
)
def test_what_is_not_known_of_the_patient_is_named(change: dict[str, None], missing: str) -> None:
    said = fleischner({1: Incidental(7.0, "solid")}, replace(LOW, **change))  # type: ignore[arg-type]
    assert said.category is None
    assert [missing in what for what in said.missing] == [True]


def test_the_risk_is_asked_for_only_where_the_advice_hangs_on_it() -> None:
    assert fleischner({1: Incidental(12.0, "solid")}, UNKNOWN).category == "one solid, above 8 mm"
    assert fleischner({1: Incidental(4.0, "solid")}, UNKNOWN).category is None


@pytest.mark.parametrize(
    ("nodule", "missing"),
    [
        (Incidental(7.0, None), "texture of nodule 4"),
        (Incidental(7.0, "part-solid"), "size of the solid part of nodule 4"),
        (Incidental(7.0, "solid", calcified=True), "pattern of the calcification of nodule 4"),
    ],
)
def test_what_is_not_known_of_a_nodule_is_named(nodule: Incidental, missing: str) -> None:
    said = fleischner({4: nodule}, LOW)
    assert (said.category, said.missing) == (None, (missing,))


def test_solid_and_subsolid_together_need_a_reader() -> None:
    said = fleischner({1: Incidental(7.0, "solid"), 2: Incidental(9.0, "non-solid")}, LOW)
    assert "most suspicious" in said.missing[0]


@pytest.mark.parametrize(
    ("person", "why"),
    [
        (replace(LOW, age_years=34.9), "under 35"),
        (replace(LOW, cancer=True), "cancer"),
        (replace(LOW, weak_immunity=True), "immune"),
        (replace(LOW, screening=True), "screening"),
    ],
)
def test_it_is_not_for_everybody(person: Person, why: str) -> None:
    said = fleischner({1: Incidental(7.0, "solid")}, person)
    assert (said.category, said.missing) == (None, ())
    assert why in said.excluded[0]
    assert fleischner({1: Incidental(7.0, "solid")}, replace(LOW, age_years=35.0)).category


def test_it_is_not_for_masses_nor_for_what_is_plainly_benign() -> None:
    assert "above 30 mm" in fleischner({1: Incidental(30.6, "solid")}, LOW).excluded[0]
    benign = Incidental(15.0, "solid", calcified=True, benign=True)
    assert "benign" in fleischner({1: benign}, LOW).excluded[0]
    assert fleischner({1: benign, 2: Incidental(7.0, "solid")}, LOW).category == "one solid, 6 to 8 mm, low risk"


def test_nothing_marked_is_no_advice() -> None:
    assert "does not exclude" in fleischner({}, LOW).excluded[0]


def test_the_inputs_are_shown() -> None:
    said = fleischner({3: Incidental(7.2, "solid")}, LOW)
    assert said.inputs == (
        "age 60", "no cancer known", "immune system not weakened", "low risk", "nodule 3: 7 mm, solid",
    )  # fmt: skip


@pytest.mark.parametrize(("mm", "whole"), [(5.4, 5), (5.5, 6), (8.4, 8), (8.5, 9), (6.0, 6), (7.45, 7)])
def test_sizes_are_to_whole_mm_a_half_upwards(mm: float, whole: int) -> None:
    assert whole_mm(mm) == whole


textures = st.sampled_from(["solid", "part-solid", "non-solid"])


@given(one=st.floats(0.5, 30), other=st.floats(0.5, 30), texture=textures, several=st.booleans(), high=st.booleans())
def test_larger_is_never_seen_later(one: float, other: float, texture: str, several: bool, high: bool) -> None:
    months = []
    for mm in sorted((one, other)):
        nodules = {1: Incidental(mm, texture, mm / 2)} | ({2: Incidental(0.5, texture, 0.2)} if several else {})
        said = fleischner(nodules, HIGH if high else LOW)
        months.append(said.next_ct_months[0] if said.next_ct_months else 99)
    assert months[0] >= months[1]


@given(
    person=st.builds(
        Person,
        age_years=st.none() | st.floats(0, 100),
        cancer=st.sampled_from([None, True, False]),
        weak_immunity=st.sampled_from([None, True, False]),
        high_risk=st.sampled_from([None, True, False]),
        screening=st.sampled_from([None, True, False]),
    ),
    nodules=st.dictionaries(
        st.integers(1, 9),
        st.builds(
            Incidental,
            mean_mm=st.floats(0.5, 60),
            texture=st.none() | textures,
            solid_mm=st.none() | st.floats(0.5, 60),
            calcified=st.sampled_from([None, True, False]),
            benign=st.sampled_from([None, True, False]),
        ),
        max_size=4,
    ),
)
def test_there_is_advice_or_the_reason_why_not_never_both(person: Person, nodules: dict[int, Incidental]) -> None:
    said = fleischner(nodules, person)
    assert (said.category is None) is bool(said.missing or said.excluded)
    assert bool(said.advice) is (said.category is not None)


def test_every_row_of_the_solid_table_is_tried() -> None:
    assert {(mm < 6, mm > 8, several, high) for mm, several, high, *_ in SOLID} == {
        (s, m, several, high)
        for (s, m), several, high in product(
            [(True, False), (False, False), (False, True)], (False, True), (False, True)
        )
    }
