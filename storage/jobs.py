"""The worker's moves: claim a study, count attempts when they start, say what was found, give the study back or end
it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from storage import leases
from storage.choosing import conclude, give_verdicts
from storage.errors import IllegalMove, LeaseLost
from storage.filing import add_hold
from storage.leases import READING, held, past, take
from storage.moves import Transaction, digest_of, live_copies, move_study, study_row
from storage.rows import ATTEMPTS, SeriesVerdict, StudyClaim
from storage.states import Outcome, SeriesState, StudyMove, StudyState
from storage.tables import holds, instances, series, studies, study_leases

DOUBLINGS_MAX: Final = 10  # a wait is doubled with each attempt, at most so often


def _queued(now: datetime) -> sa.Select[Any]:
    """Studies that may be claimed: urgent first, then new, requeued, fetched and old; longest chosen first."""
    s = studies.c
    held_now = sa.exists().where(holds.c.study_number == s.number)
    leased = sa.exists().where(study_leases.c.study_number == s.number, study_leases.c.ended_at.is_(None))
    return (
        sa.select(studies)
        .where(
            s.state == StudyState.QUEUED,
            s.to_withdraw == "",
            sa.or_(s.not_before.is_(None), s.not_before <= now),
            ~held_now,
            ~leased,
        )
        .order_by(s.priority, s.chosen_at, s.number)
    )


def anything_queued(tx: Transaction, now: datetime) -> bool:
    """Whether a claim would find something; takes no lock."""
    return tx.sql.execute(_queued(now).limit(1)).first() is not None


def claim_study(tx: Transaction, owner: str, lease_s: float, now: datetime, *, attempts_max: int) -> StudyClaim | None:
    """The next study with its attempt counted, so that a crash counts; those past their attempts are held on the
    way."""
    next_one = _queued(now).limit(1).with_for_update(skip_locked=True, of=studies)
    while (row := tx.sql.execute(next_one).one_or_none()) is not None:
        if row.attempts >= attempts_max:
            why = f"{row.attempts} attempts ended without a result"
            add_hold(tx, row.number, row.study_uid, ATTEMPTS, why, by=tx.who, now=now)
            continue
        attempts = row.attempts + 1
        move_study(tx, row, StudyMove.CLAIM, now, why=f"attempt {attempts}", attempts=attempts, not_before=None)
        token, until = take(tx, row.number, READING, owner, lease_s, now)
        return StudyClaim(row.number, token, row.change_no, until, attempts)
    return None


def leased_study(tx: Transaction, claim: StudyClaim, now: datetime) -> sa.Row[Any]:
    """The study under a claim that still holds.

    Raises:
        LeaseLost: it is past, or a change made it void.
    """
    held(tx, claim.study_number, claim.token, READING, now)
    row = study_row(tx, claim.study_number)
    if row.state != StudyState.READING or row.change_no != claim.change_no:
        raise LeaseLost(
            what="it changed meanwhile",
            which=f"study {claim.study_number}",
            do="nothing of this job is kept but its readings",
        )
    return row


def start_series(tx: Transaction, claim: StudyClaim, series_id: int, now: datetime) -> int:
    """Count an attempt at a series; which one it is."""
    leased_study(tx, claim, now)
    tx.sql.execute(
        sa.update(series)
        .where(series.c.id == series_id, series.c.study_number == claim.study_number)
        .values(attempts=series.c.attempts + 1)
    )
    tx.sql.execute(sa.update(study_leases).where(study_leases.c.token == claim.token).values(series_id=series_id))
    attempts = tx.sql.execute(sa.select(series.c.attempts).where(series.c.id == series_id)).scalar_one()
    tx.event("reading starts", now, study=claim.study_number, series=series_id, why=f"attempt {attempts}")
    return int(attempts)


def found(
    tx: Transaction,
    claim: StudyClaim,
    series_id: int,
    found_json: str,
    outcome: Outcome | None,
    reason_code: str,
    reason_text: str,
    now: datetime,
) -> None:
    """Keep what was found with the digest of the instances that it was found in."""
    leased_study(tx, claim, now)
    digest = digest_of(live_copies(tx, instances.c.series_id == series_id))
    tx.sql.execute(sa.update(series).where(series.c.id == series_id).values(found=found_json, found_digest=digest))
    if outcome is not None:
        give_verdicts(tx, claim.study_number, [SeriesVerdict(series_id, outcome, reason_code, reason_text)], now)
    if outcome is Outcome.FAILED:
        tx.sql.execute(sa.update(studies).where(studies.c.number == claim.study_number).values(attempts=0))
    tx.sql.execute(sa.update(study_leases).where(study_leases.c.token == claim.token).values(series_id=None))


def give_back(
    tx: Transaction,
    claim: StudyClaim,
    move: StudyMove,
    *,
    not_before: datetime | None,
    counted: bool,
    why: str,
    now: datetime,
    series_id: int | None = None,
) -> None:
    """Back to the queue, or to the assembler."""
    if move not in (StudyMove.RETRY, StudyMove.WAIT):
        raise IllegalMove(what=f"'{move}' gives no study back", which=f"study {claim.study_number}")
    study = leased_study(tx, claim, now)
    lease = held(tx, claim.study_number, claim.token, READING, now)
    attempts = study.attempts if counted else max(0, study.attempts - 1)
    current = lease.series_id if series_id is None else series_id
    if not counted and current is not None:
        tx.sql.execute(
            sa.update(series)
            .where(series.c.id == current, series.c.attempts > 0)
            .values(attempts=series.c.attempts - 1)
        )
    if move is StudyMove.WAIT and current is not None:
        tx.sql.execute(
            sa.update(series)
            .where(series.c.id == current)
            .values(state=SeriesState.RECEIVING, quiet_only=True, evidence="", version=series.c.version + 1)
        )
    move_study(tx, study, move, now, why=why, attempts=attempts, not_before=not_before)


def end_without_result(
    tx: Transaction, claim: StudyClaim, move: StudyMove, verdicts: Sequence[SeriesVerdict], why: str, now: datetime
) -> StudyState:
    """NOT_FOR_US or AS_BEFORE from under a lease."""
    if move not in (StudyMove.NOT_FOR_US, StudyMove.AS_BEFORE):
        raise IllegalMove(what=f"'{move}' ends no reading", which=f"study {claim.study_number}")
    study = leased_study(tx, claim, now)
    give_verdicts(tx, claim.study_number, verdicts, now)
    return conclude(tx, study, move, why, now)


def expire(tx: Transaction, now: datetime, *, backoff_s: float) -> int:
    """End leases that are past; a reading study goes back to the queue and waits longer with each attempt."""
    leases_past = past(tx, now)
    for lease in leases_past:
        leases.end(tx, lease.token, now)
        study = study_row(tx, lease.study_number)
        if lease.purpose == READING and study.state == StudyState.READING:
            wait_s = backoff_s * 2 ** min(max(0, study.attempts - 1), DOUBLINGS_MAX)
            move_study(
                tx,
                study,
                StudyMove.RETRY,
                now,
                why=f"the lease of {lease.owner} is past",
                not_before=now + timedelta(seconds=wait_s),
            )
    return len(leases_past)
