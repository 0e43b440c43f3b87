"""Whom we turned away, so that a person can allow the one that should not have been: AE titles, addresses, reasons.

One bounded file per process, `associations/<host>-<boot>-<pid>.refused`, unsynced; a process takes over those of dead
ones. AE titles and addresses are no patient identifiers.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from storage.associations import ProcessName
from storage.disk import FILE_MODE

ENTRIES_MAX: Final = 100


@dataclass(frozen=True)
class Refusal:
    """A caller that was rejected, how often, and when last (aware UTC)."""

    calling_ae: str
    called_ae: str
    address: str
    why: str
    last_at: datetime
    count: int = 1

    @property
    def _who(self) -> tuple[str, str, str, str]:
        return self.calling_ae, self.called_ae, self.address, self.why


class Refusals:
    """The list of one process; iterating gives those of all processes, latest first."""

    def __init__(self, folder: Path, process: ProcessName) -> None:
        self._folder = folder
        self._path = folder / f"{process}.refused"
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str, str], Refusal] = {}

    def take_over(self) -> None:
        """Make those of dead processes ours, and remove their files."""
        with self._lock:
            for path in self._folder.glob("*.refused"):
                if path != self._path and ProcessName.parse(path.stem).alive() is False:
                    for refusal in _read(path):
                        self._add(refusal)
                    self._write()
                    path.unlink(missing_ok=True)

    def note(self, refusal: Refusal) -> int:
        """Count one; says how often this caller was turned away for this reason."""
        with self._lock:
            count = self._add(refusal)
            self._write()
            return count

    def __iter__(self) -> Iterator[Refusal]:
        found = [refusal for path in self._folder.glob("*.refused") for refusal in _read(path)]
        return iter(sorted(found, key=lambda refusal: refusal.last_at, reverse=True))

    def _add(self, refusal: Refusal) -> int:
        before = self._known.pop(refusal._who, None)
        both = refusal if before is None else _merged(before, refusal)
        self._known[both._who] = both
        while len(self._known) > ENTRIES_MAX:
            del self._known[next(iter(self._known))]
        return both.count

    def _write(self) -> None:
        lines = [asdict(refusal) | {"last_at": refusal.last_at.isoformat()} for refusal in self._known.values()]
        temporary = self._path.with_suffix(".refused-part")
        with open(temporary, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
            json.dump(lines, file)
        os.rename(temporary, self._path)


def _merged(first: Refusal, second: Refusal) -> Refusal:
    return replace(second, count=first.count + second.count, last_at=max(first.last_at, second.last_at))


def _read(path: Path) -> list[Refusal]:
    """What a file holds; nothing of one that another process is just replacing or that is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        lines = json.loads(path.read_text(encoding="utf-8"))
        return [Refusal(**(line | {"last_at": datetime.fromisoformat(line["last_at"])})) for line in lines]
    return []
