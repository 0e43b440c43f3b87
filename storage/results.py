"""Results and withdrawals: committed after their files lie synced, with their outbox rows and what they cancel, in one
transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from storage.choosing import SERVED, give_verdicts
from storage.errors import IllegalMove, Stale
from storage.jobs import leased_study
from storage.leases import WITHDRAWAL, end, held, take
from storage.moves import (
    WITHDRAW_ALL,
    WITHDRAW_OTHER_IDENTITY,
    Transaction,
    cancel,
    mark_to_withdraw,
    move_study,
    sent_by,
    settle,
    snapshot,
    study_row,
)
from storage.rows import NewDelivery, NewResult, Priority, SeriesVerdict, StudyClaim, WithdrawalClaim
from storage.states import DeliveryState, StudyMove
from storage.tables import deliveries, delivery_waits, results, studies, study_leases
from storage.views import delivery

WITHDRAW_AGAIN_S: Final = 10.0  # first wait before a withdrawal is tried again; doubled each time
WITHDRAW_AGAIN_S_MAX: Final = 600.0


def is_committed(tx: Transaction, key: str) -> bool:
    """Whether a committed result has the key."""
    return tx.sql.execute(sa.select(results.c.number).where(results.c.key == key)).first() is not None


def commit_result(
    tx: Transaction,
    claim: StudyClaim,
    result: NewResult,
    verdicts: Sequence[SeriesVerdict],
    rows: Sequence[NewDelivery],
    now: datetime,
) -> int:
    """The study's next revision. Cancels what it replaces: all that is not on the wire, but never a withdrawal under
    another identity."""
    if result.kind != "result":
        raise IllegalMove(what="a withdrawal is committed by commit_withdrawal", which=f"study {claim.study_number}")
    study = leased_study(tx, claim, now)
    revision = int(study.revision) + 1
    give_verdicts(tx, study.number, verdicts, now)
    _insert(tx, study, result, revision, now)
    move_study(
        tx,
        study,
        StudyMove.WRITE,
        now,
        why=f"revision {revision}: {result.status}",
        revision=revision,
        current_key=result.key,
        outcome=result.status,
        attempts=0,
        not_before=None,
        used_numbers=max(study.used_numbers, result.used_numbers),
        **SERVED,
    )
    d = deliveries.c
    cancel(
        tx,
        study.number,
        now,
        f"revision {revision} replaces it",
        d.result_key != result.key,
        sa.or_(d.withdrawal.is_(sa.false()), d.identity_key == result.identity_key),
    )
    _insert_deliveries(tx, study, result, revision, rows, now)
    _withdraw_from_others(tx, study.number, result.identity_key, now)
    settle(tx, study.number, now)
    return revision


def _withdraw_from_others(tx: Transaction, study_number: int, identity_key: str, now: datetime) -> None:
    """What went out under another identity is to be taken back; until then nothing of the new result starts."""
    d = deliveries.c
    other = sa.select(d.number).where(
        d.study_number == study_number,
        d.withdrawal.is_(sa.false()),
        d.withdrawn_by == "",
        d.identity_key != identity_key,
        sa.or_(d.may_have.is_(sa.true()), d.state == DeliveryState.SENDING),
    )
    if tx.sql.execute(other.limit(1)).first() is not None:
        tx.sql.execute(sa.update(studies).where(studies.c.number == study_number).values(identity_chosen=identity_key))
        mark_to_withdraw(tx, study_row(tx, study_number), WITHDRAW_OTHER_IDENTITY, now)


def _insert(tx: Transaction, study: sa.Row[Any], result: NewResult, revision: int, now: datetime) -> None:
    r = results.c
    last = (
        tx.sql.execute(
            sa.select(r.key).where(r.study_number == study.number).order_by(r.number.desc()).limit(1)
        ).scalar_one_or_none()
        or ""
    )
    if result.previous_key != last or is_committed(tx, result.key):
        raise Stale(
            what="the result was made after another one than the study's last, or is committed already",
            which=f"study {study.number}",
            do="look again",
        )
    tx.sql.execute(
        sa.insert(results).values(
            key=result.key,
            study_number=study.number,
            revision=revision,
            kind=result.kind,
            status=result.status,
            folder=result.folder,
            previous_key=result.previous_key,
            choice_digest=result.choice_digest,
            identity_key=result.identity_key,
            committed_at=now,
            payload=result.payload,
        )
    )


def _insert_deliveries(
    tx: Transaction,
    study: sa.Row[Any],
    result: NewResult,
    revision: int,
    rows: Sequence[NewDelivery],
    now: datetime,
    identity_at: Mapping[str, str] | None = None,
) -> None:
    """The outbox rows and what they wait for. `identity_at`: destinations that know the study under another
    identity."""
    made: list[tuple[NewDelivery, int]] = []
    withdrawal = result.kind == "withdrawal"
    for row in rows:
        number = tx.sql.execute(
            sa.insert(deliveries).values(
                study_number=study.number,
                revision=revision,
                result_key=result.key,
                destination=row.destination,
                kind=row.kind,
                files=json.dumps([asdict(file) for file in row.files]),
                state=DeliveryState.PENDING,
                next_at=now,
                after=json.dumps(list(row.after)),
                after_state=row.after_state,
                wait_until=row.wait_until,
                created_at=now,
                withdrawal=withdrawal,
                control_id=row.control_id,
                priority=Priority.URGENT if withdrawal else study.priority,
                identity_key=(identity_at or {}).get(row.destination, result.identity_key),
            )
        ).inserted_primary_key
        assert number is not None
        made.append((row, int(number[0])))
    for row, number in made:
        for other, waits_for in made:
            if other.destination in row.after and waits_for != number:
                tx.sql.execute(
                    sa.insert(delivery_waits).values(number=number, waits_for=waits_for, until_state=row.after_state)
                )


def journal_commit(tx: Transaction, key: str) -> None:
    """The journal's line of a committed result, before its first delivery may start."""
    row = tx.sql.execute(sa.select(results).where(results.c.key == key)).one()
    if row.journalled:
        return
    study = study_row(tx, row.study_number)
    d = deliveries.c
    taken_back = sa.select(d.result_key, d.destination, d.kind).where(d.withdrawn_by == key).order_by(d.number)
    tx.sql.execute(sa.update(results).where(results.c.key == key).values(journalled=True))
    tx.journal(
        "commit",
        row.committed_at,
        study=study.study_uid,
        number=study.number,
        state=study.state,
        result=row.key,
        revision=row.revision,
        result_kind=row.kind,
        status=row.status,
        folder=row.folder,
        previous=row.previous_key,
        current=study.current_key or "",
        identity=study.identity_chosen,
        withdraws=[list(one) for one in tx.sql.execute(taken_back)],
        series=snapshot(tx, row.study_number, instances_too=False),
    )


