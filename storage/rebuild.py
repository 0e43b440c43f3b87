"""The ledger again, from the spool alone (promise 7): images, manifests, journal.

A role that finds no ledger, or a corrupt one, beside a spool that is not empty moves it aside, takes the rebuild lock
and rebuilds; the others wait for the lock, and receivers go on. The new file gets its name when it is whole, so a crash
in between leaves nothing half.

What was sent is not sent as new: only a study's highest revision and withdrawals that have not ended are sent, to the
destinations that their manifests name. What was finished is not computed anew: a study whose images are those of its
last commit or end is at rest as it was. All else is open, and chosen again. Arrival times are the files' own. A
manifest without its commit line is an orphan; a name in `incoming/` whose inode is filed is committed. Where copies or
identities raise a doubt that no person has cleared, the study is held.

Storage knows no DICOM: `read_arrival` gives the fields of a file, `read_result` the rows that a manifest stands for.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from storage.database import SIDE_FILES, Database, create_database
from storage.disk import fsync_folder
from storage.errors import LedgerCorrupt, LedgerMissing, LedgerUnavailable
from storage.history import Journalled, read_history
from storage.journal import read_all
from storage.moves import Transaction
from storage.restore import Doubt, restore_study
from storage.restore_results import StoredFile, StudyFiles
from storage.rows import Arrival, Identity, KeptResult
from storage.spool import Spool, safe_name
from storage.tables import destinations, incoming, studies, study_leases, tombstones

ReadArrival = Callable[[Path], Arrival]
ReadResult = Callable[[Path, Path], KeptResult]
MANIFEST: Final = "manifest.json"
WAIT_STEP_S: Final = 0.2


@dataclass
class RebuildSummary:
    """What a rebuild found and made."""

    studies: int = 0
    instances: int = 0
    results: int = 0
    open_studies: int = 0
    pending_deliveries: int = 0
    held: int = 0
    orphans: int = 0
    committed_names: int = 0
    unreadable: list[str] = field(default_factory=list)
    damaged_lines: int = 0
    moved_aside: str = ""

    def __str__(self) -> str:
        lost = f"; {len(self.unreadable)} files could not be read" if self.unreadable else ""
        torn = f"; {self.damaged_lines} damaged lines in the journal" if self.damaged_lines else ""
        return (
            f"{self.studies} studies ({self.open_studies} open, {self.held} held), {self.instances} instances, "
            f"{self.results} results, {self.pending_deliveries} deliveries to send, {self.orphans} results without "
            f"their commit{lost}{torn}"
        )


def open_or_rebuild(
    path: Path,
    spool: Spool,
    read_arrival: ReadArrival,
    read_result: ReadResult,
    now: datetime,
    *,
    doubt: Doubt | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> tuple[Database, RebuildSummary | None]:
    """Open the ledger; create it beside an empty spool; rebuild it where it is missing or corrupt beside one that is
    not.

    `waiting` is called now and then while another process rebuilds (for a watchdog).
    Raises:
        LedgerPlace, LedgerOutdated.
    """
    with _lock(path, waiting):
        if not path.exists() and _empty(spool):
            return create_database(path), None
        try:
            return _open_sound(path), None
        except (LedgerMissing, LedgerCorrupt):
            summary = _rebuild(path, spool, read_arrival, read_result, now, doubt)
            return Database(path), summary


def rebuild(
    path: Path,
    spool: Spool,
    read_arrival: ReadArrival,
    read_result: ReadResult,
    now: datetime,
    *,
    doubt: Doubt | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> RebuildSummary:
    """Move the ledger aside, whatever it is, and make it again. Roles that have it open stop by themselves."""
    with _lock(path, waiting):
        return _rebuild(path, spool, read_arrival, read_result, now, doubt)


def _open_sound(path: Path) -> Database:
    """Open it; one that a role has found corrupt, or that never got its tables, is none."""
    database = Database(path)
    try:
        if not database.schema_revision():
            raise LedgerCorrupt(what="it has no tables", which=str(path), do="it is rebuilt from the spool")
        if database.reported_corrupt() and database.check():
            raise LedgerCorrupt(what="its check finds faults", which=str(path), do="it is rebuilt from the spool")
    except BaseException:
        database.close()
        raise
    database.forget_report()
    return database


def _empty(spool: Spool) -> bool:
    """Nothing was ever filed or decided here."""
    return not any(spool.study_folders()) and not read_all(spool.journal).entries


@contextmanager
def _lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """The rebuild lock; its holder's death frees it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(WAIT_STEP_S)
        yield
    finally:
        os.close(descriptor)


