"""A folder of files to a C-STORE SCP, as a modality would send them: for `dicom-node send` and the demonstration.

A file without preamble or file meta is given one; what is no DICOM at all is left out and counted.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.errors import Refused
from dicom_node.net.scu import Sender

BATCH_MAX: Final = 100  # small enough to see progress
KINDS_MAX: Final = 60  # classes and syntaxes of one association: at most 128 presentation contexts, two for some


@dataclass(frozen=True)
class Address:
    """Whom to call."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True)
class Sent:
    """How many files were stored, refused, and no DICOM."""

    stored: int
    refused: int
    skipped: int


def send_files(
    files: Sequence[Path],
    target: Address,
    *,
    calling_ae: str,
    timeout_s: float = 60,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sent:
    """Send in batches, an association each; a refused file costs itself alone.

    Raises NotReached or NoAnswer of `net.scu`.
    """
    sender = Sender(calling_ae, timeout_s)
    stored = refused = skipped = 0
    with tempfile.TemporaryDirectory(prefix="dicom-node-send-") as scratch:
        readable: list[tuple[Path, tuple[str, str]]] = []
        for number, path in enumerate(files):
            usable = _usable(path, Path(scratch) / f"{number}.dcm")
            if usable is None:
                skipped += 1
            else:
                readable.append(usable)
        for batch in _batches(readable):
            rest = list(batch)
            while rest:
                try:
                    stored += len(sender.store(rest, target).instances)
                    rest = []
                except Refused as refusal:
                    fates = refusal.outcome.instances  # type: ignore[attr-defined]
                    taken = sum(one.fate in ("success", "warning") for one in fates)
                    stored += taken
                    if taken == 0 and all(one.fate == "not sent" for one in fates):
                        # it does not take some classes or syntaxes: the others are tried without them
                        kept = [path for path, one in zip(rest, fates, strict=True) if not one.text]
                        refused += len(rest) - len(kept)
                        rest = kept
                    else:
                        refused += 1
                        rest = rest[taken + 1 :]
            progress(stored + refused, len(readable))
    return Sent(stored, refused, skipped)


def _usable(path: Path, repaired: Path) -> tuple[Path, tuple[str, str]] | None:
    """The file, or a repaired copy of it, with its class and syntax; None when it is no DICOM instance."""
    try:
        meta = read_file_meta_info(path)
        if not (meta.MediaStorageSOPClassUID and meta.MediaStorageSOPInstanceUID):
            return None  # it names no instance; C-STORE can't carry it
        return path, (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
    except (InvalidDicomError, AttributeError, OSError, ValueError, EOFError, NotImplementedError):
        pass
    try:
        dataset = pydicom.dcmread(path, force=True)
        if not dataset.get("SOPClassUID") or not dataset.get("SOPInstanceUID"):
            return None
        syntax = getattr(dataset, "file_meta", pydicom.dataset.FileMetaDataset()).get("TransferSyntaxUID")
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = syntax or (
            ImplicitVRLittleEndian if dataset.original_encoding[0] else pydicom.uid.ExplicitVRLittleEndian
        )
        dataset.save_as(repaired, enforce_file_format=True)
        return repaired, (str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID))
    except Exception:  # noqa: BLE001 - whatever hurts pydicom here is no instance that could be sent
        return None


def _batches(files: Sequence[tuple[Path, tuple[str, str]]]) -> Iterator[list[Path]]:
    """Batches that one association can carry."""
    batch: list[Path] = []
    kinds: set[tuple[str, str]] = set()
    for path, kind in files:
        if batch and (len(batch) >= BATCH_MAX or len(kinds | {kind}) > KINDS_MAX):
            yield batch
            batch, kinds = [], set()
        batch.append(path)
        kinds.add(kind)
    if batch:
        yield batch
