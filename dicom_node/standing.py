"""A worker that claims no study: why, since when, and when it tries again. Each says so in a file of the state folder, for `status`.

A reader that refuses its models, or a device that computes no more, is no study's fault: claims stop until it is put right.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from dicom_node.errors import NoReader
from dicom_node.logs import alarm, event
from storage.associations import ProcessName
from storage.disk import make_folder, write_synced
from storage.errors import StorageError

FOLDER: Final = "standing"
WAIT_S_MAX: Final = 300.0  # between two tries


@dataclass(frozen=True)
class Standing:
    """A worker that stands still: since when (aware UTC), the reason as a word for machines and as a sentence."""

    worker: str
    since: datetime
    code: str
    why: str


class Standstill:
    """Whether one worker stands still."""

    def __init__(self, state: Path, worker: str, backoff_s: float) -> None:
        """`state`: the state folder; `worker`: the owner of its leases; `backoff_s`: the first wait, doubled with each try."""
        self._file = state / FOLDER / worker
        self._backoff_s = backoff_s
        self._standing: Standing | None = None
        self._tries = 0
        self._again_at: datetime | None = None

    def begin(self, none: NoReader, now: datetime) -> None:
        """Nothing can be read, again or for the first time: a line in the log for each reason, and a word for `status`."""
        before = self._standing
        self._standing = Standing(self._file.name, before.since if before else now, none.code, str(none))
        self._again_at = now + timedelta(seconds=min(self._backoff_s * 2 ** min(self._tries, 10), WAIT_S_MAX))
        self._tries += 1
        if before is None or before.why != self._standing.why:
            alarm("no_reader", code=none.code, why=f"{none.which}: {none.what}" if none.which else none.what)
            self._say(self._standing)

    def is_over(self, now: datetime, warm: Callable[[], None]) -> bool:
        """Whether studies may be claimed; `warm` starts a reader, and is called when it is time to try."""
        if self._standing is None:
            return True
        if self._again_at is not None and now < self._again_at:
            return False
        try:
            warm()
        except NoReader as none:
            self.begin(none, now)
            return False
        event("worker.goes_on", seconds=(now - self._standing.since).total_seconds())
        self.end()
        return True

    def end(self) -> None:
        """A reader is there, or the worker stops."""
        self._standing, self._tries = None, 0
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _say(self, standing: Standing) -> None:
        fields = {"since": standing.since.isoformat(), "code": standing.code, "why": standing.why}
        try:
            make_folder(self._file.parent)
            write_synced(self._file, json.dumps(fields).encode())
        except (StorageError, OSError) as full:  # the log has said it
            event("worker.unsaid", logging.WARNING, error=type(full).__name__)


def standing_still(state: Path) -> list[Standing]:
    """Who stands still now, longest first; what a worker that was killed has left is passed over."""
    found = []
    for path in sorted((state / FOLDER).glob("*")):
        if path.name.endswith(".part") or not _may_live(path.name):
            continue
        try:
            fields = json.loads(path.read_bytes())
        except FileNotFoundError:  # it goes on
            continue
        found.append(Standing(path.name, datetime.fromisoformat(fields["since"]), fields["code"], fields["why"]))
    return sorted(found, key=lambda one: one.since)


def _may_live(worker: str) -> bool:
    try:
        return ProcessName.parse(worker.rpartition("@")[2]).alive() is not False
    except ValueError:
        return True
