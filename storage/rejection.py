"""Rejection: what a note takes out of reading, in the ledger; the caller then moves the files that are returned.

A note told again returns the same moves and changes nothing, so a crash between ledger and files is mended by telling
it once more.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

import sqlalchemy as sa

from storage.moves import WITHDRAW_ALL, Transaction, change_study, live_copies, mark_to_withdraw, move_study, study_row
from storage.rows import FileMove, Identity, Rejected, TombstoneRow
from storage.states import SeriesState, StudyMove, StudyState
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
    row = tx.sql.execute(sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()).one_or_none()
    stored = _copies(tx, row.number, sop_uids) if row is not None else []
    again = [one for one in stored if one.withdrawn_note == note and one.withdrawn]
    known = {one.sop_uid for one in stored}
    unknown = [] if row is not None and again else [uid for uid in dict.fromkeys(sop_uids) if uid not in known]
    taken = [one for one in stored if not one.withdrawn]
    if code == RETENTION_EXPIRED and row is not None and row.state in SETTLED:
        taken = []  # read already: it keeps state and results
    taken = [] if again else taken  # the note was told before: what came since is not meant
    for uid in unknown:
        _bury(tx, uid, code, note, identity or Identity(), by, now)
    if row is None:
        if unknown:
            tx.journal(
                "rejection",
                now,
                study=study_uid,
                note=note,
                code=code,
                by=by,
                why=why,
                taken=[],
                unknown=unknown,
                identity=_plain(identity),
            )
        return Rejected(None, "", (), tuple(unknown), 0, None, False)
    if taken or unknown:
        targets = _take(tx, row.number, taken, code, note)
        tx.journal(
            "rejection",
            now,
            study=study_uid,
            note=note,
            code=code,
            by=by,
            why=why,
            unknown=unknown,
            identity=_plain(identity),
            taken=[[one.sop_uid, one.sha256, one.file, targets[one.id]] for one in taken],
        )
        if any(one.kind == "image" for one in taken):
            _after(tx, row, code, by, why, now)
        elif taken:
            tx.event(
                "rejected",
                now,
                study=row.number,
                who=by,
                why=f"{len(taken)} objects that are not read, code {code}: {why}",
            )
    mine = [one for one in _copies(tx, row.number, sop_uids) if one.withdrawn_note == note and one.withdrawn]
    after = study_row(tx, row.number)
    return Rejected(
        row.number,
        row.folder,
        tuple(FileMove(one.sop_uid, one.filed_as, one.file) for one in mine if one.filed_as != one.file),
        tuple(unknown),
        _images_left(tx, row.number),
        StudyState(after.state),
        bool(after.to_withdraw),
    )


def _copies(tx: Transaction, study_number: int, sop_uids: Sequence[str]) -> list[Any]:
    """All copies of the instances that are not our own results, with the kind of their series."""
    found: list[Any] = []
    for part in in_parts(sop_uids):
        found += tx.sql.execute(
            sa.select(instances, series.c.kind)
            .join(series, series.c.id == instances.c.series_id)
            .where(instances.c.study_number == study_number, instances.c.sop_uid.in_(part), series.c.kind != "own")
            .order_by(instances.c.id)
        ).all()
    return found


def _take(tx: Transaction, study_number: int, taken: list[Any], code: str, note: str) -> dict[int, str]:
    """Mark them, each with a name of its own in `withdrawn/`."""
    used = set(
        tx.sql.execute(
            sa.select(instances.c.file).where(instances.c.study_number == study_number, instances.c.withdrawn != "")
        ).scalars()
    )
    targets: dict[int, str] = {}
    for one in taken:
        target = _free_name(one.file, used)
        used.add(target)
        targets[one.id] = target
        tx.sql.execute(
            sa.update(instances)
            .where(instances.c.id == one.id, instances.c.withdrawn == "")
            .values(withdrawn=code, withdrawn_note=note, filed_as=one.file, file=target)
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


def _after(tx: Transaction, row: sa.Row[Any], code: str, by: str, why: str, now: datetime) -> None:
    """Images are gone: a change where any remain, else the study is withdrawn and what was sent is to be taken back."""
    told = f"rejected, code {code}: {why}"
    if _images_left(tx, row.number):
        change_study(tx, row, now, why=told, who=by, by_person=True)
        return
    if row.state == StudyState.WITHDRAWN:
        tx.event("rejected", now, study=row.number, who=by, why=told)
        return
    tx.sql.execute(
        sa.update(series)
        .where(series.c.study_number == row.number, series.c.kind == "image")
        .values(state=SeriesState.WITHDRAWN)
    )
    mark_to_withdraw(tx, row, WITHDRAW_ALL, now)
    move_study(
        tx,
        row,
        StudyMove.WITHDRAW,
        now,
        why=told,
        who=by,
        outcome="withdrawn",
        change_no=row.change_no + 1,
        requeue_by="",
        requeue_why="",
        by_person=False,
    )


def _images_left(tx: Transaction, study_number: int) -> int:
    """Live first copies of images."""
    of_images = instances.c.series_id.in_(
        sa.select(series.c.id).where(series.c.study_number == study_number, series.c.kind == "image")
    )
    return len(live_copies(tx, instances.c.study_number == study_number, of_images))


def _bury(tx: Transaction, sop_uid: str, code: str, note: str, identity: Identity, by: str, now: datetime) -> None:
    t = tombstones.c
    if (
        tx.sql.execute(sa.select(t.id).where(t.sop_uid == sop_uid, t.code == code, t.note == storable(note))).first()
        is None
    ):
        tx.sql.execute(
            sa.insert(tombstones).values(
                sop_uid=sop_uid,
                code=code,
                note=note,
                patient_id=identity.patient_id,
                issuer=identity.issuer,
                name=identity.name,
                birth_date=identity.birth_date,
                sex=identity.sex,
                at=now,
                by=by,
            )
        )


def _plain(identity: Identity | None) -> dict[str, str]:
    return (
        {}
        if identity is None
        else {
            "patient_id": identity.patient_id,
            "issuer": identity.issuer,
            "name": identity.name,
            "birth_date": identity.birth_date,
            "sex": identity.sex,
        }
    )
