"""Deliveries: when one may start, what becomes of it, and what people may do."""

from dataclasses import replace
from datetime import timedelta

import pytest

from storage.errors import IdentityNeeded, IllegalMove, LeaseLost, NotFound, Superseded
from storage.states import DeliveryState, Outcome, StudyMove, StudyState
from tests.ledgers import ANNA, BERT, HIS, NOON, PACS, STUDY, Books, arrival

AFTER_PACS = replace(HIS, after=("pacs",), wait_until=NOON + timedelta(seconds=900))


@pytest.fixture
def delivering(books: Books) -> Books:
    """One study with a delivery to the PACS and one to the HIS."""
    books.file(arrival(1))
    books.read(to=[PACS, HIS])
    return books


def test_a_study_is_done_when_all_its_deliveries_ended(delivering: Books) -> None:
    assert delivering.send("pacs") is StudyState.DELIVERING
    assert delivering.send("his") is StudyState.DONE
    ends = [(line.fields["destination"], line.fields["may_have"]) for line in delivering.lines("delivery-end")]
    assert ends == [("pacs", True), ("his", True)]
    assert delivering.lines("study-end")[-1].fields["state"] == "done"


def test_with_a_dead_one_it_is_undelivered_and_replay_brings_it_back(delivering: Books) -> None:
    delivering.send("pacs")
    claim = delivering.start("his")
    assert delivering.ledger.give_up(claim, "AR", delivering.now, may_have=False) is StudyState.UNDELIVERED
    assert delivering.ledger.replay(by="me", why="mended", now=delivering.now, number=claim.delivery.number) == 1
    assert delivering.state() is StudyState.DELIVERING
    assert delivering.send("his") is StudyState.DONE
    assert delivering.lines("replay")[0].fields["by"] == "me"


def test_a_message_waits_for_the_objects_but_only_so_long(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[AFTER_PACS, PACS])
    assert books.due("his") is None
    books.later(899)
    assert books.due("his") is None
    books.later(1)
    late = books.due("his")
    assert late is not None
    assert late.overdue


def test_a_message_follows_the_objects_at_once(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[AFTER_PACS, PACS])
    books.send("pacs")
    claim = books.due("his")
    assert claim is not None
    assert not claim.overdue


def test_a_hold_lets_nothing_start(delivering: Books) -> None:
    delivering.ledger.hold(1, "person", "look first", by="me", now=delivering.now)
    assert delivering.due() is None
    delivering.ledger.release(1, by="me", why="fine", now=delivering.now)
    assert delivering.due() is not None


def test_only_one_courier_gets_a_delivery(delivering: Books) -> None:
    assert delivering.due() is not None
    assert delivering.due() is None


def test_a_lost_lease_sends_nothing_and_counts_as_sent_once_connected(delivering: Books) -> None:
    lost = delivering.start()
    assert delivering.ledger.expire_leases(delivering.later(119)) == 0
    assert delivering.ledger.expire_leases(delivering.later(1)) == 1
    row = delivering.view().deliveries[0]
    assert (row.state, row.may_have, row.attempts) == (DeliveryState.PENDING, True, 1)
    for move in (
        lambda: delivering.ledger.connected(lost, delivering.now),
        lambda: delivering.ledger.answered(lost, "", delivering.now),
        lambda: delivering.ledger.back_off(lost, delivering.now, "", counted=True, now=delivering.now),
        lambda: delivering.ledger.give_up(lost, "", delivering.now),
    ):
        with pytest.raises(LeaseLost):
            move()
    assert delivering.send("pacs") is StudyState.DELIVERING


def test_a_courier_past_its_lease_is_told_before_it_sends(delivering: Books) -> None:
    claim = delivering.due()
    assert claim is not None
    delivering.later(120)
    assert not delivering.ledger.extend_delivery(claim, 120, delivering.now)
    with pytest.raises(LeaseLost):
        delivering.ledger.connected(claim, delivering.now)


def test_a_lease_can_be_extended_while_it_lives(delivering: Books) -> None:
    claim = delivering.start()
    assert delivering.ledger.extend_delivery(claim, 120, delivering.later(100))
    assert delivering.ledger.expire_leases(delivering.later(100)) == 0


def test_what_never_connected_is_neither_an_attempt_nor_sent(delivering: Books) -> None:
    claim = delivering.due()
    assert claim is not None
    delivering.ledger.back_off(
        claim, delivering.now + timedelta(seconds=30), "no route", counted=False, now=delivering.now
    )
    row = delivering.view().deliveries[0]
    assert (row.attempts, row.may_have, row.last_error, row.first_connected_at) == (0, False, "no route", None)
    assert delivering.due() is None
    delivering.later(30)
    assert delivering.due() is not None


def test_the_first_attempt_stands_in_the_journal_once(delivering: Books) -> None:
    claim = delivering.start()
    delivering.ledger.back_off(claim, delivering.now, "busy", counted=True, now=delivering.now, may_have=False)
    delivering.send("pacs")
    assert len(delivering.lines("delivery-start")) == 1


def test_an_open_breaker_starts_nothing_there_and_nothing_else_waits(delivering: Books) -> None:
    ledger = delivering.ledger
    assert ledger.breaker_failed("pacs", delivering.now + timedelta(seconds=10), delivering.now) == 1
    assert delivering.due("pacs") is None
    assert delivering.due("his") is not None
    delivering.later(10)
    assert ledger.breaker_failed("pacs", delivering.now + timedelta(seconds=10), delivering.now) == 2
    ledger.breaker_ok("pacs")
    assert ledger.breaker("pacs").failures == 0
    assert delivering.due("pacs") is not None


