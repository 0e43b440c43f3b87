"""The one place that moves a study: by the table in `states.py`, an UPDATE on state and change number, the event in the
same transaction. Also what follows from a move: a void lease, an end that the journal must know, what was sent and must
be taken back.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from storage.errors import IllegalMove, NotFound, Stale
from storage.states import DELIVERY_MOVES, STUDY_MOVES, DeliveryMove, DeliveryState, StudyMove, StudyState
from storage.tables import deliveries, events, instances, results, series, studies, study_leases

WITHDRAW_ALL = "all"
WITHDRAW_OTHER_IDENTITY = "identity"


class JournalWriter(Protocol):
    """What the ledger needs of `storage.journal.Journal`."""

    def append(self, kind: str, *, at: datetime | None = None, **fields: Any) -> None:
        """One line, synced before it returns."""
        ...


@dataclass(frozen=True)
class Line:
    """A line that must stand in the journal before the transaction that asks for it commits."""

    kind: str
    at: datetime
    fields: Mapping[str, Any]


class Unwritten(Exception):
    """Lines are missing in the journal; the transaction is rolled back, they are written, it runs again."""

    def __init__(self, lines: list[Line]) -> None:
        super().__init__(lines)
        self.lines = lines


@dataclass
class Transaction:
    """One open transaction. `who` stands in the events; `lines` collects what the journal must hold before the
    commit."""

    sql: sa.Connection
    who: str
    lines: list[Line] = field(default_factory=list)

    def journal(self, kind: str, at: datetime, **fields: Any) -> None:
        """Ask for a line. Fields are plain JSON values and the same each time that the transaction runs."""
        self.lines.append(Line(kind, at, fields))

    def event(
        self,
        what: str,
        at: datetime,
        *,
        study: int | None = None,
        series: int | None = None,
        why: str = "",
        who: str | None = None,
        from_state: str = "",
        to_state: str = "",
    ) -> None:
        """Append an event."""
        self.sql.execute(
            sa.insert(events).values(
                at=at,
                study_number=study,
                series_id=series,
                who=self.who if who is None else who,
                what=what,
                from_state=from_state,
                to_state=to_state,
                why=why,
            )
        )


def study_row(tx: Transaction, number: int) -> sa.Row[Any]:
    """The study's row, locked where the database locks rows.

    Raises:
        NotFound.
    """
    row = tx.sql.execute(sa.select(studies).where(studies.c.number == number).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(
            what="the ledger has no such study", which=f"study {number}", do="`dicom-node status` lists the studies"
        )
    return row


def move_study(
    tx: Transaction,
    study: sa.Row[Any],
    move: StudyMove,
    at: datetime,
    *,
    why: str = "",
    who: str | None = None,
    **values: Any,
) -> StudyState:
    """Move a study as it was read (`study`), write the event, return the new state. `values` are further columns.

    A move that leaves READING ends the lease; one that ends the study writes its end into the journal.
    Raises:
        IllegalMove: the table has no such move from its state.
        Stale: state or change number are no longer those of `study`.
    """
    was = StudyState(study.state)
    state = STUDY_MOVES[was].get(move)
    if state is None:
        raise IllegalMove(
            what=f"'{move}' is no move of a study that is {was}",
            which=f"study {study.number}",
            do="look at `dicom-node status --why`",
        )
    if move in (StudyMove.CHANGE, StudyMove.ARRIVE):
        values = {
            "change_no": studies.c.change_no + 1,
            "changed_at": at,
            "not_before": None,
            "ended_at": None,
            "outcome": "",
            **values,
        }
    elif state in ENDS:
        values = {"ended_at": at, **values}
    moved = tx.sql.execute(
        sa.update(studies)
        .where(studies.c.number == study.number, studies.c.state == was, studies.c.change_no == study.change_no)
        .values(state=state, **values)
    )
    if moved.rowcount != 1:
        raise Stale(what="it changed meanwhile", which=f"study {study.number}", do="look again")
    if was is StudyState.READING:
        end_leases(tx, study.number, "reading", at)
    tx.event(move, at, study=study.number, why=why, who=who, from_state=was, to_state=state)
    if state in ENDS:
        journal_end(tx, study.number, at)
    return state


ENDS = frozenset({StudyState.DONE, StudyState.UNDELIVERED, StudyState.WITHDRAWN})


def end_leases(tx: Transaction, study_number: int, purpose: str, at: datetime) -> None:
    """Void the live lease on a study: no move with its token matches any more."""
    live = study_leases.c
    tx.sql.execute(
        sa.update(study_leases)
        .where(live.study_number == study_number, live.purpose == purpose, live.ended_at.is_(None))
        .values(ended_at=at)
    )


def change_study(
    tx: Transaction, study: sa.Row[Any], at: datetime, *, why: str, who: str | None = None, **values: Any
) -> StudyState:
    """Something about it is new: `open` at once, the number raised, a running job's token void. `values` are further
    columns."""
    move = StudyMove.ARRIVE if study.state == StudyState.WITHDRAWN else StudyMove.CHANGE
    return move_study(tx, study, move, at, why=why, who=who, **values)


def settle(tx: Transaction, study_number: int, at: datetime) -> StudyState:
    """A delivering study of whose current result nothing is left to send has ended. Returns the state after it."""
    study = study_row(tx, study_number)
    if study.state != StudyState.DELIVERING:
        return StudyState(study.state)
    current = tx.sql.execute(
        sa.select(deliveries.c.state, deliveries.c.commit_asked).where(deliveries.c.result_key == study.current_key)
    ).all()
    if not all(has_ended(row.state, row.commit_asked) for row in current):
        return StudyState.DELIVERING
    dead = any(row.state == DeliveryState.DEAD for row in current)
    return move_study(tx, study, StudyMove.DEAD if dead else StudyMove.DELIVERED, at)


def has_ended(state: str, commit_asked: bool) -> bool:
    """Nothing more happens to such a delivery by itself."""
    return state in _ENDED or (state == DeliveryState.SENT and not commit_asked)


_ENDED = frozenset({DeliveryState.COMMITTED, DeliveryState.COMMIT_UNKNOWN, DeliveryState.DEAD, DeliveryState.CANCELLED})


def sent_by(study: sa.Row[Any], scope: str) -> sa.Select[Any]:
    """Deliveries of the study that a peer may have and that no withdrawal takes back yet. On the wire counts as
    sent."""
    d = deliveries.c
    chosen = sa.select(deliveries).where(
        d.study_number == study.number,
        d.withdrawal.is_(sa.false()),
        d.withdrawn_by == "",
        sa.or_(
            d.may_have.is_(sa.true()), d.state.in_([DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.COMMITTED])
        ),
    )
    if scope == WITHDRAW_OTHER_IDENTITY:
        chosen = chosen.where(d.identity_key != study.identity_chosen)
    return chosen.order_by(d.number)


def mark_to_withdraw(tx: Transaction, study: sa.Row[Any], scope: str, at: datetime) -> bool:
    """Where something was sent, mark the study (a worker makes the withdrawal); where nothing was, cancel what waits.
    True: marked."""
    anything = tx.sql.execute(sent_by(study, scope).limit(1)).first() is not None
    if anything:
        wider = WITHDRAW_ALL if WITHDRAW_ALL in (scope, study.to_withdraw) else scope
        tx.sql.execute(
            sa.update(studies)
            .where(studies.c.number == study.number)
            .values(to_withdraw=wider, withdraw_attempts=0, withdraw_not_before=None)
        )
        tx.event("to be withdrawn", at, study=study.number, why="what was sent must be taken back")
    elif scope == WITHDRAW_ALL:
        cancel(
            tx,
            study.number,
            at,
            "nothing was sent, and nothing is left to say",
            deliveries.c.withdrawal.is_(sa.false()),
        )
        tx.sql.execute(sa.update(studies).where(studies.c.number == study.number).values(current_key=None))
    return anything


def cancel(tx: Transaction, study_number: int, at: datetime, why: str, *which: sa.ColumnElement[bool]) -> int:
    """Cancel deliveries of a study that are not on the wire (pending, dead; sent ones whose commitment is open)."""
    d = deliveries.c
    idle = sa.or_(
        d.state.in_([DeliveryState.PENDING, DeliveryState.DEAD]),
        sa.and_(d.state == DeliveryState.SENT, d.commit_asked.is_(sa.true())),
    )
    rows = tx.sql.execute(
        sa.select(deliveries).where(d.study_number == study_number, idle, *which).order_by(d.number).with_for_update()
    ).all()
    for row in rows:
        may_have = row.may_have or row.state == DeliveryState.SENT
        move_delivery(tx, row, DeliveryMove.SUPERSEDE, at, why=why, ended_at=at, may_have=may_have)
        journal_delivery_end(tx, row, DeliveryState.CANCELLED, may_have, at)
    return len(rows)


def move_delivery(
    tx: Transaction,
    row: sa.Row[Any],
    move: DeliveryMove,
    at: datetime,
    *,
    why: str = "",
    who: str | None = None,
    **values: Any,
) -> DeliveryState:
    """Move a delivery as it was read, by the table, on its state and token; write the event; return the new state.

    Raises:
        IllegalMove, Stale.
    """
    was = DeliveryState(row.state)
    state = DELIVERY_MOVES[was].get(move)
    if state is None:
        raise IllegalMove(
            what=f"'{move}' is no move of a delivery that is {was}",
            which=f"delivery {row.number}",
            do="look at `dicom-node deliveries list`",
        )
    moved = tx.sql.execute(
        sa.update(deliveries)
        .where(deliveries.c.number == row.number, deliveries.c.state == was, deliveries.c.token == row.token)
        .values(state=state, **values)
    )
    if moved.rowcount != 1:
        raise Stale(what="it changed meanwhile", which=f"delivery {row.number}", do="look again")
    told = f"delivery {row.number} ({row.kind}) to {row.destination}"
    tx.event(
        f"delivery: {move}",
        at,
        study=row.study_number,
        why=f"{told}: {why}" if why else told,
        who=who,
        from_state=was,
        to_state=state,
    )
    return state


def journal_delivery_end(tx: Transaction, row: sa.Row[Any], state: str, may_have: bool, at: datetime) -> None:
    """The end of a delivery, and whether the peer may have it."""
    tx.journal(
        "delivery-end",
        at,
        result=row.result_key,
        destination=row.destination,
        delivery=row.kind,
        state=str(state),
        may_have=may_have,
    )


def live_copies(tx: Transaction, *which: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """Live first copies: of each SOP UID the lowest copy that no rejection took; by arrival."""
    i = instances.c
    first: dict[tuple[int, str], sa.Row[Any]] = {}
    for row in tx.sql.execute(sa.select(instances).where(i.withdrawn == "", *which).order_by(i.copy, i.id)):
        first.setdefault((row.study_number, row.sop_uid), row)
    return sorted(first.values(), key=lambda row: int(row.id))


def digest_of(rows: Iterable[Any]) -> str:
    """Digest of a series' instances: (SOP UID, digest of the stored file), sorted."""
    lines = sorted(f"{row.sop_uid} {row.sha256}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def journal_end(tx: Transaction, study_number: int, at: datetime) -> None:
    """An end of a study: its identity, each series' outcome and instances. What a rebuild knows of what left no
    result."""
    study = study_row(tx, study_number)
    of_study = sa.select(results.c.key).where(results.c.study_number == study_number)
    last = tx.sql.execute(of_study.order_by(results.c.number.desc()).limit(1)).scalar_one_or_none()
    tx.journal(
        "study-end",
        at,
        study=study.study_uid,
        number=study.number,
        state=study.state,
        outcome=study.outcome,
        revision=study.revision,
        current=study.current_key or "",
        last=last or "",
        identity=study.identity_chosen,
        to_withdraw=study.to_withdraw,
        series=snapshot(tx, study_number, instances_too=True),
    )


def snapshot(tx: Transaction, study_number: int, *, instances_too: bool) -> list[dict[str, Any]]:
    """Each series of a study with its outcome, what was found in it, and the digest of its live instances, as the
    journal keeps them; an end also lists the instances, for the day when their files are gone."""
    by_series: dict[int, list[sa.Row[Any]]] = {}
    for row in live_copies(tx, instances.c.study_number == study_number):
        by_series.setdefault(row.series_id, []).append(row)
    rows = tx.sql.execute(sa.select(series).where(series.c.study_number == study_number).order_by(series.c.id))
    return [_told(row, by_series.get(row.id, []), instances_too) for row in rows]


def _told(row: sa.Row[Any], live: list[sa.Row[Any]], instances_too: bool) -> dict[str, Any]:
    listed = {"instances": [[one.sop_uid, one.sha256] for one in live]} if instances_too else {}
    return {
        "uid": row.series_uid,
        "kind": row.kind,
        "modality": row.modality,
        "outcome": row.outcome,
        "code": row.reason_code,
        "text": row.reason_text,
        "evidence": row.evidence,
        "found": row.found,
        "found_digest": row.found_digest,
        "attempts": row.attempts,
        "digest": digest_of(live) if live else "",
        **listed,
    }
