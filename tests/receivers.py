"""A receiver on a free port of the loopback, in this process or in one of its own; and small objects to send to it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, build_context

from config.settings import Disk, Receive, Settings, Site
from dicom_node.net.library import prepare
from dicom_node.receiver import file_meta, serve_receiver
from storage.spool import Spool
from tests.conftest import REPOSITORY
from tests.peers.tools import Peer, free_port

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SMALL_DISK = Disk(free_mib_min=1, used_max=1.0)


def settings_for(port: int, **receive: Any) -> Settings:
    """Defaults, but for a loopback port and one caller, SENDER."""
    asked = {"host": "127.0.0.1", "port": port, "calling_ae_titles": ("SENDER",)} | receive
    return Settings(site=Site(timezone="Europe/Zurich"), receive=Receive(**asked), disk=SMALL_DISK)


@contextmanager
def receiving(spool: Spool, **receive: Any) -> Iterator[Receive]:
    """A receiver in this process; it is stopped at the end, as by SIGTERM."""
    settings, stop, ready = settings_for(free_port(), **receive), threading.Event(), threading.Event()
    thread = threading.Thread(
        target=serve_receiver,
        args=(settings, spool),
        kwargs={"stop": stop, "ready": ready.set, "heartbeat": lambda: None},
    )
    thread.start()
    try:
        assert ready.wait(10), "the receiver did not get ready"
        yield settings.receive
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "the receiver did not stop"


class ReceiverProcess(Peer):
    """A receiver in a process of its own, which may be killed; `die_at` is a crash point, with its turn."""

    def __init__(self, spool_folder: Path, die_at: str = "") -> None:
        self.receive = settings_for(free_port()).receive
        super().__init__(
            [sys.executable, "-m", "tests.receivers", str(spool_folder), str(self.receive.port)],
            PYTHONPATH=str(REPOSITORY),
            DICOM_NODE_DIE_AT=die_at,
        )
        self.line(lambda line: line == "ready", "the receiver to get ready")


def write_object(
    path: Path, dataset: bytes, *, sop_class: str = CT, syntax: str = EXPLICIT, uid: str = "1.2.3"
) -> Path:
    """A Part 10 file with any bytes as its data set."""
    path.write_bytes(file_meta(sop_class, uid, syntax, b"") + dataset)
    return path


def associate(receive: Receive, contexts: Sequence[tuple[str, str]] = ((CT, EXPLICIT),), **titles: str) -> Any:
    """pynetdicom as the sender, with (class, syntax) pairs; established or not."""
    prepare()
    ae = AE(titles.get("calling", "SENDER"))
    ae.dimse_timeout = ae.acse_timeout = ae.network_timeout = 20
    return ae.associate(
        "127.0.0.1",
        receive.port,
        contexts=[build_context(sop_class, UID(syntax)) for sop_class, syntax in contexts],
        ae_title=titles.get("called", receive.ae_title),
    )


def main() -> None:
    """`python -m tests.receivers SPOOL PORT`."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serve_receiver(
        settings_for(int(sys.argv[2])),
        Spool(Path(sys.argv[1]), SMALL_DISK),
        stop=stop,
        ready=lambda: print("ready", flush=True),  # noqa: T201 - this is how the test hears it
        heartbeat=lambda: None,
    )


if __name__ == "__main__":
    main()
    os._exit(0)  # whatever thread is left: the receiver says that it is done
