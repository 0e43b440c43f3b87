"""A small hospital in this process, on loopback: a PACS, an EHR that takes HL7 by MLLP, and a scanner that sends.

What comes lies in `pacs/*.dcm` and `ehr/*.hl7`, numbered by arrival. Whoever waits is woken by each arrival.
"""

import socketserver
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicom_node.net.send import Address, Sent, send_files
from dicom_node.net.small_pacs import SmallPacs
from hl7.ack import build_ack
from hl7.errors import Hl7Error
from hl7.mllp import Deframer, frame

PACS_AE: Final = "DEMOPACS"
SCANNER_AE: Final = "DEMOSCANNER"
IDLE_S_MAX: Final = 300.0  # an MLLP sender that says nothing for so long is hung up on


class Hospital:
    """PACS and EHR while it is a context; both stop with it.

    `clock` gives aware UTC, for the acknowledgements. `answer` is what the EHR says to each message (MSA-1).
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime], answer: str = "AA") -> None:
        self._folder, self._clock, self._answer = folder, clock, answer
        self._came = threading.Condition()
        self._objects: list[Path] = []
        self._messages: list[Path] = []
        self._stack = ExitStack()
        self._pacs = SmallPacs(folder / "pacs", PACS_AE, self._stored)

    def __enter__(self) -> Self:
        (self._folder / "ehr").mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(self._pacs)
        self._ehr = _MllpServer(self)
        self._stack.callback(self._ehr.server_close)
        thread = threading.Thread(target=self._ehr.serve_forever, kwargs={"poll_interval": 0.05}, name="demo-ehr")
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._ehr.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pacs(self) -> Address:
        """Where results go by C-STORE."""
        return Address(self._pacs.ae_title, self._pacs.host, self._pacs.port)

    @property
    def ehr(self) -> tuple[str, int]:
        """Host and port where messages go."""
        return "127.0.0.1", int(self._ehr.server_address[1])

    @property
    def answer(self) -> str:
        """What the EHR answers (MSA-1)."""
        return self._answer

    def objects(self) -> list[Path]:
        """What the PACS received, in order."""
        with self._came:
            return list(self._objects)

    def messages(self) -> list[Path]:
        """What the EHR received, in order."""
        with self._came:
            return list(self._messages)

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Sleep until `done`, asked again at each arrival and at the end; its last answer."""
        with self._came:
            return self._came.wait_for(done, timeout_s)

    def send(self, paths: Sequence[Path], node: Address, progress: Callable[[int, int], None]) -> Sent:
        """The scanner sends files to the node; the PACS knows of them from then on.

        Raises NotReached or NoAnswer of `dicom_node.errors`.
        """
        self._pacs.hold(paths)
        return send_files(paths, node, calling_ae=SCANNER_AE, progress=progress)

    def _stored(self, path: Path) -> None:
        with self._came:
            self._objects.append(path)
            self._came.notify_all()

    def take(self, message: bytes) -> bytes:
        """Keep one message and give its acknowledgement."""
        with self._came:
            path = self._folder / "ehr" / f"{len(self._messages) + 1:04d}.hl7"
            path.write_bytes(message)
            self._messages.append(path)
            self._came.notify_all()
        return build_ack(message, self._answer, at=self._clock())


class _MllpServer(socketserver.ThreadingTCPServer):
    """One thread a connection; a connection may bring any number of messages."""

    daemon_threads = True
    block_on_close = False  # a sender that holds its connection open must not keep us
    allow_reuse_address = True

    def __init__(self, hospital: Hospital) -> None:
        self.hospital = hospital
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _MllpServer

    def handle(self) -> None:
        deframer = Deframer()
        self.request.settimeout(IDLE_S_MAX)
        try:
            while chunk := self.request.recv(65536):
                for message in deframer.feed(chunk):
                    self.request.sendall(frame(self.server.hospital.take(message)))
        except (OSError, Hl7Error):
            return  # hung up, silent for too long, or no MLLP: this connection ends, the next is served
