"""Rejection: what a note takes out of reading, in the ledger; the caller then moves the files that are returned.

A note told again returns the same moves and changes nothing, so a crash between ledger and files is mended by telling
it once more.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

import sqlalchemy as sa

from storage.choosing import SERVED
from storage.filing import stored_identity
from storage.moves import WITHDRAW_ALL, Transaction, change_study, live_copies, mark_to_withdraw, move_study, study_row
from storage.rows import FileMove, Identity, Rejected, TombstoneRow
from storage.states import Outcome, SeriesState, StudyMove, StudyState
from storage.tables import instances, series, storable, studies, tombstones
from storage.views import in_parts

RETENTION_EXPIRED: Final = "113039"  # it only ends series that are not yet read (PS3.16 CID 7011)
SETTLED: Final = frozenset({StudyState.DELIVERING, StudyState.DONE, StudyState.UNDELIVERED})


def tombstones_of(tx: Transaction, sop_uids: Collection[str]) -> dict[str, list[TombstoneRow]]:
    """Notes that named an instance before it came."""
    found: dict[str, list[TombstoneRow]] = {}
    for part in in_parts(sop_uids):
        for row in tx.sql.execute(
            sa.select(tombstones).where(tombstones.c.sop_uid.in_(part)).order_by(tombstones.c.id)
        ):
            identity = Identity(row.patient_id, row.issuer, row.name, row.birth_date, row.sex)
            found.setdefault(row.sop_uid, []).append(TombstoneRow(row.sop_uid, row.code, identity, row.at, row.by))
    return found


@dataclass(frozen=True)
class _Note:
    """A rejection note as it was told."""

    code: str
    uid: str
    by: str
    why: str
    identity: Identity
    study_uid: str
    at: datetime


def reject(
    tx: Transaction,
    study_uid: str,
    sop_uids: Sequence[str],
    *,
    code: str,
    note: str,
    by: str,
    why: str,
    now: datetime,
    identity: Identity | None = None,
) -> Rejected:
    """Take the instances out, by the rules of design.md "Rejection"."""
    told = _Note(code, note, by, why, stored_identity(identity or Identity()), study_uid, now)
    study = tx.sql.execute(sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()).one_or_none()
    stored = _copies(tx, study.number, sop_uids) if study is not None else []
    known = {one.sop_uid for one in stored}
    unknown = tuple(uid for uid in dict.fromkeys(sop_uids) if uid not in known)
    if not _told_before(tx, told, stored, sop_uids):  # what came since then is not meant by it
        taken = [one for one in stored if not one.withdrawn and not _kept(told, study, one)]
        _take_out(tx, study, taken, unknown, told)
    if study is None:
        return Rejected(None, "", (), unknown, 0, None, False)
    mine = [one for one in _copies(tx, study.number, sop_uids) if one.withdrawn and one.withdrawn_note == note]
    after = study_row(tx, study.number)
    return Rejected(
        study_number=study.number,
        folder=study.folder,
        moves=tuple(FileMove(one.sop_uid, one.filed_as, one.file) for one in mine if one.file),
        unknown=unknown,
        left=_images_left(tx, study.number),
        state=StudyState(after.state),
        to_withdraw=bool(after.to_withdraw),
    )


def _told_before(tx: Transaction, note: _Note, stored: list[Any], sop_uids: Sequence[str]) -> bool:
    if any(one.withdrawn and one.withdrawn_note == note.uid for one in stored):
        return True
    t = tombstones.c
    buried = (sa.select(t.id).where(t.note == storable(note.uid), t.sop_uid.in_(part)) for part in in_parts(sop_uids))
    return any(tx.sql.execute(question.limit(1)).first() is not None for question in buried)


def _kept(note: _Note, study: Any, one: Any) -> bool:
    """Retention expired at the sender ends only what is not yet read: all else keeps state and results."""
    return note.code == RETENTION_EXPIRED and (study.state in SETTLED or one.outcome == Outcome.READ)


def _take_out(tx: Transaction, study: Any, taken: list[Any], unknown: tuple[str, ...], note: _Note) -> None:
    """The note's first telling: journal, tombstones, instances, and what becomes of the study."""
    for uid in unknown:
        _bury(tx, uid, note)
    targets = _take(tx, study.number, taken, note) if taken else {}
    tx.journal(
        "rejection",
        note.at,
        study=note.study_uid,
        note=note.uid,
        code=note.code,
        by=note.by,
        why=note.why,
        identity=asdict(note.identity),
        unknown=list(unknown),
        taken=[[one.sop_uid, one.sha256, one.file, targets[one.id]] for one in taken],
    )
    if any(one.kind == "image" for one in taken):
        _after(tx, study, note)
    elif taken:
        why = f"{len(taken)} objects that are not read, code {note.code}: {note.why}"
        tx.event("rejected", note.at, study=study.number, who=note.by, why=why)


