"""One message to one destination over MLLP: connect, send, wait for its acknowledgement, close.

Promises: one message in flight on a connection of its own, so that a late answer to an earlier one can never be taken
for ours; the deadline holds over an answer in any number of pieces; an error before anything went out (NotReached) is
told from silence after it (NoAnswer). Repeating, backing off and giving up belong to the courier. TCP only.
"""

import logging
import socket
import time
from collections.abc import Callable
from typing import Final

from hl7.ack import Answer, AnswerKind, classify
from hl7.errors import FrameError, NoAnswer, NotReached
from hl7.mllp import Deframer, frame

_log = logging.getLogger(__name__)
ANSWER_BYTES_MAX: Final = 1024 * 1024


def send(
    host: str, port: int, message: bytes, *, control_id: str, timeout_s: float, on_connected: Callable[[], None] | None = None
) -> Answer:
    """Send one message (without MLLP bytes) and return the answer to it.

    Args:
        control_id: MSH-10 of the message. An answer whose MSA-2 is another is passed over until the deadline.
        on_connected: called once connected, before anything goes out; what it raises ends the attempt.
        timeout_s: for connecting, and again for sending and waiting together, s.
    Raises:
        NotReached: no connection; nothing went out.
        NoAnswer: connected, and no answer to this message by the deadline or the peer's close. It may have arrived.
        FrameError: the message itself cannot be framed; nothing went out.
    """
    framed = frame(message)
    where = f"{host}:{port}"
    started = time.monotonic()
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that is no host name
        do = "is the listener running, are address and port right?"
        raise NotReached(f"no connection: {error}", where, do) from error
    with connection:
        if on_connected is not None:
            on_connected()
        answer = _converse(connection, framed, control_id, time.monotonic() + timeout_s, where)
    _log.info("hl7.answer where=%s kind=%s code=%s bytes=%d seconds=%.3f", where, answer.kind,
              answer.code if answer.code.isalnum() else "-", len(message), time.monotonic() - started)
    return answer


def _converse(connection: socket.socket, framed: bytes, control_id: str, deadline: float, where: str) -> Answer:
    """Send and wait on an open connection."""
    frames = Deframer(ANSWER_BYTES_MAX)
    others = 0
    received = 0
    end = "the deadline passed"
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        connection.sendall(framed)
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            chunk = connection.recv(65536)
            if not chunk:
                end = "the peer closed the connection"
                break
            received += len(chunk)
            for message in frames.feed(chunk):
                answer = classify(message, control_id)
                if answer is not None:
                    return answer
                others += 1
            if received > ANSWER_BYTES_MAX:
                end = f"more than {ANSWER_BYTES_MAX} bytes came without the answer"
                break
    except TimeoutError:
        pass
    except FrameError as error:
        end = error.what
    except OSError as error:
        end = f"the connection broke: {error}"
    unframed = classify(frames.rest(), control_id) if frames.rest() else None
    if unframed is not None and unframed.code:
        _log.warning("hl7.unframed where=%s bytes=%d", where, received)
        return unframed
    came = f"{received} bytes came" + (f", {others} answers to other messages among them" if others else "")
    if unframed is not None:
        return Answer(AnswerKind.RETRY, "", f"{end}; {unframed.text}"[:200])
    raise NoAnswer(f"no answer to the message: {end}; {came}", where,
                   "it may have arrived; the same message with the same control ID is safe to send again")
