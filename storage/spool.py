"""The spool: received objects, durable before any sender hears Success (promise 1), and the results made from them.

An object is kept when its bytes, its name and its folder are synced. Knows UIDs and bytes, not DICOM.

    incoming/        <association>-<n>.part, then .dcm: received, not yet in the ledger; the indexer's only work list
    associations/    markers of who brought what (associations.py), and whom we turned away (refusals.py)
    unfiled/         what could not be filed, each with a .json that says why
    studies/         <two hex>/<Study UID>/{images,withdrawn,results}; the two are the first of the UID's SHA-256
    journal/         what a rebuild must not lose (journal.py)

Crash points (disk.py): part-open, part-written, part-synced, renamed, folder-synced. tests/crash kills at each.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from config.settings import Disk
from storage.associations import Associations, ProcessName, association_of
from storage.disk import (
    FOLDER_MODE,
    FREE_SPACE,
    Bytes,
    DiskState,
    disk_state,
    fsync_folder,
    make_folder,
    put_in_place,
    write_part,
    write_synced,
)
from storage.errors import NameTaken, SpoolFull
from storage.refusals import Refusals

__all__ = ["Arrival", "DiskState", "Place", "Spool", "fsync_folder", "make_folder", "safe_name", "write_synced"]

Place = Literal["images", "withdrawn"]
_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")
_TOKEN: Final = re.compile(r"[0-9A-Za-z_]{1,64}")
_FOLDERS: Final = ("incoming", "associations", "unfiled", "studies", "journal")


def safe_name(uid: str) -> str:
    """A UID as a file or folder name. Outside `[0-9][0-9.]{0,63}` it is `x` and its SHA-256: none leads away."""
    if _UID.fullmatch(uid):
        return uid
    return "x" + _digest(uid)


@dataclass(frozen=True)
class Arrival:
    """A received file that waits in `incoming/`; `inode` recognises it where it is filed under another name."""

    name: str
    path: Path
    size: int
    inode: int
    received_at: datetime

    @property
    def association(self) -> str:
        """The association that brought it."""
        return association_of(self.name)


class Spool:
    """One folder on a local disk, readable by its own user alone; any number of processes use it."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = Path(root).absolute()
        self.disk = disk or Disk()
        make_folder(self.root)
        self.root.chmod(FOLDER_MODE)
        for name in _FOLDERS:
            make_folder(self.root / name)
        self.incoming = self.root / "incoming"
        self.unfiled = self.root / "unfiled"
        self.studies = self.root / "studies"
        self.journal = self.root / "journal"
        self.associations = Associations(self.root / "associations")
        self.refusals = Refusals(self.associations.folder, self.associations.process)

    # Room

    def disk_state(self) -> DiskState:
        """Room on the spool's disk."""
        return disk_state(self.root)

    def check_room(self, size: int = 0) -> None:
        """Refuse an object from outside before it does harm.

        Raises:
            SpoolFull: under `disk.free_mib_min` or above `disk.used_max`, or `size` bytes would go under it.
        """
        state = self.disk_state()
        if state.used_share > self.disk.used_max:
            raise self._full(f"{state.used_share:.0%} of the disk is used, disk.used_max is {self.disk.used_max:.0%}")
        if state.free_mib - size // 2**20 < self.disk.free_mib_min:
            raise self._full(f"{state.free_mib} MiB free, disk.free_mib_min is {self.disk.free_mib_min}")

    def check_reserve(self, size: int = 0) -> None:
        """Refuse a result of our own only when `disk.reserve_mib` below the limit for others is used up as well.

        Raises:
            SpoolFull
        """
        least = max(self.disk.free_mib_min - self.disk.reserve_mib, 0)
        free = self.disk_state().free_mib
        if free - size // 2**20 < least:
            raise self._full(f"{free} MiB free, the reserve for results ends at {least}")

    def _full(self, what: str) -> SpoolFull:
        return SpoolFull(what=what, which=f"spool {self.root}", do=FREE_SPACE)

    # Incoming

    def receive(self, name: str, pieces: Sequence[Bytes], *, ours: bool = False) -> Path:
        """Keep a received object under a name that an `Association` gave; it is durable when this returns.

        `ours`: a note that the node itself writes, for which the reserve of results is there.

        Raises:
            SpoolFull: before anything was written, or the disk filled up; nothing is left behind.
        """
        size = sum(len(piece) for piece in pieces)
        if ours:
            self.check_reserve(size)
        else:
            self.check_room(size)
        part, path = self.incoming / f"{name}.part", self.incoming / f"{name}.dcm"
        write_part(part, pieces)
        put_in_place(part, path)
        return path

    def arrivals(self, limit: int | None = None) -> list[Arrival]:
        """What waits in `incoming/`, oldest first."""
        found = []
        with os.scandir(self.incoming) as entries:
            for entry in entries:
                if entry.name.endswith(".dcm"):
                    with suppress(FileNotFoundError):
                        found.append(_arrival(entry))
        found.sort(key=_order)
        return found[:limit]

    def remove_arrivals(self, names: Iterable[str]) -> None:
        """Take names out of `incoming/` that are filed and committed; names that are gone are no matter."""
        for name in names:
            (self.incoming / f"{name}.dcm").unlink(missing_ok=True)
        fsync_folder(self.incoming)

    def remove_dead_parts(self) -> int:
        """Remove what processes of this host left half-written when they died; nobody was told that it was kept."""
        removed = 0
        for part in self.incoming.glob("*.part"):
            with suppress(ValueError):
                if ProcessName.parse(association_of(part.name).rsplit("-", 1)[0]).alive() is False:
                    part.unlink(missing_ok=True)
                    removed += 1
        return removed

    def quarantine(self, name: str, *, code: str, text: str, at: datetime) -> Path:
        """Move a file that can't be filed to `unfiled/`, with why beside it. Can be repeated."""
        path = self.unfiled / f"{name}.dcm"
        why = {"code": code, "text": text, "at": at.isoformat(), "association": association_of(name)}
        write_synced(path.with_suffix(".json"), json.dumps(why).encode())
        with suppress(FileNotFoundError):
            os.rename(self.incoming / f"{name}.dcm", path)
        fsync_folder(self.unfiled)
        fsync_folder(self.incoming)
        return path

    # Studies

    def study_folder(self, study_uid: str) -> Path:
        """Where a study lies; need not exist."""
        return self.studies / _digest(study_uid)[:2] / safe_name(study_uid)

    def study_folders(self) -> Iterator[Path]:
        """All of them, for a scan of the whole spool."""
        for two in sorted(self.studies.iterdir()):
            yield from sorted(two.iterdir())

    def free_name(self, study_uid: str, sop_uid: str, place: Place = "images") -> str:
        """The first name for an instance that no file has: `<SOP UID>.dcm`, then `<SOP UID>~2.dcm`, `~3` ..."""
        folder, stem, number = self.study_folder(study_uid) / place, safe_name(sop_uid), 1
        while (folder / (name := f"{stem}.dcm" if number == 1 else f"{stem}~{number}.dcm")).exists():
            number += 1
        return name

    def file_into(
        self, study_uid: str, arrival_name: str, target: str, *, place: Place = "images", sync: bool = True
    ) -> Path:
        """Give a file of `incoming/` a second name in its study's folder; the first stays until `remove_arrivals`.

        Can be repeated, also after the first name is gone. With sync=False the caller calls `sync_study` for the batch.
        Raises:
            NameTaken: another file has the name.
            FileNotFoundError: neither name is there.
        """
        folder = self.study_folder(study_uid) / place
        make_folder(folder)
        source, path = self.incoming / f"{arrival_name}.dcm", folder / target
        _link(source, path)
        if sync:
            self.sync_study(study_uid)
        return path

    def sync_study(self, study_uid: str) -> None:
        """Make the names of files that were filed with sync=False durable, and those of the folders above them."""
        study = self.study_folder(study_uid)
        for folder in (study / "images", study / "withdrawn", study, study.parent, self.studies):
            with suppress(FileNotFoundError):
                fsync_folder(folder)

    def withdraw(self, study_uid: str, name: str) -> Path:
        """Move a rejected image to `withdrawn/`, durably; `~2` where another file has the name. Can be repeated.

        Raises:
            FileNotFoundError: the study has no such image, nor was one withdrawn.
        """
        study = self.study_folder(study_uid)
        source, folder = study / "images" / name, study / "withdrawn"
        make_folder(folder)
        path, last, number = folder / name, None, 1
        while path.exists() and not (source.exists() and path.samefile(source)):
            number += 1
            path, last = folder / f"{name.removesuffix('.dcm')}~{number}.dcm", path
        if not source.exists() and last is not None:
            return last  # done before
        _link(source, path)
        fsync_folder(folder)
        source.unlink(missing_ok=True)
        fsync_folder(source.parent)
        return path

    def result_folder(self, study_uid: str, key: str, token: str | int) -> Path:
        """Make `results/<key>/<token>/`, for the files of one attempt at a result.

        Raises:
            ValueError: a key or token that is no safe name.
        """
        if not (_TOKEN.fullmatch(key) and _TOKEN.fullmatch(str(token))):
            raise ValueError(f"no name for a result folder: {key!r}/{token!r}")
        folder = self.study_folder(study_uid) / "results" / key / str(token)
        make_folder(folder)
        return folder


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


def _arrival(entry: os.DirEntry[str]) -> Arrival:
    status = entry.stat()
    received_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return Arrival(entry.name.removesuffix(".dcm"), Path(entry.path), status.st_size, status.st_ino, received_at)


def _order(arrival: Arrival) -> tuple[datetime, str, int, str]:
    """Oldest first. File systems tell the time in steps, of 4 ms often: within one the number of the association counts."""
    association, _, number = arrival.name.rpartition("-")
    return arrival.received_at, association, int(number) if number.isdecimal() else 0, arrival.name


def _link(source: Path, path: Path) -> None:
    """A second name for a file, never in the place of another; done before is done."""
    try:
        os.link(source, path)
    except FileExistsError:
        if source.exists() and not path.samefile(source):
            raise NameTaken(what="another file has this name", which=path.name, do="take the next free name") from None
    except FileNotFoundError:
        if not path.exists():
            raise