def _rebuild(
    path: Path, spool: Spool, read_arrival: ReadArrival, read_result: ReadResult, now: datetime, doubt: Doubt | None
) -> RebuildSummary:
    fresh = path.with_name(path.name + ".rebuilding")
    for ending in SIDE_FILES:
        path.with_name(fresh.name + ending).unlink(missing_ok=True)
    summary = RebuildSummary()
    database = create_database(fresh)
    try:
        _fill(database, spool, read_arrival, read_result, now, doubt, summary)
    finally:
        database.close()  # the last connection brings the write-ahead log into the file and removes it
    if path.with_name(fresh.name + "-wal").exists():
        raise LedgerUnavailable(what="the new ledger is not whole", which=str(fresh), do="start again")
    summary.moved_aside = _move_aside(path, now)
    os.rename(fresh, path)
    fsync_folder(path.parent)
    return summary


def _move_aside(path: Path, now: datetime) -> str:
    """Give the old file another name, with all that belongs to it."""
    aside = path.with_name(f"{path.name}.lost-{now:%Y%m%dT%H%M%S%f}")
    for ending in (*SIDE_FILES[1:], ""):
        with suppress(FileNotFoundError):
            os.rename(path.with_name(path.name + ending), aside.with_name(aside.name + ending))
    path.with_name(path.name + ".corrupt").unlink(missing_ok=True)
    return aside.name if aside.exists() else ""


def _fill(
    database: Database,
    spool: Spool,
    read_arrival: ReadArrival,
    read_result: ReadResult,
    now: datetime,
    doubt: Doubt | None,
    summary: RebuildSummary,
) -> None:
    entries = read_all(spool.journal)
    summary.damaged_lines = len(entries.damaged)
    journalled = read_history(entries.entries)
    uid_of = {safe_name(uid): uid for uid in journalled.studies}
    inodes: set[int] = set()
    for folder in _in_order(spool, journalled):
        files = _files(folder, read_arrival, journalled, uid_of, inodes, summary)
        if files is None:
            continue
        files.folder = str(folder.relative_to(spool.root))
        _results(folder, files, read_result, summary)
        with database.write() as sql:
            restored = restore_study(Transaction(sql, "rebuild"), files, journalled, now, doubt or _another)
        summary.studies += 1
        summary.instances += len(files.stored)
        summary.open_studies += restored.open
        summary.held += restored.held
        summary.pending_deliveries += restored.pending
        summary.results += restored.results
        summary.orphans += len(files.results) - restored.results
    with database.write() as sql:
        _rest(sql, spool, journalled, inodes, now, summary)


def _in_order(spool: Spool, journalled: Journalled) -> list[Path]:
    """Studies whose number is known first, the others by their oldest file: these get new numbers above."""
    numbers = {safe_name(uid): history.number for uid, history in journalled.studies.items()}

    def place(folder: Path) -> tuple[bool, float, str]:
        number = numbers.get(folder.name)
        if number is not None:
            return False, number, folder.name
        return True, min((path.stat().st_mtime for path in folder.glob("*/*.dcm")), default=0.0), folder.name

    return sorted(spool.study_folders(), key=place)


def _another(first: Identity, other: Identity) -> bool:
    return first != other


