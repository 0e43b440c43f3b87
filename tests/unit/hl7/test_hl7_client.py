"""The client against a listener that does what it is told; real sockets on loopback."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hl7.ack import Answer, AnswerKind, build_ack
from hl7.client import send
from hl7.errors import FrameError, NoAnswer, NotReached
from hl7.mllp import frame
from tests.unit.hl7.samples import AT, PATIENT, render

MESSAGE = render()
ACCEPTED = build_ack(MESSAGE, "AA", at=AT)
OTHER = build_ack(render(control_id="ANOTHER"), "AA", at=AT)


class Listener:
    """Takes one message, then writes `pieces`, `pause_s` apart, and closes when `closes`."""

    def __init__(self, pieces: list[bytes], closes: bool, pause_s: float) -> None:
        self.pieces, self.closes, self.pause_s = pieces, closes, pause_s
        self.received = b""
        self.hung_up = threading.Event()
        self.finished = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while not self.received.endswith(b"\x1c\r"):
                    self.received += connection.recv(65536)
                for piece in self.pieces:
                    connection.sendall(piece)
                    self.finished.wait(self.pause_s)
                if not self.closes and connection.recv(1) == b"":
                    self.hung_up.set()
            except OSError:
                self.hung_up.set()


@contextmanager
def listening(*pieces: bytes, closes: bool = False, pause_s: float = 0) -> Iterator[Listener]:
    listener = Listener(list(pieces), closes, pause_s)
    try:
        yield listener
    finally:
        listener.finished.set()
        listener.socket.close()
        listener.thread.join(10)


def ask(listener: Listener, timeout_s: float = 10) -> Answer:
    return send("127.0.0.1", listener.port, MESSAGE, control_id="MSG00001", timeout_s=timeout_s)


def test_an_accepted_message_is_accepted_and_the_connection_closed() -> None:
    with listening(frame(ACCEPTED)) as listener:
        assert ask(listener).kind is AnswerKind.ACCEPTED
        assert listener.hung_up.wait(10)
        assert listener.received == frame(MESSAGE)


def test_an_answer_byte_by_byte_is_one_answer() -> None:
    with listening(*(bytes([b]) for b in frame(ACCEPTED)), pause_s=0.0005) as listener:
        assert ask(listener).code == "AA"


def test_a_late_answer_to_another_message_is_passed_over() -> None:
    with listening(frame(OTHER) + frame(ACCEPTED)) as listener:
        assert ask(listener).code == "AA"


def test_an_answer_to_another_message_alone_is_no_answer() -> None:
    with listening(frame(OTHER)) as listener, pytest.raises(NoAnswer, match="1 answers to other messages"):
        ask(listener, timeout_s=0.3)


def test_silence_after_sending_is_told_from_a_dead_address() -> None:
    with listening() as listener, pytest.raises(NoAnswer, match="deadline passed; 0 bytes came"):
        ask(listener, timeout_s=0.3)


def test_nobody_listening_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(NotReached, match="no connection"):
        send("127.0.0.1", port, MESSAGE, control_id="MSG00001", timeout_s=5)


def test_a_host_that_has_no_address_is_not_reached() -> None:
    for host in ("no-such-host.invalid", "a..b"):
        with pytest.raises(NotReached):
            send(host, 2575, MESSAGE, control_id="MSG00001", timeout_s=5)


def test_a_peer_that_closes_without_a_word_is_no_answer() -> None:
    with listening(closes=True) as listener, pytest.raises(NoAnswer, match="closed the connection"):
        ask(listener)


def test_the_deadline_holds_when_bytes_drip_for_ever() -> None:
    with listening(b"\x0b", *([b"x"] * 1000), pause_s=0.02) as listener:
        answer = ask(listener, timeout_s=0.3)
    assert answer.kind is AnswerKind.RETRY
    assert "deadline" in answer.text


def test_half_an_answer_is_no_acceptance() -> None:
    with listening(frame(ACCEPTED)[:-12], closes=True) as listener, pytest.raises(NoAnswer):
        ask(listener)


@pytest.mark.parametrize("sent", [ACCEPTED, b"\x0b" + ACCEPTED, b"\x0b" + ACCEPTED + b"\x1c"],
                         ids=["no frame", "start only", "no last CR"])
def test_an_answer_without_all_framing_bytes_counts_when_the_peer_closes(sent: bytes) -> None:
    with listening(sent, closes=True) as listener:
        assert ask(listener).kind is AnswerKind.ACCEPTED


def test_garbage_in_a_frame_is_tried_again_with_what_it_said() -> None:
    with listening(frame(b"Service unavailable")) as listener:
        answer = ask(listener)
    assert (answer.kind, answer.text) == (AnswerKind.RETRY, "no acknowledgement: Service unavailable")


def test_a_flood_without_an_end_is_given_up() -> None:
    with listening(b"\x0b" + b"x" * 3_000_000) as listener:
        answer = ask(listener)
    assert answer.kind is AnswerKind.RETRY


def test_a_refusal_is_refused() -> None:
    with listening(frame(build_ack(MESSAGE, "AR", "unknown patient", at=AT))) as listener:
        assert ask(listener) == Answer(AnswerKind.REFUSED, "AR", "unknown patient")


def test_a_message_that_cannot_be_framed_never_leaves() -> None:
    with listening() as listener:
        with pytest.raises(FrameError):
            send("127.0.0.1", listener.port, b"MSH\x1c", control_id="1", timeout_s=1)
        assert listener.received == b""


def test_the_log_names_no_patient(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(frame(build_ack(MESSAGE, "AR", "Phantom Alma P-1001 unknown", at=AT))) as listener:
        ask(listener)
    assert "hl7.answer" in caplog.text
    for secret in (PATIENT.patient_id, PATIENT.family, PATIENT.given, "MSG00001"):
        assert secret not in caplog.text
