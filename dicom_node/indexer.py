"""From spool/incoming to studies and ledger, in batches. Each step can be repeated: the process may die between any two.

A batch: headers by a bounded child, a link into the study's folder, folders synced, one ledger transaction, names out of `incoming/`.
Decides what an instance is (image, set aside, our own, a rejection note) and whether a second copy is a duplicate; the moves are the ledger's.
"""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from config.settings import Settings
from dicom_node.choosing import header_of
from dicom_node.errors import UnreadableHeader
from dicom_node.filing import REJECTIONS, TAKE_BACK, WITHDRAW, kind_of
from dicom_node.header_child import HeaderChild
from dicom_node.identity import differences, doubts, filled, identity_of
from dicom_node.logs import alarm, event
from inference.headers import Header
from storage import spool as spools
from storage.disk import file_digest
from storage.errors import NameTaken, StorageError
from storage.ledger import Ledger
from storage.rows import Arrival, Identity, InstanceRow, TombstoneRow
from storage.spool import Spool, fsync_folder, make_folder, safe_name


class _People:
    """The identities of the studies of one batch, those that the batch brings included."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, list[tuple[str, Identity]]] = {}

    def key_of(self, study_uid: str, person: Identity) -> tuple[str, str]:
        """The key of this person in the study, and the doubt that they raise ("" for none)."""
        known = self._known.get(study_uid)
        if known is None:
            known = self._known[study_uid] = [(row.key, row.identity) for row in self._ledger.identities(study_uid)]
        found = ""
        for place, (key, identity) in enumerate(known):
            what = doubts(identity, person)
            if not what:
                known[place] = key, filled(identity, person)  # as the ledger does: an empty value is nobody's for ever
                return key, ""
            found = (
                found or f"{', '.join(what)} differ{'s' if len(what) == 1 else ''} from the first images of the study"
            )
        key = f"p{len(known) + 1}"
        known.append((key, person))
        return key, found


def _meant(tombstones: Sequence[TombstoneRow], person: Identity) -> TombstoneRow | None:
    """The rejection that names this very object before it came: 113038 only under the identity that the note carries."""
    for tombstone in tombstones:
        if tombstone.code in TAKE_BACK or (tombstone.code == "113038" and not doubts(tombstone.identity, person)):
            return tombstone
    return None


def _still_rejected(copy: InstanceRow, person: Identity) -> bool:
    """Whether one that comes again is what the rejection took: 113038 takes only what has the rejected identity."""
    return copy.withdrawn in TAKE_BACK or (
        copy.withdrawn == "113038" and not doubts(identity_of(header_of(copy)), person)
    )


def _move(source: Path, target: Path) -> None:
    """Move a rejected file, durably. Can be repeated: what has the source's name after that came later and stays."""
    make_folder(target.parent)
    if source.exists() and not target.exists():
        os.rename(source, target)
        fsync_folder(target.parent)
        fsync_folder(source.parent)


