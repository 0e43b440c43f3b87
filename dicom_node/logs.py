"""Log lines: one a move, `event key=value ...`, on standard error. No identifier is ever a value: a study is its number in the ledger.

`event()` refuses a key that is not in KEYS, so that no line can carry a name, an ID or a UID by accident.
"""

import logging
import sys
from typing import Final

KEYS: Final = frozenset(
    [
        "study",
        "series",
        "instances",
        "revision",
        "delivery",
        "destination",
        "state",
        "from_state",
        "why",
        "evidence",
        "code",
        "outcome",
        "seconds",
        "attempts",
        "error",
        "status",
        "count",
        "role",
        "pid",
        "signal",
        "host",
        "port",
        "ae",
        "peer",
        "free_mib",
        "used_share",
        "age_s",
        "file",
        "bytes",
        "kind",
        "rank",
        "stage",
        "worker",
        "owner",
        "token",
        "move",
        "by",
        "exit",
        "restarts",
    ]
)

_LOG = logging.getLogger("dicom_node")


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Write one line. Raises ValueError for a key that is not in KEYS."""
    unknown = fields.keys() - KEYS
    if unknown:
        raise ValueError(f"log keys {sorted(unknown)} are not in dicom_node.logs.KEYS")
    _LOG.log(level, "%s%s", name, "".join(f" {key}={_value(value)}" for key, value in fields.items()))


def alarm(name: str, **fields: object) -> None:
    """An event that an operator must see."""
    event(f"alarm.{name}", logging.ERROR, **fields)


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    text = text.replace("\n", " ").replace("\r", " ")
    return f'"{text}"' if " " in text else text


def configure(level: str, role: str) -> None:
    """Send our lines to standard error; libraries may only warn, and pynetdicom and pydicom (which print data sets) only fail."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s %(levelname)s {role} %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("dicom_node", "storage", "hl7", "inference"):
        logging.getLogger(name).setLevel(level.upper())
    for name in ("pynetdicom", "pydicom", "highdicom", "apscheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
