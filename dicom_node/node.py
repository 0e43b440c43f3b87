"""A node's parts, built in one place: settings, spool, journal, ledger, device. Commands and roles start from here."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from dicom_node.places import open_spool, software_version, state_folder, utc_now
from dicom_node.rebuilding import open_ledger
from dicom_node.results.context import Device
from storage.associations import ProcessName
from storage.database import Database
from storage.journal import Journal
from storage.ledger import Ledger
from storage.spool import Spool, make_folder, write_synced


@dataclass(frozen=True)
class Node:
    """What every role and most commands need."""

    settings: Settings
    spool: Spool
    journal: Journal
    database: Database
    ledger: Ledger
    owner: str

    def device(self) -> Device:
        """This installation, as results name it."""
        return device_of(self.settings)

    def close(self) -> None:
        """Give back files and connections."""
        self.database.close()
        self.journal.close()


def open_node(settings: Settings, who: str, *, waiting: Callable[[], None] = lambda: None) -> Node:
    """Open the ledger beside the spool; it is created where all is new, and rebuilt from the spool where it is gone.

    Raises StorageError: the ledger is corrupt, of another schema, or lies where it cannot work.
    """
    spool = open_spool(settings)
    process = ProcessName.of_this_process()
    journal = Journal(spool.journal, process.host, process.boot, process.pid)
    database = open_ledger(settings, spool, utc_now(), waiting=waiting)
    database.require_schema()
    return Node(settings, spool, journal, database, Ledger(database, journal, who), f"{who}@{process}")


def device_of(settings: Settings) -> Device:
    """The device of results: the site's serial number, else one made once and kept in the state folder."""
    serial = settings.site.device_serial or _kept_serial(state_folder(settings) / "device-serial")
    return Device(ae_title=settings.receive.ae_title, serial=serial, software_version=software_version())


def _kept_serial(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        make_folder(path.parent)
        fresh = path.with_name(f"{path.name}-{os.getpid()}")
        write_synced(fresh, secrets.token_hex(8).encode())
        with suppress(FileExistsError):  # the first of several processes wins
            os.link(fresh, path)
        fresh.unlink()
        return path.read_text(encoding="ascii").strip()