def _to_withdraw(now: datetime) -> sa.Select[Any]:
    s = studies.c
    leased = sa.exists().where(study_leases.c.study_number == s.number, study_leases.c.ended_at.is_(None))
    return (
        sa.select(studies)
        .where(s.to_withdraw != "", sa.or_(s.withdraw_not_before.is_(None), s.withdraw_not_before <= now), ~leased)
        .order_by(s.withdraw_attempts, s.number)
    )


def any_to_withdraw(tx: Transaction, now: datetime) -> bool:
    """Whether a claim would find something; takes no lock."""
    return tx.sql.execute(_to_withdraw(now).limit(1)).first() is not None


def claim_withdrawal(tx: Transaction, owner: str, lease_s: float, now: datetime) -> WithdrawalClaim | None:
    """The next study marked `to_withdraw`, in any state and under any hold. Each claim that ends in nothing makes the
    next one wait."""
    next_one = _to_withdraw(now).limit(1).with_for_update(skip_locked=True, of=studies)
    while (study := tx.sql.execute(next_one).one_or_none()) is not None:
        sent = tuple(delivery(row) for row in tx.sql.execute(sent_by(study, study.to_withdraw)))
        if not sent:
            _no_longer(tx, study, "", now)
            continue
        attempts = study.withdraw_attempts + 1
        wait_s = min(WITHDRAW_AGAIN_S * 2 ** min(attempts - 1, 10), WITHDRAW_AGAIN_S_MAX)
        tx.sql.execute(
            sa.update(studies)
            .where(studies.c.number == study.number)
            .values(withdraw_attempts=attempts, withdraw_not_before=now + timedelta(seconds=wait_s))
        )
        token, until = take(tx, study.number, WITHDRAWAL, owner, lease_s, now)
        tx.event("withdrawal claimed", now, study=study.number, why=f"attempt {attempts}")
        return WithdrawalClaim(study.number, token, until, attempts, sent)
    return None


def give_back_withdrawal(tx: Transaction, claim: WithdrawalClaim, why: str, now: datetime) -> None:
    """The lease ends; the study stays marked."""
    end(tx, claim.token, now)
    tx.event("withdrawal given back", now, study=claim.study_number, why=why)


def commit_withdrawal(
    tx: Transaction, claim: WithdrawalClaim, result: NewResult, rows: Sequence[NewDelivery], now: datetime
) -> None:
    """The withdrawal of what was sent, under the identity that it had; it has the revision of what it withdraws."""
    if result.kind != "withdrawal":
        raise IllegalMove(what="a result is committed by commit_result", which=f"study {claim.study_number}")
    held(tx, claim.study_number, claim.token, WITHDRAWAL, now)
    study = study_row(tx, claim.study_number)
    _insert(tx, study, result, study.revision, now)
    tx.sql.execute(
        sa.update(deliveries)
        .where(deliveries.c.number.in_([one.number for one in claim.sent]))
        .values(withdrawn_by=result.key)
    )
    _no_longer(tx, study, result.key, now)
    sent_under = {one.destination: one.identity_key for one in claim.sent}
    _insert_deliveries(tx, study, result, study.revision, rows, now, sent_under)
    end(tx, claim.token, now)
    tx.event("withdrawn what was sent", now, study=study.number, why=f"{len(claim.sent)} deliveries")


def _no_longer(tx: Transaction, study: sa.Row[Any], withdrawal_key: str, now: datetime) -> None:
    """The mark is served: what waits of the withdrawn is cancelled, and the withdrawn result is current no more."""
    d = deliveries.c
    which = [d.withdrawal.is_(sa.false()), d.result_key != withdrawal_key]
    current = study.current_key
    if study.to_withdraw == WITHDRAW_ALL:
        current = None
    else:
        which.append(d.identity_key != study.identity_chosen)
        of_current = tx.sql.execute(
            sa.select(results.c.identity_key).where(results.c.key == study.current_key)
        ).scalar_one_or_none()
        if of_current is not None and of_current != study.identity_chosen:
            current = None
    cancel(tx, study.number, now, "it is withdrawn", *which)
    tx.sql.execute(
        sa.update(studies)
        .where(studies.c.number == study.number)
        .values(to_withdraw="", withdraw_attempts=0, withdraw_not_before=None, current_key=current)
    )
