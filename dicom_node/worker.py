"""The keeper of a worker: claims a study, has it read by child processes, writes the result, commits. Loads no torch.

A job is a loop over the pure choice: read the best series; what its pixels show to be unfit is noted in the ledger and the choice made again.
Each Reading is kept under its key, so a retry uses it. Attempts are counted when they start. A lease that is lost ends the job at once;
nothing of it is committed. Where nothing can be read at all (a model refused, a GPU lost), the worker stands still: it claims
nothing, says so, and tries again now and then.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from config.errors import NodeError
from config.settings import Settings
from dicom_node.choosing import Chosen, chosen_of, found_json, header_of, left_out_of, to_read_now, with_left_out
from dicom_node.errors import LostLease, NoReader, ReaderFailed, TurnedAway
from dicom_node.logs import alarm, event
from dicom_node.places import state_folder
from dicom_node.publishing import (
    MANIFEST,
    Previous,
    Published,
    Request,
    Source,
    complete_result,
    deliveries_of,
    is_whole,
    key_of,
    load_published,
    publish,
    result_row,
)
from dicom_node.reading import ReadingRoom
from dicom_node.results.context import Device
from dicom_node.standing import Standstill
from inference.errors import UnreadableReading
from inference.findings import Reading, Reason, demonstration_words
from inference.kept import load_reading
from storage.errors import LedgerCorrupt, LedgerMissing, LedgerReplaced, SpoolFull, StorageError
from storage.ledger import Ledger
from storage.rows import SeriesRow, StudyClaim, StudyView
from storage.spool import Spool, make_folder
from storage.states import Outcome, StudyMove

FATAL: Final = (LedgerReplaced, LedgerMissing, LedgerCorrupt)
DISK_WAIT_S: Final = 60.0
DOUBLINGS_MAX: Final = 10
_ROUNDS_MAX: Final = 500  # series of one study; each round settles at least one


def reading_key(sources: Sequence[Source], weights: Sequence[str], settings: Settings, version: str) -> str:
    """The key of a kept Reading: the instances, the chain, and the settings that reach it."""
    parts = [
        sorted((s.header.sop_instance_uid, s.sha256) for s in sources),
        sorted(weights),
        settings.select.gap,
        settings.read.nodules_max,
        version,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class _Job:
    """One claimed study."""

    claim: StudyClaim
    heard: float


class Worker:
    """One turn does one job, if there is one."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        ledger: Ledger,
        *,
        owner: str,
        device: Device,
        clock: Callable[[], datetime],
        alive: Callable[[], None] = lambda: None,
        reader: str = "inference.resident",
    ) -> None:
        """`alive` is called while children work (the watchdog); `clock` gives aware UTC; `reader` is the module that reads."""
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._owner = owner
        self._device = device
        self._clock = clock
        self._alive = alive
        self._job: _Job | None = None
        state = state_folder(settings)
        self._room = ReadingRoom(settings, state / "scratch", tick=self._tick, reader=reader)
        self._standstill = Standstill(state, owner, settings.read.backoff_s)

    def warm(self) -> None:
        """Load the models before the first job; where that fails the worker stands still."""
        try:
            self._room.warm()
        except NoReader as none:
            self._standstill.begin(none, self._clock())

    def turn(self, now: datetime) -> int:
        """Do one job; returns 0 when there was none, or nothing can be read."""
        if not self._standstill.is_over(now, self._room.warm):
            return 0
        # one more than a series has: a series that ended its keeper each time must still be marked, and the next one read
        attempts_max = self._settings.read.attempts_max + 1
        claim = self._ledger.claim_study(self._owner, self._settings.read.lease_s, now, attempts_max=attempts_max)
        if claim is None:
            return 0
        self._job = _Job(claim, time.monotonic())
        event("study.claimed", study=claim.study_number, attempts=claim.attempts)
        try:
            self._do(claim)
        except LostLease:
            event("study.lost", logging.WARNING, study=claim.study_number)
        except NoReader as none:  # no fault of the study either: it waits for whoever can read it
            self._standstill.begin(none, self._clock())
            self._give_back(claim, StudyMove.RETRY, counted=False, why=str(none), not_before=None)
        except SpoolFull as full:  # no fault of the study: it waits for room
            alarm("disk_full", study=claim.study_number, why=full.what)
            later = self._clock() + timedelta(seconds=DISK_WAIT_S)
            self._give_back(claim, StudyMove.RETRY, counted=False, why=full.what, not_before=later)
        except FATAL:
            raise  # the ledger is gone or another: the role ends
        except StorageError as lost:
            event("study.lost", logging.WARNING, study=claim.study_number, why=lost.what)
            self._retry(claim, lost)
        except Exception as failed:  # noqa: BLE001 - whatever it was, it costs this study an attempt and no other anything
            self._retry(claim, failed)
        except BaseException:
            self._give_back(claim, StudyMove.RETRY, counted=False, why="the worker was stopped", not_before=None)
            raise
        finally:
            self._job = None
        return 1

    def _retry(self, claim: StudyClaim, failed: Exception) -> None:
        wait_s = self._settings.read.backoff_s * 2 ** min(claim.attempts - 1, DOUBLINGS_MAX)
        why = str(failed) if isinstance(failed, NodeError) else f"{type(failed).__name__}: {failed}"[:300]
        event(
            "study.retry",
            logging.WARNING,
            study=claim.study_number,
            attempts=claim.attempts,
            error=type(failed).__name__,
        )
        self._give_back(
            claim, StudyMove.RETRY, counted=True, why=why, not_before=self._clock() + timedelta(seconds=wait_s)
        )

    def close(self) -> None:
        """End the children."""
        self._room.close()
        self._standstill.end()

    def _tick(self, *, renew: bool = False) -> None:
        """Feed the watchdog, renew the lease (`renew`: in any case). Raises LostLease."""
        self._alive()
        job = self._job
        if job is None or (not renew and time.monotonic() - job.heard < self._settings.read.lease_s / 4):
            return
        if not self._ledger.heartbeat(job.claim, self._settings.read.lease_s, self._clock()):
            raise LostLease(what="the study changed, or the lease ran out", which=f"study {job.claim.study_number}")
        job.heard = time.monotonic()

    def _give_back(
        self,
        claim: StudyClaim,
        move: StudyMove,
        *,
        counted: bool,
        why: str,
        not_before: datetime | None,
        series_id: int | None = None,
    ) -> None:
        try:
            self._ledger.give_back(
                claim, move, not_before=not_before, counted=counted, why=why, now=self._clock(), series_id=series_id
            )
        except StorageError as lost:
            event("study.lost", logging.WARNING, study=claim.study_number, why=str(lost.what))

    def _do(self, claim: StudyClaim) -> None:
        for _ in range(_ROUNDS_MAX):
            view = self._ledger.view(claim.study_number)
            chosen = chosen_of(view, self._settings)
            wanted = to_read_now(chosen.choice)
            if not wanted:
                return self._without_reading(claim, view, chosen)
            rows = {row.series_uid: row for row in view.series}
            readings: list[Reading] = []
            for series_uid in wanted:
                reading = self._read(claim, view, rows[series_uid], chosen)
                if reading is None:
                    break
                readings.append(reading)
            else:
                return self._commit(claim, view, chosen, tuple(readings))
            if self._job is None:
                return None
        raise ReaderFailed(what=f"no choice settled after {_ROUNDS_MAX} rounds", which=f"study {claim.study_number}")

    def _read(self, claim: StudyClaim, view: StudyView, row: SeriesRow, chosen: Chosen) -> Reading | None:
        """The Reading of one series, kept or made; None when it was turned away (noted in the ledger) or given back."""
        left_out = left_out_of(chosen.choice, row.series_uid)
        unread = {left.sop_instance_uid for left in left_out}
        sources = [s for s in self._sources(view, row.series_uid, chosen) if s.header.sop_instance_uid not in unread]
        folder = self._spool.study_folder(view.study.study_uid) / "readings"
        make_folder(folder)
        out = folder / f"{reading_key(sources, self._room.weights, self._settings, self._device.software_version)}.json"
        if out.exists():
            try:
                return with_left_out(load_reading(out), left_out)
            except UnreadableReading:
                out.unlink()
        # a disk that is full is no fault of the series: it must not cost an attempt
        volume = sum(2 * (s.header.rows or 0) * (s.header.columns or 0) * s.header.frames for s in sources)
        self._spool.check_reserve(min(volume, self._settings.read.decoder_mib_max * 2**20))
        attempt = self._ledger.start_series(claim, row.id, self._clock())
        if attempt > self._settings.read.attempts_max:
            self._quarantine(claim, row, chosen, attempt - 1)
            return None
        event("series.reading", study=view.study.number, series=row.id, instances=len(sources), attempts=attempt)
        try:
            return with_left_out(
                self._room.read([s.path for s in sources], out, may_wait=self._may_wait(view, row)), left_out
            )
        except TurnedAway as away:
            if away.outcome == "wait":
                self._give_back(claim, StudyMove.WAIT, counted=False, why=away.text, not_before=None, series_id=row.id)
                self._job = None
                return None
            event("series.turned_away", study=view.study.number, series=row.id, outcome=away.outcome, code=away.code)
            self._note(claim, row, chosen, Outcome(away.outcome), away.code, away.text)
            return None
        except ReaderFailed as failed:
            if attempt < self._settings.read.attempts_max:
                raise
            self._ledger.note_event("reading failed", str(failed), self._clock(), study_number=claim.study_number)
            self._quarantine(claim, row, chosen, attempt)
            return None

    def _quarantine(self, claim: StudyClaim, row: SeriesRow, chosen: Chosen, attempts: int) -> None:
        """Past its attempts: the choice is made again without it (promise 5)."""
        text = f"reading it failed {attempts} times; `dicom-node requeue` tries again"
        self._note(claim, row, chosen, Outcome.FAILED, "attempts", text)
        alarm("series_failed", study=claim.study_number, series=row.id, attempts=attempts)

    def _may_wait(self, view: StudyView, row: SeriesRow) -> bool:
        """Whether more slices may still come: completed by proof before the quiet period, and within the longest wait."""
        rules, now = self._settings.assembly, self._clock()
        waited = (now - max(row.first_at, view.study.changed_at)).total_seconds()
        return not row.quiet_only and (now - row.last_at).total_seconds() < rules.quiet_s and waited < rules.wait_s_max

    def _note(self, claim: StudyClaim, row: SeriesRow, chosen: Chosen, outcome: Outcome, code: str, text: str) -> None:
        found = found_json(chosen.live[row.series_uid], outcome.value, code, text)
        self._ledger.found(claim, row.id, found, outcome, code, text, self._clock())

    def _sources(self, view: StudyView, series_uid: str, chosen: Chosen) -> list[Source]:
        folder = self._spool.study_folder(view.study.study_uid)
        return [Source(header_of(i), folder / i.file, i.sha256) for i in chosen.live[series_uid]]

    def _without_reading(self, claim: StudyClaim, view: StudyView, chosen: Chosen) -> None:
        """Nothing can be read: a report says why, or nothing goes out because it is not for us."""
        failed = any(v.outcome is Outcome.FAILED for v in chosen.verdicts)
        if failed and _earlier_may_stand(view, self._spool):
            alarm("revision_failed", study=view.study.number)
            self._ledger.end_without_result(
                claim,
                StudyMove.AS_BEFORE,
                chosen.verdicts,
                "the revision failed; the earlier result stands",
                self._clock(),
            )
        elif not chosen.choice.report:
            why = chosen.choice.reason.text if chosen.choice.reason else "not for us"
            self._ledger.end_without_result(claim, StudyMove.NOT_FOR_US, chosen.verdicts, why, self._clock())
            event("study.done", study=view.study.number, outcome="not_for_us", why=why)
        else:
            self._commit(claim, view, chosen, ())

    def _commit(self, claim: StudyClaim, view: StudyView, chosen: Chosen, readings: tuple[Reading, ...]) -> None:
        request = self._request(view, chosen, readings)
        folder = self._spool.study_folder(view.study.study_uid)
        key = key_of(request, self._settings)
        whole = complete_result(folder / "results", key)
        self._spool.check_reserve()
        self._tick(renew=True)  # nothing renews it while the files are written
        published = (
            load_published(whole)
            if whole
            else publish(request, self._spool.result_folder(view.study.study_uid, key, claim.token), self._settings)
        )
        self._tick()
        now = self._clock()
        wait_s = self._settings.oru.wait_s_max
        rows = deliveries_of(published.manifest, published.folder, folder, wait_s, now)
        read = {r.series_instance_uid for r in readings}
        by_id = {row.id: row.series_uid for row in view.series}
        verdicts = tuple(
            replace(
                v,
                outcome=Outcome.READ,
                reason_code=_code(readings, by_id[v.series_id]),
                reason_text=_text(readings, by_id[v.series_id]),
            )
            if by_id[v.series_id] in read
            else v
            for v in chosen.verdicts
        )
        result = result_row(published.manifest, published.folder, folder)
        revision = self._ledger.commit_result(claim, result, verdicts, rows, now)
        why = "" if rows else shadow_reason(self._settings, published)
        event(
            "study.written",
            study=view.study.number,
            revision=revision,
            status=published.report.status,
            count=len(published.report.nodules),
            why=why,
        )
        if published.no_oru and self._settings.ehr:
            alarm("no_message", study=view.study.number, why=published.no_oru)
            self._ledger.note_event("no message", published.no_oru, now, study_number=view.study.number)
        if why:
            self._ledger.note_event("kept here", why, now, study_number=view.study.number)

    def _request(self, view: StudyView, chosen: Chosen, readings: tuple[Reading, ...]) -> Request:
        study = view.study
        read = [r.series_instance_uid for r in readings]
        concerned = (
            read
            or [v.series_instance_uid for v in chosen.choice.verdicts if v.outcome in ("declined", "failed")]
            or list(chosen.live)
        )
        sources = [s for uid in concerned for s in self._sources(view, uid, chosen)]
        return Request(
            study_instance_uid=study.study_uid,
            readings=readings,
            not_read=tuple(n for n in chosen.not_read if n.series_instance_uid not in read),
            reason=None
            if readings
            else chosen.choice.reason or Reason("nothing", "no series of the study can be read"),
            sources=sources,
            weights=self._room.weights,
            identity_key=chosen.identity_key,
            choice_digest=chosen.digest,
            content_at=study.chosen_at or self._clock(),
            revision=study.revision + 1,
            previous=self._previous(view),
            notes=chosen.choice.notes if readings else (),
            device=self._device,
        )

    def _previous(self, view: StudyView) -> Previous | None:
        """The last result, for numbers and keys, and the report that a PACS may have, as predecessor."""
        if not view.results:
            return None
        folder = self._spool.study_folder(view.study.study_uid)
        last = next((r for r in reversed(view.results) if r.kind == "result"), None)
        report = load_published(folder / last.folder).report if last and is_whole(folder / last.folder) else None
        sent = [
            d for d in view.deliveries if d.kind == "dicom" and d.may_have and not d.withdrawal and not d.withdrawn_by
        ]
        srs = [
            folder / f.path
            for d in sorted(sent, key=lambda d: d.revision)
            for f in d.files
            if f.kind == "sr" and (folder / f.path).exists()
        ]
        return Previous(view.previous_key, report, view.study.used_numbers, srs[-1] if srs else None)


