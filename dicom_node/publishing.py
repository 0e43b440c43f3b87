"""From readings to the files of a result: numbered report, SEG, SR, messages, manifest; each synced, the folder last.

Promises: the same input gives the same key, UIDs, control IDs and bytes (all times are the time of choosing); a complete result with the key is
used again, not made again. Knows files and settings; the ledger's transaction that follows belongs to `worker`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from config.load import digest
from config.settings import Settings
from dicom_node.guidance import with_guideline
from dicom_node.orders import Parties, parties_in
from dicom_node.results.context import Device, OrderNumbers, ResultContext, Written
from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from dicom_node.results.uids import control_id, result_key, tracking_uid
from hl7.context import Order, Patient, StudyRef
from hl7.errors import Hl7Error
from hl7.oru import render_oru
from inference.findings import NotRead, Reading, Reason, Report
from inference.headers import Header
from inference.kept import report_from_json, report_to_json
from inference.matching import match, vanished
from storage.disk import file_digest
from storage.rows import FileRef, NewDelivery, NewResult
from storage.spool import fsync_folder, write_synced

MANIFEST: Final = "manifest.json"
REPORT: Final = "report.json"
CANDIDATES: Final = "candidates.json"


@dataclass(frozen=True)
class Source:
    """An image that takes part: its header, file and the digest of that file."""

    header: Header
    path: Path
    sha256: str


@dataclass(frozen=True)
class Previous:
    """The study's last result: its key, report, highest number used, and the SR last sent (None: none was)."""

    key: str
    report: Report | None
    used_numbers: int
    sent_sr: Path | None


@dataclass(frozen=True)
class Request:
    """All that a result is made from. `readings` may be empty: then `reason` says why the study was not analysed."""

    study_instance_uid: str
    readings: tuple[Reading, ...]
    not_read: tuple[NotRead, ...]
    reason: Reason | None
    sources: Sequence[Source]
    weights: tuple[str, ...]
    identity_key: str
    choice_digest: str
    content_at: datetime
    revision: int
    previous: Previous | None
    notes: tuple[str, ...]
    device: Device


@dataclass(frozen=True)
class Published:
    """A result on disk. `no_oru` says why no message was made, "" when one was or none is configured."""

    key: str
    folder: Path
    report: Report
    manifest: Mapping[str, Any]
    no_oru: str


def settings_digest(settings: Settings) -> str:
    """SHA-256 over the settings that reach a reading or a result; addresses and waits are not among them."""
    destinations = [
        [[p.name, p.kinds] for p in settings.pacs],
        [e.model_dump(mode="json", exclude={"host", "port"}) for e in settings.ehr],
    ]
    return hashlib.sha256(json.dumps([digest(settings), destinations], sort_keys=True).encode()).hexdigest()


def inputs_digest(choice_digest: str, weights: Sequence[str], settings: Settings, version: str) -> str:
    """Whether a requeue could change anything: equal digests could not."""
    return hashlib.sha256(
        json.dumps([choice_digest, sorted(weights), settings_digest(settings), version]).encode()
    ).hexdigest()


def may_leave(settings: Settings, report: Report) -> bool:
    """Whether this result may leave the node (promise 10): delivery enabled, and no unvalidated detector unless the site allows it."""
    return settings.delivery.enabled and (not report.demonstration or settings.site.allow_unvalidated)


def key_of(request: Request, settings: Settings) -> str:
    """The result key (design: the nouns)."""
    report = _report(request)
    read = {uid for reading in request.readings for uid in reading.slices_read}
    instances = [
        (s.header.sop_instance_uid, s.sha256) for s in request.sources if s.header.sop_instance_uid in read or not read
    ]
    parties = _parties(request, settings)
    order = parties.order
    identity = json.dumps([list(vars(parties.person).values()), order.accession_number, order.placer_number])
    reason = request.reason or next((r.reason for r in request.readings if r.reason), None)
    return result_key(
        kind="result",
        study_instance_uid=request.study_instance_uid,
        instances=instances,
        weights=request.weights,
        settings_digest=settings_digest(settings),
        software_version=request.device.software_version,
        identity=identity,
        status=report.status,
        reason_code=reason.code if reason else "",
        previous_key=request.previous.key if request.previous else "",
    )


def _report(request: Request) -> Report:
    return Report(
        study_instance_uid=request.study_instance_uid,
        software=f"dicom-node {request.device.software_version}",
        readings=request.readings,
        not_read=request.not_read,
        reason=request.reason,
        demonstration=any(a.validation == "demonstration" for r in request.readings for a in r.algorithms),
        notes=request.notes,
    )


def complete_result(results: Path, key: str) -> Path | None:
    """The folder of a complete result with this key: its manifest was written last."""
    return next((m.parent for m in sorted((results / key).glob(f"*/{MANIFEST}"))), None)


def is_whole(folder: Path) -> bool:
    """Whether a result is still here with its report (retention leaves the manifest alone)."""
    return (folder / MANIFEST).exists() and (folder / REPORT).exists()


