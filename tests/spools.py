"""A spool with files that say what they are, so that a ledger can be lost and made again without any DICOM."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.rebuild import RebuildSummary, open_or_rebuild, rebuild
from storage.rows import Arrival, FileRef, Identity, KeptResult, NewDelivery, NewResult, Rejected
from storage.spool import Spool
from tests.ledgers import STUDY, Books


def read_arrival(path: Path) -> Arrival:
    """The fields that a file of these tests carries; its arrival is the file's own time."""
    fields: dict[str, Any] = json.loads(path.read_text())
    fields["identity"] = Identity(**fields["identity"])
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    place = str(path.relative_to(path.parents[1]))
    return Arrival(**{**fields, "received_at": at, "file": place, "holds": (), "incoming": "", "association": ""})


def read_result(folder: Path, study_folder: Path) -> KeptResult:
    """The rows that a manifest of these tests stands for."""
    manifest = json.loads((folder / "manifest.json").read_text())
    result = NewResult(**{**manifest["result"], "folder": str(folder.relative_to(study_folder))})
    rows = tuple(
        NewDelivery(
            **{
                **row,
                "files": tuple(FileRef(**file) for file in row["files"]),
                "after": tuple(row["after"]),
                "wait_until": None,
            }
        )
        for row in manifest["deliveries"]
    )
    return KeptResult(result, rows)


class House(Books):
    """Books with the files that belong to them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spool = Spool(folder / "spool")
        self.journal = type(self.journal)(self.spool.journal, "host", "boot", 1)
        self.ledger = type(self.ledger)(self.database, self.journal, "test")
        self.digests: dict[str, str] = {}

    def file(self, *arrivals: Arrival) -> int:
        """File with the files: each name in `incoming/` is gone by then."""
        placed = [replace(one, folder=self.place(one.study_uid)) for one in arrivals]
        for one in placed:
            if one.verdict != "duplicate":
                path = self.spool.root / one.folder / one.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(asdict(replace(one, received_at=None)), default=str))  # type: ignore[arg-type]
                os.utime(path, (one.received_at.timestamp(),) * 2)
        return super().file(*placed)

    def place(self, study_uid: str) -> str:
        return str(self.spool.study_folder(study_uid).relative_to(self.spool.root))

    def manifest(self, study_uid: str, result: NewResult, rows: Sequence[NewDelivery]) -> None:
        folder = self.spool.study_folder(study_uid) / result.folder
        folder.mkdir(parents=True)
        meant = [{**asdict(row), "wait_until": None} for row in rows]
        (folder / "manifest.json").write_text(json.dumps({"result": asdict(result), "deliveries": meant}))
        (folder / "sr.dcm").write_bytes(b"result")

    def commit(self, claim: Any, to: Sequence[NewDelivery] = (), **values: Any) -> int:
        revision = super().commit(claim, to, **values)
        view = self.view(claim.study_number)
        row = view.results[-1]
        result = NewResult(
            row.key,
            row.kind,
            row.status,
            row.folder,
            row.previous_key,
            row.choice_digest,
            row.identity_key,
            row.payload,
            2,
        )
        self.manifest(view.study.study_uid, result, to)
        return revision

    def withdraw(self, study_key: str = "withdrawal") -> Any:
        claim = super().withdraw(study_key)
        view = self.view(claim.study_number)
        row = view.results[-1]
        result = NewResult(
            row.key,
            row.kind,
            row.status,
            row.folder,
            row.previous_key,
            row.choice_digest,
            row.identity_key,
            row.payload,
        )
        rows = [
            NewDelivery(one.destination, one.kind, one.files) for one in view.deliveries if one.result_key == row.key
        ]
        self.manifest(view.study.study_uid, result, rows)
        return claim

    def reject(self, *sop_uids: str, code: str = "113001", note: str = "note 1", study: str = STUDY) -> Rejected:
        answer = super().reject(*sop_uids, code=code, note=note, study=study)
        folder = self.spool.study_folder(study)
        for move in answer.moves:
            (folder / move.target).parent.mkdir(exist_ok=True)
            if (folder / move.source).exists():
                (folder / move.source).rename(folder / move.target)
        return answer

    def burn(self) -> RebuildSummary:
        """The ledger's files are gone; make it again and go on with it."""
        self.database.close()
        for path in self.folder.glob("ledger.sqlite*"):
            path.unlink()
        return self.reopen()

    def reopen(self) -> RebuildSummary:
        database, summary = open_or_rebuild(
            self.folder / "ledger.sqlite", self.spool, read_arrival, read_result, self.later(60)
        )
        self.database = database
        self.ledger = type(self.ledger)(database, self.journal, "test")
        assert summary is not None, "it was not rebuilt"
        return summary

    def rebuild(self) -> RebuildSummary:
        """Make it again beside the one that is open."""
        return rebuild(self.folder / "ledger.sqlite", self.spool, read_arrival, read_result, self.later(60))