def test_a_paused_destination_gets_nothing_until_it_is_resumed(delivering: Books) -> None:
    delivering.ledger.pause("pacs", by="me", why="upgrade", now=delivering.now)
    assert delivering.due("pacs") is None
    assert [(one.name, one.paused_by) for one in delivering.ledger.destinations()] == [("pacs", "me")]
    assert delivering.ledger.give_up_old(delivering.later(1e6), delivering.now) == 1, "only what could have started"
    delivering.ledger.resume("pacs", by="me", why="done", now=delivering.now)
    assert delivering.due("pacs") is not None


def test_a_delivery_that_never_got_through_is_dead_for_its_age(delivering: Books) -> None:
    assert delivering.ledger.give_up_old(delivering.now, delivering.now) == 0
    assert delivering.ledger.give_up_old(delivering.now + timedelta(seconds=1), delivering.later(10)) == 2
    assert delivering.state() is StudyState.UNDELIVERED
    assert delivering.ledger.replay(by="me", why="", now=delivering.now, destination="pacs") == 1
    assert delivering.ledger.give_up_old(delivering.now - timedelta(seconds=5), delivering.now) == 0, (
        "a replay waits anew"
    )


def test_urgent_deliveries_go_first(books: Books) -> None:
    for number in (1, 2):
        study = books.file(arrival(1, study=f"1.2.840.{number}"))
        books.complete(study)
        change = books.view(study).study.change_no
        books.ledger.choose(
            study, change, verdicts=[], move=StudyMove.CHOOSE, why="", now=books.now, priority=2 - number
        )
    first, second = books.claim(), books.claim()
    books.commit(second, [PACS])
    books.commit(first, [PACS])
    assert [books.start().delivery.study_number for _ in range(2)] == [2, 1]


def test_a_superseded_delivery_is_never_replayed(delivering: Books) -> None:
    number = delivering.start("his").delivery.number
    delivering.file(arrival(2))
    delivering.read(to=[PACS])
    delivering.ledger.expire_leases(delivering.later(121))
    with pytest.raises(Superseded):
        delivering.ledger.replay(by="me", why="", now=delivering.now, number=number)
    with pytest.raises(NotFound):
        delivering.ledger.replay(by="me", why="", now=delivering.now, number=99)


def test_release_after_a_doubt_needs_to_know_whose_study_it_is(books: Books) -> None:
    books.file(arrival(1), arrival(1, series=f"{STUDY}.2", identity=BERT, holds=(("identity", "two patients"),)))
    with pytest.raises(IdentityNeeded, match="p1 or p2"):
        books.ledger.release(1, by="me", why="", now=books.now)
    with pytest.raises(NotFound):
        books.ledger.release(1, by="me", why="", now=books.now, identity="p3")
    assert books.view().holds
    books.ledger.release(1, by="me", why="asked", now=books.now, identity="p1")
    view = books.view()
    assert (view.study.identity_chosen, view.holds) == ("p1", ())
    assert [(row.outcome, row.reason_code) for row in view.series] == [(None, ""), (Outcome.PASSED_OVER, "identity")]
    assert books.lines("release")[0].fields["identity"] == "p1"


def test_a_released_change_passes_the_limits_of_revisions(books: Books) -> None:
    books.file(arrival(1))
    books.ledger.hold(1, "revisions", "more than 5", by="test", now=books.now)
    books.ledger.hold(1, "revisions", "more than 5", by="test", now=books.now)
    assert len(books.view().holds) == 1
    books.ledger.release(1, by="me", why="go on", now=books.now)
    assert books.view().study.by_person


def test_requeue_starts_failed_series_again_and_forgets_what_was_found(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0].id
    books.ledger.start_series(claim, series, books.now)
    books.ledger.found(claim, series, "phantom", Outcome.PASSED_OVER, "phantom", "", books.now)
    books.ledger.requeue(1, by="me", why="new model", now=books.now)
    view = books.view()
    assert (view.study.state, view.study.requeue_by, view.study.requeue_why) == (StudyState.OPEN, "me", "new model")
    assert (view.series[0].attempts, view.series[0].found) == (0, "")
    assert [(line.fields["by"], line.fields["why"]) for line in books.lines("requeue")] == [("me", "new model")]


def test_a_withdrawn_study_is_not_requeued(books: Books) -> None:
    books.file(arrival(1))
    books.ledger.reject(
        STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="PACS", why="", now=books.now, identity=ANNA
    )
    with pytest.raises(IllegalMove):
        books.ledger.requeue(1, by="me", why="", now=books.now)


def test_counts_say_what_waits(delivering: Books) -> None:
    delivering.file(arrival(1, study="1.2.840.2"))
    delivering.ledger.hold(2, "person", "", by="me", now=delivering.now)
    counts = delivering.ledger.counts(delivering.now)
    assert counts.studies[StudyState.OPEN] == counts.studies[StudyState.DELIVERING] == 1
    assert counts.deliveries[DeliveryState.PENDING] == 2
    assert (counts.held, counts.oldest_waiting_at, counts.oldest_delivery_at) == (1, NOON, NOON)
    assert dict(delivering.ledger.holds()) == {2: ("person",)}
    assert [row.number for row in delivering.ledger.studies()] == [2, 1]
