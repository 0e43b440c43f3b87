import pytest

from hl7.ack import Answer, AnswerKind, build_ack, classify
from hl7.text import find, parse
from tests.unit.hl7.samples import AT, render

MSH = b"MSH|^~\\&|EHR|HOSP|DICOMNODE|RADIOLOGY|20260105||ACK|9|P|2.5.1\r"


@pytest.mark.parametrize(("code", "kind"), [
    ("AA", AnswerKind.ACCEPTED), ("CA", AnswerKind.ACCEPTED), ("AE", AnswerKind.RETRY), ("CE", AnswerKind.RETRY),
    ("AR", AnswerKind.REFUSED), ("CR", AnswerKind.REFUSED), ("aa", AnswerKind.ACCEPTED),
])
def test_each_code_has_one_meaning(code: str, kind: AnswerKind) -> None:
    answer = classify(MSH + f"MSA|{code}|M1|said\r".encode(), "M1")
    assert answer == Answer(kind, code.upper(), "said")


def test_an_unknown_code_is_tried_again() -> None:
    answer = classify(MSH + b"MSA|ZZ|M1\r", "M1")
    assert answer is not None
    assert answer.kind is AnswerKind.RETRY


def test_an_answer_to_another_message_is_none_of_ours() -> None:
    assert classify(MSH + b"MSA|AA|M2\r", "M1") is None
    assert classify(MSH + b"MSA|AA|\r", "M1") is None


@pytest.mark.parametrize(
    "garbage", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xfe\x00", b"MSH|^~\\&|A\r", b"MSH"])
def test_garbage_is_tried_again_and_told(garbage: bytes) -> None:
    answer = classify(garbage, "M1")
    assert answer is not None
    assert (answer.kind, answer.code) == (AnswerKind.RETRY, "")
    assert answer.text.startswith("no acknowledgement")


def test_line_feeds_and_other_delimiters_are_understood() -> None:
    answer = classify(b"MSH#*~\\&#EHR#HOSP\nMSA#AE#M1#no such patient\n", "M1")
    assert answer == Answer(AnswerKind.RETRY, "AE", "no such patient")


def test_what_the_peer_says_is_one_bounded_line() -> None:
    answer = classify(MSH + b"MSA|AR|M1|first\\.br\\second\rERR|||204^Unknown key||||" + b"x" * 5000 + b"\r", "M1")
    assert answer is not None
    assert answer.text.startswith("first second xxx")
    assert len(answer.text) == 200


def test_an_error_code_alone_is_told_with_its_text() -> None:
    answer = classify(MSH + b"MSA|AE|M1\rERR||PID^1^3|204^Unknown key identifier^HL70357|E\r", "M1")
    assert answer is not None
    assert answer.text == "204 Unknown key identifier"


def test_our_own_acknowledgement_is_understood_by_us() -> None:
    answer = classify(build_ack(render(), "AE", "bed | closed", at=AT), "MSG00001")
    assert answer == Answer(AnswerKind.RETRY, "AE", "bed | closed")


def test_an_acknowledgement_changes_sender_and_receiver() -> None:
    msh = find(parse(build_ack(render(), "AA", at=AT).decode()), "MSH")
    assert msh is not None
    assert [msh.value(n) for n in (3, 4, 5, 6)] == ["EHR", "HOSP", "DICOMNODE", "RADIOLOGY"]
    assert msh.components(9) == ("ACK", "R01", "ACK")
    assert 0 < len(msh.value(10)) <= 20


def test_what_cannot_be_parsed_is_answered_too() -> None:
    segments = parse(build_ack(b"\x00nonsense\xff", "AE", "not HL7", at=AT).decode())
    assert [s.name for s in segments] == ["MSH", "MSA"]
    assert (segments[1].value(1), segments[1].value(2), segments[1].value(3)) == ("AE", "", "not HL7")
