"""Acknowledgements: what an answer means for a delivery, and answers of our own (HL7 2.5.1 chapter 2.9).

| MSA-1 | meaning | what becomes of the delivery |
| --- | --- | --- |
| AA, CA | taken | accepted |
| AE, CE | an error over there | retry, with a limit |
| AR, CR | this message will never do | refused: never sent again unchanged |
| anything else, or no acknowledgement at all | unknown | retry, with a limit |

What becomes of a delivery that is refused or out of attempts belongs to the courier.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from hl7.text import Delimiters, Parsed, clean, components, escape, find, parse, segment
from hl7.times import timestamp

TEXT_MAX: Final = 200


class AnswerKind(StrEnum):
    """What an acknowledgement means for the delivery."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """An acknowledgement of our message. `code` is MSA-1, "" when there was none.

    `text` is what the peer says about it, one line of at most 200 characters. It may name a patient, so it is for the
    ledger, never for a log.
    """

    kind: AnswerKind
    code: str
    text: str = ""


_KINDS: Final = {
    "AA": AnswerKind.ACCEPTED, "CA": AnswerKind.ACCEPTED,
    "AE": AnswerKind.RETRY, "CE": AnswerKind.RETRY,
    "AR": AnswerKind.REFUSED, "CR": AnswerKind.REFUSED,
}


def classify(answer: bytes, control_id: str) -> Answer | None:
    """What an answer (without MLLP bytes) means for the message `control_id`; None when it answers another message.

    Garbage is a retry with what came as text: a peer may have restarted half way.
    """
    text = decode(answer)
    segments = parse(text)
    msa = find(segments, "MSA")
    if msa is None:
        return Answer(AnswerKind.RETRY, "", _short(f"no acknowledgement: {text}"))
    if msa.value(2).strip() != control_id:
        return None
    code = msa.value(1).strip().upper()
    kind = _KINDS.get(code)
    if kind is None:
        return Answer(AnswerKind.RETRY, _short(code)[:20], _short(f"MSA-1 is no acknowledgement code: {code}"))
    return Answer(kind, code, _short(" ".join(filter(None, (msa.value(3), *map(_error_text, _all(segments, "ERR")))))))


def build_ack(message: bytes, code: str, text: str = "", *, at: datetime) -> bytes:
    """An acknowledgement of `message` (without MLLP bytes), in its character set; sender and receiver change places.

    A message that does not parse is answered too: with the given code, an empty MSA-2 and no names.
    """
    received = decode(message)
    msh = find(parse(received), "MSH") or Parsed("MSH", (), Delimiters())
    charset = msh.value(18)
    event = msh.components(9)[1:2]
    lines = [
        segment("MSH", {
            2: "^~\\&", 3: _again(msh, 5), 4: _again(msh, 6), 5: _again(msh, 3), 6: _again(msh, 4), 7: timestamp(at),
            9: components("ACK", *event, *(["ACK"] if event else [])), 10: _own_id(message, code),
            11: escape(msh.value(11)) or "P", 12: escape(msh.value(12)) or "2.5.1", 18: escape(charset),
        }),
        segment("MSA", {1: code, 2: escape(msh.value(10)), 3: escape(text[:80])}),
    ]
    return ("\r".join(lines) + "\r").encode(_codec(charset), errors="replace")


def decode(message: bytes) -> str:
    """A message as text. MSH-18 is not trusted: UTF-8 where it is UTF-8, else ISO 8859-1, which takes any byte."""
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        return message.decode("latin-1")


def _codec(charset: str) -> str:
    return {"8859/1": "latin-1", "UNICODE UTF-8": "utf-8"}.get(charset, "ascii")


def _own_id(message: bytes, code: str) -> str:
    """20 characters; the same message gets the same answer again."""
    return "A" + hashlib.sha256(code.encode() + message).hexdigest()[:19].upper()


def _again(msh: Parsed, number: int) -> str:
    return components(*msh.components(number))


def _all(segments: tuple[Parsed, ...], name: str) -> list[Parsed]:
    return [s for s in segments if s.name == name]


def _error_text(err: Parsed) -> str:
    """ERR-8 user message, ERR-7 diagnostics, ERR-3 code, ERR-1 of older versions: the first that says anything."""
    coded = err.components(3)[:2] if err.value(3) else err.components(1)
    return err.value(8) or err.value(7) or " ".join(filter(None, coded))


def _short(text: str) -> str:
    line = clean(text)
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - 3] + "..."
