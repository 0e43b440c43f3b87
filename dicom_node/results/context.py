"""Who writes a result, for which key, and what was written: the frozen data that all kinds of result share."""

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.results.errors import NotWritten
from dicom_node.results.uids import uid

MANUFACTURER: Final = "dicom-node project"
# Results that come back by auto-routing are known by this name: nothing else may carry it, phantoms neither.
MODEL: Final = "dicom-node AI results"


def is_ours(model: str) -> bool:
    """Whether an object with this Manufacturer's Model Name is a result of a node like this one (this or another
    installation).

    The name alone decides: Manufacturer may be set by whoever ships the node. The ledger knows our own results by UID
    besides.
    """
    return model.strip() == MODEL


@dataclass(frozen=True)
class Device:
    """This installation, as results name it (General Equipment, Observer Type = Device). ASCII."""

    ae_title: str
    serial: str
    software_version: str
    manufacturer: str = MANUFACTURER

    @property
    def uid(self) -> str:
        """Device Observer UID: stable for the installation."""
        return uid("device", self.serial)


@dataclass(frozen=True)
class OrderNumbers:
    """The order that the study answers, for Referenced Request Sequence; empty strings where unknown."""

    accession: str = ""
    placer: str = ""
    filler: str = ""
    procedure_id: str = ""
    procedure_description: str = ""


@dataclass(frozen=True)
class ResultContext:
    """What a result needs besides the findings.

    `content_at` (aware) is the time the result states, in the site's zone; where the images name an offset from UTC
    it is
    written in theirs. The caller keeps it with the result, so that a rewrite has the same bytes. `predecessor` is the
    file of
    the last report *sent* for the study. `settings_sha256` is the digest of the settings that reached the reading.
    """

    key: str
    content_at: datetime
    device: Device
    revision: int = 1
    predecessor: Path | None = None
    order: OrderNumbers = OrderNumbers()
    settings_sha256: str = ""


@dataclass(frozen=True)
class Written:
    """One object on disk, synced: `sha256` and `size` (bytes) are those of the file. `kind` is `seg`, `sr` or
    `note`."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    sha256: str
    size: int


def write(kind: str, dataset: Dataset, content: bytes, path: Path) -> Written:
    """Put the bytes of one object at `path`, synced; the folder is the caller's to sync (after its manifest).

    Raises:
        NotWritten: the disk refused; what was begun is removed.
    """
    try:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as refused:
        path.unlink(missing_ok=True)
        raise NotWritten(
            f"{path.name} was not written: {refused.strerror}", kind, "free space, then requeue"
        ) from refused
    return Written(
        kind=kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
