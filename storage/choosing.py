"""Completing series and choosing from studies: the assembler's moves. What is complete, and what is chosen, is decided
above; here it is written against the versions that the decision was made from.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from storage.errors import IllegalMove, Stale
from storage.filing import add_hold
from storage.moves import WITHDRAW_ALL, Transaction, mark_to_withdraw, move_study, settle, study_row
from storage.rows import SeriesVerdict
from storage.states import Outcome, SeriesState, StudyMove, StudyState
from storage.tables import results, series, studies

CHOICES: Final = frozenset({StudyMove.CHOOSE, StudyMove.NOT_FOR_US, StudyMove.AS_BEFORE})
SERVED: Final[Mapping[str, Any]] = {"requeue_by": "", "requeue_why": "", "by_person": False}
"""What a person asked for is served: columns of a study whose waiting change has come to its end."""


def open_studies(tx: Transaction, now: datetime) -> list[int]:
    """Open studies that are not to wait, longest waiting first. Where something must be withdrawn first, that comes
    first."""
    s = studies.c
    rows = tx.sql.execute(
        sa.select(s.number)
        .where(s.state == StudyState.OPEN, s.to_withdraw == "", sa.or_(s.not_before.is_(None), s.not_before <= now))
        .order_by(s.changed_at, s.number)
    )
    return list(rows.scalars())


def complete_series(
    tx: Transaction, study_number: int, series_id: int, version: int, evidence: str, now: datetime
) -> bool:
    """No more of it is expected, on this evidence; False where it changed since `version`."""
    s = series.c
    done = tx.sql.execute(
        sa.update(series)
        .where(
            s.id == series_id, s.study_number == study_number, s.version == version, s.state == SeriesState.RECEIVING
        )
        .values(state=SeriesState.COMPLETE, evidence=evidence, quiet_only=False)
    )
    if done.rowcount != 1:
        return False
    tx.event(
        "complete",
        now,
        study=study_number,
        series=series_id,
        why=evidence,
        from_state=SeriesState.RECEIVING,
        to_state=SeriesState.COMPLETE,
    )
    return True


def choose(
    tx: Transaction,
    study_number: int,
    change_no: int,
    *,
    verdicts: Sequence[SeriesVerdict],
    move: StudyMove,
    why: str,
    now: datetime,
    priority: int | None = None,
    hold: tuple[str, str] | None = None,
) -> StudyState:
    """What becomes of an open study."""
    if move not in CHOICES:
        raise IllegalMove(what=f"'{move}' is no choice", which=f"study {study_number}")
    study = study_row(tx, study_number)
    if study.change_no != change_no or study.to_withdraw:
        raise Stale(
            what="it changed meanwhile, or waits for a withdrawal", which=f"study {study_number}", do="look again"
        )
    give_verdicts(tx, study_number, verdicts, now)
    if hold is not None:
        add_hold(tx, study_number, study.study_uid, hold[0], hold[1], by=tx.who, now=now)
    if move is StudyMove.CHOOSE:
        values: dict[str, Any] = {"chosen_at": now, "attempts": 0, "not_before": None, "outcome": ""}
        if priority is not None:
            values["priority"] = priority
        return move_study(tx, study, move, now, why=why, **values)
    return conclude(tx, study, move, why, now)


def conclude(tx: Transaction, study: sa.Row[Any], move: StudyMove, why: str, now: datetime) -> StudyState:
    """NOT_FOR_US or AS_BEFORE: the study ends without a new result."""
    if move is StudyMove.NOT_FOR_US:
        mark_to_withdraw(tx, study, WITHDRAW_ALL, now)
        return move_study(tx, study, move, now, why=why, outcome=Outcome.PASSED_OVER, not_before=None, **SERVED)
    status = tx.sql.execute(sa.select(results.c.status).where(results.c.key == study.current_key)).scalar_one_or_none()
    move_study(tx, study, move, now, why=why, outcome=status or Outcome.PASSED_OVER, not_before=None, **SERVED)
    return settle(tx, study.number, now)


def give_verdicts(tx: Transaction, study_number: int, verdicts: Sequence[SeriesVerdict], now: datetime) -> None:
    """Outcome and reason of each series, with an event where it is another than before."""
    for verdict in verdicts:
        row = tx.sql.execute(
            sa.select(series).where(series.c.id == verdict.series_id, series.c.study_number == study_number)
        ).one()
        if (row.outcome, row.reason_code, row.reason_text) == (
            verdict.outcome,
            verdict.reason_code,
            verdict.reason_text,
        ):
            continue
        tx.sql.execute(
            sa.update(series)
            .where(series.c.id == row.id)
            .values(outcome=verdict.outcome, reason_code=verdict.reason_code, reason_text=verdict.reason_text)
        )
        told = f"{verdict.reason_code}: {verdict.reason_text}" if verdict.reason_code else verdict.reason_text
        tx.event(
            "outcome",
            now,
            study=study_number,
            series=row.id,
            why=told,
            from_state=row.outcome,
            to_state=verdict.outcome,
        )