def _files(
    folder: Path,
    read_arrival: ReadArrival,
    journalled: Journalled,
    uid_of: dict[str, str],
    inodes: set[int],
    summary: RebuildSummary,
) -> StudyFiles | None:
    """The study's stored files, oldest first; what the journal says was taken is moved to `withdrawn/` first."""
    uid = uid_of.get(folder.name, "")
    if uid:
        _finish_moves(folder, journalled, uid)
    stored: list[StoredFile] = []
    for place in ("images", "withdrawn"):
        for path in sorted((folder / place).glob("*.dcm")):
            inodes.add(path.stat().st_ino)
            try:
                stored.append(StoredFile(f"{place}/{path.name}", read_arrival(path)))
            except Exception as fault:  # noqa: BLE001 - whatever a file does to its reader, the others are rebuilt
                summary.unreadable.append(f"{folder.name}/{place}/{path.name}: {type(fault).__name__}: {fault}")
    uid = stored[0].arrival.study_uid if stored else uid
    if not uid:
        return None
    stored.sort(key=lambda one: (one.arrival.received_at, one.copy, one.file))
    return StudyFiles(uid, stored)


def _finish_moves(folder: Path, journalled: Journalled, uid: str) -> None:
    """A crash may have cut a rejection off between its line and the files."""
    for taken in journalled.studies[uid].taken:
        source, target = folder / taken.source, folder / taken.target
        if taken.source and source.is_file() and not target.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            os.rename(source, target)
            fsync_folder(target.parent)
            fsync_folder(source.parent)


def _results(folder: Path, files: StudyFiles, read_result: ReadResult, summary: RebuildSummary) -> None:
    """Manifests of the study by the folder that a commit line names."""
    for manifest in sorted((folder / "results").glob(f"*/*/{MANIFEST}")):
        place = str(manifest.parent.relative_to(folder))
        if len(list(manifest.parent.iterdir())) == 1:
            files.gone.add(place)
        try:
            files.results[place] = read_result(manifest.parent, folder)
        except Exception as fault:  # noqa: BLE001 - see above
            summary.unreadable.append(f"{folder.name}/{manifest.parent.name}: {type(fault).__name__}: {fault}")


def _tokens_from(sql: sa.Connection, now: datetime) -> None:
    """Tokens go on above all that were ever given: folders of results are named by them."""
    study = sql.execute(sa.select(studies.c.number).limit(1)).scalar_one_or_none()
    if study is not None:
        first = int(now.timestamp())
        sql.execute(
            sa.insert(study_leases).values(
                token=first, study_number=study, purpose="rebuild", started_at=now, until=now, ended_at=now
            )
        )
        sql.execute(sa.delete(study_leases).where(study_leases.c.token == first))


def _rest(
    sql: sa.Connection, spool: Spool, journalled: Journalled, inodes: set[int], now: datetime, summary: RebuildSummary
) -> None:
    """What belongs to no study: names in `incoming/` that are filed, tombstones, paused destinations."""
    filed = [arrival.name for arrival in spool.arrivals() if arrival.inode in inodes]
    summary.committed_names = len(filed)
    for name in filed:
        sql.execute(sa.insert(incoming).values(name=name, filed_at=now))
    seen: set[tuple[str, str, str]] = set()
    for stone in journalled.tombstones:
        if (stone.sop_uid, stone.code, stone.note) not in seen:
            seen.add((stone.sop_uid, stone.code, stone.note))
            sql.execute(
                sa.insert(tombstones).values(
                    sop_uid=stone.sop_uid,
                    code=stone.code,
                    note=stone.note,
                    at=stone.at,
                    by=stone.by,
                    **vars(stone.identity),
                )
            )
    _tokens_from(sql, now)
    for name, (by, why, at) in journalled.paused.items():
        sql.execute(sa.insert(destinations).values(name=name, paused_by=by, paused_why=why, paused_at=at))
