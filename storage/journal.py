"""The journal: what a rebuild must not lose, one JSON line each, synced before `append` returns.

One file per process, `<host>-<boot>-<pid>.jsonl`, only ever appended to. Knows lines, not what they mean: kinds and
fields are the callers'. A line that a crash tore was never acknowledged, so readers step over it and say which it was.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from storage.disk import FILE_MODE, fsync_folder, make_folder
from storage.errors import JournalFailed


@dataclass(frozen=True)
class Entry:
    """One line: its kind, its moment (ISO, "" where the writer gave none), and the writer's own fields."""

    kind: str
    at: str
    fields: Mapping[str, Any]
    file: str
    line: int


@dataclass(frozen=True)
class Entries:
    """All lines of a folder by moment, then file and line; and the places of lines that could not be read."""

    entries: tuple[Entry, ...]
    damaged: tuple[str, ...]


class Journal:
    """The one writer of a process; threads may share it."""

    def __init__(self, folder: Path, host: str, boot: str, pid: int) -> None:
        make_folder(folder)
        self.path = folder / f"{host}-{boot}-{pid}.jsonl"
        self._lock = threading.Lock()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        fsync_folder(folder)
        self._torn = _ends_torn(self.path)

    def append(self, kind: str, *, at: datetime | None = None, **fields: Any) -> None:
        """Add one line, durable when this returns.

        Fields are plain JSON values. Give `at` (aware) where the order between processes matters.
        Raises:
            JournalFailed: the line may be lost; what it stands for must not be done.
        """
        entry = {"kind": kind, "at": at.isoformat() if at else "", **fields}
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            try:
                self._write(b"\n" + line if self._torn else line)
            except OSError as fault:
                self._torn = True
                raise JournalFailed(
                    what=f"a line could not be made durable: {fault.strerror}",
                    which=f"journal {self.path.name}",
                    do="look at the disk of the spool",
                ) from fault

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)
        self._torn = False

    def close(self) -> None:
        """Close the file; nothing is pending."""
        os.close(self._descriptor)


def read_all(folder: Path) -> Entries:
    """Read every journal of a folder; a folder that is not there has none."""
    entries: list[Entry] = []
    damaged: list[str] = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line:
                continue
            try:
                fields = json.loads(line.decode("utf-8", "surrogatepass"))
                entries.append(Entry(fields.pop("kind"), fields.pop("at"), fields, path.name, number))
            except (ValueError, KeyError, AttributeError):
                damaged.append(f"{path.name}:{number}")
    entries.sort(key=lambda entry: (_moment(entry.at), entry.file, entry.line))
    return Entries(tuple(entries), tuple(damaged))


def _moment(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def _ends_torn(path: Path) -> bool:
    """A crash may have left half a line; the next one must not be glued to it."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
