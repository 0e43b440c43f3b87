"""The ledger from the spool: what storage cannot know, which fields a DICOM file gives and which rows a manifest stands for.

Headers are read by a bounded child, as when the files came.
"""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from config.settings import Settings
from dicom_node.filing import kind_of
from dicom_node.header_child import HeaderChild
from dicom_node.identity import doubts, identity_of
from dicom_node.logs import alarm
from dicom_node.places import state_folder
from dicom_node.publishing import MANIFEST, deliveries_of, result_row
from storage.database import Database, sqlite_path
from storage.disk import file_digest
from storage.rebuild import RebuildSummary, open_or_rebuild, rebuild
from storage.rows import Arrival, Identity, KeptResult
from storage.spool import Spool


def _doubt(first: Identity, other: Identity) -> bool:
    return bool(doubts(first, other))


def _arrival(path: Path, headers: HeaderChild, spool: Spool) -> Arrival:
    """A stored file as the indexer would file it now."""
    header = headers.read(path)
    status = path.stat()
    return Arrival(
        incoming="",
        association="",
        calling_ae="",
        received_at=datetime.fromtimestamp(status.st_mtime, UTC),
        study_uid=header.study_instance_uid,
        series_uid=header.series_instance_uid,
        sop_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        kind=kind_of(header, ""),
        file=f"{path.parent.name}/{path.name}",
        size=status.st_size,
        sha256=file_digest(path),
        header=json.dumps(header.to_json()),
        pixel_sha256=header.pixel_sha256,
        identity=identity_of(header),
        accession=header.accession.strip(),
        folder=str(spool.study_folder(header.study_instance_uid).relative_to(spool.root)),
    )


def _result(folder: Path, study_folder: Path, wait_s: float, now: datetime) -> KeptResult:
    """A result as its manifest names it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    return KeptResult(
        result_row(manifest, folder, study_folder), tuple(deliveries_of(manifest, folder, study_folder, wait_s, now))
    )


def open_ledger(
    settings: Settings, spool: Spool, now: datetime, *, waiting: Callable[[], None] = lambda: None
) -> Database:
    """Open the ledger; where it is gone or corrupt beside a spool that is not empty, rebuild it first.

    Raises StorageError: another schema, or a place where it cannot work.
    """
    with closing(HeaderChild(settings.index.header_timeout_s)) as headers:
        database, summary = open_or_rebuild(
            sqlite_path(settings.database.url, state_folder(settings)),
            spool,
            lambda path: _arrival(path, headers, spool),
            lambda folder, study: _result(folder, study, settings.oru.wait_s_max, now),
            now,
            doubt=_doubt,
            waiting=waiting,
        )
    if summary is not None:
        alarm("ledger_rebuilt", why=str(summary))
    return database


def rebuild_ledger(settings: Settings, spool: Spool, now: datetime) -> RebuildSummary:
    """Move the ledger aside and make it again."""
    with closing(HeaderChild(settings.index.header_timeout_s)) as headers:
        return rebuild(
            sqlite_path(settings.database.url, state_folder(settings)),
            spool,
            lambda path: _arrival(path, headers, spool),
            lambda folder, study: _result(folder, study, settings.oru.wait_s_max, now),
            now,
            doubt=_doubt,
        )
