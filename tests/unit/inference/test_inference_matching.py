"""A nodule keeps its number and tracking UID over the revisions of a study."""

import numpy as np

from inference.findings import KeySlice, MaskCrop, Nodule, Point
from inference.matching import match, vanished

MASK = MaskCrop((0, 0, 0), np.ones((1, 1, 1), bool))
KEY = KeySlice("1.2.3", 0, (0.5, 0.5), 0.5)


def nodule(number: int, centre: Point, diameter_mm: float = 10.0, uid: str = "") -> Nodule:
    return Nodule(number, uid, centre, MASK, KEY, diameter_mm, diameter_mm, diameter_mm, 524, -50, None)


def uid_for(number: int) -> str:
    return f"2.25.{number}"


def test_first_result_numbers_from_one_in_order_of_rank() -> None:
    named = match((), [nodule(1, (0, 0, 0)), nodule(2, (50, 0, 0))], 0, uid_for)
    assert [(n.number, n.tracking_uid) for n in named] == [(1, "2.25.1"), (2, "2.25.2")]


def test_the_same_place_keeps_number_and_uid_whatever_its_rank_now() -> None:
    before = [nodule(1, (0, 0, 0), uid="2.25.1"), nodule(2, (50, 0, 0), uid="2.25.2")]
    named = match(before, [nodule(1, (52, 0, 0)), nodule(2, (0, 3, 0))], 2, uid_for)
    assert [(n.number, n.tracking_uid, n.centre_lps_mm) for n in named] == [
        (1, "2.25.1", (0, 3, 0)),
        (2, "2.25.2", (52, 0, 0)),
    ]


def test_a_number_is_never_used_again() -> None:
    before = [nodule(3, (0, 0, 0), uid="2.25.3")]
    named = match(before, [nodule(1, (100, 0, 0))], 5, uid_for)
    assert [n.number for n in named] == [6]
    assert [n.number for n in match(before, [nodule(1, (100, 0, 0))], 0, uid_for)] == [4]
    assert vanished(before, named) == tuple(before)


def test_half_the_larger_diameter_is_the_reach() -> None:
    before = [nodule(1, (0, 0, 0), 10.0, "2.25.1")]
    assert match(before, [nodule(1, (5, 0, 0), 4.0)], 1, uid_for)[0].number == 1
    assert match(before, [nodule(1, (5.1, 0, 0), 4.0)], 1, uid_for)[0].number == 2


def test_of_two_new_ones_the_nearer_is_the_old_one() -> None:
    before = [nodule(1, (0, 0, 0), uid="2.25.1")]
    named = match(before, [nodule(1, (4, 0, 0)), nodule(2, (1, 0, 0))], 1, uid_for)
    assert [(n.number, n.centre_lps_mm) for n in named] == [(1, (1, 0, 0)), (2, (4, 0, 0))]


def test_two_old_ones_never_become_one_number_twice() -> None:
    before = [nodule(1, (0, 0, 0), uid="2.25.1"), nodule(2, (4, 0, 0), uid="2.25.2")]
    named = match(before, [nodule(1, (2, 0, 0))], 2, uid_for)
    assert len(named) == 1
    assert len(vanished(before, named)) == 1
