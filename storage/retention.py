"""Retention: what may go from the spool, and when. The ledger marks first, by the proof in `removal.py`; then the files
go.

Images go `images_h` after their study ended, results (all but the manifest) after `results_d`, and all that is known of
a study, with the journal's old files, after `records_d`. What no row names is an orphan: a result folder of a job that
was cut off, a file that a crash kept from going. It goes after a day, never while its study is open, queued or reading.
A study that is held, undelivered or to be withdrawn loses nothing.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from config.settings import Retention as Rules
from storage.associations import ProcessName
from storage.disk import fsync_folder
from storage.ledger import Ledger
from storage.spool import Spool

MANIFEST: Final = "manifest.json"
ORPHAN_AGE: Final = timedelta(hours=24)
STUDIES_A_SWEEP: Final = 100  # the rest waits for the next sweep: a sweep is short


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    images: int = 0
    results: int = 0
    studies: int = 0
    orphans: int = 0
    rows: int = 0


class Retention:
    """One sweep after another, each a bounded piece of work that can be cut off anywhere."""

    def __init__(self, rules: Rules, spool: Spool, ledger: Ledger) -> None:
        self._rules = rules
        self._spool = spool
        self._ledger = ledger
        self._scan: Iterator[Path] | None = None

    def sweep(self, now: datetime) -> Swept:
        """Remove what may go now."""
        records_before = now - timedelta(days=self._rules.records_d)
        return Swept(
            images=self._images(now - timedelta(hours=self._rules.images_h), now),
            results=self._results(now - timedelta(days=self._rules.results_d), now),
            studies=self._records(records_before),
            orphans=self._orphans(now - ORPHAN_AGE),
            rows=self._ledger.prune(now, records_before, [arrival.name for arrival in self._spool.arrivals()]),
        )

    def _images(self, before: datetime, now: datetime) -> int:
        removed = 0
        for number in self._ledger.images_to_remove(before, STUDIES_A_SWEEP):
            study = self._ledger.view(number, headers=False).study
            folder = self._spool.study_folder(study.study_uid)
            for file in self._ledger.remove_images(number, before, now):
                (folder / file).unlink(missing_ok=True)
                removed += 1
            shutil.rmtree(folder / "readings", ignore_errors=True)
            _sync(folder / "images", folder / "withdrawn", folder)
        return removed

    def _results(self, before: datetime, now: datetime) -> int:
        removed = 0
        for number, key, place in self._ledger.results_to_remove(before, STUDIES_A_SWEEP):
            study = self._ledger.view(number, headers=False).study
            if self._ledger.remove_result(key, before, now):
                removed += 1
                folder = self._spool.study_folder(study.study_uid) / place
                for path in _files(folder):
                    if path.name != MANIFEST:
                        path.unlink(missing_ok=True)
                _sync(folder)
        return removed

    def _records(self, before: datetime) -> int:
        folders = self._ledger.remove_records(before, STUDIES_A_SWEEP)
        for folder in folders:
            shutil.rmtree(self._spool.root / folder / "results", ignore_errors=True)
            for place in ("images", "withdrawn", ""):  # one that comes to the same study just now is not touched
                with suppress(OSError):
                    (self._spool.root / folder / place).rmdir()
        for path in self._spool.journal.glob("*.jsonl"):
            if _changed_at(path) < before.timestamp() and not _of_living_process(path):
                path.unlink(missing_ok=True)
        return len(folders)

    def _orphans(self, before: datetime) -> int:
        """Look at some study folders, the next time at others."""
        removed = 0
        for _ in range(STUDIES_A_SWEEP):
            if self._scan is None:
                self._scan = self._spool.study_folders()
            folder = next(self._scan, None)
            if folder is None:
                self._scan = None
                break
            removed += self._orphans_of(folder, before)
        return removed

    def _orphans_of(self, folder: Path, before: datetime) -> int:
        known = self._ledger.known_files(str(folder.relative_to(self._spool.root)))
        if known is None or not known.settled:
            return 0
        removed = 0
        for place in ("images", "withdrawn"):
            for path in _files(folder / place):
                # a second name means that it is in incoming/ still, on its way into the ledger
                if f"{place}/{path.name}" not in known.files and _old(path, before) and path.stat().st_nlink == 1:
                    path.unlink(missing_ok=True)
                    removed += 1
        for path in sorted((folder / "results").glob("*/*")):
            if str(path.relative_to(folder)) not in known.result_folders and _old(path, before):
                shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):
                    path.parent.rmdir()
                removed += 1
        return removed


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _changed_at(path: Path) -> float:
    """Seconds since 1970 of the last change to a file or to its names."""
    status = os.stat(path)
    return max(status.st_mtime, status.st_ctime)


def _old(path: Path, before: datetime) -> bool:
    with suppress(FileNotFoundError):
        return _changed_at(path) < before.timestamp()
    return False


def _of_living_process(journal: Path) -> bool:
    with suppress(ValueError):
        return ProcessName.parse(journal.stem).alive() is not False
    return False


def _sync(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir():
            fsync_folder(folder)
