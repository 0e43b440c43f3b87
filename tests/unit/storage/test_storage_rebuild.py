"""The ledger can burn: from the spool alone the index comes back, and work goes on where it was."""

import json
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.database import Database
from storage.errors import LedgerCorrupt, LedgerMissing, LedgerReplaced
from storage.rebuild import open_or_rebuild
from storage.rows import NewResult
from storage.spool import Spool
from storage.states import DeliveryState, Outcome, SeriesState, StudyMove, StudyState
from tests.ledgers import BERT, HIS, NOON, PACS, STUDY, arrival
from tests.spools import House, read_arrival, read_result


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A ledger with a spool of real files."""
    made = House(tmp_path)
    yield made
    made.close()


def test_what_was_sent_is_not_sent_again_and_what_was_finished_is_at_rest(house: House) -> None:
    house.file(arrival(1), arrival(2))
    house.read(to=[PACS, HIS])
    house.send("pacs")
    house.send("his")
    before = house.view()
    summary = house.burn()
    after = house.view()
    assert (summary.studies, summary.instances, summary.open_studies, summary.pending_deliveries) == (1, 2, 0, 0)
    assert after.study.state is StudyState.DONE
    assert after.current == replace(before.current, number=1) if before.current else False
    assert [(row.state, row.may_have, row.files) for row in after.deliveries] == [
        (row.state, row.may_have, row.files) for row in before.deliveries
    ]
    assert [(row.state, row.outcome, row.digest) for row in after.series] == [
        (row.state, row.outcome, row.digest) for row in before.series
    ]
    assert after.previous_key == before.previous_key
    assert after.may_be_as_before("choice")
    assert house.ledger.open_studies(house.now) == []
    assert house.ledger.claim_study("worker", 60, house.now, attempts_max=3) is None
    assert house.due("pacs") is None


def test_a_delivery_that_had_not_ended_is_sent_with_its_bytes_and_numbers(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS, HIS])
    house.send("pacs")
    house.start("his")
    assert house.burn().pending_deliveries == 1
    assert house.state() is StudyState.DELIVERING
    claim = house.start("his")
    assert (claim.delivery.files, claim.delivery.control_id) == (HIS.files, HIS.control_id)
    assert claim.delivery.may_have, "an attempt of unknown outcome counts as sent"
    assert house.due("pacs") is None
    assert house.ledger.answered(claim, "AA", house.now) is StudyState.DONE


def test_a_study_that_was_being_read_is_chosen_and_read(house: House) -> None:
    house.file(arrival(1))
    house.choose()
    house.claim()
    assert house.burn().open_studies == 1
    assert house.state() is StudyState.OPEN
    assert house.read(to=[PACS]) == 1


def test_a_late_slice_after_the_result_is_still_a_change(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS], digest="A")
    house.send()
    house.file(arrival(2))
    house.burn()
    assert house.state() is StudyState.OPEN
    assert house.read(to=[PACS], digest="B") == 2
    assert [(one.revision, one.previous_key) for one in house.view().results] == [(1, ""), (2, "key 1.1")]


def test_a_slice_that_came_between_the_commit_and_its_line_is_a_change_too(house: House) -> None:
    house.file(arrival(1))
    house.choose()
    claim = house.claim()
    append = house.journal.append

    def comes_first(kind: str, **fields: object) -> None:
        if kind == "commit":
            house.journal.append = append  # type: ignore[method-assign]
            house.file(arrival(2))
        append(kind, **fields)  # type: ignore[arg-type]

    house.journal.append = comes_first  # type: ignore[method-assign,assignment]
    house.commit(claim, [PACS])
    assert house.state() is StudyState.OPEN
    house.burn()
    assert house.state() is StudyState.OPEN


def test_only_the_highest_revision_is_sent(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS, HIS])
    house.send("pacs")
    house.file(arrival(2))
    house.read(to=[PACS, HIS])
    house.burn()
    assert house.deliveries() == [
        (1, "pacs", DeliveryState.SENT),
        (1, "his", DeliveryState.CANCELLED),
        (2, "pacs", DeliveryState.PENDING),
        (2, "his", DeliveryState.PENDING),
    ]
    assert house.view().study.revision == 2


def test_what_workers_found_is_remembered_for_the_same_instances(house: House) -> None:
    house.file(arrival(1), arrival(1, series=f"{STUDY}.2"))
    house.choose()
    claim = house.claim()
    first = house.view().series[0].id
    house.ledger.found(claim, first, "no lung", Outcome.PASSED_OVER, "no_lung", "no lung", house.now)
    house.commit(claim, [PACS])
    house.file(arrival(2, series=f"{STUDY}.2"))
    house.burn()
    assert [(row.found, row.state) for row in house.view().series] == [
        ("no lung", SeriesState.COMPLETE),
        ("", SeriesState.RECEIVING),
    ]


def test_an_end_without_a_result_stays_one(house: House) -> None:
    house.file(arrival(1))
    house.choose(move=StudyMove.NOT_FOR_US)
    assert house.burn().open_studies == 0
    assert (house.state(), house.view().study.outcome) == (StudyState.DONE, "passed_over")


def test_a_dead_delivery_waits_for_its_replay(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.ledger.give_up(house.start(), "no", house.now)
    house.burn()
    assert house.state() is StudyState.UNDELIVERED
    assert house.ledger.replay(by="me", why="mended", now=house.later(1), destination="pacs") == 1
    house.burn()
    assert (house.state(), house.deliveries()[0][2]) == (StudyState.DELIVERING, DeliveryState.PENDING)


def test_holds_stand_until_they_are_released(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.ledger.hold(1, "person", "look", by="me", now=house.now)
    assert house.burn().held == 1
    assert [(one.reason, one.by) for one in house.view().holds] == [("person", "me")]
    assert house.due() is None
    house.ledger.release(1, by="me", why="fine", now=house.later(1))
    assert house.burn().held == 0
    assert house.due() is not None


def test_a_doubt_that_nobody_cleared_holds_again(house: House) -> None:
    house.file(arrival(1), arrival(2, identity=BERT))  # the hold itself was lost with the ledger
    house.file(replace(arrival(3), incoming="b", file="images/c.dcm"))
    assert house.burn().held == 1
    assert [one.reason for one in house.view().holds] == ["identity"]
    assert [(one.key, one.instances) for one in house.view().identities] == [("p1", 2), ("p2", 1)]
    house.ledger.release(1, by="me", why="asked", now=house.later(1), identity="p2")
    assert house.burn().held == 0
    assert house.view().study.identity_chosen == "p2"


def test_a_second_copy_that_nobody_looked_at_holds_again(house: House) -> None:
    house.file(arrival(1))
    house.file(replace(arrival(1), incoming="b", sha256="x", verdict="differs", file=f"images/{STUDY}.1.1~2.dcm"))
    house.burn()
    assert [one.reason for one in house.view().holds] == ["differs"]
    assert [one.sha256 for one in house.view().series[0].instances] == [f"digest of {STUDY}.1.1"]


def test_what_was_rejected_stays_out_and_its_withdrawal_is_made(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.send()
    house.reject(f"{STUDY}.1.1")
    house.burn()
    view = house.view()
    assert (view.study.state, view.study.to_withdraw, view.series[0].state) == (
        StudyState.WITHDRAWN,
        True,
        SeriesState.WITHDRAWN,
    )
    copies = house.ledger.copies(STUDY, [f"{STUDY}.1.1"])[f"{STUDY}.1.1"]
    assert [(one.withdrawn, one.file) for one in copies] == [("113001", f"withdrawn/{STUDY}.1.1.dcm")]
    house.withdraw()
    house.burn()
    assert not house.view().study.to_withdraw
    assert house.deliveries() == [(1, "pacs", DeliveryState.SENT), (1, "pacs", DeliveryState.PENDING)]
    house.send()
    house.burn()
    assert house.deliveries()[-1] == (1, "pacs", DeliveryState.SENT)
    assert house.due() is None


def test_a_rejection_cut_off_before_its_files_moved_is_finished(house: House) -> None:
    house.file(arrival(1), arrival(2))
    house.ledger.reject(STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="P", why="", now=house.now)
    house.burn()
    assert [one.sop_uid for one in house.view().series[0].instances] == [f"{STUDY}.1.2"]
    assert (house.spool.study_folder(STUDY) / f"withdrawn/{STUDY}.1.1.dcm").exists()
    answer = house.ledger.reject(STUDY, [f"{STUDY}.1.1"], code="113001", note="n", by="P", why="", now=house.now)
    assert (len(answer.moves), answer.left) == (1, 1), "the note told again after the rebuild changes nothing"


def test_a_tombstone_is_remembered(house: House) -> None:
    house.file(arrival(1))
    house.ledger.reject(STUDY, ["9.9"], code="113001", note="n", by="P", why="", now=house.now)
    house.burn()
    assert house.ledger.tombstones(["9.9"])["9.9"][0].code == "113001"


def test_a_requeue_that_was_not_served_is_not_forgotten(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.send()
    house.later(1)
    house.ledger.requeue(1, by="me", why="new model", now=house.now)
    house.burn()
    study = house.view().study
    assert (study.state, study.requeue_by, study.by_person) == (StudyState.OPEN, "me", True)
    house.read(to=[PACS])
    house.burn()
    assert (house.state(), house.view().study.requeue_by) == (StudyState.DELIVERING, "")


def test_images_that_went_with_their_retention_are_still_known(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.send()
    for file in house.ledger.remove_images(1, house.later(10), house.now):
        (house.spool.study_folder(STUDY) / file).unlink()
    house.burn()
    row = house.view().series[0].instances[0]
    assert (house.state(), row.gone, row.sha256) == (StudyState.DONE, True, f"digest of {STUDY}.1.1")


def test_a_manifest_without_its_commit_line_is_an_orphan(house: House) -> None:
    house.file(arrival(1))
    house.choose()
    house.manifest(STUDY, NewResult("k", "result", "completed", "results/k/1", "", "d", "p1", "{}"), [PACS])
    assert house.burn().results == 0
    assert house.view().results == ()
    assert (house.spool.study_folder(STUDY) / "results/k/1").exists()


def test_a_name_in_incoming_whose_file_is_filed_is_committed(house: House) -> None:
    house.file(arrival(1))
    os.link(house.spool.study_folder(STUDY) / arrival(1).file, house.spool.incoming / "a1-1.dcm")
    (house.spool.incoming / "a1-2.dcm").write_text("new")
    assert house.burn().committed_names == 1
    assert house.ledger.committed(["a1-1", "a1-2"]) == {"a1-1"}


def test_a_paused_destination_stays_paused(house: House) -> None:
    house.file(arrival(1))
    house.ledger.pause("pacs", by="me", why="upgrade", now=house.now)
    house.burn()
    assert house.ledger.breaker("pacs").paused_by == "me"


def test_what_cannot_be_read_does_not_stop_the_rest(house: House) -> None:
    house.file(arrival(1), arrival(1, study="1.2.840.2"))
    (house.spool.study_folder(STUDY) / "images" / "broken.dcm").write_bytes(b"\xff")
    (house.spool.journal / "torn.jsonl").write_text('{"kind":"hold","at')
    summary = house.burn()
    assert (summary.studies, len(summary.unreadable), summary.damaged_lines) == (2, 1, 1)
    assert "1 files could not be read" in str(summary)
    assert [row.study_uid for row in house.ledger.studies()] == ["1.2.840.2", STUDY] or len(house.ledger.studies()) == 2


def test_a_rebuild_twice_is_the_same_ledger(house: House) -> None:
    house.file(arrival(1), arrival(2, series=f"{STUDY}.2"))
    house.read(to=[PACS, HIS])
    house.send()
    house.burn()
    once = house.view()
    house.burn()
    again = house.view()
    assert again.series == once.series
    assert [replace(one, next_at=house.now, created_at=house.now) for one in again.deliveries] == [
        replace(one, next_at=house.now, created_at=house.now) for one in once.deliveries
    ]
    assert again.results == once.results


def test_a_number_means_the_same_study_for_ever(house: House) -> None:
    """`release 41` must never reach another patient's study."""
    uids = ["1.2.840.9", "1.2.840.1", "1.2.840.5"]
    for uid in uids:
        house.file(arrival(1, study=uid))
    house.burn()
    assert [house.view(number).study.study_uid for number in (1, 2, 3)] == uids
    assert house.file(arrival(1, study="1.2.840.7")) == 4


