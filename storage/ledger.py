"""The ledger: instances, series, studies, results, deliveries, events. The one door of `storage/` for the services.

Each method is one transaction. A move asks for the state (and token or change number) that it starts from, in its
WHERE, and writes its event beside it; where no row matched it raises (`IllegalMove`, `Stale`, `LeaseLost`). What a
rebuild must not lose is synced to the journal before the transaction commits, and no file is touched while one is open.
Knows no clock: `now` is an aware UTC datetime. The moves themselves are in the modules beside this one, one subject
each; `states.py` says which there are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from storage import choosing, filing, jobs, leases, outbox, people, rejection, removal, results, views
from storage.database import Database
from storage.moves import JournalWriter, Line, Transaction, Unwritten
from storage.rows import (
    Arrival,
    Counts,
    DeliveryClaim,
    DeliveryRow,
    DestinationRow,
    EventRow,
    Filed,
    Identity,
    IdentityRow,
    InstanceRow,
    KnownFiles,
    NewDelivery,
    NewResult,
    Rejected,
    SeriesVerdict,
    StudyClaim,
    StudyRow,
    StudyView,
    TombstoneRow,
    WithdrawalClaim,
)
from storage.states import Outcome, StudyMove, StudyState

P = ParamSpec("P")
T = TypeVar("T")
REDO_MAX = 8  # a move is done again when the lines that it must leave in the journal changed meanwhile


class Ledger:
    """All moves and all questions. `who` is the role that stands in the events of what no person did."""

    def __init__(self, database: Database, journal: JournalWriter, who: str = "node") -> None:
        self.database = database
        self.journal = journal
        self.who = who

    # filing (indexer)
    def copies(self, study_uid: str, sop_uids: Collection[str]) -> dict[str, list[InstanceRow]]:
        """All stored copies of these instances in the study, first to last, rejected ones too."""
        return self._read(views.copies, study_uid, sop_uids)

    def identities(self, study_uid: str) -> tuple[IdentityRow, ...]:
        """The patients named in the study so far."""
        return self._read(views.identities_of, study_uid)

    def committed(self, incoming_names: Collection[str]) -> set[str]:
        """Which of these names of `incoming/` are filed already: they are only unlinked."""
        return self._read(filing.committed, incoming_names)

    def tombstones(self, sop_uids: Collection[str]) -> dict[str, list[TombstoneRow]]:
        """Rejections that named an instance before it came."""
        return self._read(rejection.tombstones_of, sop_uids)

    def file_batch(self, arrivals: Sequence[Arrival], now: datetime) -> tuple[Filed, ...]:
        """Commit a batch, one entry per study. Names that are committed already are stepped over. A new image changes
        the study."""
        return self._move(filing.file_batch, arrivals, now)

    def forget_incoming(self, names: Collection[str]) -> None:
        """These names are unlinked from `incoming/`: their rows may go."""
        self._move(filing.forget_incoming, names)

    def association_seen(self, name: str, calling_ae: str, opened_at: datetime) -> None:
        """An association is open (may be told again)."""
        self._move(filing.association_seen, name, calling_ae, opened_at)

    def association_ended(self, name: str, outcome: str, files: int, at: datetime) -> None:
        """It ended: `released` or `aborted`, with the receiver's count of files."""
        self._move(filing.association_ended, name, outcome, files, at)

    def open_associations(self) -> tuple[str, ...]:
        """Names of the associations that have not ended as far as the ledger knows."""
        return self._read(filing.open_associations)

    def reject(
        self,
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
        """Take instances out of reading, by a note (`note`: its SOP Instance UID; told again it does nothing new, and
        returns the same moves). The caller then moves the files. Unknown instances leave a tombstone. Code 113039 only
        touches what is not yet read. Something readable left: a person's change. Nothing left: `withdrawn`, with what
        was sent to be taken back."""
        return self._move(
            rejection.reject, study_uid, sop_uids, code=code, note=note, by=by, why=why, now=now, identity=identity
        )

    # choosing (assembler)
    def open_studies(self, now: datetime) -> list[int]:
        """Studies to complete and choose from, longest waiting first; none whose withdrawal is still to be made."""
        return self._read(choosing.open_studies, now)

    def view(self, study_number: int, *, headers: bool = True) -> StudyView:
        """All about a study in one transaction; without `headers` the instances' header JSON is left empty."""
        return self._read(views.view, study_number, headers=headers)

    def complete_series(self, study_number: int, series_id: int, version: int, evidence: str, now: datetime) -> bool:
        """No more of it is expected. False where an instance came or went since `version` (SeriesRow.version)."""
        return self._move(choosing.complete_series, study_number, series_id, version, evidence, now)

    def choose(
        self,
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
        """CHOOSE, NOT_FOR_US or AS_BEFORE an open study, against the change number that the choice was computed from
        (`Stale` otherwise). AS_BEFORE goes on to `done` or `undelivered` at once when nothing is left to send;
        NOT_FOR_US marks what was sent to be withdrawn."""
        return self._move(
            choosing.choose,
            study_number,
            change_no,
            verdicts=verdicts,
            move=move,
            why=why,
            now=now,
            priority=priority,
            hold=hold,
        )

    # reading (worker)
    def claim_study(self, owner: str, lease_s: float, now: datetime, *, attempts_max: int) -> StudyClaim | None:
        """The next queued study, its attempt counted at once; one past its attempts is held instead."""
        if not self._read(jobs.anything_queued, now):
            return None
        return self._move(jobs.claim_study, owner, lease_s, now, attempts_max=attempts_max)

    def heartbeat(self, claim: StudyClaim | WithdrawalClaim, lease_s: float, now: datetime) -> bool:
        """Renew the lease. False: it is lost, and nothing of this job may be kept but its Readings."""
        return self._move(leases.renew, claim.token, lease_s, now)

    def start_series(self, claim: StudyClaim, series_id: int, now: datetime) -> int:
        """Count an attempt at the series before it begins; returns which one it is."""
        return self._move(jobs.start_series, claim, series_id, now)

    def found(
        self,
        claim: StudyClaim,
        series_id: int,
        found_json: str,
        outcome: Outcome | None,
        reason_code: str,
        reason_text: str,
        now: datetime,
    ) -> None:
        """What the worker found in the series' instances; stands until one comes or goes, or a requeue. With FAILED
        (past its attempts) the study's own count starts again."""
        self._move(jobs.found, claim, series_id, found_json, outcome, reason_code, reason_text, now)

    def give_back(
        self,
        claim: StudyClaim,
        move: StudyMove,
        *,
        not_before: datetime | None,
        counted: bool,
        why: str,
        now: datetime,
        series_id: int | None = None,
    ) -> None:
        """RETRY (to the queue) or WAIT (to open; `series_id` is then completed by its quiet period alone). Not
        `counted`: the attempts of study and current series are taken back."""
        self._move(
            jobs.give_back, claim, move, not_before=not_before, counted=counted, why=why, now=now, series_id=series_id
        )

    def end_without_result(
        self, claim: StudyClaim, move: StudyMove, verdicts: Sequence[SeriesVerdict], why: str, now: datetime
    ) -> StudyState:
        """NOT_FOR_US (what was sent is withdrawn) or AS_BEFORE (a failed revision)."""
        return self._move(jobs.end_without_result, claim, move, verdicts, why, now)

    def commit_result(
        self,
        claim: StudyClaim,
        result: NewResult,
        verdicts: Sequence[SeriesVerdict],
        deliveries: Sequence[NewDelivery],
        now: datetime,
    ) -> int:
        """The next revision: result, outbox rows and event in one transaction, which cancels what it replaces; then the
        journal's line. Returns the revision. Without deliveries the study is done at once."""
        revision = self._move(results.commit_result, claim, result, verdicts, deliveries, now)
        self._move(results.journal_commit, result.key)
        return revision

    def expire_leases(self, now: datetime, *, backoff_s: float = 0.0) -> int:
        """Reading studies whose lease is past go back to the queue; deliveries past theirs are pending again, and their
        attempt counts as sent. Returns how many."""
        return self._move(jobs.expire, now, backoff_s=backoff_s) + self._move(outbox.expire, now)

    def claim_withdrawal(self, owner: str, lease_s: float, now: datetime) -> WithdrawalClaim | None:
        """The next study whose sent results must be taken back, in any state and under any hold."""
        if not self._read(results.any_to_withdraw, now):
            return None
        return self._move(results.claim_withdrawal, owner, lease_s, now)

    def give_back_withdrawal(self, claim: WithdrawalClaim, why: str, now: datetime) -> None:
        """It could not be made now; it is tried again after a growing wait."""
        self._move(results.give_back_withdrawal, claim, why, now)

    def commit_withdrawal(
        self, claim: WithdrawalClaim, result: NewResult, deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """The withdrawal and its outbox rows; what is withdrawn and not on the wire is cancelled."""
        self._move(results.commit_withdrawal, claim, result, deliveries, now)
        self._move(results.journal_commit, result.key)

    # delivering (couriers)
    def claim_delivery(self, destination: str, owner: str, lease_s: float, now: datetime) -> DeliveryClaim | None:
        """The next due delivery for the destination, by the conditions of design.md "A delivery"."""
        if not self._read(outbox.anything_due, destination, now):
            return None
        return self._move(outbox.claim_delivery, destination, owner, lease_s, now)

    def connected(self, claim: DeliveryClaim, now: datetime) -> None:
        """The peer is there and nothing is sent yet: from here on the attempt's outcome may be unknown. LeaseLost: send
        nothing."""
        self._move(outbox.connected, claim, now)

    def extend_delivery(self, claim: DeliveryClaim, lease_s: float, now: datetime) -> bool:
        """Renew a delivery's lease; False: lost."""
        return self._move(outbox.extend, claim, lease_s, now)

    def answered(self, claim: DeliveryClaim, detail: str, now: datetime) -> StudyState:
        """The peer took it. Returns the study's state after it."""
        return self._move(outbox.answered, claim, detail, now)

    def back_off(
        self,
        claim: DeliveryClaim,
        next_at: datetime,
        error: str,
        *,
        counted: bool,
        now: datetime,
        may_have: bool | None = None,
    ) -> None:
        """Try again at `next_at`. Not `counted`: it never connected (the breaker counts that). `may_have`: whether the
        peer may have it after this attempt; None: yes, if it had connected."""
        self._move(outbox.back_off, claim, next_at, error, counted=counted, now=now, may_have=may_have)

    def give_up(self, claim: DeliveryClaim, error: str, now: datetime, *, may_have: bool | None = None) -> StudyState:
        """Dead; `replay` brings it back. Returns the study's state after it."""
        return self._move(outbox.give_up, claim, error, now, may_have=may_have)

    def replay(
        self, *, by: str, why: str, now: datetime, number: int | None = None, destination: str | None = None
    ) -> int:
        """Dead deliveries are pending again: one, or all of a destination; returns how many. Superseded ones are
        refused."""
        return self._move(outbox.replay, by=by, why=why, now=now, number=number, destination=destination)

    def pause(self, destination: str, *, by: str, why: str, now: datetime) -> None:
        """Start no more deliveries there."""
        self._move(outbox.pause, destination, by=by, why=why, now=now)

    def resume(self, destination: str, *, by: str, why: str, now: datetime) -> None:
        """Start deliveries there again; its breaker is closed too."""
        self._move(outbox.resume, destination, by=by, why=why, now=now)

    def breaker(self, destination: str) -> DestinationRow:
        """Whether it is paused, and until when its breaker is open."""
        return self._read(outbox.destination_row, destination)

    def destinations(self) -> tuple[DestinationRow, ...]:
        """All destinations that were ever paused or broken."""
        return self._read(outbox.destination_rows)

    def breaker_failed(self, destination: str, until: datetime, now: datetime) -> int:
        """It could not be reached: nothing starts there before `until`. Returns the failures in a row."""
        return self._move(outbox.breaker_failed, destination, until, now)

    def breaker_ok(self, destination: str) -> None:
        """It was reached."""
        if self._read(outbox.destination_row, destination).failures:
            self._move(outbox.breaker_ok, destination)

    def deliveries(
        self,
        *,
        destination: str | None = None,
        states: Collection[str] | None = None,
        study_number: int | None = None,
        limit: int = 1000,
    ) -> tuple[DeliveryRow, ...]:
        """Outbox rows, oldest first."""
        return self._read(
            views.deliveries_of, destination=destination, states=states, study_number=study_number, limit=limit
        )

    def give_up_old(self, before: datetime, now: datetime) -> int:
        """Deliveries that were made before and never got through are dead (`delivery.age_h_max`). Returns how many."""
        return self._move(outbox.give_up_old, before, now)

    # people
    def resolve(self, text: str) -> list[StudyRow]:
        """Studies by number, Study Instance UID or accession number; more than one is for the caller to refuse."""
        return self._read(views.resolve, text)

    def hold(self, study_number: int, reason: str, text: str, *, by: str, now: datetime) -> None:
        """No result of it leaves until `release`."""
        self._move(people.hold, study_number, reason, text, by=by, now=now)

    def release(self, study_number: int, *, by: str, why: str, now: datetime, identity: str | None = None) -> None:
        """Clear its holds; the waiting change passes the limits of revisions. A doubt about identity needs the key of
        one (`IdentityNeeded`): instances of the others stay out, and what was sent under another is withdrawn."""
        self._move(people.release, study_number, by=by, why=why, now=now, identity=identity)

    def requeue(self, study_number: int, *, by: str, why: str, now: datetime) -> None:
        """Choose and read it again, failed series from attempt 0, whatever workers found in it forgotten."""
        self._move(people.requeue, study_number, by=by, why=why, now=now)

    # questions, leases of tasks, events without a study
    def events(self, study_number: int | None) -> tuple[EventRow, ...]:
        """The story of a study; None: events of the node itself."""
        return self._read(views.events_of, study_number)

    def counts(self, now: datetime) -> Counts:
        """The ledger at a glance."""
        return self._read(views.counts, now)

    def studies(self, limit: int = 100, state: StudyState | None = None) -> list[StudyRow]:
        """Studies, latest first."""
        return self._read(views.list_studies, limit, state)

    def holds(self) -> Mapping[int, tuple[str, ...]]:
        """Reasons of all holds, by study number."""
        return self._read(views.all_holds)

    def result(self, key: str) -> bool:
        """Whether a committed result has the key."""
        return self._read(results.is_committed, key)

    def task_lease(self, name: str, owner: str, for_s: float, now: datetime) -> bool:
        """True: this owner runs the periodic task; nobody else does for so long."""
        return self._move(leases.task_lease, name, owner, for_s, now)

    def note_event(
        self, what: str, why: str, now: datetime, *, who: str | None = None, study_number: int | None = None
    ) -> None:
        """An event that moves nothing: a disk alarm, a rebuild, a rejected caller."""
        self._move(people.note_event, what, why, now, who=who, study_number=study_number)

    # retention
    def images_to_remove(self, before: datetime, limit: int = 100) -> list[int]:
        """Studies that ended before and whose images may go: delivered or withdrawn, not held, nothing to withdraw."""
        return self._read(removal.images_to_remove, before, limit)

    def remove_images(self, study_number: int, before: datetime, now: datetime) -> tuple[str, ...]:
        """Mark a study's images as gone, if they still may go; the files (below its folder) are then the caller's to
        remove."""
        return self._move(removal.remove_images, study_number, before, now)

    def results_to_remove(self, before: datetime, limit: int = 100) -> list[tuple[int, str, str]]:
        """Results whose deliveries all ended before, none of them dead: study, key, folder below the study's."""
        return self._read(removal.results_to_remove, before, limit)

    def remove_result(self, key: str, before: datetime, now: datetime) -> bool:
        """Mark a result's files (all but the manifest) as gone, if they still may go."""
        return self._move(removal.remove_result, key, before, now)

    def remove_records(self, before: datetime, limit: int = 100) -> tuple[str, ...]:
        """Forget studies that ended before, with all about them; the folders (below the spool) are then the caller's to
        remove."""
        return self._move(removal.remove_records, before, limit)

    def prune(self, now: datetime, records_before: datetime, incoming: Collection[str]) -> int:
        """Drop rows that serve nobody: names that left `incoming/` (all but these), ended leases and associations, old
        events and tombstones. Returns how many."""
        return self._move(removal.prune, now, records_before, incoming)

    def known_files(self, folder: str) -> KnownFiles | None:
        """Files and result folders that rows name of a study's folder (below the spool), and whether what none names
        may go; None: no such study."""
        return self._read(removal.known_files, folder)

    def _read(self, question: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self.database.read() as sql:
            return question(Transaction(sql, self.who), *args, **kwargs)

    def _move(self, body: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a move; lines that it must leave in the journal are synced while no transaction is open, then it runs
        again and commits."""
        written: list[Line] = []
        for _ in range(REDO_MAX):
            try:
                with self.database.write() as sql:
                    transaction = Transaction(sql, self.who)
                    value = body(transaction, *args, **kwargs)
                    missing = [line for line in transaction.lines if line not in written]
                    if missing:
                        raise Unwritten(missing)
                return value
            except Unwritten as unwritten:
                for line in unwritten.lines:
                    self.journal.append(line.kind, at=line.at, **line.fields)
                written += unwritten.lines
        raise RuntimeError(f"{getattr(body, '__name__', 'a move')} was overtaken {REDO_MAX} times")
