"""What may go, as rows: each mark is made only while the proof still holds, in the same transaction. The files follow.

The proof: the study ended, nobody holds it, nothing is to be withdrawn, and no delivery of it is dead, waiting or on
the wire. What was not delivered is never removed unasked; where nothing was to be delivered (shadow mode, not for us)
the end alone counts.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from storage.moves import Transaction
from storage.rows import KnownFiles
from storage.states import DeliveryState, StudyState
from storage.tables import (
    associations,
    deliveries,
    events,
    holds,
    incoming,
    instances,
    results,
    series,
    series_associations,
    studies,
    study_leases,
    tombstones,
)
from storage.views import in_parts

SETTLED: Final = frozenset({StudyState.DELIVERING, StudyState.DONE, StudyState.UNDELIVERED, StudyState.WITHDRAWN})
UNFINISHED: Final = frozenset({StudyState.OPEN, StudyState.QUEUED, StudyState.READING})
SERVED_ROWS_KEPT: Final = timedelta(days=1)  # names, leases and associations that served, for a look at a fresh fault


def _may_go(before: datetime) -> sa.ColumnElement[bool]:
    """Studies that ended before, delivered or with nothing to deliver."""
    s, d = studies.c, deliveries.c
    waiting = sa.exists().where(
        d.study_number == s.number,
        sa.or_(
            d.state.in_([DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.DEAD]),
            sa.and_(d.state == DeliveryState.SENT, d.commit_asked.is_(sa.true())),
        ),
    )
    held = sa.exists().where(holds.c.study_number == s.number)
    ended = s.state.in_([StudyState.DONE, StudyState.WITHDRAWN])
    return sa.and_(ended, s.ended_at < before, s.to_withdraw == "", ~held, ~waiting)


def _images_may_go(before: datetime) -> sa.ColumnElement[bool]:
    """Not those that came again since: they are kept once more, for a requeue."""
    return sa.and_(_may_go(before), studies.c.last_at < before)


def images_to_remove(tx: Transaction, before: datetime, limit: int) -> list[int]:
    """Studies with images on disk that may go, longest ended first."""
    kept = sa.exists().where(instances.c.study_number == studies.c.number, instances.c.gone.is_(sa.false()))
    asked = (
        sa.select(studies.c.number).where(_images_may_go(before), kept).order_by(studies.c.ended_at, studies.c.number)
    )
    return list(tx.sql.execute(asked.limit(limit)).scalars())


def remove_images(tx: Transaction, study_number: int, before: datetime, now: datetime) -> tuple[str, ...]:
    """Mark the images of a study that still may go; their files."""
    still = sa.select(studies.c.number).where(studies.c.number == study_number, _images_may_go(before))
    if tx.sql.execute(still.with_for_update()).first() is None:
        return ()
    kept = sa.and_(instances.c.study_number == study_number, instances.c.gone.is_(sa.false()))
    files = tuple(tx.sql.execute(sa.select(instances.c.file).where(kept).order_by(instances.c.id)).scalars())
    tx.sql.execute(sa.update(instances).where(kept).values(gone=True, file=""))
    tx.event("images removed", now, study=study_number, why=f"{len(files)} files, their retention is over")
    return files


def _result_may_go(before: datetime) -> sa.ColumnElement[bool]:
    d, r = deliveries.c, results.c
    unended = sa.exists().where(
        d.result_key == r.key,
        sa.or_(d.ended_at.is_(None), d.ended_at >= before, d.state.in_([DeliveryState.PENDING, DeliveryState.DEAD])),
    )
    of_ended = r.study_number.in_(sa.select(studies.c.number).where(_may_go(before)))
    return sa.and_(r.gone.is_(sa.false()), r.committed_at < before, of_ended, ~unended)


def results_to_remove(tx: Transaction, before: datetime, limit: int) -> list[tuple[int, str, str]]:
    """Study, key and folder of results whose files may go."""
    r = results.c
    asked = sa.select(r.study_number, r.key, r.folder).where(_result_may_go(before)).order_by(r.number).limit(limit)
    return [(row.study_number, row.key, row.folder) for row in tx.sql.execute(asked)]


def remove_result(tx: Transaction, key: str, before: datetime, now: datetime) -> bool:
    """Mark a result whose files still may go."""
    row = tx.sql.execute(sa.select(results).where(results.c.key == key, _result_may_go(before))).one_or_none()
    if row is None:
        return False
    tx.sql.execute(sa.update(results).where(results.c.key == key).values(gone=True))
    tx.event(
        "result removed", now, study=row.study_number, why=f"files of revision {row.revision}, their retention is over"
    )
    return True


def remove_records(tx: Transaction, before: datetime, limit: int) -> tuple[str, ...]:
    """Forget studies whose images and results are gone; all about them goes, but the journal's lines."""
    images = sa.exists().where(instances.c.study_number == studies.c.number, instances.c.gone.is_(sa.false()))
    files = sa.exists().where(results.c.study_number == studies.c.number, results.c.gone.is_(sa.false()))
    asked = sa.select(studies.c.number, studies.c.folder).where(_may_go(before), ~images, ~files)
    rows = tx.sql.execute(asked.order_by(studies.c.number).limit(limit).with_for_update()).all()
    for part in in_parts([row.number for row in rows]):
        tx.sql.execute(sa.delete(events).where(events.c.study_number.in_(part)))
        tx.sql.execute(sa.delete(studies).where(studies.c.number.in_(part)))
    return tuple(row.folder for row in rows)


def prune(tx: Transaction, now: datetime, records_before: datetime, names: Collection[str]) -> int:
    """Rows that serve nobody any more."""
    day_ago = now - SERVED_ROWS_KEPT
    link = series_associations.c
    unfinished = (
        sa.select(link.association)
        .join(series, series.c.id == link.series_id)
        .join(studies, studies.c.number == series.c.study_number)
        .where(studies.c.state.in_(UNFINISHED))
    )
    old = sa.func.coalesce(associations.c.ended_at, associations.c.opened_at) < day_ago
    present = set(names)
    left = [
        name
        for name in tx.sql.execute(sa.select(incoming.c.name).where(incoming.c.filed_at < day_ago)).scalars()
        if name not in present
    ]
    removed = sum(
        tx.sql.execute(sa.delete(incoming).where(incoming.c.name.in_(part))).rowcount for part in in_parts(left)
    )
    for statement in (
        sa.delete(study_leases).where(study_leases.c.ended_at < day_ago),
        sa.delete(associations).where(old, associations.c.name.not_in(unfinished)),
        sa.delete(events).where(events.c.at < records_before, events.c.study_number.is_(None)),
        sa.delete(tombstones).where(tombstones.c.at < records_before),
    ):
        removed += tx.sql.execute(statement).rowcount
    return removed


def known_files(tx: Transaction, folder: str) -> KnownFiles | None:
    """What rows name of a study's folder (as the study's row says it)."""
    study = tx.sql.execute(sa.select(studies).where(studies.c.folder == folder)).one_or_none()
    if study is None:
        return None
    of_study = instances.c.study_number == study.number
    files = frozenset(tx.sql.execute(sa.select(instances.c.file).where(of_study, instances.c.file != "")).scalars())
    folders: frozenset[Any] = frozenset(
        tx.sql.execute(sa.select(results.c.folder).where(results.c.study_number == study.number)).scalars()
    )
    return KnownFiles(files, folders, study.state in SETTLED and not study.to_withdraw)
