"""The story of one study from its ledger rows and its result on disk: what `status --why` shows, for people and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dicom_node.publishing import Published, is_whole, load_published
from dicom_node.summary import SCHEMA_VERSION, candidates_json, grades_json, series_entry, status_of
from inference.findings import Reading, Reason
from storage.rows import DeliveryRow, EventRow, ResultRow, SeriesRow, StudyView
from storage.spool import Spool
from storage.states import Outcome, SeriesState, StudyState

WAITING: Final = frozenset({StudyState.OPEN, StudyState.QUEUED, StudyState.READING})


def result_of(spool: Spool, view: StudyView, row: ResultRow | None) -> Published | None:
    """A result as it lies in the spool; None when there is none or it was removed after its retention."""
    if row is None:
        return None
    folder = spool.study_folder(view.study.study_uid) / row.folder
    return load_published(folder) if row.kind == "result" and is_whole(folder) else None


def series_entries(spool: Spool, view: StudyView, events: Sequence[EventRow] = ()) -> list[dict[str, Any]]:
    """One entry per series received, the results beside the series that was read or its best candidate."""
    published = result_of(spool, view, view.current)
    readings = {r.series_instance_uid: r for r in published.report.readings} if published else {}
    best = _best(view, readings)
    entries = []
    for row in view.series:
        if row.kind == "own":
            continue
        # chosen and not yet read again: what an earlier result says of it is no answer
        read = row.outcome is Outcome.READ or (row.outcome is Outcome.CHOSEN and view.study.state not in WAITING)
        reading = readings.get(row.series_uid) if read else None
        here = published is not None and row.series_uid == best
        status = status_of(
            row.outcome if row.kind == "image" else Outcome.SET_ASIDE,
            reading,
            held=bool(view.holds),
            withdrawn=row.state is SeriesState.WITHDRAWN or view.study.state is StudyState.WITHDRAWN,
        )
        if row.outcome is Outcome.READ and reading is None and status == "waiting":
            # its result went with its retention (or was withdrawn); what became of it is still known
            status = "partial" if row.reason_code else "completed"
        reason = Reason(row.reason_code, row.reason_text)
        if view.holds and status == "held":
            reason = Reason(view.holds[0].reason, "; ".join(h.text for h in view.holds))
        entries.append(
            series_entry(
                study_uid=view.study.study_uid,
                series_uid=row.series_uid,
                modality=row.modality,
                status=status,
                reason=reason,
                evidence=row.evidence,
                reading=reading,
                results=_results(published) if here and published else (),
                seconds=_seconds(view, row, reading, events) if here else None,
                assessment=published.report.assessment if here and published else None,
            )
        )
    return entries


def _best(view: StudyView, readings: Mapping[str, Reading]) -> str:
    if readings:
        return next(iter(readings))
    declined = [r.series_uid for r in view.series if r.outcome in (Outcome.DECLINED, Outcome.FAILED)]
    images = [r.series_uid for r in view.series if r.kind == "image"]
    return next(iter(declined or images), "")


def _results(published: Published) -> list[dict[str, str]]:
    return [
        {
            "kind": o["kind"],
            "sop_instance_uid": o.get("sop_instance_uid", ""),
            "file": str(published.folder / o["path"]),
        }
        for o in published.manifest["objects"]
    ]


def _seconds(
    view: StudyView, row: SeriesRow, reading: Reading | None, events: Sequence[EventRow]
) -> dict[str, float | None]:
    """What the ledger knows of the times beside those of the reading: `write` is what the job took besides it."""
    study, current = view.study, view.current
    began = max((e.at for e in events if e.series_id == row.id and e.what == "reading starts"), default=None)
    job_s = _between(began, current.committed_at) if current else None
    ended = [d.ended_at for d in view.deliveries if current and d.result_key == current.key and d.ended_at]
    return {
        "receive": _between(row.first_at, row.last_at),
        "wait": _between(row.last_at, study.chosen_at),
        "write": round(max(job_s - sum(reading.seconds.values()), 0.0), 3) if job_s is not None and reading else None,
        "deliver": _between(current.committed_at, max(ended)) if current and ended else None,
    }


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end and end >= start else None


def story_json(spool: Spool, view: StudyView, events: tuple[EventRow, ...]) -> dict[str, Any]:
    """`status --why STUDY --json`."""
    study = view.study
    return {
        "schema_version": SCHEMA_VERSION,
        "study": {
            "number": study.number,
            "study_instance_uid": study.study_uid,
            "revision": study.revision,
            "state": str(study.state),
            "outcome": study.outcome,
            "held": [
                {"reason": h.reason, "text": h.text, "since": h.since.isoformat(), "by": h.by} for h in view.holds
            ],
            "identities": [
                {
                    "key": i.key,
                    "patient_id": i.identity.patient_id,
                    "issuer": i.identity.issuer,
                    "name": i.identity.name,
                    "birth_date": i.identity.birth_date,
                    "source": i.source,
                    "instances": i.instances,
                }
                for i in view.identities
            ],
            "deliveries": [_delivery(d) for d in view.deliveries],
            "events": [
                {
                    "at": e.at.isoformat(),
                    "who": e.who,
                    "what": e.what,
                    "from": e.from_state,
                    "to": e.to_state,
                    "why": e.why,
                }
                for e in events
            ],
        },
        "series": series_entries(spool, view, events),
    }


def _delivery(d: DeliveryRow) -> dict[str, Any]:
    return {
        "number": d.number,
        "revision": d.revision,
        "destination": d.destination,
        "kind": d.kind,
        "state": str(d.state),
        "attempts": d.attempts,
        "withdrawal": d.withdrawal,
        "last_error": d.last_error,
    }


def story_text(spool: Spool, view: StudyView, events: tuple[EventRow, ...]) -> str:
    """The same for people: how it stands, why, and what happened in order."""
    study = view.study
    lines = [
        f"study {study.number}  {study.study_uid}",
        f"state {study.state}, revision {study.revision}{', ' + study.outcome if study.outcome else ''}",
    ]
    lines += [f"HELD since {h.since:%Y-%m-%d %H:%M:%S} by {h.by}: {h.reason}: {h.text}" for h in view.holds]
    if view.holds and any(h.reason == "identity" for h in view.holds):
        lines += [
            f"  {i.key}: {i.identity.name or '(no name)'}, ID {i.identity.patient_id or '(none)'} {i.identity.issuer}, born "
            f"{i.identity.birth_date or '?'}: {i.instances} images"
            for i in view.identities
        ]
    lines.append("series")
    for row, entry in zip([r for r in view.series if r.kind != "own"], series_entries(spool, view), strict=True):
        found = f", {len(entry['nodules'])} nodules" if entry["nodules"] is not None else ""
        reason = f": {entry['reason']['text']}" if entry["reason"] else ""
        lines.append(
            f"  {row.modality:4} {len(row.instances):5} images  {entry['status']}{found}{reason}"
            + (f"  [{row.evidence}]" if row.evidence else "")
        )
    if view.deliveries:
        lines.append("deliveries")
        lines += [
            f"  {d.number:5} revision {d.revision} {d.destination:20} {d.kind:6} {d.state}{' (withdrawal)' if d.withdrawal else ''}"
            f"{', attempts ' + str(d.attempts) if d.attempts > 1 else ''}{': ' + d.last_error if d.last_error else ''}"
            for d in view.deliveries
        ]
    lines.append("what happened")
    lines += [
        f"  {e.at:%Y-%m-%d %H:%M:%S} {e.who:10} {e.what}{f' ({e.from_state} to {e.to_state})' if e.to_state != e.from_state else ''}"
        f"{': ' + e.why if e.why else ''}"
        for e in events
    ]
    return "\n".join(lines)


def grades_of(spool: Spool, view: StudyView) -> dict[str, list[dict[str, Any]]]:
    """Why the grades of each CT series' nodules are what they are."""
    published = result_of(spool, view, view.current)
    return {r.series_instance_uid: grades_json(r) for r in published.report.readings} if published else {}


def candidates_of(spool: Spool, view: StudyView) -> dict[str, list[dict[str, Any]]]:
    """Ranked candidates of each CT series that was read."""
    published = result_of(spool, view, view.current)
    return (
        {r.series_instance_uid: candidates_json(r.candidates) for r in published.report.readings} if published else {}
    )
