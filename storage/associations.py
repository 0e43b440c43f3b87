"""Who brought what: a marker per association, as evidence for completeness.

`associations/<host>-<boot>-<pid>-<n>.open` becomes `.released` or `.aborted` with its count of files. Markers are not
synced: they are evidence, and an `.open` one of a dead process counts as aborted. Files in `incoming/` are named
`<association>-<n>`.
"""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from storage.disk import FILE_MODE

End = Literal["released", "aborted"]
_SUFFIXES: Final = ("open", "released", "aborted")


@dataclass(frozen=True)
class ProcessName:
    """A process, for ever: host, this start of the machine with this start of the process, process number.

    The start of the process stands in `boot` because a container that is started again has the same host, boot and
    number.
    """

    host: str
    boot: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host}-{self.boot}-{self.pid}"

    @classmethod
    def of_this_process(cls) -> "ProcessName":
        """Ask the kernel (Linux)."""
        return cls(_host(), f"{_boot_id()}{_started(os.getpid()):x}", os.getpid())

    @classmethod
    def parse(cls, text: str) -> "ProcessName":
        """The opposite of str(); ValueError for what is none."""
        host, boot, pid = text.rsplit("-", 2)
        return cls(host, boot, int(pid))

    def alive(self) -> bool | None:
        """Whether it still runs; None where that can't be known, on another host."""
        if self.host != _host():
            return None
        try:
            return self.boot == f"{_boot_id()}{_started(self.pid):x}"
        except OSError:
            return False


@dataclass(frozen=True)
class Marker:
    """What is known of an association. Times are aware UTC; `closed_at` and `files` hold once it has ended.

    `state` is `open`, `released` or `aborted` as the receiver wrote it; `ended()` adds what became of its process.
    """

    name: str
    state: Literal["open", "released", "aborted"]
    calling_ae: str
    called_ae: str
    address: str
    opened_at: datetime
    closed_at: datetime | None = None
    files: int = 0
    why: str = ""

    def ended(self) -> End | None:
        """How it ended; None while it may still bring something (or, on another host, may not be known)."""
        if self.state != "open":
            return self.state
        return "aborted" if ProcessName.parse(self.name.rsplit("-", 1)[0]).alive() is False else None


class Association:
    """An association being received: hands out names for its files and keeps its marker."""

    def __init__(self, folder: Path, marker: Marker) -> None:
        self._folder = folder
        self._marker = marker
        self._given = 0
        self._kept = 0
        _write(folder / f"{marker.name}.open", marker)

    @property
    def name(self) -> str:
        """`<host>-<boot>-<pid>-<n>`."""
        return self._marker.name

    @property
    def files(self) -> int:
        """Files kept so far."""
        return self._kept

    def next_name(self) -> str:
        """A name for its next file, never given twice."""
        self._given += 1
        return f"{self.name}-{self._given}"

    def kept(self) -> None:
        """The file of the last name is durable."""
        self._kept += 1

    def close(self, end: End, at: datetime, why: str = "") -> None:
        """Say how it ended."""
        ended = replace(self._marker, state=end, closed_at=at, files=self._kept, why=why)
        _write(self._folder / f"{self.name}.{end}", ended)
        (self._folder / f"{self.name}.open").unlink(missing_ok=True)


class Associations:
    """The folder of markers; opens associations for this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = ProcessName.of_this_process()
        self._lock = threading.Lock()
        self._opened = 0

    def open(self, *, calling_ae: str, called_ae: str, address: str, at: datetime) -> Association:
        """A new one, its marker written."""
        with self._lock:
            self._opened += 1
            number = self._opened
        return Association(self.folder, Marker(f"{self.process}-{number}", "open", calling_ae, called_ae, address, at))

    def get(self, name: str) -> Marker | None:
        """The marker of one; None when it is gone. An end counts more than a beginning."""
        for suffix in reversed(_SUFFIXES):
            try:
                return _read(self.folder / f"{name}.{suffix}")
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def __iter__(self) -> Iterator[Marker]:
        names = {path.stem for path in self.folder.iterdir() if path.suffix[1:] in _SUFFIXES}
        return (marker for name in sorted(names) if (marker := self.get(name)) is not None)

    def forget(self, name: str) -> None:
        """Remove the marker of one whose files are all accounted for."""
        for suffix in _SUFFIXES:
            (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)


def association_of(incoming_name: str) -> str:
    """The association that brought a file, from its name in `incoming/` (with or without `.dcm`)."""
    return incoming_name.removesuffix(".dcm").removesuffix(".part").rsplit("-", 1)[0]


def _write(path: Path, marker: Marker) -> None:
    """Whole or not at all, unsynced."""
    temporary = path.with_suffix(path.suffix + "-part")
    with open(temporary, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
        json.dump(asdict(marker), file, default=datetime.isoformat)
    os.rename(temporary, path)


def _read(path: Path) -> Marker:
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["opened_at"] = datetime.fromisoformat(fields["opened_at"])
    fields["closed_at"] = datetime.fromisoformat(fields["closed_at"]) if fields["closed_at"] else None
    return Marker(**fields)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64].lstrip(".") or "host"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]


def _started(pid: int) -> int:
    """Clock ticks between the machine's start and the process's (proc(5): field 22 of stat)."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[19])  # the name, in brackets, may hold spaces
