"""What this project asks of a disk: bytes, names and folders that survive a power cut, and room before there is none.

A file is durable when its bytes and the folder that names it are synced. Every durable write of ours goes through here,
past named crash points, at which `DICOM_NODE_DIE_AT=<point>[:<n>]` kills the process the nth time (for tests/crash;
nothing otherwise).
"""

import errno
import hashlib
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.errors import SpoolFull

Bytes = bytes | bytearray | memoryview

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
FREE_SPACE: Final = "free space on its disk; `dicom-node status` shows what holds it"
CRASH_POINTS: Final = ("part-open", "part-written", "part-synced", "renamed", "folder-synced")
"""Where a write of an object or a result may be cut off, in order."""

_POINT, _, _TURN = os.environ.get("DICOM_NODE_DIE_AT", "").partition(":")
_left = int(_TURN or 1)
_lock = threading.Lock()


def crash_point(name: str) -> None:
    """Die here by SIGKILL when the environment asks for it; else nothing."""
    global _left
    if name != _POINT:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DiskState:
    """Room on the disk of a folder, as an ordinary user has it."""

    free_mib: int
    used_share: float


def disk_state(folder: Path) -> DiskState:
    """Ask the file system; costs microseconds."""
    answer = os.statvfs(folder)
    used = answer.f_blocks - answer.f_bfree
    usable = used + answer.f_bavail
    return DiskState(free_mib=answer.f_bavail * answer.f_frsize // 2**20, used_share=used / usable if usable else 1.0)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a stored file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, mode 0700, each durable in its parent; one that is there stays as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster, and may not have synced yet
        folder.mkdir(mode=FOLDER_MODE)
    fsync_folder(folder.parent)


def write_part(part: Path, pieces: Sequence[Bytes]) -> None:
    """Write a new file from pieces, by one writev where the kernel takes it whole, and sync its bytes.

    Raises:
        SpoolFull: the disk is full; nothing is left behind.
        FileExistsError: somebody else has the name.
    """
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        crash_point("part-open")
        _write_all(descriptor, pieces)
        crash_point("part-written")
        os.fsync(descriptor)
        crash_point("part-synced")
    except OSError as fault:
        part.unlink(missing_ok=True)
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpoolFull(what="the disk is full", which=str(part.parent), do=FREE_SPACE) from fault
        raise
    finally:
        os.close(descriptor)


def put_in_place(part: Path, path: Path) -> None:
    """Give a synced part its final name, durably: a final name means complete."""
    os.rename(part, path)
    crash_point("renamed")
    fsync_folder(path.parent)
    crash_point("folder-synced")


def write_synced(path: Path, data: Bytes) -> None:
    """Write a whole file durably: beside its place, synced, renamed, folder synced. Replaces what had the name.

    Raises:
        SpoolFull: the disk is full; the old file stands.
    """
    part = path.with_name(path.name + f".{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    write_part(part, [data])
    put_in_place(part, path)


def _write_all(descriptor: int, pieces: Sequence[Bytes]) -> None:
    """One writev; the rest after a short write (above 2 GiB, or a disk that fills) piece by piece."""
    views = [memoryview(piece).cast("B") for piece in pieces]
    written = os.writev(descriptor, views)
    for view in views:
        skipped = min(written, len(view))
        written -= skipped
        rest = view[skipped:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
