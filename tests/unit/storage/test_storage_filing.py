"""What arrives becomes rows, once, and moves what it should."""

from dataclasses import replace

import pytest

from storage.states import Outcome, SeriesState, StudyMove, StudyState
from tests.ledgers import ANNA, BERT, STUDY, Books, arrival


def test_a_new_image_opens_a_study(books: Books) -> None:
    filed = books.ledger.file_batch([arrival(1), arrival(2)], books.now)
    assert [(one.study_uid, one.opened, one.new) for one in filed] == [(STUDY, True, 2)]
    view = books.view()
    assert view.study.state is StudyState.OPEN
    assert [one.sop_uid for one in view.series[0].instances] == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    assert [one.identity for one in view.identities] == [ANNA]
    assert [(one.name, one.filed) for one in view.series[0].associations] == [("a1", 2)]


def test_a_batch_told_again_changes_nothing(books: Books) -> None:
    """The indexer may die after the commit and before the unlink."""
    books.file(arrival(1))
    before = books.view()
    assert books.ledger.file_batch([arrival(1)], books.later(1)) == ()
    assert books.view() == before
    assert books.ledger.committed([arrival(1).incoming, "other.dcm"]) == {arrival(1).incoming}
    books.ledger.forget_incoming([arrival(1).incoming])
    assert books.ledger.committed([arrival(1).incoming]) == set()


def test_a_choice_computed_before_a_slice_came_does_not_match(books: Books) -> None:
    books.file(arrival(1))
    seen = books.view().study.change_no
    books.file(arrival(2))
    assert books.view().study.change_no == seen + 1


@pytest.mark.parametrize("state", [StudyState.QUEUED, StudyState.READING, StudyState.DELIVERING, StudyState.DONE])
def test_a_late_slice_opens_the_study_again(books: Books, state: StudyState) -> None:
    books.file(arrival(1))
    books.choose()
    if state is not StudyState.QUEUED:
        claim = books.claim()
        if state is not StudyState.READING:
            books.commit(claim)
    books.file(arrival(2))
    view = books.view()
    assert view.study.state is StudyState.OPEN
    assert (view.series[0].state, view.series[0].outcome, view.series[0].attempts) == (SeriesState.RECEIVING, None, 0)
    assert books.ledger.events(1)[-1].what == StudyMove.CHANGE


def test_repeats_and_what_is_not_read_move_no_study_that_is_not_open(books: Books) -> None:
    books.file(arrival(1))
    books.read()
    assert books.state() is StudyState.DONE
    books.file(
        replace(arrival(1), incoming="again.dcm", association="a2", verdict="duplicate"),
        arrival(5, series=f"{STUDY}.9", kind="set_aside", modality="SR"),
        arrival(6, series=f"{STUDY}.8", kind="own", modality="SEG"),
    )
    view = books.view()
    assert view.study.state is StudyState.DONE
    assert [row.kind for row in view.series] == ["image", "set_aside", "own"]
    assert {one.name for one in view.series[0].associations} == {"a1", "a2"}
    assert len(view.series[0].instances) == 1


def test_a_study_of_objects_that_are_not_read_exists_and_can_end(books: Books) -> None:
    books.file(arrival(1, kind="set_aside", modality="SR"))
    assert books.choose(move=StudyMove.NOT_FOR_US) is StudyState.DONE
    assert books.view().study.outcome == Outcome.PASSED_OVER


def test_a_differing_copy_is_kept_beside_the_first_and_holds_the_study(books: Books) -> None:
    books.file(arrival(1))
    books.file(
        replace(
            arrival(1),
            incoming="b.dcm",
            verdict="differs",
            file="images/x~2.dcm",
            sha256="other",
            identity=BERT,
            holds=(("identity", "two patients"),),
        )
    )
    copies = books.ledger.copies(STUDY, [arrival(1).sop_uid])[arrival(1).sop_uid]
    assert [(one.copy, one.identity_key) for one in copies] == [(1, "p1"), (2, "p2")]
    view = books.view()
    assert [one.sha256 for one in view.series[0].instances] == ["digest of 1.2.840.1.1.1"]
    assert [hold.reason for hold in view.holds] == ["identity"]
    assert [line.fields["reason"] for line in books.lines("hold")] == ["identity"]


def test_identities_are_numbered_by_first_arrival_and_never_again(books: Books) -> None:
    books.file(arrival(1), arrival(2, identity=BERT), arrival(3))
    books.file(arrival(4, identity=BERT), arrival(5, identity_key="p3", identity=replace(ANNA, issuer="OTHER")))
    assert [(row.key, row.identity.patient_id, row.instances) for row in books.view().identities] == [
        ("p1", "4711", 2),
        ("p2", "4712", 2),
        ("p3", "4711", 1),
    ]


def test_what_one_copy_lacks_is_filled_in(books: Books) -> None:
    books.file(arrival(1))
    seen = books.view().study.change_no
    books.file(replace(arrival(1), incoming="b.dcm", verdict="duplicate", filled='{"accession":"A"}'))
    assert books.view().series[0].instances[0].header == '{"accession":"A"}'
    assert books.view().study.change_no == seen


def test_names_that_no_database_takes_are_stored_all_the_same(books: Books) -> None:
    """A broken character set must not poison the batch, nor make a new patient of the same one."""
    odd = replace(ANNA, name="Bro\udc8aken\0^Name")
    books.file(arrival(1, identity=odd, header="\ud800"))
    books.file(arrival(2, identity=odd))
    assert [row.key for row in books.view().identities] == ["p1"]


def test_an_association_is_open_until_it_is_told_to_have_ended(books: Books) -> None:
    books.ledger.association_seen("a1", "PACS", books.now)
    books.file(arrival(1))
    assert books.ledger.open_associations() == ("a1",)
    assert books.view().series[0].associations[0].outcome == "open"
    books.ledger.association_ended("a1", "released", 1, books.now)
    one = books.view().series[0].associations[0]
    assert (one.outcome, one.files, one.filed, one.calling_ae) == ("released", 1, 1, "PACS")
    assert books.ledger.open_associations() == ()


def test_a_series_is_complete_only_for_the_version_that_was_seen(books: Books) -> None:
    books.file(arrival(1))
    row = books.view().series[0]
    books.file(arrival(2))
    assert not books.ledger.complete_series(1, row.id, row.version, "quiet", books.now)
    assert books.ledger.complete_series(1, row.id, row.version + 1, "quiet", books.now)
    assert books.view().series[0].evidence == "quiet"


def test_a_study_is_found_by_number_uid_and_accession(books: Books) -> None:
    books.file(arrival(1), arrival(1, study="1.2.840.2"))
    assert [row.number for row in books.ledger.resolve("1")] == [1]
    assert [row.number for row in books.ledger.resolve("1.2.840.2")] == [2]
    assert [row.number for row in books.ledger.resolve("ACC1")] == [1, 2]
    assert books.ledger.resolve("nothing") == []


def test_an_image_kept_once_more_is_a_repeat_with_a_file(books: Books) -> None:
    """What retention removed may come back, so that a requeue works; it is no new image."""
    books.file(arrival(1))
    with books.database.write() as sql:
        sql.exec_driver_sql("UPDATE instances SET gone = 1")
    books.file(replace(arrival(1), incoming="b.dcm", verdict="duplicate", file="images/back.dcm"))
    row = books.view().series[0].instances[0]
    assert (row.gone, row.file) == (False, "images/back.dcm")
