"""Any text in any field, any cut of a stream: the structure stays, the words come back.

The reader here is written apart from ours: it splits at the delimiters and undoes the five escapes, and knows no more.
"""

import itertools
import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.ack import build_ack, classify
from hl7.context import Order, Patient
from hl7.mllp import Deframer, frame
from hl7.readable import readable
from inference.findings import Reason
from tests.unit.hl7.samples import AT, NOT_ANALYSED, ehr, render

# What broken headers put into a value, more often than chance would.
_ODD = st.sampled_from([*'|^~\\&\r\n\t\x0b\x1c\x85\u2028"山é\uff5c', "\\T\\", "\\.br\\", "\\X0D\\", "\r\nMSH|^~\\&|"])
_LETTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(st.one_of(_ODD, _LETTERS), max_size=24).map(lambda parts: "".join(parts)[:24])


MESSAGE = render()


def as_sent(value: str) -> str:
    """What may come back of a value: each run of control characters and line ends is a blank, none at the ends."""
    line = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", value).strip()
    return "" if line == '""' else line


def undo(value: str) -> str:
    """The five escapes, left to right."""
    return re.sub(r"\\([FSTRE])\\", lambda m: {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}[m[1]], value)


def read(message: bytes) -> dict[str, list[list[list[str]]]]:
    """{segment: [[[component of field]]]}, fields counted as in HL7 (MSH has its separator as field 1)."""
    found: dict[str, list[list[list[str]]]] = {}
    for line in message.decode().removesuffix("\r").split("\r"):
        fields = line.split("|")
        if fields[0] == "MSH":
            fields.insert(1, "")
        found.setdefault(fields[0], []).append([[undo(c) for c in f.split("^")] for f in fields])
    return found


@settings(deadline=None, max_examples=60)
@given(family=TEXT, given_name=TEXT, authority=TEXT, accession=TEXT, placer=TEXT, note=TEXT, reason=TEXT)
def test_any_text_in_any_field_comes_back_and_breaks_nothing(
    family: str, given_name: str, authority: str, accession: str, placer: str, note: str, reason: str,
) -> None:
    plain = read(render(NOT_ANALYSED))
    said = replace(NOT_ANALYSED, reason=Reason("gap", f"<{reason}>"), notes=(f"<{note}>",))
    message = read(render(
        said, patient=Patient("P-1", authority, family=family, given=given_name), order=Order("F1", accession, placer)))
    assert {name: len(lines) for name, lines in message.items()} == {name: len(lines) for name, lines in plain.items()}
    pid, obr = message["PID"][0], message["OBR"][0]
    assert (pid[5][0], pid[5][1]) == (as_sent(family), as_sent(given_name))
    assert pid[3][0] == "P-1"
    if not re.fullmatch("[0-9.]+", as_sent(authority)):
        assert pid[3][3] == as_sent(authority)
    assert (obr[18], obr[2]) == ([as_sent(accession)], [as_sent(placer)])
    summary = next(o for o in message["OBX"] if o[3][0] == "AISUMMARY")
    assert len(summary[5]) == 1
    for text in (note, reason):
        for part in re.split("[\x00-\x1f\x7f-\x9f\u2028\u2029]+", text):
            assert part.strip() in summary[5][0]


@settings(deadline=None, max_examples=40)
@given(note=st.text(_LETTERS, max_size=60), charset=st.sampled_from(["ASCII", "8859/1"]))
def test_no_letter_becomes_a_delimiter_where_the_destination_lacks_it(note: str, charset: str) -> None:
    said = replace(NOT_ANALYSED, notes=(f"<{note}>",))
    message = render(said, ehr=ehr(charset=charset)).decode("latin-1")
    plain = render(replace(NOT_ANALYSED, notes=("<>",)), ehr=ehr(charset=charset)).decode("latin-1")
    assert [message.count(mark) for mark in "|^~&\r\x0b\x1c"] == [plain.count(mark) for mark in "|^~&\r\x0b\x1c"]


def test_no_character_of_unicode_changes_the_structure_in_ascii() -> None:
    """All of them, once: accents are taken off, and none of that may yield a delimiter."""
    every = "".join(map(chr, itertools.chain(range(0xA0, 0x2028), range(0x202A, 0xD800), range(0xE000, 0x20000))))
    message = render(replace(NOT_ANALYSED, notes=(every,)), ehr=ehr(charset="ASCII")).decode("ascii")
    plain = render(replace(NOT_ANALYSED, notes=("x",)), ehr=ehr(charset="ASCII")).decode("ascii")
    assert [message.count(mark) for mark in "|^~&\\\r"] == [plain.count(mark) for mark in "|^~&\\\r"]


@settings(deadline=None)
@given(messages=st.lists(st.binary(max_size=60).map(lambda b: b.translate(None, b"\x0b\x1c")), max_size=4),
       between=st.sampled_from([b"", b"\r", b"\r\n", b"junk"]), data=st.data())
def test_frames_cut_at_any_byte_come_together_again(messages: list[bytes], between: bytes, data: st.DataObject) -> None:
    stream = between.join(frame(m) for m in messages) + between
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    frames = Deframer()
    pieces = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
    assert [m for piece in pieces for m in frames.feed(piece)] == messages


def test_a_frame_may_be_cut_at_each_byte() -> None:
    messages = [MESSAGE, b"MSH|^~\\&|second\r"]
    stream = b"".join(map(frame, messages))
    for cut in range(len(stream) + 1):
        frames = Deframer()
        assert frames.feed(stream[:cut]) + frames.feed(stream[cut:]) == messages


@settings(deadline=None)
@given(junk=st.binary(max_size=200))
def test_no_bytes_of_a_peer_crash_us(junk: bytes) -> None:
    for data in (junk, b"MSH|^~\\&|" + junk, b"MSH" + junk + b"\rMSA|AA|1\r"):
        classify(data, "1")
        readable(data)
        answer = build_ack(data, "AE", "could not be read", at=AT)
        assert answer.startswith(b"MSH|")
        assert answer.count(b"\r") == 2


@settings(deadline=None)
@given(text=st.text(_LETTERS, max_size=60))
def test_an_acknowledgement_comes_back_whatever_its_text(text: str) -> None:
    answer = classify(build_ack(MESSAGE, "AR", text, at=AT), "MSG00001")
    assert answer is not None
    assert (answer.code, answer.text) == ("AR", as_sent(text))
