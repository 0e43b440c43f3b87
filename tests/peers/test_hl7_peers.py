"""Our messages at receivers and parsers that are not ours."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hl7.ack import Answer, AnswerKind
from hl7.client import send
from hl7.errors import NoAnswer
from inference.findings import Report, sentences
from tests.peers import tools
from tests.unit.hl7.samples import (
    NO_NODULE,
    NOT_ANALYSED,
    PARTIAL,
    PATIENT,
    RADIOGRAPH,
    STUDY_UID,
    TWO_NODULES,
    nodule,
    reading,
    render,
    report,
)

pytestmark = pytest.mark.peer
Receivers = Callable[..., tools.MllpReceiver]
Parser = Callable[[bytes], tools.ParsedMessage]


def deliver(port: int, message: bytes, timeout_s: float = 30, control_id: str = "MSG00001") -> Answer:
    return send("127.0.0.1", port, message, control_id=control_id, timeout_s=timeout_s)


@pytest.fixture
def hl7apy_receiver(tmp_path: Path) -> Iterator[tuple[tools.Peer, int]]:
    with tools.Peer([sys.executable, str(Path(__file__).with_name("hl7apy_receiver.py")), str(tmp_path)]) as peer:
        yield peer, json.loads(peer.line(lambda line: "listening" in line, "hl7apy's server to listen"))["port"]


def test_python_hl7_accepts_and_has_the_message_byte_for_byte(mllp_receiver: Receivers) -> None:
    receiver = mllp_receiver("AA")
    message = render()
    assert deliver(receiver.port, message).kind is AnswerKind.ACCEPTED
    received = receiver.message()
    assert received.content.rstrip(b"\r") == message.rstrip(b"\r")
    assert received.control_id == "MSG00001"


@pytest.mark.parametrize(("code", "kind"), [
    ("CA", AnswerKind.ACCEPTED), ("AE", AnswerKind.RETRY), ("CE", AnswerKind.RETRY),
    ("AR", AnswerKind.REFUSED), ("CR", AnswerKind.REFUSED), ("garbage", AnswerKind.RETRY),
])
def test_each_answer_of_python_hl7_is_understood(mllp_receiver: Receivers, code: str, kind: AnswerKind) -> None:
    assert deliver(mllp_receiver(code).port, render()).kind is kind


@pytest.mark.parametrize("behaviour", ["wrong-id", "silent", "close"])
def test_no_answer_to_our_message_is_no_answer(mllp_receiver: Receivers, behaviour: str) -> None:
    with pytest.raises(NoAnswer):
        deliver(mllp_receiver(behaviour).port, render(), timeout_s=1)


def test_a_message_that_was_not_answered_goes_again_with_the_same_bytes(mllp_receiver: Receivers) -> None:
    receiver = mllp_receiver("close", "AE", "AA")
    message = render()
    with pytest.raises(NoAnswer):
        deliver(receiver.port, message)
    assert deliver(receiver.port, message).kind is AnswerKind.RETRY
    assert deliver(receiver.port, message).kind is AnswerKind.ACCEPTED
    received = [receiver.message() for _ in range(3)]
    assert {r.content for r in received} == {received[0].content}
    assert {r.control_id for r in received} == {"MSG00001"}


def test_a_message_of_more_than_64_kib_arrives_whole(mllp_receiver: Receivers) -> None:
    receiver = mllp_receiver("AA")
    message = render(report(reading(*(nodule(n) for n in range(1, 101)))))
    assert len(message) > 65536
    assert deliver(receiver.port, message).kind is AnswerKind.ACCEPTED
    assert receiver.message().content.rstrip(b"\r") == message.rstrip(b"\r")


def test_hl7apy_s_server_takes_message_after_message(hl7apy_receiver: tuple[tools.Peer, int]) -> None:
    """It closes the connection after every answer."""
    peer, port = hl7apy_receiver
    for control_id in ("MSG00001", "MSG00002"):
        message = render(control_id=control_id)
        assert deliver(port, message, control_id=control_id) == Answer(AnswerKind.ACCEPTED, "AA")
        fact = json.loads(peer.line(lambda line: "control_id" in line, "a message"))
        assert fact["control_id"] == control_id
        assert fact["patient"] == "P-1001^^^HOSP^MR"
        assert Path(fact["file"]).read_bytes().rstrip(b"\r") == message.rstrip(b"\r")


@pytest.mark.parametrize("said", [TWO_NODULES, NO_NODULE, PARTIAL, NOT_ANALYSED, RADIOGRAPH],
                         ids=["two", "none", "partial", "not analysed", "radiograph"])
def test_an_independent_parser_reads_what_the_report_says(hl7_parse: Parser, said: Report) -> None:
    message = hl7_parse(render(said))
    assert message.get("MSH", 1, 9) == "ORU"
    assert message.get("PID", 1, 3) == "P-1001"
    assert message.get("PID", 1, 3, component=4) == "HOSP"
    assert message.get("OBR", 1, 25) == "P"
    count = len(message.all("OBX"))
    values = {(message.get("OBX", n, 3), message.get("OBX", n, 4)): message.get("OBX", n, 5)
              for n in range(1, count + 1)}
    assert len(values) == count
    assert values["113014", "0"] == STUDY_UID
    assert values["AISUMMARY", "0"] == " ".join(sentences(said))
    for found in said.nodules:
        sub_id = str(found.number)
        assert float(values["103339001", sub_id]) == found.long_axis_mm
        assert float(values["103340004", sub_id]) == found.short_axis_mm
        assert int(values["118565006", sub_id]) == found.volume_mm3
        assert int(values["112181", sub_id]) == found.mean_hu


def test_an_independent_parser_reads_odd_names_and_words(hl7_parse: Parser) -> None:
    odd = replace(PATIENT, family="O|B^r&i~e\\n", given="山田 Müller")
    message = hl7_parse(render(replace(NO_NODULE, notes=("first | ^ & ~ \\\r\nsecond",)), patient=odd))
    assert message.names() == hl7_parse(render(NO_NODULE)).names()
    assert message.get("PID", 1, 5) == "O|B^r&i~e\\n"
    assert message.get("PID", 1, 5, component=2) == "山田 Müller"
    summary = next(n for n in range(1, 9) if message.get("OBX", n, 3) == "AISUMMARY")
    assert "first | ^ & ~ \\\rsecond." in message.get("OBX", summary, 5)