class Indexer:
    """One turn files one batch."""

    def __init__(self, settings: Settings, spool: Spool, ledger: Ledger) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._headers = HeaderChild(settings.index.header_timeout_s)

    def turn(self, now: datetime) -> int:
        """File what waits, at most `index.batch_max`; returns how many files left `incoming/`."""
        waiting = self._spool.arrivals(self._settings.index.batch_max)
        left = 0
        if waiting:
            committed = self._ledger.committed([a.name for a in waiting])
            self._spool.remove_arrivals(sorted(committed))
            left = len(committed)
            rest = [a for a in waiting if a.name not in committed]
            left += self._file_all(rest, now)
        self._note_associations(now)
        return left

    def close(self) -> None:
        """End the header child."""
        self._headers.close()

    def _file_all(self, waiting: Sequence[spools.Arrival], now: datetime) -> int:
        """File a batch; one that cannot be filed holds up no other: then each alone, and itself to `unfiled/`.

        What is wrong with disk or ledger is no fault of a file, and is raised.
        """
        try:
            return self._file(waiting, now)
        except (StorageError, OSError, MemoryError) as fault:
            if not isinstance(fault, NameTaken):
                raise
            what = fault.what
        except Exception as fault:  # noqa: BLE001 - whatever it is, it must not come back with each turn
            what = type(fault).__name__
        if len(waiting) == 1:
            self._spool.quarantine(waiting[0].name, code="cannot_be_filed", text=what, at=now)
            alarm("unfiled", code="cannot_be_filed", why=what)
            return 1
        filed = self._ledger.committed([a.name for a in waiting])
        return sum(self._file_all([a], now) for a in waiting if a.name not in filed and a.path.exists())

    def _file(self, waiting: Sequence[spools.Arrival], now: datetime) -> int:
        read: list[tuple[spools.Arrival, Header]] = []
        quarantined, taken = 0, set()
        for arrival in waiting:
            try:
                header = self._headers.read(arrival.path)
            except UnreadableHeader as unreadable:
                self._spool.quarantine(arrival.name, code=unreadable.code, text=unreadable.text, at=now)
                alarm("unfiled", code=unreadable.code, why=unreadable.text)
                quarantined += 1
                continue
            # a second copy in one batch waits for the next, where the ledger knows the first
            if (header.study_instance_uid, header.sop_instance_uid) in taken:
                continue
            taken.add((header.study_instance_uid, header.sop_instance_uid))
            read.append((arrival, header))
        if not read:
            return quarantined
        notes = [(a, h) for a, h in read if kind_of(h, a.name) == "note"]
        others = [(a, h) for a, h in read if kind_of(h, a.name) != "note"]
        filed = self._commit(others, now)
        for arrival, header in notes:  # after the images of the batch: a note may name them
            filed += self._commit_note(arrival, header, now)
        return filed + quarantined

    def _commit(self, read: Sequence[tuple[spools.Arrival, Header]], now: datetime) -> int:
        """Link, sync, commit, unlink."""
        if not read:
            return 0
        rows = self._rows(read)
        for study_uid in {row.study_uid for row in rows}:
            self._spool.sync_study(study_uid)
        filed = self._ledger.file_batch(rows, now)
        self._spool.remove_arrivals([row.incoming for row in rows])
        self._ledger.forget_incoming([row.incoming for row in rows])
        for study in filed:
            event("index.filed", study=study.study_number, instances=study.new, count=study.duplicates)
            for reason in study.held:
                alarm("held", study=study.study_number, why=reason)
        return len(rows)

    def _commit_note(self, arrival: spools.Arrival, header: Header, now: datetime) -> int:
        """Reject first, commit the note's name last: a crash between tells the note once more, which changes nothing."""
        code = "withdraw" if arrival.name.startswith(WITHDRAW) else header.note_title
        marker = self._spool.associations.get(arrival.association)
        rejected = self._ledger.reject(
            header.study_instance_uid,
            [sop for _, sop in header.note_references],
            code=code,
            note=header.sop_instance_uid,
            by=marker.calling_ae if marker else "withdraw" if arrival.name.startswith(WITHDRAW) else "a note",
            why=REJECTIONS[header.note_title],
            now=now,
            identity=identity_of(header),
        )
        folder = self._spool.study_folder(header.study_instance_uid)
        for move in rejected.moves:
            _move(folder / move.source, folder / move.target)
        event(
            "index.rejected",
            logging.WARNING,
            study=rejected.study_number,
            code=code,
            instances=len(rejected.moves),
            count=len(rejected.unknown),
        )
        return self._commit([(arrival, header)], now)

    def _rows(self, read: Sequence[tuple[spools.Arrival, Header]]) -> list[Arrival]:
        by_study: dict[str, list[str]] = defaultdict(list)
        for _, header in read:
            by_study[header.study_instance_uid].append(header.sop_instance_uid)
        copies = {study: self._ledger.copies(study, sops) for study, sops in by_study.items()}
        tombstones = self._ledger.tombstones([header.sop_instance_uid for _, header in read])
        people = _People(self._ledger)
        markers = {a.association: self._spool.associations.get(a.association) for a, _ in read}
        rows = []
        for arrival, header in read:
            row = self._row(
                arrival, header, copies[header.study_instance_uid].get(header.sop_instance_uid, []), tombstones, people
            )
            marker = markers[arrival.association]
            rows.append(replace(row, calling_ae=marker.calling_ae if marker else ""))
        return rows

    def _row(
        self,
        arrival: spools.Arrival,
        header: Header,
        copies: Sequence[InstanceRow],
        tombstones: Mapping[str, Sequence[TombstoneRow]],
        people: _People,
    ) -> Arrival:
        """Decide, and give the file its name in the study's folder."""
        kind = kind_of(header, arrival.name)
        sha256 = file_digest(arrival.path)
        person = identity_of(header)
        holds: list[tuple[str, str]] = []
        verdict: Literal["new", "duplicate", "differs", "rejected"] = "new"
        why, identity_key, place, code = "", None, "images", ""
        live = [c for c in copies if not c.withdrawn]
        withdrawn = [c for c in copies if c.withdrawn]
        same = next((c for c in copies if c.sha256 == sha256 and (not c.withdrawn or not live)), None)
        target = f"{safe_name(header.sop_instance_uid)}.dcm"
        if kind in ("image", "set_aside"):
            identity_key, doubt = people.key_of(header.study_instance_uid, person)
            if doubt:
                holds.append(("identity", doubt))
        if same is not None and not same.withdrawn:
            verdict, why, target = "duplicate", "the same bytes", same.file.split("/")[-1]
        elif live:
            verdict, why = self._compare(header, live)
            if verdict == "differs" and kind == "image":
                holds.append(("differs", f"an instance came again with another {why}"))
        elif withdrawn and _still_rejected(withdrawn[-1], person):
            holds.append(("rejected_again", "an instance came again that was rejected"))
        elif tombstone := _meant(tombstones.get(header.sop_instance_uid, ()), person):
            verdict, why, place, code = (
                "rejected",
                REJECTIONS.get(tombstone.code, "withdrawn before it came"),
                "withdrawn",
                tombstone.code,
            )
        if verdict != "duplicate" or live[0].gone:  # one whose file went with its retention is kept once more
            target = self._link(header, arrival, place)
        return Arrival(
            incoming=arrival.name,
            association=arrival.association,
            calling_ae="",
            received_at=arrival.received_at,
            study_uid=header.study_instance_uid,
            series_uid=header.series_instance_uid,
            sop_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            modality=header.modality,
            kind=kind,
            file=f"{place}/{target}",
            size=arrival.size,
            sha256=sha256,
            header=json.dumps(header.to_json()),
            pixel_sha256=header.pixel_sha256,
            verdict=verdict,
            identity=person,
            identity_key=identity_key,
            holds=tuple(holds),
            filled="",
            why=why,
            code=code,
            accession=header.accession.strip(),
            folder=str(self._spool.study_folder(header.study_instance_uid).relative_to(self._spool.root)),
        )

    def _link(self, header: Header, arrival: spools.Arrival, place: str) -> str:
        """Link under the first free name, or the name that this very file got before a crash."""
        folder = self._spool.study_folder(header.study_instance_uid) / place
        stem = safe_name(header.sop_instance_uid)
        for number in range(1, 100):
            target = f"{stem}.dcm" if number == 1 else f"{stem}~{number}.dcm"
            path = folder / target
            if not path.exists() or path.stat().st_ino == arrival.inode:
                self._spool.file_into(
                    header.study_instance_uid,
                    arrival.name,
                    target,
                    place="withdrawn" if place == "withdrawn" else "images",
                    sync=False,
                )
                return target
        raise NameTaken(what="a hundred copies of one instance", which=stem, do="look at what sends it")

    def _compare(self, header: Header, live: Sequence[InstanceRow]) -> tuple[Literal["duplicate", "differs"], str]:
        """A duplicate of any live copy is a duplicate; else what differs from the first."""
        what = [differences(header_of(copy), header) for copy in live]
        if any(not found for found in what):
            syntaxes = {copy.transfer_syntax_uid for copy in live}
            return (
                "duplicate",
                "the same instance"
                if header.transfer_syntax_uid in syntaxes
                else "the same headers in another transfer syntax",
            )
        return "differs", ", ".join(what[0])

    def _note_associations(self, now: datetime) -> None:
        """Tell the ledger which associations ended; their markers go when all their files are filed."""
        waiting = {a.association for a in self._spool.arrivals()}
        for marker in self._spool.associations:
            end = marker.ended()
            if end is None or marker.name in waiting:
                continue
            self._ledger.association_ended(marker.name, end, marker.files, marker.closed_at or now)
            self._spool.associations.forget(marker.name)
