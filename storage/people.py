"""What people decide: hold, release, requeue. Each decision stands in the journal before it stands here."""

from datetime import datetime

import sqlalchemy as sa

from storage.errors import IdentityNeeded, NotFound
from storage.filing import add_hold
from storage.moves import WITHDRAW_OTHER_IDENTITY, Transaction, change_study, mark_to_withdraw, move_study, study_row
from storage.rows import IDENTITY
from storage.states import Outcome, StudyMove, StudyState
from storage.tables import holds, identities, instances, series, studies


def note_event(
    tx: Transaction, what: str, why: str, now: datetime, *, who: str | None, study_number: int | None
) -> None:
    """An event that moves nothing."""
    tx.event(what, now, study=study_number, why=why, who=who)


def hold(tx: Transaction, study_number: int, reason: str, text: str, *, by: str, now: datetime) -> None:
    """One more reason; told again it is one."""
    study = study_row(tx, study_number)
    add_hold(tx, study_number, study.study_uid, reason, text, by=by, now=now)


def release(tx: Transaction, study_number: int, *, by: str, why: str, now: datetime, identity: str | None) -> None:
    """Clear the holds and, after a doubt, say whose study it is."""
    study = study_row(tx, study_number)
    reasons = set(tx.sql.execute(sa.select(holds.c.reason).where(holds.c.study_number == study_number)).scalars())
    keys = list(
        tx.sql.execute(
            sa.select(identities.c.key).where(identities.c.study_number == study_number).order_by(identities.c.key)
        ).scalars()
    )
    if identity is None and IDENTITY in reasons:
        raise IdentityNeeded(
            what="it is held for a doubt about whose study it is",
            which=f"study {study_number}",
            do=f"say which patient it is: --identity {' or '.join(keys)} (`dicom-node status --why` lists them)",
        )
    if identity is not None and identity not in keys:
        raise NotFound(
            what=f"no identity {identity} is named in it",
            which=f"study {study_number}",
            do=f"one of: {', '.join(keys)}",
        )
    tx.journal("release", now, study=study.study_uid, number=study.number, by=by, why=why, identity=identity or "")
    tx.sql.execute(sa.delete(holds).where(holds.c.study_number == study_number))
    tx.event("released", now, study=study_number, who=by, why=f"{why} (identity {identity})" if identity else why)
    tx.sql.execute(
        sa.update(studies).where(studies.c.number == study_number).values(by_person=True, attempts=0, not_before=None)
    )
    if identity is not None and identity != study.identity_chosen:
        _choose_identity(tx, study_number, identity, by, now)


def _choose_identity(tx: Transaction, study_number: int, identity: str, by: str, now: datetime) -> None:
    """Another identity is a change; what was sent under another is to be withdrawn; series of others stay out."""
    tx.sql.execute(sa.update(studies).where(studies.c.number == study_number).values(identity_chosen=identity))
    study = study_row(tx, study_number)
    mark_to_withdraw(tx, study, WITHDRAW_OTHER_IDENTITY, now)
    if study.state not in (StudyState.OPEN, StudyState.WITHDRAWN):
        change_study(tx, study, now, why=f"identity {identity} was chosen", who=by)
    elif study.state == StudyState.OPEN:
        tx.sql.execute(
            sa.update(studies).where(studies.c.number == study_number).values(change_no=studies.c.change_no + 1)
        )
    mine = sa.select(instances.c.series_id).where(
        instances.c.study_number == study_number, instances.c.withdrawn == "", instances.c.identity_key == identity
    )
    tx.sql.execute(
        sa.update(series)
        .where(series.c.study_number == study_number, series.c.kind == "image", series.c.id.not_in(mine))
        .values(outcome=Outcome.PASSED_OVER, reason_code=IDENTITY, reason_text=f"of another patient than {identity}")
    )


def requeue(tx: Transaction, study_number: int, *, by: str, why: str, now: datetime) -> None:
    """Once more from the beginning: a person's change, with nothing remembered of what failed or was found.

    Raises:
        IllegalMove: the study is withdrawn.
    """
    study = study_row(tx, study_number)
    move_study(
        tx, study, StudyMove.CHANGE, now, why=why, who=by, requeue_by=by, requeue_why=why, by_person=True, attempts=0
    )
    tx.sql.execute(
        sa.update(series)
        .where(series.c.study_number == study_number, series.c.kind == "image")
        .values(attempts=0, found="", found_digest="")
    )
    tx.journal("requeue", now, study=study.study_uid, number=study.number, by=by, why=why)
