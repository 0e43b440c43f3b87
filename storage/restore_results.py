"""Results and deliveries again, from manifests and the journal.

Only the highest revision is sent, and withdrawals that have not ended; what of an older one had no end is cancelled.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime

import sqlalchemy as sa

from storage.history import Commit, DeliveryTold, History
from storage.moves import Transaction
from storage.rows import Arrival, KeptResult, NewDelivery, Priority
from storage.states import DeliveryState
from storage.tables import deliveries, delivery_waits, results, studies

_COPY = re.compile(r"~(\d+)\.dcm$")


@dataclass(frozen=True)
class StoredFile:
    """A file in `images/` or `withdrawn/`, with its fields."""

    file: str
    arrival: Arrival

    @property
    def withdrawn(self) -> bool:
        """Whether a rejection took it."""
        return self.file.startswith("withdrawn/")

    @property
    def copy(self) -> int:
        """The number in its name; 1 without."""
        found = _COPY.search(self.file)
        return int(found[1]) if found else 1


@dataclass
class StudyFiles:
    """A study as its folder holds it. `results`: by folder below the study's; `gone`: of which the manifest alone is
    left."""

    uid: str
    stored: list[StoredFile]
    folder: str = ""
    results: dict[str, KeptResult] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


def restore_results(tx: Transaction, number: int, files: StudyFiles, history: History, now: datetime) -> list[str]:
    """Committed results and withdrawals in their order, with their deliveries as they stand; the keys of those that
    came back."""
    back: list[str] = []
    commits = sorted(history.commits.values(), key=lambda one: one.at)
    made = [one.key for one in commits if one.kind == "result"]
    for commit in commits:
        kept = files.results.get(commit.folder)
        if kept is None or kept.result.key != commit.key:
            continue  # its manifest went with its records, or was damaged
        _result(tx, number, commit, kept, gone=commit.folder in files.gone)
        newest = commit.kind == "withdrawal" or commit.key == made[-1]
        _deliveries(tx, number, commit, kept, history, now, newest=newest)
        back.append(commit.key)
    for commit in commits:
        for key, destination, kind in commit.withdraws:
            d = deliveries.c
            tx.sql.execute(
                sa.update(deliveries)
                .where(d.result_key == key, d.destination == destination, d.kind == kind)
                .values(withdrawn_by=commit.key)
            )
    return back


def _result(tx: Transaction, number: int, commit: Commit, kept: KeptResult, *, gone: bool) -> None:
    r = kept.result
    tx.sql.execute(
        sa.insert(results).values(
            key=r.key,
            study_number=number,
            revision=commit.revision,
            kind=commit.kind,
            status=r.status,
            folder=commit.folder,
            previous_key=r.previous_key,
            choice_digest=r.choice_digest,
            identity_key=r.identity_key,
            committed_at=commit.at,
            payload=r.payload,
            journalled=True,
            gone=gone,
        )
    )
    s = studies.c
    tx.sql.execute(
        sa.update(studies)
        .where(s.number == number)
        .values(
            revision=sa.case((s.revision < commit.revision, commit.revision), else_=s.revision),
            used_numbers=sa.case((s.used_numbers < r.used_numbers, r.used_numbers), else_=s.used_numbers),
        )
    )


def _deliveries(
    tx: Transaction,
    study_number: int,
    commit: Commit,
    kept: KeptResult,
    history: History,
    now: datetime,
    *,
    newest: bool,
) -> None:
    numbers: list[tuple[NewDelivery, int]] = []
    for row in kept.deliveries:
        told = history.deliveries.get((commit.key, row.destination, row.kind), DeliveryTold())
        state = told.state or (DeliveryState.PENDING if newest else DeliveryState.CANCELLED)
        started = told.started_at is not None
        made = tx.sql.execute(
            sa.insert(deliveries).values(
                study_number=study_number,
                revision=commit.revision,
                result_key=commit.key,
                destination=row.destination,
                kind=row.kind,
                files=json.dumps([asdict(file) for file in row.files]),
                state=state,
                next_at=now,
                after=json.dumps(list(row.after)),
                after_state=row.after_state,
                wait_until=row.wait_until,
                first_connected_at=told.started_at,
                ended_at=None if state is DeliveryState.PENDING else told.ended_at or now,
                created_at=now if state is DeliveryState.PENDING else commit.at,
                withdrawal=commit.kind == "withdrawal",
                control_id=row.control_id,
                priority=Priority.URGENT if commit.kind == "withdrawal" else Priority.NEW,
                identity_key=kept.result.identity_key,
                may_have=told.may_have if told.state is not None else started,
            )
        )
        assert made.inserted_primary_key is not None
        numbers.append((row, int(made.inserted_primary_key[0])))
    for row, number in numbers:
        for other, waits_for in numbers:
            if other.destination in row.after and waits_for != number:
                tx.sql.execute(
                    sa.insert(delivery_waits).values(number=number, waits_for=waits_for, until_state=row.after_state)
                )