def _copies(tx: Transaction, study_number: int, sop_uids: Sequence[str]) -> list[Any]:
    """All copies of the instances that are not our own results, with the kind of their series."""
    found: list[Any] = []
    for part in in_parts(sop_uids):
        found += tx.sql.execute(
            sa.select(instances, series.c.kind, series.c.outcome)
            .join(series, series.c.id == instances.c.series_id)
            .where(instances.c.study_number == study_number, instances.c.sop_uid.in_(part), series.c.kind != "own")
            .order_by(instances.c.id)
        ).all()
    return found


def _take(tx: Transaction, study_number: int, taken: list[Any], note: _Note) -> dict[int, str]:
    """Mark them, each with a name of its own in `withdrawn/`."""
    used = set(
        tx.sql.execute(
            sa.select(instances.c.file).where(instances.c.study_number == study_number, instances.c.withdrawn != "")
        ).scalars()
    )
    targets: dict[int, str] = {}
    for one in taken:
        target = "" if one.gone else _free_name(one.file, used)  # its file went with its retention
        used.add(target)
        targets[one.id] = target
        tx.sql.execute(
            sa.update(instances)
            .where(instances.c.id == one.id, instances.c.withdrawn == "")
            .values(withdrawn=note.code, withdrawn_note=note.uid, filed_as=one.file, file=target)
        )
    for series_id in {one.series_id for one in taken}:
        left = live_copies(tx, instances.c.series_id == series_id)
        values: dict[str, Any] = {
            "version": series.c.version + 1,
            "evidence": "",
            "outcome": "",
            "reason_code": "",
            "reason_text": "",
            "attempts": 0,
            "state": SeriesState.RECEIVING if left else SeriesState.WITHDRAWN,
        }
        tx.sql.execute(sa.update(series).where(series.c.id == series_id).values(**values))
    return targets


def _free_name(file: str, used: set[str]) -> str:
    """`withdrawn/<name>`, or with ~2, ~3 where the name is taken."""
    name = PurePosixPath(file).name
    stem, dot, ending = name.rpartition(".")
    stem = (stem if dot else name).partition("~")[0]
    ending = f".{ending}" if dot else ""
    target, copy = f"withdrawn/{stem}{ending}", 1
    while target in used:
        copy += 1
        target = f"withdrawn/{stem}~{copy}{ending}"
    return target


def _after(tx: Transaction, study: Any, note: _Note) -> None:
    """Images are gone: a person's change where any remain, else the study is withdrawn and what was sent is to be taken
    back."""
    why = f"rejected, code {note.code}: {note.why}"
    if _images_left(tx, study.number):
        change_study(tx, study, note.at, why=why, who=note.by, by_person=True)
        return
    of_study = sa.and_(series.c.study_number == study.number, series.c.kind == "image")
    tx.sql.execute(sa.update(series).where(of_study).values(state=SeriesState.WITHDRAWN))
    if study.state == StudyState.WITHDRAWN:
        tx.event("rejected", note.at, study=study.number, who=note.by, why=why)
        return
    if note.code != RETENTION_EXPIRED:
        mark_to_withdraw(tx, study, WITHDRAW_ALL, note.at)
    values = {"outcome": "withdrawn", "change_no": study.change_no + 1, **SERVED}
    move_study(tx, study, StudyMove.WITHDRAW, note.at, why=why, who=note.by, **values)


def _images_left(tx: Transaction, study_number: int) -> int:
    """Live first copies of images."""
    of_images = instances.c.series_id.in_(
        sa.select(series.c.id).where(series.c.study_number == study_number, series.c.kind == "image")
    )
    return len(live_copies(tx, instances.c.study_number == study_number, of_images))


def _bury(tx: Transaction, sop_uid: str, note: _Note) -> None:
    tx.sql.execute(
        sa.insert(tombstones).values(
            sop_uid=sop_uid, code=note.code, note=note.uid, at=note.at, by=note.by, **asdict(note.identity)
        )
    )
