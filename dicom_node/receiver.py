"""The receiver: C-STORE into the spool, then the status. Success means durable (promise 1).

In the way of an answer nothing is parsed, compared or named by its content, and no database is asked: bytes as they
came go behind a file meta of ours into `incoming/`. Everything else is the indexer's. Callers are named (calling AE),
and must mean us (called AE). Every Storage class is taken in every syntax, for many archives stop a whole job at the
first failure.
"""

import logging
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from socketserver import TCPServer
from typing import Any, Final, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from config.settings import Receive, Settings
from dicom_node.errors import PortUnavailable
from dicom_node.logs import event as log
from dicom_node.net.conformance import (
    CALLED_AE_REJECTED,
    CALLING_AE_REJECTED,
    CANNOT_UNDERSTAND,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MALFORMED_REJECTED,
    OUT_OF_RESOURCES,
    SUCCESS,
    TOO_MANY_REJECTED,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    rejection,
)
from dicom_node.net.library import prepare
from dicom_node.net.reading import PduReader
from storage.associations import Association, End
from storage.errors import SpoolFull
from storage.refusals import Refusal
from storage.spool import Spool

ACCEPT_POLL_S: Final = 0.2
BEAT_S: Final = 1.0
ACSE_TIMEOUT_S_MAX: Final = 10.0
"""A connection that says nothing for so long is closed; until then it holds a thread."""
STOP_S_MAX: Final = 5.0
"""Time that running associations have to end by themselves when the receiver stops; then they are aborted."""
CONNECTIONS_SPARE: Final = 16
"""Connections above `associations_max` that are listened to, to be told that there are too many; others are closed."""
_KNOWN_SYNTAXES: Final = frozenset(TRANSFER_SYNTAXES)