def load_published(folder: Path) -> Published:
    """A result as it lies on disk."""
    manifest = json.loads((folder / MANIFEST).read_text())
    report = report_from_json(json.loads((folder / REPORT).read_text()))
    return Published(manifest["key"], folder, report, manifest, manifest["no_oru"])


def publish(request: Request, folder: Path, settings: Settings) -> Published:
    """Write every file of the result into `folder` (empty, there), the manifest last."""
    key = key_of(request, settings)
    report = _numbered(_report(request), key, request.previous)
    report = with_guideline(report, [s.header for s in request.sources], settings.guideline)
    files = {s.header.sop_instance_uid: s.path for s in request.sources}
    parties = _parties(request, settings)
    context = ResultContext(
        key=key,
        content_at=request.content_at,
        device=request.device,
        revision=request.revision,
        predecessor=request.previous.sent_sr if request.previous else None,
        order=OrderNumbers(accession=parties.order.accession_number, placer=parties.order.placer_number),
        settings_sha256=settings_digest(settings),
    )
    written: list[Written] = []
    segs: dict[str, Path] = {}
    for number, reading in enumerate(report.readings, 1):
        seg = write_seg(reading, files, context, folder / f"seg-{number}.dcm")
        if seg is not None:
            written.append(seg)
            segs[reading.series_instance_uid] = seg.path
    sr = write_sr(report, files, segs, context, folder / "sr.dcm")
    written.append(sr)
    messages, no_oru = _messages(request, report, parties, key, sr.sop_instance_uid, folder, settings)
    write_synced(folder / REPORT, json.dumps(report_to_json(report)).encode())
    write_synced(
        folder / CANDIDATES,
        json.dumps({r.series_instance_uid: [vars(c) for c in r.candidates] for r in report.readings}).encode(),
    )
    manifest = _manifest(request, report, parties, key, written, messages, no_oru, settings)
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    fsync_folder(folder)
    fsync_folder(folder.parent)
    return Published(key, folder, report, manifest, no_oru)


def _parties(request: Request, settings: Settings) -> Parties:
    """Patient, order and study of what was read first; of anything when nothing was. In any order of arrival the same."""
    read = {r.series_instance_uid for r in request.readings}
    headers = sorted(
        (s.header for s in request.sources),
        key=lambda h: (h.series_instance_uid not in read, h.instance_number or 0, h.sop_instance_uid),
    )
    return parties_in(headers, settings.site.assigning_authority, ZoneInfo(settings.site.timezone))


def _numbered(report: Report, key: str, previous: Previous | None) -> Report:
    """The report with numbers and tracking UIDs: those of the last revision by place, new ones beyond what was used."""
    old = previous.report.nodules if previous and previous.report else ()
    used = previous.used_numbers if previous else 0
    readings = []
    for reading in report.readings:
        if reading.nodules is not None:
            named = match(old, reading.nodules, used, lambda number: tracking_uid(key, number))
            used = max([used, *(n.number for n in named)])
            reading = replace(reading, nodules=named)
        readings.append(reading)
    return replace(report, readings=tuple(readings))


def used_numbers(report: Report, previous: Previous | None) -> int:
    """The highest nodule number given in the study so far."""
    return max([previous.used_numbers if previous else 0, *(n.number for n in report.nodules)])


def _messages(
    request: Request, report: Report, parties: Parties, key: str, sr_uid: str, folder: Path, settings: Settings
) -> tuple[dict[str, str], str]:
    """ORU files by destination, and why there is none."""
    if not settings.ehr:
        return {}, "no [[ehr]] is configured"
    if not parties.patient.patient_id:
        return {}, "the images have no Patient ID"
    if not parties.patient.authority:
        return {}, "the images name no Issuer of Patient ID, and site.assigning_authority is not set"
    previous = request.previous.report if request.previous else None
    gone = vanished(previous.nodules, report.nodules) if previous else ()
    files, faults = {}, []
    for ehr in settings.ehr:
        if not report.readings and not ehr.not_analysed:
            faults.append(f"{ehr.name}: not_analysed is off")
            continue
        try:
            message = render_oru(
                report,
                parties.patient,
                parties.order,
                parties.study,
                oru=settings.oru,
                ehr=ehr,
                control_id=control_id(key, ehr.name),
                at=request.content_at,
                deleted=gone,
                previous=previous,
                sr_uid=sr_uid,
            )
        except Hl7Error as fault:
            faults.append(f"{ehr.name}: {fault.what}")
            continue
        files[ehr.name] = f"oru-{ehr.name}.hl7"
        write_synced(folder / files[ehr.name], message)
    return files, "" if files else "; ".join(faults)


def message_context(parties: Parties) -> dict[str, Any]:
    """Patient, order and study of the messages, kept so that a withdrawal takes back under the very same."""
    observed_at = parties.study.observed_at
    return {
        "patient": vars(parties.patient),
        "order": vars(parties.order),
        "study": {**vars(parties.study), "observed_at": observed_at.isoformat() if observed_at else None},
    }