def test_an_empty_spool_needs_no_rebuild(tmp_path: Path) -> None:
    database, summary = open_or_rebuild(
        tmp_path / "ledger.sqlite", Spool(tmp_path / "spool"), read_arrival, read_result, NOON
    )
    assert summary is None
    database.require_schema()
    database.close()


@pytest.mark.parametrize("damage", ["no database", "empty", "page"])
def test_a_corrupt_ledger_is_moved_aside_and_rebuilt(house: House, damage: str) -> None:
    house.file(*(arrival(n) for n in range(100)))
    path = house.folder / "ledger.sqlite"
    house.database.close()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    if damage == "page":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * (size - 8192))
        with pytest.raises(LedgerCorrupt):
            house.view()  # the role that finds it stops; the next start looks at the whole file
        house.database.close()
    else:
        path.write_bytes(b"no database " * 1000 if damage == "no database" else b"")
    summary = house.reopen()
    assert summary.moved_aside
    assert (house.folder / summary.moved_aside).exists()
    assert len(house.view().series[0].instances) == 100


def test_a_role_that_has_the_old_ledger_open_stops(house: House) -> None:
    house.file(arrival(1))
    house.rebuild()
    with pytest.raises((LedgerReplaced, LedgerMissing)):
        house.view()


def _open(folder: str, out: "multiprocessing.Queue[bool]") -> None:
    database, summary = open_or_rebuild(
        Path(folder) / "ledger.sqlite", Spool(Path(folder) / "spool"), read_arrival, read_result, NOON
    )
    with database.read() as sql:
        count = sql.exec_driver_sql("SELECT count(*) FROM instances").scalar()
    out.put(summary is not None and count == 50)
    out.put(count == 50)
    database.close()


