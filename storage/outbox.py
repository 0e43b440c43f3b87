"""The outbox: one row per result, destination and kind; the couriers' moves, and what people may do to them.

`pending -> sending` asks for all that design.md "A delivery" names; the other moves ask for the row's own state and
token. A row that comes back from the wire and was replaced meanwhile is cancelled there and then.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from storage.errors import LeaseLost, NotFound, Superseded
from storage.moves import Transaction, journal_delivery_end, move_delivery, move_study, settle, study_row
from storage.results import journal_commit
from storage.rows import DeliveryClaim, DestinationRow
from storage.states import DeliveryMove, DeliveryState, StudyMove, StudyState
from storage.tables import deliveries, delivery_waits, destinations, holds, results, studies
from storage.views import delivery

ARRIVED: Final = {
    "sent": (DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.COMMIT_UNKNOWN),
    "committed": (DeliveryState.COMMITTED,),
}
"""What counts as having it, by `oru.after_state`."""


def _due(destination: str, now: datetime) -> sa.Select[Any]:
    """Rows that may start there now, urgent first."""
    d, s = deliveries.c, studies.c
    other = deliveries.alias("other")
    waited = deliveries.alias("waited")
    on_the_wire = sa.exists().where(
        other.c.study_number == d.study_number,
        other.c.destination == d.destination,
        other.c.number != d.number,
        other.c.state == DeliveryState.SENDING,
    )
    withdrawal_first = sa.exists().where(
        other.c.study_number == d.study_number,
        other.c.destination == d.destination,
        other.c.withdrawal.is_(sa.true()),
        other.c.identity_key != d.identity_key,
        other.c.state.in_([DeliveryState.PENDING, DeliveryState.SENDING]),
    )
    held = sa.exists().where(holds.c.study_number == d.study_number)
    missing = sa.exists().where(
        delivery_waits.c.number == d.number,
        delivery_waits.c.waits_for == waited.c.number,
        sa.or_(
            *(
                sa.and_(delivery_waits.c.until_state == name, waited.c.state.not_in(states))
                for name, states in ARRIVED.items()
            )
        ),
    )
    ordinary = sa.and_(
        ~held, s.state == StudyState.DELIVERING, d.result_key == s.current_key, s.to_withdraw == "", ~withdrawal_first
    )
    return (
        sa.select(deliveries, s.folder, missing.label("overdue"))
        .join(studies, s.number == d.study_number)
        .where(
            d.destination == destination,
            d.state == DeliveryState.PENDING,
            d.next_at <= now,
            ~on_the_wire,
            sa.or_(d.withdrawal.is_(sa.true()), ordinary),
            sa.or_(~missing, sa.and_(d.wait_until.is_not(None), d.wait_until <= now)),
        )
        .order_by(d.priority, d.number)
    )


def _closed(tx: Transaction, destination: str, now: datetime) -> bool:
    """Paused by a person, or the breaker is open."""
    row = destination_row(tx, destination)
    return bool(row.paused_by) or (row.breaker_until is not None and row.breaker_until > now)


def anything_due(tx: Transaction, destination: str, now: datetime) -> bool:
    """Whether a claim would find something; takes no lock."""
    return not _closed(tx, destination, now) and tx.sql.execute(_due(destination, now).limit(1)).first() is not None


def claim_delivery(
    tx: Transaction, destination: str, owner: str, lease_s: float, now: datetime
) -> DeliveryClaim | None:
    """The next due delivery."""
    if _closed(tx, destination, now):
        return None
    row = tx.sql.execute(_due(destination, now).limit(1).with_for_update(skip_locked=True, of=deliveries)).one_or_none()
    if row is None:
        return None
    journal_commit(tx, row.result_key)  # a crash may have cut it off after the ledger's commit
    token, until = row.token + 1, now + timedelta(seconds=lease_s)
    why = "what it was to follow did not arrive in time" if row.overdue else ""
    move_delivery(
        tx, row, DeliveryMove.START, now, why=why, token=token, owner=owner, lease_until=until, connected_at=None
    )
    claimed = tx.sql.execute(sa.select(deliveries).where(deliveries.c.number == row.number)).one()
    return DeliveryClaim(delivery(claimed), row.folder, token, until, bool(row.overdue))


def _claimed(tx: Transaction, claim: DeliveryClaim) -> sa.Row[Any]:
    """The row under a claim that no other has taken over."""
    d = deliveries.c
    row = tx.sql.execute(
        sa.select(deliveries)
        .where(d.number == claim.delivery.number, d.token == claim.token, d.state == DeliveryState.SENDING)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise LeaseLost(what="another has it now", which=f"delivery {claim.delivery.number}", do="send nothing")
    return row


def connected(tx: Transaction, claim: DeliveryClaim, now: datetime) -> None:
    """From here on the peer may have it."""
    row = _claimed(tx, claim)
    if row.lease_until <= now:
        raise LeaseLost(what="the lease is past", which=f"delivery {row.number}", do="send nothing")
    tx.sql.execute(
        sa.update(deliveries)
        .where(deliveries.c.number == row.number)
        .values(connected_at=now, first_connected_at=row.first_connected_at or now)
    )
    if row.first_connected_at is None:
        tx.journal("delivery-start", now, result=row.result_key, destination=row.destination, delivery=row.kind)


def extend(tx: Transaction, claim: DeliveryClaim, lease_s: float, now: datetime) -> bool:
    """A later end for the lease."""
    d = deliveries.c
    renewed = tx.sql.execute(
        sa.update(deliveries)
        .where(
            d.number == claim.delivery.number,
            d.token == claim.token,
            d.lease_until > now,
            d.state == DeliveryState.SENDING,
        )
        .values(lease_until=now + timedelta(seconds=lease_s))
    )
    return renewed.rowcount == 1


def answered(tx: Transaction, claim: DeliveryClaim, detail: str, now: datetime) -> StudyState:
    """The peer has it."""
    row = _claimed(tx, claim)
    move_delivery(
        tx,
        row,
        DeliveryMove.ANSWERED,
        now,
        why=detail,
        ended_at=None if row.commit_asked else now,
        may_have=True,
        last_error="",
        detail=detail,
        lease_until=None,
        owner="",
        attempts=row.attempts + 1,
    )
    journal_delivery_end(tx, row, DeliveryState.SENT, True, now)
    return settle(tx, row.study_number, now)


def back_off(
    tx: Transaction,
    claim: DeliveryClaim,
    next_at: datetime,
    error: str,
    *,
    counted: bool,
    now: datetime,
    may_have: bool | None = None,
) -> None:
    """Pending again, not before `next_at`."""
    _back(tx, _claimed(tx, claim), next_at, error, counted, may_have, now)


def _back(
    tx: Transaction,
    row: sa.Row[Any],
    next_at: datetime,
    error: str,
    counted: bool,
    may_have: bool | None,
    now: datetime,
) -> None:
    has_it = _may_have(row, may_have)
    move_delivery(
        tx,
        row,
        DeliveryMove.BACK_OFF,
        now,
        why=error,
        next_at=next_at,
        last_error=error,
        attempts=row.attempts + (1 if counted else 0),
        may_have=has_it,
        lease_until=None,
        owner="",
        connected_at=None,
    )
    _cancel_if_replaced(tx, row.number, now)


def _may_have(row: sa.Row[Any], told: bool | None) -> bool:
    this_time = row.connected_at is not None if told is None else told
    return bool(row.may_have or this_time)


def give_up(
    tx: Transaction, claim: DeliveryClaim, error: str, now: datetime, *, may_have: bool | None = None
) -> StudyState:
    """Dead."""
    row = _claimed(tx, claim)
    counted = row.attempts + (1 if row.connected_at is not None else 0)
    return _die(tx, row, error, now, _may_have(row, may_have), counted)


def _die(tx: Transaction, row: sa.Row[Any], error: str, now: datetime, may_have: bool, attempts: int) -> StudyState:
    move_delivery(
        tx,
        row,
        DeliveryMove.GIVE_UP,
        now,
        why=error,
        ended_at=now,
        last_error=error,
        may_have=may_have,
        lease_until=None,
        owner="",
        connected_at=None,
        attempts=attempts,
    )
    if not _cancel_if_replaced(tx, row.number, now):
        journal_delivery_end(tx, row, DeliveryState.DEAD, may_have, now)
    return settle(tx, row.study_number, now)


def _replaced(tx: Transaction, row: sa.Row[Any]) -> bool:
    """A later result took its place; for a withdrawal: a later result under the same identity."""
    if row.withdrawal:
        mine = sa.select(results.c.number).where(results.c.key == row.result_key).scalar_subquery()
        later = sa.select(results.c.number).where(
            results.c.study_number == row.study_number,
            results.c.number > mine,
            results.c.kind == "result",
            results.c.identity_key == row.identity_key,
        )
        return tx.sql.execute(later.limit(1)).first() is not None
    return bool(study_row(tx, row.study_number).current_key != row.result_key)


def _cancel_if_replaced(tx: Transaction, number: int, now: datetime) -> bool:
    row = tx.sql.execute(sa.select(deliveries).where(deliveries.c.number == number)).one()
    if not _replaced(tx, row):
        return False
    move_delivery(tx, row, DeliveryMove.SUPERSEDE, now, why="a later result took its place", ended_at=now)
    journal_delivery_end(tx, row, DeliveryState.CANCELLED, row.may_have, now)
    return True


def expire(tx: Transaction, now: datetime) -> int:
    """Deliveries whose courier is gone are pending again; what had connected counts as sent, and as an attempt."""
    d = deliveries.c
    rows = tx.sql.execute(
        sa.select(deliveries)
        .where(d.state == DeliveryState.SENDING, d.lease_until <= now)
        .order_by(d.number)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        _back(tx, row, now, f"the lease of {row.owner} is past", row.connected_at is not None, None, now)
    return len(rows)


def give_up_old(tx: Transaction, before: datetime, now: datetime) -> int:
    """Dead for age: rows that could have started, and whose destination no person paused."""
    d, s = deliveries.c, studies.c
    paused = sa.exists().where(destinations.c.name == d.destination, destinations.c.paused_by != "")
    held = sa.exists().where(holds.c.study_number == d.study_number)
    old = (
        sa.select(deliveries)
        .join(studies, s.number == d.study_number)
        .where(
            d.state == DeliveryState.PENDING,
            d.created_at < before,
            ~paused,
            sa.or_(
                d.withdrawal.is_(sa.true()),
                sa.and_(~held, s.state == StudyState.DELIVERING, d.result_key == s.current_key),
            ),
        )
        .order_by(d.number)
    )
    rows = tx.sql.execute(old.with_for_update(skip_locked=True, of=deliveries)).all()
    for row in rows:
        _die(tx, row, f"older than its limit; last: {row.last_error or 'never tried'}", now, row.may_have, row.attempts)
    return len(rows)


def replay(tx: Transaction, *, by: str, why: str, now: datetime, number: int | None, destination: str | None) -> int:
    """Dead rows are pending again. One that was replaced is refused; of a whole destination such rows are stepped
    over."""
    d = deliveries.c
    asked = sa.select(deliveries).where(d.state == DeliveryState.DEAD)
    if number is not None:
        row = tx.sql.execute(sa.select(deliveries).where(d.number == number)).one_or_none()
        if row is None:
            raise NotFound(
                what="the ledger has no such delivery",
                which=f"delivery {number}",
                do="`dicom-node deliveries list` shows them",
            )
        if row.state == DeliveryState.CANCELLED or _replaced(tx, row):
            raise Superseded(
                what="a newer result replaced it",
                which=f"delivery {number}",
                do="`dicom-node requeue` makes a new result",
            )
        asked = asked.where(d.number == number)
    if destination is not None:
        asked = asked.where(d.destination == destination)
    rows = [row for row in tx.sql.execute(asked.order_by(d.number).with_for_update()).all() if not _replaced(tx, row)]
    for row in rows:
        move_delivery(
            tx, row, DeliveryMove.REPLAY, now, why=why, who=by, attempts=0, next_at=now, created_at=now, ended_at=None
        )
        study = study_row(tx, row.study_number)
        tx.journal(
            "replay",
            now,
            study=study.study_uid,
            result=row.result_key,
            destination=row.destination,
            delivery=row.kind,
            by=by,
            why=why,
        )
        if study.state == StudyState.UNDELIVERED and not row.withdrawal:
            move_study(tx, study, StudyMove.REPLAY, now, why=why, who=by)
    return len(rows)


def destination_row(tx: Transaction, name: str) -> DestinationRow:
    """What is known of a destination."""
    row = tx.sql.execute(sa.select(destinations).where(destinations.c.name == name)).one_or_none()
    return DestinationRow(name) if row is None else _destination(row)


def destination_rows(tx: Transaction) -> tuple[DestinationRow, ...]:
    """All that were ever paused or broken."""
    return tuple(_destination(row) for row in tx.sql.execute(sa.select(destinations).order_by(destinations.c.name)))


def _destination(row: Any) -> DestinationRow:
    return DestinationRow(row.name, row.paused_by, row.paused_why, row.paused_at, row.breaker_until, row.failures)


def _set_destination(tx: Transaction, name: str, **values: Any) -> None:
    if tx.sql.execute(sa.update(destinations).where(destinations.c.name == name).values(**values)).rowcount == 0:
        tx.sql.execute(sa.insert(destinations).values(name=name, **values))


def pause(tx: Transaction, destination: str, *, by: str, why: str, now: datetime) -> None:
    """No delivery starts there."""
    _set_destination(tx, destination, paused_by=by, paused_why=why, paused_at=now)
    tx.event("paused", now, why=f"{destination}: {why}", who=by)
    tx.journal("pause", now, destination=destination, by=by, why=why)


def resume(tx: Transaction, destination: str, *, by: str, why: str, now: datetime) -> None:
    """They start again, at once."""
    _set_destination(tx, destination, paused_by="", paused_why="", paused_at=None, breaker_until=None, failures=0)
    tx.event("resumed", now, why=f"{destination}: {why}", who=by)
    tx.journal("resume", now, destination=destination, by=by, why=why)


def breaker_failed(tx: Transaction, destination: str, until: datetime, now: datetime) -> int:
    """One more failure to reach it."""
    failures = destination_row(tx, destination).failures + 1
    _set_destination(tx, destination, breaker_until=until, failures=failures)
    if failures == 1:
        tx.event("not reached", now, why=destination)
    return failures


def breaker_ok(tx: Transaction, destination: str) -> None:
    """Reached."""
    _set_destination(tx, destination, breaker_until=None, failures=0)