def parties_of(context: Mapping[str, Any]) -> tuple[Patient, Order, StudyRef]:
    """What `message_context` kept."""
    study = context["study"]
    at = datetime.fromisoformat(study["observed_at"]) if study["observed_at"] else None
    return Patient(**context["patient"]), Order(**context["order"]), StudyRef(**{**study, "observed_at": at})


def _manifest(
    request: Request,
    report: Report,
    parties: Parties,
    key: str,
    written: Sequence[Written],
    messages: Mapping[str, str],
    no_oru: str,
    settings: Settings,
) -> dict[str, Any]:
    """What a rebuild and a courier need to know of the folder."""
    objects = [
        {
            "kind": w.kind,
            "path": w.path.name,
            "sha256": w.sha256,
            "size": w.size,
            "sop_class_uid": w.sop_class_uid,
            "sop_instance_uid": w.sop_instance_uid,
            "series_instance_uid": w.series_instance_uid,
        }
        for w in written
    ]
    folder = written[0].path.parent
    objects += [
        {
            "kind": "oru",
            "path": name,
            "sha256": file_digest(folder / name),
            "size": (folder / name).stat().st_size,
            "destination": destination,
            "control_id": control_id(key, destination),
        }
        for destination, name in messages.items()
    ]
    leaves = may_leave(settings, report)
    return {
        "format": 1,
        "key": key,
        "kind": "result",
        "study_instance_uid": request.study_instance_uid,
        "revision": request.revision,
        "previous_key": request.previous.key if request.previous else "",
        "status": str(report.status),
        "choice_digest": request.choice_digest,
        "identity_key": request.identity_key,
        "identity": vars(parties.person),
        "used_numbers": used_numbers(report, request.previous),
        "content_at": request.content_at.isoformat(),
        "software": report.software,
        "no_oru": no_oru,
        "message": message_context(parties),
        "inputs_digest": inputs_digest(
            request.choice_digest, request.weights, settings, request.device.software_version
        ),
        "objects": objects,
        "destinations": [_destination_json(d) for d in _destinations(objects, settings)] if leaves else [],
        "instances_read": sorted({u for r in report.readings for u in r.slices_read}),
        "instances_left_out": sorted(
            {left.sop_instance_uid for r in report.readings for left in r.slices_left_out if left.frame is None}
        ),
    }


@dataclass(frozen=True)
class Destination:
    """What one destination is to get."""

    name: str
    kind: str
    paths: tuple[str, ...]
    after: tuple[str, ...] = ()
    after_state: str = "sent"
    control_id: str = ""


def _destinations(objects: Sequence[Mapping[str, Any]], settings: Settings) -> list[Destination]:
    found = []
    for pacs in settings.pacs:
        paths = tuple(o["path"] for kind in pacs.kinds for o in objects if o["kind"] == kind)
        if paths:
            found.append(Destination(pacs.name, "dicom", paths))
    names = {d.name for d in found}
    after = tuple(name for name in settings.oru.after if name in names)
    found += [
        Destination(o["destination"], "oru", (o["path"],), after, settings.oru.after_state, o["control_id"])
        for o in objects
        if o["kind"] == "oru"
    ]
    return found


def _destination_json(destination: Destination) -> dict[str, Any]:
    return {**vars(destination), "paths": list(destination.paths), "after": list(destination.after)}


def deliveries_of(
    manifest: Mapping[str, Any], folder: Path, study_folder: Path, wait_s: float, now: datetime
) -> list[NewDelivery]:
    """The outbox rows that a manifest names; `wait_s` bounds what waits for another destination."""
    objects = {o["path"]: o for o in manifest["objects"]}
    rows = []
    for meant in manifest["destinations"]:
        files = tuple(
            FileRef(
                path=str((folder / path).relative_to(study_folder)),
                sha256=objects[path]["sha256"],
                kind=objects[path]["kind"],
                sop_class_uid=objects[path].get("sop_class_uid", ""),
                sop_instance_uid=objects[path].get("sop_instance_uid", ""),
            )
            for path in meant["paths"]
        )
        rows.append(
            NewDelivery(
                destination=meant["name"],
                kind=meant["kind"],
                files=files,
                after=tuple(meant["after"]),
                after_state=meant["after_state"],
                wait_until=now + timedelta(seconds=wait_s) if meant["after"] else None,
                control_id=meant["control_id"],
            )
        )
    return rows


def result_row(manifest: Mapping[str, Any], folder: Path, study_folder: Path) -> NewResult:
    """What the ledger keeps of a result, from its manifest alone."""
    kept = {name: manifest.get(name, "") for name in ("inputs_digest", "no_oru", "objects")}
    return NewResult(
        key=manifest["key"],
        kind=manifest["kind"],
        status=manifest["status"],
        folder=str(folder.relative_to(study_folder)),
        previous_key=manifest["previous_key"],
        choice_digest=manifest["choice_digest"],
        identity_key=manifest["identity_key"],
        payload=json.dumps(kept),
        used_numbers=manifest["used_numbers"],
    )
