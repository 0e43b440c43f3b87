"""One association out: echo, find, store. Says what happened in terms of who counts it.

NotReached: nothing went out (counts against the destination's breaker). Refused: an answer, and it is no. NoAnswer:
sent, and silence; the peer may have it (both count against the delivery). Each store error carries what became of each
file.

A peer that reads nothing can't hold us: sends have a time limit, and after a silence the association is aborted, for
the fragments of two messages must not mix.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext

from dicom_node.errors import NoAnswer, NotReached, Refused
from dicom_node.net.conformance import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STUDY_ROOT_FIND,
    SUCCESS,
    VERIFICATION,
    StatusKind,
    rejection,
    store_status,
)
from dicom_node.net.library import prepare

BYTES_S_MIN: Final = 65536
"""Slowest line that is waited for: a large object has this much more time than `timeout_s`."""
CONTEXTS_MAX: Final = 128  # PS3.8 9.3.2: odd IDs of one byte
PENDING: Final = (0xFF00, 0xFF01)

Fate = StatusKind | Literal["no answer", "not sent"]


class Peer(Protocol):
    """Whom to call: `[[pacs]]` of the settings, or anything like it."""

    @property
    def ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Stored:
    """What became of one file; `text` is the status as the standard prints it, or why there is none."""

    sop_class_uid: str
    sop_instance_uid: str
    fate: Fate
    text: str


@dataclass(frozen=True)
class StoreOutcome:
    """What became of each file of a batch, in order. Only success and warning mean that the peer has it."""

    instances: tuple[Stored, ...]

    @property
    def ok(self) -> bool:
        """The peer has them all."""
        return all(stored.fate in ("success", "warning") for stored in self.instances)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What it warned of."""
        return tuple(stored.text for stored in self.instances if stored.fate == "warning")


@dataclass(frozen=True)
class _File:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int

    def stored(self, fate: Fate, text: str) -> Stored:
        return Stored(self.sop_class_uid, self.sop_instance_uid, fate, text)


@dataclass
class _Line:
    """What the events of one association tell: whether there was a connection, why it was rejected."""

    timeout_s: float
    reason: str = ""
    opened: bool = False

    def handlers(self) -> list[Any]:
        return [(evt.EVT_CONN_OPEN, self._opened), (evt.EVT_ACSE_RECV, self._heard)]

    def _opened(self, event: Any) -> None:
        self.opened = True
        line = event.assoc.dul.socket.socket
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(self.timeout_s)  # else a peer that reads nothing blocks a send for ever

    def _heard(self, event: Any) -> None:
        result = getattr(event.primitive, "result", None)
        if result in (1, 2):
            self.reason = rejection(result, event.primitive.result_source, event.primitive.diagnostic)


class Sender:
    """Our side of an association: who we say we are, how long we wait for an answer."""

    def __init__(self, ae_title: str, timeout_s: float) -> None:
        prepare()
        self._timeout_s = timeout_s
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.connection_timeout = timeout_s
        self._ae.acse_timeout = timeout_s
        self._ae.dimse_timeout = timeout_s
        self._ae.network_timeout = None  # an answer has its own limit; the idle timer would race with it

    def echo(self, peer: Peer) -> None:
        """C-ECHO. Raises NotReached, Refused or NoAnswer."""
        with self._association(peer, [build_context(VERIFICATION)]) as association:
            if not association.accepted_contexts:
                raise Refused(what="does not take Verification (C-ECHO)", which=_which(peer), do=_ASK_PEER)
            _check(peer, association.send_c_echo(), "C-ECHO")

    def find(self, peer: Peer, query: Dataset, *, answers_max: int = 10_000) -> list[Dataset]:
        """C-FIND, Study Root; `query` names its QueryRetrieveLevel. Raises NotReached, Refused or NoAnswer."""
        with self._association(peer, [build_context(STUDY_ROOT_FIND)]) as association:
            if not association.accepted_contexts:
                raise Refused(what="does not take Study Root C-FIND", which=_which(peer), do=_ASK_PEER)
            found: list[Dataset] = []
            for status, identifier in association.send_c_find(query, STUDY_ROOT_FIND):
                if "Status" in status and status.Status in PENDING:
                    if len(found) == answers_max:
                        what = f"more than {answers_max} answers to one C-FIND"
                        raise Refused(what=what, which=_which(peer), do="ask a narrower question")
                    found.append(identifier)
                else:
                    _check(peer, status, "C-FIND")
            return found

    def store(
        self, files: Sequence[Path], peer: Peer, on_connected: Callable[[], None] | None = None
    ) -> StoreOutcome:
        """Send files over one association, in order, from their bytes; after the first failure nothing more is sent.

        Args:
            on_connected: called once the peer takes all the classes, before the first byte of an object goes out.
        Returns:
            An outcome that is `ok`: every file has success or a warning.
        Raises:
            NotReached: nothing went out.
            Refused: the peer does not take a class (nothing went out), or answered with a failure; `outcome` is set.
            NoAnswer: silence or a cut after sending; `outcome` is set.
        """
        batch = [_read(path) for path in files]
        with self._association(peer, _contexts(batch)) as association:
            refused = [_refusal(association, file) for file in batch]
            if any(refused):
                unsent = [file.stored("not sent", text) for file, text in zip(batch, refused, strict=True)]
                what = "; ".join(dict.fromkeys(filter(None, refused)))
                raise _with(Refused(what=what, which=_which(peer), do=_ASK_PEER), StoreOutcome(tuple(unsent)))
            if on_connected is not None:
                on_connected()
            stored: list[Stored] = []
            for file in batch:
                stored.append(self._store_one(association, file))
                if stored[-1].fate not in ("success", "warning"):
                    break
        outcome = StoreOutcome((*stored, *(file.stored("not sent", "not sent") for file in batch[len(stored) :])))
        if not outcome.ok:
            last = stored[-1]
            kind = Refused if last.fate == "refused" else NoAnswer
            what = f"C-STORE of file {len(stored)} of {len(batch)}: {last.text}"
            raise _with(kind(what=what, which=_which(peer), do="it is tried again"), outcome)
        return outcome

    def _store_one(self, association: Any, file: _File) -> Stored:
        limit_s = self._timeout_s + file.size / BYTES_S_MIN
        association.dimse_timeout, began = limit_s, time.monotonic()
        whole = _accepted(association, file.sop_class_uid, file.transfer_syntax_uid)
        try:
            status = association.send_c_store(file.path if whole else dcmread(file.path))
        except RuntimeError:  # no association any more
            return file.stored("no answer", "the peer ended the association")
        if "Status" in status:
            return file.stored(*store_status(status.Status))
        silent = time.monotonic() - began >= limit_s
        return file.stored("no answer", f"no answer in {limit_s:.1f} s" if silent else "the association was cut")

    @contextmanager
    def _association(self, peer: Peer, contexts: list[PresentationContext]) -> Iterator[Any]:
        line = _Line(self._timeout_s)
        try:
            association = self._ae.associate(
                peer.host, peer.port, contexts=contexts, ae_title=peer.ae_title, evt_handlers=line.handlers()
            )
        except OSError as fault:  # its name is not known
            raise NotReached(what=f"{fault.strerror or fault}", which=_which(peer), do=_CHECK_ADDRESS) from fault
        if not (association.is_established or association.rejected_contexts):  # (it ends when all are rejected)
            association.abort()
            if association.is_rejected:
                raise NotReached(what=line.reason or "rejected", which=_which(peer), do=_ASK_PEER)
            what = "connected, but no association came about" if line.opened else "no connection"
            raise NotReached(what=what, which=_which(peer), do=_CHECK_ADDRESS)
        _keep_answers(association)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()
            if not association.is_released:
                with suppress(OSError):
                    association.abort()