def test_of_many_roles_one_rebuilds_and_the_others_wait(house: House) -> None:
    house.file(*(arrival(n) for n in range(50)))
    house.database.close()
    for path in house.folder.glob("ledger.sqlite*"):
        path.unlink()
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[bool] = context.Queue()
    roles = [context.Process(target=_open, args=(str(house.folder), out)) for _ in range(3)]
    for role in roles:
        role.start()
    answers = [out.get(timeout=120) for _ in range(6)]
    for role in roles:
        role.join(60)
    assert sorted(answers) == [False, False, True, True, True, True]
    assert list(house.folder.glob("*.rebuilding*")) == []


def test_a_rebuild_that_was_cut_off_leaves_nothing_half(house: House) -> None:
    house.file(arrival(1))
    house.database.close()
    for path in house.folder.glob("ledger.sqlite*"):
        path.unlink()
    (house.folder / "ledger.sqlite.rebuilding").write_bytes(b"half a ledger")
    with pytest.raises(LedgerMissing):
        Database(house.folder / "ledger.sqlite")
    house.reopen()
    assert house.view().study.study_uid == STUDY


def test_the_journal_speaks_json_that_others_can_read(house: House) -> None:
    house.file(arrival(1))
    house.read(to=[PACS])
    house.send()
    lines = [json.loads(line) for path in house.spool.journal.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["study-opened", "commit", "delivery-start", "delivery-end", "study-end"]
