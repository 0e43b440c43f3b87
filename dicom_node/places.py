"""Where things of this installation lie, and the one clock of the services. Loads no database: a receiver needs no more than this."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from config.settings import Settings
from storage.spool import Spool


def utc_now() -> datetime:
    """The one clock of the services."""
    return datetime.now(UTC)


def software_version() -> str:
    """The version of this distribution."""
    return version("dicom-node")


def state_folder(settings: Settings) -> Path:
    """`paths.state`, absolute."""
    return Path(settings.paths.state).absolute()


def open_spool(settings: Settings) -> Spool:
    """The spool alone: all that a receiver needs."""
    return Spool(state_folder(settings) / "spool", settings.disk)
