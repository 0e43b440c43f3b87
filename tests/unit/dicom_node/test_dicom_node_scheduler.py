"""Periodic work: one runner a task, one that fails ends no other, and what an operator must hear of is said."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Settings, Site
from dicom_node.places import utc_now
from dicom_node.scheduler import Periodic, Task, Watch
from storage.errors import LedgerMissing
from storage.spool import Spool
from tests.ledgers import Books, arrival

SETTINGS = Settings(site=Site(timezone="Europe/Zurich"))


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(tmp_path)
    yield opened
    opened.close()


class Counted:
    """A task that says how often it ran."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.ran = threading.Semaphore(0)

    def __call__(self, now: datetime) -> None:
        assert now.tzinfo is not None
        self.ran.release()
        if self.fault is not None:
            raise self.fault

    def times(self, count: int) -> bool:
        """Whether it ran so often, waited for."""
        return all(self.ran.acquire(timeout=20) for _ in range(count))


def test_a_task_that_fails_is_tried_again_and_ends_no_other(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Counted(), Counted(ValueError("1.2.3.4 is a UID"))
    periodic = Periodic([Task("good", 0.02, good), Task("bad", 0.02, bad)], books.ledger, owner="here", clock=utc_now)
    periodic.start()
    assert bad.times(3)
    assert good.times(3)
    periodic.stop()
    assert periodic.turned()
    assert not periodic.turned()
    assert periodic.failed is None
    told = [record.getMessage() for record in caplog.records if "alarm.task_failed" in record.getMessage()]
    assert len(told) == 1
    assert "ValueError" in told[0]
    assert "1.2.3.4" not in told[0]


def test_a_ledger_that_is_gone_is_for_the_role_to_end_by(books: Books) -> None:
    gone = Counted(LedgerMissing("there is no ledger file"))
    periodic = Periodic([Task("sweep", 0.02, gone)], books.ledger, owner="here", clock=utc_now)
    periodic.start()
    assert gone.times(1)
    periodic.stop()
    assert isinstance(periodic.failed, LedgerMissing)


def test_of_two_process_sets_one_runs_a_task(books: Books) -> None:
    first, second, other = Counted(), Counted(), Counted()
    here = Periodic([Task("sweep", 0.02, first)], books.ledger, owner="here", clock=utc_now)
    here.start()
    assert first.times(1)
    there = Periodic(
        [Task("sweep", 0.02, second), Task("other", 0.02, other)], books.ledger, owner="there", clock=utc_now
    )
    there.start()
    assert other.times(3)
    assert first.times(3)
    there.stop()
    here.stop()
    assert not second.ran.acquire(blocking=False)


def test_a_held_study_is_told_of_and_not_at_every_look(
    books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(SETTINGS, Spool(tmp_path / "spool"), books.ledger)
    watch.counts(books.now)
    assert caplog.records == []
    books.ledger.hold(books.file(arrival(1)), "person", "why", by="anna", now=books.now)
    for _ in range(3):
        watch.counts(books.now)
    assert sum("alarm.held" in record.getMessage() for record in caplog.records) == 1
    watch.counts(books.now + timedelta(minutes=6))
    assert sum("alarm.held" in record.getMessage() for record in caplog.records) == 2


def test_what_waits_too_long_is_told_of(books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(SETTINGS, Spool(tmp_path / "spool"), books.ledger)
    books.file(arrival(1))
    limit_s = SETTINGS.assembly.wait_s_max + SETTINGS.read.wall_s_max
    watch.counts(books.now + timedelta(seconds=limit_s - 1))
    assert not any("waiting_too_long" in record.getMessage() for record in caplog.records)
    watch.counts(books.now + timedelta(seconds=limit_s + 1))
    assert any("alarm.waiting_too_long" in record.getMessage() for record in caplog.records)
