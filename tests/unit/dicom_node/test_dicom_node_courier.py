"""Deliveries: what counts against whom."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import Delivery, Settings, Site
from dicom_node.courier import Courier
from dicom_node.errors import NoAnswer, NotReached, Refused
from storage.rows import FileRef, NewDelivery
from storage.spool import Spool
from storage.states import DeliveryState, StudyState
from tests.ledgers import Books, arrival

SETTINGS = Settings(site=Site(timezone="UTC"), delivery=Delivery(attempts_max=3, backoff_s_min=10, backoff_s_max=40))


class Line:
    """A destination that does what it is told, once for each word."""

    name = "pacs"

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.sent: list[list[Path]] = []

    def send(self, files: Sequence[Path], control_id: str, on_connected: Callable[[], None]) -> str:
        word = self.words.pop(0) if self.words else "ok"
        if word == "down":
            raise NotReached(what="no connection", which="pacs")
        on_connected()
        self.sent.append(list(files))
        if word == "fault":
            raise ValueError("nobody thought of this")
        if word == "silent":
            raise NoAnswer(what="no answer", which="pacs")
        if word in ("refused", "never"):
            raise Refused(what="no", which="final" if word == "never" else "pacs")
        return "0000H"


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def ready(books: Books, spool: Spool, content: bytes = b"a result") -> None:
    """One study whose result waits for the PACS."""
    folder = "studies/ab/1.2.840.1"
    path = spool.root / folder / "results" / "k" / "sr.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    books.file(arrival(1, folder=folder))
    books.read(
        to=[
            NewDelivery(
                "pacs",
                "dicom",
                (FileRef("results/k/sr.dcm", hashlib.sha256(b"a result").hexdigest(), "sr", "1.2", "1.3"),),
            )
        ]
    )


def courier(line: Line, books: Books, spool: Spool) -> Courier:
    return Courier(line, SETTINGS, spool, books.ledger, owner="c", clock=lambda: books.now)


def only(books: Books) -> tuple[DeliveryState, int]:
    (row,) = books.view().deliveries
    return row.state, row.attempts


def test_what_the_peer_took_is_sent_and_the_study_is_done(books: Books, spool: Spool) -> None:
    ready(books, spool)
    line = Line("ok")
    assert courier(line, books, spool).turn() == 1
    assert only(books)[0] is DeliveryState.SENT
    assert books.state() is StudyState.DONE
    assert [f.name for f in line.sent[0]] == ["sr.dcm"]


def test_a_destination_that_is_down_costs_the_delivery_no_attempt(books: Books, spool: Spool) -> None:
    """It counts against the destination's breaker; when it is back, everything goes."""
    ready(books, spool)
    line = Line(*["down"] * 6)
    one = courier(line, books, spool)
    for _ in range(6):
        assert one.turn() == 1
        assert one.turn() == 0, "the breaker is open"
        books.later(60)
    assert only(books) == (DeliveryState.PENDING, 0)
    assert books.ledger.breaker("pacs").failures == 6
    one.turn()
    assert only(books)[0] is DeliveryState.SENT
    assert books.ledger.breaker("pacs").failures == 0


@pytest.mark.parametrize("word", ["silent", "refused"])
def test_refusal_and_silence_count_and_end_in_dead_which_replay_brings_back(
    word: str, books: Books, spool: Spool
) -> None:
    ready(books, spool)
    line = Line(*[word] * 3)
    one = courier(line, books, spool)
    for _ in range(3):
        one.turn()
        books.later(60)
    assert only(books)[0] is DeliveryState.DEAD
    assert books.state() is StudyState.UNDELIVERED
    assert books.ledger.replay(by="me", why="fixed", now=books.now, destination="pacs") == 1
    one.turn()
    assert books.state() is StudyState.DONE


def test_a_message_that_will_never_do_is_dead_at_once(books: Books, spool: Spool) -> None:
    """AR: the same message is never sent again unchanged."""
    ready(books, spool)
    line = Line("never")
    courier(line, books, spool).turn()
    assert only(books)[0] is DeliveryState.DEAD
    assert len(line.sent) == 1


def test_a_file_that_is_not_what_was_written_is_never_sent(books: Books, spool: Spool) -> None:
    ready(books, spool, b"something else")
    line = Line("ok")
    courier(line, books, spool).turn()
    assert line.sent == []
    assert only(books)[0] is DeliveryState.DEAD
    assert "not what was written" in books.view().deliveries[0].last_error


def test_a_held_study_sends_nothing(books: Books, spool: Spool) -> None:
    ready(books, spool)
    books.ledger.hold(1, "person", "wait", by="me", now=books.now)
    assert courier(Line("ok"), books, spool).turn() == 0
    assert replace(books.view().deliveries[0]).state is DeliveryState.PENDING


def test_a_fault_that_nobody_thought_of_costs_its_delivery_an_attempt_and_ends_no_courier(
    books: Books, spool: Spool
) -> None:
    ready(books, spool)
    one = courier(Line(*["fault"] * 3), books, spool)
    for attempt in (1, 2, 3):
        assert one.turn() == 1
        assert only(books)[1] == attempt
        books.later(60)
    assert only(books)[0] is DeliveryState.DEAD
    assert "nobody thought of this" in books.view().deliveries[0].last_error
    assert books.state() is StudyState.UNDELIVERED


def test_a_delivery_whose_courier_is_cut_off_each_time_is_dead_at_last(books: Books, spool: Spool) -> None:
    ready(books, spool)
    for _ in range(3):
        books.start()
        books.ledger.expire_leases(books.later(3600))
    line = Line("ok")
    assert courier(line, books, spool).turn() == 1
    assert only(books)[0] is DeliveryState.DEAD
    assert not line.sent
    assert books.ledger.replay(by="anna", why="the network is mended", now=books.now, destination="pacs") == 1
    assert courier(line, books, spool).turn() == 1
    assert only(books)[0] is DeliveryState.SENT