def _keep_answers(association: Any) -> None:
    """Leave answers to who asked for them.

    pynetdicom's own loop beside us looks for requests of the peer. `send_*` pauses it, but a loop that was just let go (by the end of the
    last `send_*`) runs once more, and under load it then takes the answer to the next request and drops it. We serve no
    requests on these associations, so that loop gets nothing.
    """
    taken = association.dimse.get_msg
    association.dimse.get_msg = lambda block=False: taken(block=True) if block else (None, None)


_ASK_PEER: Final = "the other side has to be configured for our AE title and what we send"
_CHECK_ADDRESS: Final = "check host, port and firewall; `dicom-node peers echo` tries it"


def _which(peer: Peer) -> str:
    return f"{peer.ae_title} at {peer.host}:{peer.port}"


def _with(error: Any, outcome: StoreOutcome) -> Any:
    error.outcome = outcome
    return error


def _check(peer: Peer, status: Dataset, verb: str) -> None:
    if "Status" not in status:
        raise NoAnswer(what=f"no answer to {verb}", which=_which(peer), do=_CHECK_ADDRESS)
    if status.Status != SUCCESS:
        raise Refused(what=f"{verb} answered {status.Status:04X}H", which=_which(peer), do=_ASK_PEER)


def _read(path: Path) -> _File:
    """The file's own meta information says what it is (PS3.10 7.1)."""
    meta = read_file_meta_info(path)
    return _File(
        path,
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.TransferSyntaxUID),
        path.stat().st_size,
    )


def _contexts(batch: Sequence[_File]) -> list[PresentationContext]:
    """One for each class and syntax; beside Explicit VR also the default, which every peer must know (PS3.5 10.1)."""
    wanted: dict[tuple[str, str], None] = {}
    for file in batch:
        wanted[file.sop_class_uid, file.transfer_syntax_uid] = None
        if file.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
            wanted[file.sop_class_uid, IMPLICIT_VR_LITTLE_ENDIAN] = None
    if len(wanted) > CONTEXTS_MAX:
        raise ValueError(f"{len(wanted)} presentation contexts, one association has at most {CONTEXTS_MAX}")
    return [build_context(sop_class, syntax) for sop_class, syntax in wanted]


def _accepted(association: Any, sop_class: str, syntax: str) -> bool:
    return any(
        context.abstract_syntax == sop_class and syntax in context.transfer_syntax
        for context in association.accepted_contexts
    )


def _refusal(association: Any, file: _File) -> str:
    """Why this file can't be sent over what the peer accepted; "" if it can."""
    if _accepted(association, file.sop_class_uid, file.transfer_syntax_uid):
        return ""
    if file.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN and _accepted(
        association, file.sop_class_uid, IMPLICIT_VR_LITTLE_ENDIAN
    ):
        return ""
    known = any(context.abstract_syntax == file.sop_class_uid for context in association.accepted_contexts)
    name = UID(file.sop_class_uid).name
    return f"does not take {UID(file.transfer_syntax_uid).name} for {name}" if known else f"does not take {name}"