def _earlier_may_stand(view: StudyView, spool: Spool) -> bool:
    """Whether a failed revision may go on as before: the earlier result used nothing that is now rejected or of another identity, and none
    of its deliveries was cancelled (design: a change)."""
    current = view.current
    if (
        current is None
        or current.kind != "result"
        or any(d.state == "cancelled" for d in view.deliveries if d.result_key == current.key)
    ):
        return False
    manifest = json.loads((spool.study_folder(view.study.study_uid) / current.folder / MANIFEST).read_text())
    live = {instance.sop_uid for row in view.series for instance in row.instances}
    if not live.issuperset(manifest["instances_read"]):
        return False
    return not view.study.identity_chosen or current.identity_key == view.study.identity_chosen


def shadow_reason(settings: Settings, published: Published) -> str:
    """Why nothing of a result leaves."""
    if not settings.delivery.enabled:
        return "shadow mode: delivery.enabled is false"
    if published.report.demonstration and not settings.site.allow_unvalidated:
        return f"{demonstration_words(published.report)[:-1]}; site.allow_unvalidated is false"
    return "no destination is configured"


def _reading_of(readings: Sequence[Reading], uid: str) -> Reading:
    return next(r for r in readings if r.series_instance_uid == uid)


def _code(readings: Sequence[Reading], uid: str) -> str:
    reason = _reading_of(readings, uid).reason
    return reason.code if reason else ""


def _text(readings: Sequence[Reading], uid: str) -> str:
    reason = _reading_of(readings, uid).reason
    return reason.text if reason else ""
