"""What may go, when, and that nothing goes which was not delivered."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Retention as Rules
from storage.database import Database
from storage.retention import Retention, Swept
from storage.rows import Arrival
from storage.spool import Spool
from storage.states import StudyMove
from tests.ledgers import PACS, STUDY, Books, arrival


class House:
    """A ledger with a spool whose files are really there."""

    def __init__(self, books: Books, folder: Path) -> None:
        self.books = books
        self.spool = Spool(folder / "spool")
        self.retention = Retention(Rules(images_h=72, results_d=30, records_d=400), self.spool, books.ledger)
        self.folder = self.spool.study_folder(STUDY)

    def file(self, *arrivals: Arrival) -> None:
        for one in arrivals:
            path = self.folder / one.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"dicom")
        place = str(self.folder.relative_to(self.spool.root))
        self.books.file(*(replace(one, folder=place) for one in arrivals))

    def read(self, *, send: bool = True) -> Path:
        """A result with its files, delivered."""
        self.books.read(to=[PACS])
        folder = self.folder / self.books.view().results[-1].folder
        folder.mkdir(parents=True)
        for name in ("manifest.json", "sr.dcm"):
            (folder / name).write_bytes(b"{}")
        if send:
            self.books.send()
        return folder

    def sweep(self, **after: float) -> Swept:
        return self.retention.sweep(self.books.now + timedelta(**after))


@pytest.fixture
def house(books: Books, tmp_path: Path) -> House:
    return House(books, tmp_path)


def test_images_go_after_their_time_and_the_rows_remember_them(house: House) -> None:
    house.file(arrival(1), arrival(2))
    house.read()
    assert house.sweep(hours=71).images == 0
    assert house.sweep(hours=73).images == 2
    assert list((house.folder / "images").iterdir()) == []
    assert [(one.gone, one.file, one.sha256) for one in house.books.view().series[0].instances] == [
        (True, "", f"digest of {STUDY}.1.1"),
        (True, "", f"digest of {STUDY}.1.2"),
    ]
    assert house.sweep(hours=80).images == 0


@pytest.mark.parametrize("why", ["pending", "dead", "held", "open", "to withdraw"])
def test_nothing_goes_of_what_is_not_at_its_end(house: House, why: str) -> None:
    house.file(arrival(1))
    house.read(send=why in ("held", "open", "to withdraw"))
    books = house.books
    if why == "dead":
        books.ledger.give_up(books.start(), "no", books.now)
    elif why == "held":
        books.ledger.hold(1, "person", "look", by="me", now=books.now)
    elif why == "open":
        house.file(arrival(2))
    elif why == "to withdraw":
        books.ledger.reject(STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="P", why="", now=books.now)
    assert replace(house.sweep(days=1000), rows=0) == Swept()


def test_results_go_but_their_manifest(house: House) -> None:
    house.file(arrival(1))
    folder = house.read()
    assert house.sweep(days=29).results == 0
    assert house.sweep(days=31).results == 1
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    assert house.books.view().results[0].gone


def test_all_records_go_at_last(house: House) -> None:
    house.file(arrival(1))
    house.read()
    house.sweep(days=31)
    swept = house.sweep(days=401)
    assert swept.studies == 1
    assert house.books.ledger.studies() == []
    assert not house.folder.exists()
    assert house.books.database.check() == []


def test_a_mark_is_only_made_while_the_proof_holds(house: House) -> None:
    """A requeue between the look and the mark keeps the images."""
    house.file(arrival(1))
    house.read()
    later = house.books.now + timedelta(hours=73)
    assert house.books.ledger.images_to_remove(later) == [1]
    house.books.ledger.requeue(1, by="me", why="again", now=house.books.now)
    assert house.books.ledger.remove_images(1, later, later) == ()
    assert not house.books.ledger.remove_result("key 1.1", later, later)


def test_what_no_row_names_goes_after_a_day_but_not_while_the_study_is_read(house: House) -> None:
    house.file(arrival(1))
    orphan = house.folder / "results" / "other" / "7"
    orphan.mkdir(parents=True)
    left = house.folder / "images" / "left.dcm"
    left.write_bytes(b"cut off")
    arriving = house.folder / "images" / "arriving.dcm"
    arriving.write_bytes(b"in incoming too")
    os.link(arriving, house.spool.incoming / "a-1.dcm")
    house.books.choose()
    retention, soon = house.retention, datetime.now(UTC) + timedelta(minutes=1)  # by the file system's clock
    assert retention._orphans(soon) == 0
    claim = house.books.claim()
    verdicts = house.books.ledger.end_without_result(claim, StudyMove.NOT_FOR_US, [], "no lung", house.books.now)
    assert verdicts == "done"
    assert [retention._orphans(soon - timedelta(minutes=2)), retention._orphans(soon)] == [0, 2]
    assert (orphan.exists(), left.exists(), arriving.exists()) == (False, False, True)


def test_rows_that_serve_nobody_are_dropped(house: House) -> None:
    house.file(arrival(1), arrival(2))
    (house.spool.incoming / f"{arrival(2).incoming}.dcm").write_bytes(b"")
    house.read()
    house.books.ledger.association_ended("a1", "released", 2, house.books.now)
    assert house.sweep(hours=1).rows == 0
    assert house.sweep(hours=25).rows == 3  # a name, a lease, an association
    assert house.books.ledger.committed([arrival(1).incoming, arrival(2).incoming]) == {arrival(2).incoming}


def test_the_images_of_a_rejected_instance_that_is_gone_need_no_move(house: House) -> None:
    house.file(arrival(1), arrival(2))
    house.read()
    house.sweep(hours=73)
    answer = house.books.ledger.reject(
        STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="P", why="", now=house.books.now
    )
    assert (answer.moves, answer.left) == ((), 1)


def test_the_ledger_stays_open_to_others_meanwhile(house: House) -> None:
    house.file(arrival(1))
    second = Database(house.books.database.path)
    with second.read() as sql:
        sql.exec_driver_sql("SELECT count(*) FROM studies")
        house.sweep(hours=73)
    second.close()


def test_images_that_came_again_are_kept_as_long_once_more(house: House) -> None:
    """A person had them sent again for a requeue; the next sweep must not take them away."""
    house.file(arrival(1))
    house.read()
    assert house.sweep(hours=73).images == 1
    again = house.books.later(80 * 3600)
    house.file(replace(arrival(1), incoming="a2-1.dcm", verdict="duplicate", received_at=again))
    assert house.sweep(hours=1).images == 0
    assert house.sweep(hours=73).images == 1
