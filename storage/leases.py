"""Leases: who works on a study until when, by a fencing token that every later move carries; and who runs a periodic
task.

A partial unique index allows one live lease a study. A token is a row's number and is never used again. A lease that is
past, or that a change made void, matches nothing: its holder gets `LeaseLost` and keeps nothing but its Readings.
"""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage.errors import LeaseLost
from storage.moves import Transaction
from storage.tables import study_leases, task_leases

READING = "reading"
WITHDRAWAL = "withdrawal"


def take(
    tx: Transaction, study_number: int, purpose: str, owner: str, lease_s: float, now: datetime
) -> tuple[int, datetime]:
    """A new live lease: its token and its end."""
    until = now + timedelta(seconds=lease_s)
    made = tx.sql.execute(
        sa.insert(study_leases).values(
            study_number=study_number, purpose=purpose, owner=owner, started_at=now, until=until
        )
    )
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0]), until


def held(tx: Transaction, study_number: int, token: int, purpose: str, now: datetime) -> sa.Row[Any]:
    """The lease, if it is live and this study's.

    Raises:
        LeaseLost.
    """
    lease = study_leases.c
    row = tx.sql.execute(
        sa.select(study_leases)
        .where(
            lease.token == token,
            lease.study_number == study_number,
            lease.purpose == purpose,
            lease.ended_at.is_(None),
            lease.until > now,
        )
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise LeaseLost(
            what="the lease is past or void",
            which=f"study {study_number}",
            do="nothing of this job is kept but its readings",
        )
    return row


def renew(tx: Transaction, token: int, lease_s: float, now: datetime) -> bool:
    """Move the end of a live lease; False where it is past or void."""
    lease = study_leases.c
    renewed = tx.sql.execute(
        sa.update(study_leases)
        .where(lease.token == token, lease.ended_at.is_(None), lease.until > now)
        .values(until=now + timedelta(seconds=lease_s))
    )
    return renewed.rowcount == 1


def end(tx: Transaction, token: int, now: datetime) -> None:
    """The lease is given back."""
    tx.sql.execute(
        sa.update(study_leases)
        .where(study_leases.c.token == token, study_leases.c.ended_at.is_(None))
        .values(ended_at=now)
    )


def past(tx: Transaction, now: datetime) -> list[sa.Row[Any]]:
    """Live leases whose end is past."""
    lease = study_leases.c
    return list(
        tx.sql.execute(
            sa.select(study_leases)
            .where(lease.ended_at.is_(None), lease.until <= now)
            .order_by(lease.token)
            .with_for_update(skip_locked=True)
        )
    )


def task_lease(tx: Transaction, name: str, owner: str, for_s: float, now: datetime) -> bool:
    """Whether `owner` may run the task now: nobody holds it, its lease is past, or it is the owner's own."""
    task = task_leases.c
    until = now + timedelta(seconds=for_s)
    taken = tx.sql.execute(
        sa.update(task_leases)
        .where(task.name == name, sa.or_(task.until <= now, task.owner == owner))
        .values(owner=owner, until=until)
    )
    if taken.rowcount == 1:
        return True
    try:
        with tx.sql.begin_nested():
            tx.sql.execute(sa.insert(task_leases).values(name=name, owner=owner, until=until))
    except IntegrityError:
        return False
    return True
