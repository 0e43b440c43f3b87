"""Choosing, claims, leases, attempts: who may do what to a study, and how often."""

from datetime import timedelta

import pytest

from storage.errors import IllegalMove, LeaseLost, Stale
from storage.rows import NewResult, Priority, SeriesVerdict
from storage.states import Outcome, SeriesState, StudyMove, StudyState
from tests.ledgers import HIS, PACS, STUDY, Books, arrival


def test_a_choice_against_an_old_change_number_is_stale(books: Books) -> None:
    books.file(arrival(1))
    seen = books.view().study.change_no
    books.file(arrival(2))
    with pytest.raises(Stale):
        books.ledger.choose(1, seen, verdicts=[], move=StudyMove.CHOOSE, why="", now=books.now)


def test_only_a_choice_can_be_chosen(books: Books) -> None:
    books.file(arrival(1))
    with pytest.raises(IllegalMove):
        books.ledger.choose(1, 0, verdicts=[], move=StudyMove.WRITE, why="", now=books.now)
    books.choose()
    with pytest.raises(IllegalMove):
        books.choose()


def test_urgent_comes_first_then_new_then_requeued(books: Books) -> None:
    for number, priority in ((1, Priority.REQUEUED), (2, Priority.NEW), (3, Priority.URGENT), (4, Priority.NEW)):
        study = books.file(arrival(1, study=f"1.2.840.{number}"))
        books.complete(study)
        view = books.view(study)
        books.ledger.choose(
            study,
            view.study.change_no,
            verdicts=[],
            move=StudyMove.CHOOSE,
            why="",
            now=books.later(1),
            priority=priority,
        )
    assert [books.claim().study_number for _ in range(4)] == [3, 2, 4, 1]
    assert books.ledger.claim_study("worker", 60, books.now, attempts_max=3) is None


def test_an_attempt_counts_when_it_starts(books: Books) -> None:
    """A worker that is killed has used one up."""
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0].id
    assert (claim.attempts, books.ledger.start_series(claim, series, books.now)) == (1, 1)
    assert books.ledger.expire_leases(books.later(59)) == 0
    assert books.ledger.expire_leases(books.later(1)) == 1
    assert books.state() is StudyState.QUEUED
    again = books.claim()
    assert (again.attempts, books.ledger.start_series(again, series, books.now)) == (2, 2)


