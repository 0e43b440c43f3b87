from hl7.ack import build_ack
from hl7.readable import readable
from tests.unit.hl7.samples import AT, NOT_ANALYSED, TWO_NODULES, nodule, render


def test_a_person_reads_patient_nodules_and_status() -> None:
    lines = [" ".join(line.split()) for line in readable(render(TWO_NODULES)).splitlines()]
    for wanted in ("Patient", "name Phantom Alma", "status preliminary", "Finding 1", "Long Axis 9.4 mm",
                   "Finding Site Left lung", "Volume 301 mm3", "character set UNICODE UTF-8"):
        assert wanted in lines


def test_values_stand_in_one_column_and_lines_stay_short() -> None:
    lines = readable(render(TWO_NODULES)).splitlines()
    assert max(map(len, lines)) <= 110
    assert {line.index("mm") > 48 for line in lines if line.startswith("  Long Axis")} == {True}
    assert {line[:48].strip() != "" for line in lines if "9.4 mm" in line and "Axis" in line} == {True}


def test_a_deleted_line_says_so() -> None:
    assert "9.4 mm [deleted]" in readable(render(deleted=[nodule(3)]))


def test_not_analysed_shows_the_reason() -> None:
    assert "32.5 mm between the slices" in readable(render(NOT_ANALYSED))


def test_an_acknowledgement_and_its_text_are_shown() -> None:
    ack = build_ack(render(), "AE", "no such | patient", at=AT)
    shown = [" ".join(line.split()) for line in readable(ack).splitlines()]
    assert "code AE" in shown
    assert "text no such | patient" in shown


def test_what_is_no_message_is_shown_as_it_came() -> None:
    assert "no HL7 message" in readable(b"HTTP/1.1 200 OK")


def test_a_segment_that_nobody_knows_is_shown_with_field_numbers() -> None:
    assert "field 2" in readable(b"MSH|^~\\&|A\rZZZ|1|x\r")