def serve_receiver(
    settings: Settings,
    spool: Spool,
    *,
    stop: threading.Event,
    ready: Callable[[], None],
    heartbeat: Callable[[], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Listen until `stop`, then end running associations within STOP_S_MAX and return.

    Args:
        ready: called once connections are taken.
        heartbeat: called every BEAT_S while the receiver lives.
    Raises:
        PortUnavailable: the address can't be listened on.
    """
    prepare()
    receiver = Receiver(settings.receive, spool, now)
    server = receiver.listen()
    accepting = threading.Thread(target=server.serve_forever, args=(ACCEPT_POLL_S,), name="receiver", daemon=True)
    accepting.start()
    try:
        ready()
        while not stop.wait(BEAT_S):
            if not accepting.is_alive():
                raise PortUnavailable(what="the listening thread ended", which=f"port {settings.receive.port}")
            receiver.sweep()
            heartbeat()
    finally:
        server.stop()
        receiver.finish(STOP_S_MAX, heartbeat)


@dataclass
class Taking:
    """An association at work. Only `reader.taken` is written by another thread than the association's own."""

    association: Association
    reader: PduReader
    caller: str
    address: str
    began: float
    meta_rest: bytes
    refused: int = 0
    why: str = ""


class Server(ThreadedAssociationServer):
    """pynetdicom's, with a limit on connections that have not said who they are, and a stop that lets others end."""

    connections_max: int = 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Asked by socketserver before a thread is made for a connection."""
        return len(self.active_associations) < self.connections_max

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Asked by socketserver; its own prints a traceback."""
        log("receiver.connection_failed", logging.WARNING, peer=client_address[0])

    def stop(self) -> None:
        """Take no more connections; those that are there go on."""
        TCPServer.shutdown(self)
        self.server_close()


class Receiver:
    """What happens on each event of an association."""

    def __init__(self, receive: Receive, spool: Spool, now: Callable[[], datetime]) -> None:
        self._receive = receive
        self._spool = spool
        self._now = now
        self._readers: dict[Any, PduReader] = {}
        self._open: dict[Any, Taking] = {}
        self._lock = threading.Lock()

    def listen(self) -> Server:
        """A server that listens, and is not yet serving."""
        receive = self._receive
        self._spool.refusals.take_over()
        ae = AE(receive.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = receive.pdu_bytes_max
        ae.maximum_associations = receive.associations_max + 2 * CONNECTIONS_SPARE  # ours is asked in on_requested
        ae.network_timeout = receive.network_timeout_s
        ae.acse_timeout = min(receive.network_timeout_s, ACSE_TIMEOUT_S_MAX)
        ae.add_supported_context(VERIFICATION)  # storage is unrestricted: no list of classes to copy each time
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self.on_connected),
            (evt.EVT_REQUESTED, self.on_requested),
            (evt.EVT_ASYNC_OPS, lambda event: (1, 1)),
            (evt.EVT_ESTABLISHED, self.on_established),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_ACSE_RECV, self.on_heard),
            (evt.EVT_RELEASED, self.on_released),
            (evt.EVT_ABORTED, self.on_aborted),
        ]
        address = (receive.host, receive.port)
        try:
            server = cast(Server, ae.make_server(address, evt_handlers=handlers, server_class=Server))
        except OSError as fault:
            raise PortUnavailable(
                what=f"{fault.strerror or fault}",
                which=f"{receive.host}:{receive.port}",
                do="look who listens there, or change receive.host and receive.port",
            ) from fault
        server.connections_max = receive.associations_max + CONNECTIONS_SPARE
        return server

    # From connection to association

    def on_connected(self, event: Any) -> None:
        """Read in our own way, before the first byte."""
        wrapper = event.assoc.dul.socket
        reader = PduReader(
            wrapper.socket,
            pdu_bytes_max=self._receive.pdu_bytes_max,
            held_bytes_max=self._receive.object_mib_max * 2**20,
            timeout_s=self._receive.network_timeout_s,
        )
        wrapper.recv = reader.recv
        with self._lock:
            self._readers[event.assoc] = reader

    def on_requested(self, event: Any) -> None:
        """Turn away who is not named, who means another, who is one too many; else prefer syntaxes that are known."""
        request = event.assoc.requestor.primitive
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        proposed = request.presentation_context_definition_list
        reason = self._reason_to_reject(calling, called)
        if any(not context.transfer_syntax for context in proposed):
            reason = MALFORMED_REJECTED
        if reason is not None:
            self._note_refusal(calling, called, event.assoc.requestor.address, rejection(*reason))
            event.assoc.acse.send_reject(*reason)
            event.assoc.kill()
            return
        for context in proposed:  # the first is accepted; the order of the sender stands among those that we know
            context.transfer_syntax = sorted(context.transfer_syntax, key=lambda syntax: syntax not in _KNOWN_SYNTAXES)

    def _reason_to_reject(self, calling: str, called: str) -> tuple[int, int, int] | None:
        if called != self._receive.ae_title and not self._receive.any_called_ae:
            return CALLED_AE_REJECTED
        if calling not in self._receive.calling_ae_titles and not self._receive.any_calling_ae:
            return CALLING_AE_REJECTED
        if len(self._open) >= self._receive.associations_max:
            return TOO_MANY_REJECTED
        return None

    def _note_refusal(self, calling: str, called: str, address: str, why: str) -> None:
        count = self._spool.refusals.note(Refusal(calling, called, address, why, self._now()))
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a caller that goes on does not fill the log
            why = f"{why}; it called {called}"
            log("receiver.rejected", logging.WARNING, ae=calling, peer=address, why=why, count=count)

    def on_established(self, event: Any) -> None:
        """Who brings something is on disk before what it brings."""
        peer = event.assoc.requestor
        request = peer.primitive
        caller = str(request.calling_ae_title).strip()
        association = self._spool.associations.open(
            calling_ae=caller, called_ae=str(request.called_ae_title).strip(), address=peer.address, at=self._now()
        )
        reader = self._readers[event.assoc]
        reader.filed(reader.taken)  # the request itself is no object
        rest = (
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
            + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)
            + _element(0x0016, b"AE", caller)
        )
        taking = Taking(association, reader, caller, peer.address, time.monotonic(), rest)
        with self._lock:
            self._open[event.assoc] = taking

    # Objects

    def on_store(self, event: Any) -> int:
        """One object: durable, then the status."""
        taking, request = self._open.get(event.assoc), event.request
        if taking is None:  # its marker could not be written
            return OUT_OF_RESOURCES
        if request.DataSet is None:
            return self._refuse(taking, CANNOT_UNDERSTAND, "no data set")
        with request.DataSet.getbuffer() as dataset:
            status = self._keep(taking, request, event.context.transfer_syntax, dataset)
            taking.reader.filed(len(dataset))
        return status

    def _keep(self, taking: Taking, request: Any, transfer_syntax: str, dataset: memoryview) -> int:
        if not dataset:
            return self._refuse(taking, CANNOT_UNDERSTAND, "no data set")
        sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        meta = file_meta(sop_class, sop_instance, transfer_syntax, taking.meta_rest)
        try:
            self._spool.receive(taking.association.next_name(), (meta, dataset))
        except SpoolFull as full:
            return self._refuse(taking, OUT_OF_RESOURCES, full.what)
        except OSError as fault:
            return self._refuse(taking, OUT_OF_RESOURCES, f"writing failed: {fault.strerror or fault}")
        taking.association.kept()
        return SUCCESS

    def _refuse(self, taking: Taking, status: int, why: str) -> int:
        taking.refused += 1
        if taking.refused == 1:  # once for an association; its last line has the count
            answer = f"{status:04X}H"
            log("receiver.refused", logging.ERROR, ae=taking.caller, peer=taking.address, status=answer, why=why)
        return status

    # From association to its end

    def on_heard(self, event: Any) -> None:
        """Remember who cut an association: only here it is known."""
        taking = self._open.get(event.assoc)
        kind = type(event.primitive).__name__
        if taking is not None and kind == "A_ABORT":
            taking.why = "aborted by the sender"
        elif taking is not None and kind == "A_P_ABORT":
            taking.why = taking.reader.fault or "the connection was lost"

    def on_released(self, event: Any) -> None:
        """The sender was done."""
        self._end(event.assoc, "released", "released")

    def on_aborted(self, event: Any) -> None:
        """The sender, the network or we cut it."""
        taking = self._open.get(event.assoc)
        self._end(event.assoc, "aborted", (taking.why if taking else "") or "aborted by us after silence")

    def _end(self, assoc: Any, end: End, why: str) -> None:
        with self._lock:
            self._readers.pop(assoc, None)
            taking = self._open.pop(assoc, None)
        if taking is None:
            return
        taking.association.close(end, self._now(), why)
        level = logging.INFO if end == "released" and not taking.refused else logging.WARNING
        if taking.refused:
            why = f"{why}, {taking.refused} objects refused"
        log(
            "association.ended",
            level,
            ae=taking.caller,
            peer=taking.address,
            count=taking.association.files,
            seconds=time.monotonic() - taking.began,
            why=why,
        )

    def sweep(self) -> None:
        """End what ended without saying so: connections that never associated, associations whose thread is gone."""
        with self._lock:
            gone = [assoc for assoc in self._readers if not assoc.is_alive() and assoc.ident is not None]
        for assoc in gone:
            self._end(assoc, "aborted", "the connection was lost")

    def finish(self, bound_s: float, heartbeat: Callable[[], None]) -> None:
        """Let running associations end, abort those that do not; what was not answered is sent again."""
        end = time.monotonic() + bound_s
        while (running := self._running()) and time.monotonic() < end:
            heartbeat()
            running[0][0].join(ACCEPT_POLL_S)
        for assoc, taking in running:
            taking.why = "aborted by us: the receiver stops"
            assoc.abort(block=False)
        for assoc, _ in running:
            assoc.join(ACCEPT_POLL_S)
        self.sweep()

    def _running(self) -> list[tuple[Any, Taking]]:
        with self._lock:
            return [(assoc, taking) for assoc, taking in self._open.items() if assoc.is_alive()]


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, rest: bytes) -> bytes:
    """Preamble, DICM and file meta of ours before a data set (PS3.10 7.1); nothing of it comes from the data set.

    A preamble of zeros: a received one could be the head of a program. `rest` are elements after (0002,0010).
    """
    elements = b"".join(
        (
            struct.pack("<HH2sHL2s", 2, 0x0001, b"OB", 0, 2, b"\0\1"),
            _element(0x0002, b"UI", sop_class_uid),
            _element(0x0003, b"UI", sop_instance_uid),
            _element(0x0010, b"UI", transfer_syntax_uid),
            rest,
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0x0000, b"UL", 4, len(elements)) + elements


def _element(element: int, representation: bytes, text: str) -> bytes:
    """A short element of group 0002, Explicit VR Little Endian, padded to even length (PS3.5 6.2, 7.1.2)."""
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if representation == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, representation, len(value)) + value
