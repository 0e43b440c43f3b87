"""What was sent is taken back: a rejection note to each PACS that takes them, the message again as deleted or withdrawn to each EHR.

A withdrawal keeps the identity of what it withdraws. It is made in any state of the study and under any hold (design: rejection).
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config.settings import Settings
from dicom_node.logs import alarm, event
from dicom_node.publishing import MANIFEST, Published, is_whole, load_published, parties_of, result_row
from dicom_node.results.context import Device, ResultContext
from dicom_node.results.note import Rejection, write_note
from dicom_node.results.uids import control_id, result_key
from hl7.oru import Withdrawal, render_oru
from storage.ledger import Ledger
from storage.rows import DeliveryRow, FileRef, NewDelivery, StudyView, WithdrawalClaim
from storage.spool import Spool, fsync_folder, write_synced

WRONG_PATIENT: Final = "113037"


class Withdrawer:
    """One turn makes one withdrawal."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        ledger: Ledger,
        *,
        owner: str,
        device: Device,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._owner = owner
        self._device = device
        self._clock = clock

    def turn(self, now: datetime) -> int:
        """Make one; returns 0 when there was none."""
        claim = self._ledger.claim_withdrawal(self._owner, self._settings.read.lease_s, now)
        if claim is None:
            return 0
        try:
            self._make(claim)
        except Exception as fault:  # noqa: BLE001 - tried again later, and said
            self._ledger.give_back_withdrawal(claim, f"{type(fault).__name__}: {fault}"[:300], self._clock())
            alarm("withdrawal_failed", study=claim.study_number, error=type(fault).__name__)
        return 1

    def _make(self, claim: WithdrawalClaim) -> None:
        view = self._ledger.view(claim.study_number, headers=False)
        folder = self._spool.study_folder(view.study.study_uid)
        results = {
            r.key: load_published(folder / r.folder)
            for r in view.results
            if r.kind == "result" and is_whole(folder / r.folder)
        }
        content_at = view.study.changed_at
        key = result_key(
            kind="withdrawal",
            study_instance_uid=view.study.study_uid,
            instances=sorted({(d.result_key, d.destination) for d in claim.sent}),
            weights=(),
            settings_digest="",
            software_version=self._device.software_version,
            identity=view.study.identity_chosen,
            status="withdrawn",
            previous_key=view.previous_key,
        )
        target = self._spool.result_folder(view.study.study_uid, key, claim.token)
        groups: dict[tuple[str, str], list[DeliveryRow]] = defaultdict(list)
        for delivery in claim.sent:  # one note and one message for each identity that it was sent under
            groups[delivery.destination, delivery.identity_key].append(delivery)
        deliveries: list[NewDelivery] = []
        for (name, _), sent in sorted(groups.items()):
            made = self._one(name, sent, view, results, key, content_at, target, folder)
            if made is not None:
                deliveries.append(made)
            else:
                alarm(
                    "not_withdrawn",
                    study=view.study.number,
                    destination=name,
                    why="the destination takes no rejection notes or is no longer configured, or the files went with their retention",
                )
        manifest = _manifest(view, key, content_at, deliveries, claim.sent[0].identity_key if claim.sent else "")
        write_synced(target / MANIFEST, json.dumps(manifest, indent=1).encode())
        fsync_folder(target)
        result = result_row(manifest, target, folder)
        self._ledger.commit_withdrawal(claim, result, deliveries, self._clock())
        event("study.withdrawn", logging.WARNING, study=view.study.number, count=len(deliveries))

    def _one(
        self,
        name: str,
        sent: Sequence[DeliveryRow],
        view: StudyView,
        results: dict[str, Published],
        key: str,
        content_at: datetime,
        target: Path,
        folder: Path,
    ) -> NewDelivery | None:
        pacs = next((p for p in self._settings.pacs if p.name == name), None)
        ehr = next((e for e in self._settings.ehr if e.name == name), None)
        which = f"{name}-{sent[0].identity_key}"
        wrong = bool(view.study.identity_chosen) and any(d.identity_key != view.study.identity_chosen for d in sent)
        objects = [folder / f.path for d in sent for f in d.files if (folder / f.path).exists()]
        if pacs is not None and pacs.rejection_notes and objects:  # else they went with their retention
            context = ResultContext(key=key, content_at=content_at, device=self._device)
            note = write_note(
                objects,
                Rejection.WRONG_PATIENT if wrong else Rejection.QUALITY,
                context,
                target / f"note-{name}-{sent[0].identity_key}.dcm",
            )
            file = FileRef(
                str(note.path.relative_to(folder)), note.sha256, "note", note.sop_class_uid, note.sop_instance_uid
            )
            return NewDelivery(destination=name, kind="dicom", files=(file,))
        if ehr is not None and any(d.result_key in results for d in sent):
            last = results[
                max((d for d in sent if d.result_key in results), key=lambda d: (d.revision, d.number)).result_key
            ]
            patient, order, study = parties_of(last.manifest["message"])
            letter: Withdrawal = "W" if wrong else "D"
            message = render_oru(
                last.report,
                patient,
                order,
                study,
                oru=self._settings.oru,
                ehr=ehr,
                control_id=control_id(key, which),
                at=content_at,
                withdrawal=letter,
                sr_uid=_sr_uid(last),
            )
            path = target / f"oru-{which}.hl7"
            write_synced(path, message)
            file = FileRef(str(path.relative_to(folder)), hashlib.sha256(message).hexdigest(), "oru")
            return NewDelivery(destination=name, kind="oru", files=(file,), control_id=control_id(key, which))
        return None


def _sr_uid(published: Published) -> str:
    return next((o["sop_instance_uid"] for o in published.manifest["objects"] if o["kind"] == "sr"), "")


def _manifest(
    view: StudyView, key: str, content_at: datetime, deliveries: Sequence[NewDelivery], identity_key: str
) -> dict[str, Any]:
    return {
        "format": 1,
        "key": key,
        "kind": "withdrawal",
        "study_instance_uid": view.study.study_uid,
        "revision": view.study.revision,
        "previous_key": view.previous_key,
        "status": "withdrawn",
        "content_at": content_at.isoformat(),
        "choice_digest": "",
        "identity_key": identity_key,
        "used_numbers": view.study.used_numbers,
        "no_oru": "",
        "objects": [
            {
                "kind": f.kind,
                "path": Path(f.path).name,
                "sha256": f.sha256,
                "sop_class_uid": f.sop_class_uid,
                "sop_instance_uid": f.sop_instance_uid,
            }
            for d in deliveries
            for f in d.files
        ],
        "destinations": [
            {
                "name": d.destination,
                "kind": d.kind,
                "paths": [Path(f.path).name for f in d.files],
                "after": [],
                "after_state": "sent",
                "control_id": d.control_id,
            }
            for d in deliveries
        ],
    }
