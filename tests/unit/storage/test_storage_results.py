"""Results, revisions, withdrawals: what replaces what, and what never starts any more."""

from dataclasses import replace

import pytest

from storage.errors import Stale
from storage.rows import NewResult
from storage.states import DeliveryState, StudyMove, StudyState
from tests.ledgers import BERT, HIS, NOON, PACS, STUDY, Books, arrival


def test_a_result_without_destinations_is_done_at_once(books: Books) -> None:
    """Shadow mode: kept and shown, nothing leaves."""
    books.file(arrival(1))
    assert books.read() == 1
    view = books.view()
    assert (view.study.state, view.study.outcome, view.current.key if view.current else "") == (
        StudyState.DONE,
        "completed",
        "key 1.1",
    )


def test_a_commit_stands_in_the_journal_before_its_first_delivery(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    assert [line.fields["result"] for line in books.lines("commit")] == ["key 1.1"]


def test_a_commit_whose_line_a_crash_cut_off_is_written_by_the_first_claim(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    with books.database.write() as sql:
        sql.exec_driver_sql("UPDATE results SET journalled = 0")
    assert books.due() is not None
    assert len(books.lines("commit")) == 2


def test_the_next_revision_cancels_what_is_not_on_the_wire(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS, HIS, replace(PACS, destination="second"), replace(PACS, destination="third")])
    books.ledger.back_off(books.start("second"), books.later(0), "busy", counted=True, now=books.now)
    books.ledger.give_up(books.start("third"), "refused", books.now)
    on_the_wire = books.start("pacs")
    books.file(arrival(2))
    assert books.due("his") is None, "nothing of the old result starts once there is a change"
    assert books.read(to=[PACS, HIS]) == 2
    assert books.deliveries() == [
        (1, "pacs", DeliveryState.SENDING),
        (1, "his", DeliveryState.CANCELLED),
        (1, "second", DeliveryState.CANCELLED),
        (1, "third", DeliveryState.CANCELLED),
        (2, "pacs", DeliveryState.PENDING),
        (2, "his", DeliveryState.PENDING),
    ]
    assert books.due("pacs") is None, "the older one is still on the wire there"
    books.ledger.answered(on_the_wire, "0000H", books.now)
    assert books.state() is StudyState.DELIVERING
    assert books.send("his") is StudyState.DELIVERING
    assert books.send("pacs") is StudyState.DONE


def test_an_old_one_that_fails_after_it_was_replaced_is_cancelled(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    on_the_wire = books.start()
    books.file(arrival(2))
    books.read(to=[PACS])
    books.ledger.back_off(on_the_wire, books.now, "timeout", counted=True, now=books.now)
    assert books.deliveries() == [(1, "pacs", DeliveryState.CANCELLED), (2, "pacs", DeliveryState.PENDING)]
    assert books.view().deliveries[0].may_have, "an attempt of unknown outcome counts as sent"


def test_a_result_is_made_after_the_studys_last_one(books: Books) -> None:
    books.file(arrival(1))
    books.read(key="A")
    books.file(arrival(2))
    books.choose()
    claim = books.claim()
    with pytest.raises(Stale):
        books.ledger.commit_result(
            claim, NewResult("B", "result", "completed", "f", "", "d", "p1", "{}"), [], [], books.now
        )
    assert books.ledger.result("A")
    assert not books.ledger.result("B")


def test_a_study_whose_choice_is_the_same_goes_on_where_it_was(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS], digest="A")
    books.file(arrival(2))
    assert books.view().may_be_as_before("A")
    assert not books.view().may_be_as_before("B")
    assert books.choose(move=StudyMove.AS_BEFORE) is StudyState.DELIVERING
    assert books.send() is StudyState.DONE
    books.file(arrival(3))
    assert books.choose(move=StudyMove.AS_BEFORE) is StudyState.DONE
    assert books.view().study.outcome == "completed"


def test_a_requeue_or_a_cancelled_delivery_is_never_as_before(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS], digest="A")
    books.ledger.requeue(1, by="me", why="new model", now=books.now)
    assert not books.view().may_be_as_before("A")
    books.read(to=[PACS], digest="A")
    assert books.view().study.requeue_by == ""
    with books.database.write() as sql:
        sql.exec_driver_sql("UPDATE deliveries SET state = 'cancelled' WHERE revision = 2")
    assert not books.view().may_be_as_before("A")


def test_no_longer_for_us_takes_back_what_was_sent(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    books.file(arrival(2))
    assert books.choose(move=StudyMove.NOT_FOR_US) is StudyState.DONE
    assert books.view().study.to_withdraw
    books.withdraw()
    assert (books.state(), books.view().current) == (StudyState.DONE, None)
    assert books.send() is StudyState.DONE
    books.file(arrival(3))
    assert books.read(to=[PACS]) == 2
    assert [one.kind for one in books.view().results] == ["result", "withdrawal", "result"]


def test_another_identity_withdraws_first_and_the_reissue_waits_for_it(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS, HIS])
    books.send("pacs")
    books.send("his")
    books.file(arrival(2, identity=BERT, holds=(("identity", "two patients"),)))
    books.ledger.release(1, by="me", why="asked the ward", now=books.now, identity="p2")
    assert books.view().study.to_withdraw
    assert books.ledger.open_studies(books.now) == []
    books.withdraw("W")
    books.read(to=[PACS, HIS], identity="p2")
    assert [
        (one.revision, one.destination, one.withdrawal, one.identity_key) for one in books.view().deliveries[2:]
    ] == [
        (1, "pacs", True, "p1"),
        (1, "his", True, "p1"),
        (2, "pacs", False, "p2"),
        (2, "his", False, "p2"),
    ], "a withdrawal under another identity is never cancelled"
    note = books.start("pacs")
    assert note.delivery.withdrawal
    assert books.due("pacs") is None, "the reissue waits for the withdrawal there"
    books.ledger.answered(note, "0000H", books.now)
    assert not books.start("pacs").delivery.withdrawal


def test_a_result_under_another_identity_than_what_was_sent_lets_nothing_start_before_the_withdrawal(
    books: Books,
) -> None:
    """Whatever path led there: the patient's results are taken back before the other's go out."""
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    books.file(arrival(2, identity=BERT))
    books.read(to=[PACS], identity="p2")
    assert books.due() is None
    books.withdraw("W")
    assert books.start().delivery.withdrawal


def test_a_withdrawal_under_the_same_identity_is_replaced_by_the_next_result(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    books.ledger.reject(STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="PACS", why="", now=NOON)
    books.withdraw("W")
    books.file(replace(arrival(2), incoming="b.dcm"))
    books.read(to=[PACS])
    assert [one.state for one in books.view().deliveries] == [
        DeliveryState.SENT,
        DeliveryState.CANCELLED,
        DeliveryState.PENDING,
    ]


def test_numbers_of_nodules_are_remembered(books: Books) -> None:
    books.file(arrival(1))
    books.read()
    assert books.view().study.used_numbers == 2