def test_a_study_past_its_attempts_is_queued_and_held(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    for _ in range(2):
        books.claim(attempts_max=2)
        books.ledger.expire_leases(books.later(61))
    assert books.ledger.claim_study("worker", 60, books.now, attempts_max=2) is None
    view = books.view()
    assert (view.study.state, [hold.reason for hold in view.holds]) == (StudyState.QUEUED, ["attempts"])
    books.ledger.release(1, by="me", why="try again", now=books.now)
    assert books.claim(attempts_max=2).attempts == 1


def test_a_failed_series_starts_the_studys_count_again(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0].id
    books.ledger.start_series(claim, series, books.now)
    books.ledger.found(claim, series, '{"failed":1}', Outcome.FAILED, "attempts", "killed its reader", books.now)
    view = books.view()
    assert (view.study.attempts, view.series[0].outcome, view.series[0].found) == (0, Outcome.FAILED, '{"failed":1}')


def test_what_was_found_is_worthless_when_an_instance_comes(books: Books) -> None:
    books.file(arrival(1), arrival(1, series=f"{STUDY}.2"))
    books.choose()
    claim = books.claim()
    first, second = (row.id for row in books.view().series)
    for series in (first, second):
        books.ledger.found(claim, series, "no lung", Outcome.PASSED_OVER, "no_lung", "no lung", books.now)
    books.file(arrival(2))
    assert [row.found for row in books.view().series] == ["", "no lung"]


def test_a_clean_stop_gives_the_lease_back_and_counts_nothing(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0]
    books.ledger.start_series(claim, series.id, books.now)
    books.ledger.give_back(claim, StudyMove.RETRY, not_before=None, counted=False, why="stop", now=books.now)
    view = books.view()
    assert (view.study.state, view.study.attempts, view.series[0].attempts) == (StudyState.QUEUED, 0, 0)
    assert books.claim().token > claim.token


def test_a_retry_waits_until_its_time(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    until = books.now + timedelta(seconds=30)
    books.ledger.give_back(books.claim(), StudyMove.RETRY, not_before=until, counted=True, why="failed", now=books.now)
    assert books.ledger.claim_study("worker", 60, books.later(29), attempts_max=3) is None
    books.later(1)
    assert books.claim().attempts == 2


def test_a_series_that_is_cut_waits_for_its_quiet_period(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0].id
    books.ledger.start_series(claim, series, books.now)
    books.ledger.give_back(
        claim, StudyMove.WAIT, not_before=None, counted=False, why="lungs cut", now=books.now, series_id=series
    )
    view = books.view()
    assert (view.study.state, view.study.attempts) == (StudyState.OPEN, 0)
    assert (view.series[0].state, view.series[0].quiet_only) == (SeriesState.RECEIVING, True)
    books.complete()
    assert not books.view().series[0].quiet_only


@pytest.mark.parametrize("what", ["late slice", "lease past", "taken by another", "wrong token"])
def test_a_void_token_moves_nothing(books: Books, what: str) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    series = books.view().series[0].id
    if what == "late slice":
        books.file(arrival(2))
    elif what == "lease past":
        books.later(60)
    elif what == "taken by another":
        books.ledger.expire_leases(books.later(60))
        books.claim("another")
    else:
        claim = type(claim)(claim.study_number, claim.token + 1, claim.change_no, claim.lease_until, claim.attempts)
    before = books.view()
    result = NewResult("k", "result", "completed", "f", "", "d", "p1", "{}")
    assert not books.ledger.heartbeat(claim, 60, books.now)
    with pytest.raises(LeaseLost):
        books.ledger.start_series(claim, series, books.now)
    with pytest.raises(LeaseLost):
        books.ledger.found(claim, series, "x", None, "", "", books.now)
    with pytest.raises(LeaseLost):
        books.ledger.give_back(claim, StudyMove.RETRY, not_before=None, counted=True, why="", now=books.now)
    with pytest.raises(LeaseLost):
        books.ledger.end_without_result(claim, StudyMove.NOT_FOR_US, [], "", books.now)
    with pytest.raises(LeaseLost):
        books.ledger.commit_result(claim, result, [], [PACS], books.now)
    assert books.view() == before


def test_a_heartbeat_keeps_the_lease(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    for _ in range(3):
        books.later(50)
        assert books.ledger.heartbeat(claim, 60, books.now)
        assert books.ledger.expire_leases(books.now) == 0
    assert books.commit(claim) == 1


def test_no_lung_ends_the_study_without_a_result(books: Books) -> None:
    books.file(arrival(1))
    books.choose()
    claim = books.claim()
    verdict = SeriesVerdict(books.view().series[0].id, Outcome.PASSED_OVER, "no_lung", "no lung")
    assert (
        books.ledger.end_without_result(claim, StudyMove.NOT_FOR_US, [verdict], "no lung", books.now) is StudyState.DONE
    )
    end = books.lines("study-end")[-1].fields
    assert (end["state"], end["series"][0]["code"], len(end["series"][0]["instances"])) == ("done", "no_lung", 1)


def test_a_failed_revision_goes_on_as_before(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS, HIS])
    books.send("pacs")
    books.file(arrival(2))
    books.choose()
    state = books.ledger.end_without_result(books.claim(), StudyMove.AS_BEFORE, [], "failed", books.now)
    assert state is StudyState.DELIVERING
    assert books.send("his") is StudyState.DONE


def test_a_study_under_a_hold_is_not_claimed(books: Books) -> None:
    books.file(arrival(1))
    books.choose(hold=("revisions", "more than 5"))
    assert books.ledger.claim_study("worker", 60, books.now, attempts_max=3) is None
    books.ledger.release(1, by="me", why="go on", now=books.now)
    assert books.claim().attempts == 1


def test_a_periodic_task_has_one_runner(books: Books) -> None:
    task = books.ledger.task_lease
    assert task("sweep", "one", 10, books.now)
    assert not task("sweep", "two", 10, books.now)
    assert task("sweep", "one", 10, books.later(5))
    assert not task("sweep", "two", 10, books.later(9))
    assert task("sweep", "two", 10, books.later(1))


def test_every_move_has_its_event(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    moves = [(one.what, one.from_state, one.to_state) for one in books.ledger.events(1) if one.series_id is None]
    assert moves == [
        ("opened", "", "open"),
        ("chosen", "open", "queued"),
        ("claim", "queued", "reading"),
        ("written", "reading", "delivering"),
        ("delivery: start", "pending", "sending"),
        ("delivery: answered", "sending", "sent"),
        ("all ended", "delivering", "done"),
    ]
