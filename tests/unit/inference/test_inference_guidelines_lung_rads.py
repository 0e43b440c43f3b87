"""Lung-RADS v2022, row by row: the table here was written from the publication, not from the code."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.guidelines.lung_rads import (
    ADVICE,
    ORDER,
    Airway,
    Change,
    Cyst,
    Earlier,
    Parenchymal,
    change_of,
    classify,
    lung_rads,
)

BASELINE, NEW, GROWING, SLOW, STABLE = Change

SOLID = [
    (BASELINE, [(0.1, "2"), (5.9, "2"), (6.0, "3"), (7.9, "3"), (8.0, "4A"), (14.9, "4A"), (15.0, "4B"), (80.0, "4B")]),
    (NEW, [(3.9, "2"), (4.0, "3"), (5.9, "3"), (6.0, "4A"), (7.9, "4A"), (8.0, "4B"), (30.0, "4B")]),
    (GROWING, [(3.0, "4A"), (7.9, "4A"), (8.0, "4B"), (20.0, "4B")]),
    (SLOW, [(3.0, "4B"), (7.9, "4B"), (20.0, "4B")]),
]
NON_SOLID = [
    (BASELINE, [(4.0, "2"), (29.9, "2"), (30.0, "3"), (55.0, "3")]),
    (NEW, [(4.0, "2"), (29.9, "2"), (30.0, "3")]),
    (GROWING, [(4.0, "2"), (29.9, "2"), (30.0, "3")]),
    (SLOW, [(29.9, "2"), (30.0, "2"), (45.0, "2")]),
    (STABLE, [(29.9, "2"), (30.0, "2"), (45.0, "2")]),
    (None, [(4.0, "2"), (29.9, "2"), (30.0, None)]),
]
PART_SOLID: list[tuple[Change, float, Change | None, float | None, str | None]] = [
    (BASELINE, 5.9, None, 3.0, "2"),
    (BASELINE, 5.9, None, None, "2"),
    (BASELINE, 6.0, None, 5.9, "3"),
    (BASELINE, 6.0, None, 6.0, "4A"),
    (BASELINE, 25.0, None, 7.9, "4A"),
    (BASELINE, 25.0, None, 8.0, "4B"),
    (BASELINE, 6.0, None, None, None),
    (NEW, 5.9, None, None, "3"),
    (NEW, 6.0, None, 3.9, "4A"),
    (NEW, 9.0, None, 4.0, "4B"),
    (NEW, 9.0, None, None, None),
    (GROWING, 9.0, NEW, 3.9, "4A"),
    (GROWING, 9.0, GROWING, 3.9, "4A"),
    (GROWING, 9.0, GROWING, 4.0, "4B"),
    (GROWING, 9.0, STABLE, 5.0, "3"),
    (GROWING, 9.0, None, 5.0, None),
    (STABLE, 9.0, GROWING, 3.0, "4A"),
    (STABLE, 9.0, NEW, 4.0, "4B"),
    (STABLE, 9.0, SLOW, 3.0, "4B"),
    (SLOW, 9.0, None, None, "4B"),
]
STEPS: list[tuple[str, float, bool | None, str | None]] = [
    ("2", 12, None, "2"),
    ("3", 6, None, "2"),
    ("3", 5, None, "3"),
    ("4A", 3, None, "3"),
    ("4A", 2, None, "4A"),
    ("4B", 3, True, "2"),
    ("4B", 3, False, "4B"),
    ("4B", 3, None, None),
    ("4X", 3, True, "2"),
]
AIRWAY = [
    (False, {BASELINE: "2", NEW: "2", STABLE: "2", GROWING: None}),
    (True, {BASELINE: "4A", NEW: "4A", STABLE: "4B", GROWING: "4B", SLOW: "4B"}),
]
CALM = {"became_multilocular": False, "wall_grows": False, "cavity_grows": False, "more_opacity": False}
CYSTS: list[tuple[dict[str, Any], str | None]] = [
    ({"thick": True, "multilocular": False, "change": GROWING, **CALM, "cavity_grows": True}, "3"),
    ({"thick": True, "multilocular": False, "change": BASELINE}, "4A"),
    ({"thick": True, "multilocular": False, "change": NEW}, "4A"),
    ({"thick": False, "multilocular": True, "change": BASELINE}, "4A"),
    ({"thick": False, "multilocular": True, "change": GROWING, **CALM, "became_multilocular": True}, "4A"),
    ({"thick": True, "multilocular": True, "change": GROWING, **CALM, "became_multilocular": True}, "4A"),
    ({"thick": True, "multilocular": False, "change": GROWING, **CALM, "wall_grows": True}, "4B"),
    ({"thick": False, "multilocular": True, "change": GROWING, **CALM, "cavity_grows": True}, "4B"),
    ({"thick": False, "multilocular": True, "change": STABLE, **CALM, "more_opacity": True}, "4B"),
    ({"thick": True, "multilocular": False, "change": STABLE, **CALM, "earlier": Earlier("4A", 3)}, "3"),
    ({"thick": False, "multilocular": False, "change": BASELINE}, None),
]


def rows(table: list[tuple[Any, list[tuple[float, str | None]]]]) -> list[tuple[Any, float, str | None]]:
    return [(change, mm, category) for change, row in table for mm, category in row]


@pytest.mark.parametrize(("change", "mm", "category"), rows(SOLID))  # type: ignore[arg-type]
def test_solid_nodules(change: Change, mm: float, category: str) -> None:
    assert classify(Parenchymal(mm, "solid", change, benign=False)).category == category


@pytest.mark.parametrize(("change", "mm", "category"), rows(NON_SOLID))  # type: ignore[arg-type]
def test_non_solid_nodules(change: Change | None, mm: float, category: str | None) -> None:
    assert classify(Parenchymal(mm, "non-solid", change)).category == category


@pytest.mark.parametrize(("change", "mm", "solid_change", "solid_mm", "category"), PART_SOLID)
def test_part_solid_nodules(
    change: Change, mm: float, solid_change: Change | None, solid_mm: float | None, category: str | None
) -> None:
    verdict = classify(Parenchymal(mm, "part-solid", change, solid_mm=solid_mm, solid_change=solid_change))
    assert verdict.category == category
    assert category or any("solid part" in what for what in verdict.missing)


@pytest.mark.parametrize(("earlier", "months", "benign", "category"), STEPS)
def test_a_nodule_that_did_not_grow_steps_down_after_its_time(
    earlier: str, months: float, benign: bool | None, category: str | None
) -> None:
    before = Earlier(earlier, months, 9.0, proven_benign=benign)
    verdict = classify(Parenchymal(9.0, "solid", STABLE, earlier=before))
    assert verdict.category == category
    assert category or "work-up" in verdict.missing[0]


def test_one_that_crept_over_a_size_step_does_not_step_down() -> None:
    assert classify(Parenchymal(6.2, "solid", STABLE, earlier=Earlier("2", 12, 5.8))).category == "3"
    assert classify(Parenchymal(7.0, "solid", STABLE, earlier=Earlier("2", 12, 7.0))).category == "2"


def test_a_follow_up_without_the_earlier_category_is_not_guessed() -> None:
    assert "earlier CT" in classify(Parenchymal(7.0, "solid", STABLE)).missing[0]
    assert "earlier CT" in classify(Parenchymal(7.0, "solid", STABLE, earlier=Earlier("3", 6))).missing[0]


@pytest.mark.parametrize("change", [BASELINE, NEW])
@pytest.mark.parametrize(("mm", "lowered"), [(3.0, True), (7.9, True), (9.9, True), (10.0, False)])
def test_juxtapleural_nodules_under_10_mm_are_category_2(change: Change, mm: float, lowered: bool) -> None:
    nodule = Parenchymal(mm, "solid", change, juxtapleural=True, benign=False)
    assert (classify(nodule).category == "2") is lowered
    assert classify(replace(nodule, texture="part-solid", solid_mm=mm)).category != "2" or mm < 6
    assert classify(replace(nodule, change=GROWING)).category in ("4A", "4B")


@pytest.mark.parametrize(("segmental", "change", "category"), [(s, c, k) for s, row in AIRWAY for c, k in row.items()])
def test_airway_nodules(segmental: bool, change: Change, category: str | None) -> None:
    assert classify(Airway(segmental, change)).category == category


@pytest.mark.parametrize(("cyst", "category"), CYSTS)
def test_atypical_cysts(cyst: dict[str, Any], category: str | None) -> None:
    verdict = classify(Cyst(**cyst))
    assert verdict.category == category
    assert category or "thin-walled" in verdict.not_covered


@pytest.mark.parametrize("change", [BASELINE, GROWING])
def test_benign_calcification_and_fat_are_category_1_whatever_the_size(change: Change) -> None:
    assert classify(Parenchymal(18.0, "solid", change, calcified=True, benign=True)).category == "1"


def test_suspicious_features_make_a_3_or_4_a_4x_and_no_other() -> None:
    for mm, category in ((5.0, "2"), (7.0, "4X"), (9.0, "4X"), (16.0, "4X")):
        assert classify(Parenchymal(mm, "solid", BASELINE, suspicious=True)).category == category
    assert classify(Airway(True, BASELINE, suspicious=True)).category == "4X"


@pytest.mark.parametrize(
    ("lesion", "missing"),
    [
        (Parenchymal(7.0, None, BASELINE), "texture"),
        (Parenchymal(7.0, "solid", None), "no earlier CT compared"),
        (Parenchymal(7.0, "part-solid", BASELINE), "size of the solid part"),
        (Parenchymal(7.0, "solid", BASELINE, calcified=True), "pattern of the calcification"),
        (Airway(None, BASELINE), "segmental"),
        (Airway(True, None), "no earlier CT compared"),
        (Cyst(None, True, BASELINE), "wall"),
        (Cyst(True, None, BASELINE), "multilocular"),
        (Cyst(True, False, GROWING), "what of the cyst has grown"),
    ],
)
def test_what_is_missing_is_named(lesion: Any, missing: str) -> None:
    verdict = classify(lesion)
    assert verdict.category is None
    assert any(missing in what for what in verdict.missing)
    whole = lung_rads({3: lesion}, whole_lungs=True)
    assert whole.category is None
    assert any(missing in what and "nodule 3" in what for what in whole.missing)


def test_what_nobody_looked_at_is_named_beside_the_category() -> None:
    verdict = classify(Parenchymal(7.0, "solid", BASELINE))
    assert verdict.category == "3"
    assert set(verdict.not_assessed) == {"fat and benign calcification", "juxtapleural shape", "signs that make a 4X"}
    seen = classify(Parenchymal(7.0, "solid", BASELINE, benign=False, juxtapleural=False, suspicious=False))
    assert seen.not_assessed == ()


def test_the_examination_has_the_category_of_its_worst_lesion() -> None:
    lesions = {1: Parenchymal(5.0, "solid", BASELINE), 2: Parenchymal(9.0, "solid", BASELINE), 4: Airway(False, NEW)}
    said = lung_rads(lesions, whole_lungs=True)
    assert (said.category, said.nodule, said.next_ct_months) == ("4A", 2, (3, 3))
    assert "9.0 mm mean diameter, solid, first CT" in said.inputs[1]


def test_one_unknown_lesion_leaves_the_examination_without_category_unless_it_is_4b_anyway() -> None:
    unknown = Parenchymal(7.0, None, BASELINE)
    assert lung_rads({1: Parenchymal(9.0, "solid", BASELINE), 2: unknown}, whole_lungs=True).category is None
    assert lung_rads({1: Parenchymal(19.0, "solid", BASELINE), 2: unknown}, whole_lungs=True).category == "4B"


def test_category_0_and_1_are_said_by_people_not_by_software_that_marked_nothing() -> None:
    assert lung_rads({}, whole_lungs=True, none_there=True).category == "1"
    assert lung_rads({}, whole_lungs=True).missing == ("a reader's word that there is no nodule",)
    assert lung_rads({}, whole_lungs=False).category == "0"
    assert lung_rads({}, whole_lungs=None, none_there=True).category is None
    assert lung_rads({1: Parenchymal(9.0, "solid", None)}, whole_lungs=True, earlier_ct_sought=True).category == "0"
    assert lung_rads({1: Parenchymal(9.0, "solid", NEW)}, whole_lungs=True, inflammation=True).category == "0"


@pytest.mark.parametrize(
    ("before", "now", "months", "change"),
    [
        (6.0, 7.5, 12, STABLE),
        (6.0, 7.6, 12, GROWING),
        (6.0, 7.6, 3, GROWING),
        (6.0, 7.6, 24, SLOW),
        (6.0, 9.1, 24, GROWING),
        (9.0, 5.0, 12, STABLE),
    ],
)
def test_growth_is_more_than_one_and_a_half_mm_within_a_year(
    before: float, now: float, months: float, change: Change
) -> None:
    assert change_of(before, now, months) is change


def test_thresholds_are_compared_with_one_decimal() -> None:
    assert classify(Parenchymal(5.949, "solid", BASELINE)).category == "2"
    assert classify(Parenchymal(5.95, "solid", BASELINE)).category == "3"


def test_every_category_has_its_advice() -> None:
    assert set(ADVICE) == set(ORDER)


sizes = st.floats(0.1, 90.0, allow_nan=False)


@given(
    one=sizes, other=sizes, texture=st.sampled_from(["solid", "non-solid"]), change=st.sampled_from(list(Change)[:4])
)
def test_larger_is_never_a_lower_category(one: float, other: float, texture: str, change: Change) -> None:
    small, large = (classify(Parenchymal(mm, texture, change)).category for mm in sorted((one, other)))
    assert small is not None
    assert large is not None
    assert ORDER.index(small) <= ORDER.index(large)


@given(total=sizes, one=sizes, other=sizes, change=st.sampled_from([BASELINE, NEW]))
def test_a_larger_solid_part_is_never_a_lower_category(total: float, one: float, other: float, change: Change) -> None:
    small, large = (
        classify(Parenchymal(total, "part-solid", change, solid_mm=min(mm, total))).category
        for mm in sorted((one, other))
    )
    assert small is not None
    assert large is not None
    assert ORDER.index(small) <= ORDER.index(large)


@given(
    mm=sizes,
    solid_mm=st.none() | sizes,
    texture=st.sampled_from([None, "solid", "part-solid", "non-solid"]),
    change=st.sampled_from([None, *Change]),
    solid_change=st.sampled_from([None, *Change]),
    flags=st.tuples(*[st.sampled_from([None, True, False])] * 4),
    earlier=st.builds(
        Earlier,
        category=st.sampled_from([None, "2", "3", "4A", "4B"]),
        months=st.sampled_from([None, 1.0, 12.0]),
        mean_mm=st.none() | sizes,
        solid_mm=st.none() | sizes,
        proven_benign=st.sampled_from([None, True, False]),
    ),
)
def test_there_is_a_category_or_the_name_of_what_is_missing_never_both(
    mm: float,
    solid_mm: float | None,
    texture: str | None,
    change: Change | None,
    solid_change: Change | None,
    flags: tuple[bool | None, ...],
    earlier: Earlier,
) -> None:
    calcified, benign, juxtapleural, suspicious = flags
    verdict = classify(
        Parenchymal(mm, texture, change, solid_mm, solid_change, calcified, benign, juxtapleural, suspicious, earlier)
    )
    assert (verdict.category is None) is bool(verdict.missing)
    assert verdict.category is None or verdict.category in ORDER
