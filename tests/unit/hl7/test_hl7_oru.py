from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

import hl7.oru
from hl7.context import Order, Patient, StudyRef
from hl7.errors import FieldTooLong, NoPatientId, NotInCharset, NotOneMessage
from hl7.text import Parsed, escape_lines, parse, unescape
from inference.findings import Nodule, Report, sentences
from tests.unit.hl7.samples import (
    AT,
    NO_NODULE,
    NOT_ANALYSED,
    ORDER,
    PARTIAL,
    PATIENT,
    RADIOGRAPH,
    SR_UID,
    STUDY,
    STUDY_UID,
    TWO_NODULES,
    ehr,
    nodule,
    reading,
    render,
    report,
)

ALL = {
    "two": TWO_NODULES, "none": NO_NODULE, "partial": PARTIAL, "not analysed": NOT_ANALYSED, "radiograph": RADIOGRAPH,
}


def segments(message: bytes, name: str) -> list[Parsed]:
    return [s for s in parse(message.decode()) if s.name == name]


def only(message: bytes, name: str) -> Parsed:
    found, = segments(message, name)
    return found


def rows(message: bytes) -> dict[tuple[str, str], str]:
    """{(OBX-3 code, sub-ID): first component of OBX-5}."""
    return {(o.value(3), o.value(4)): o.value(5) for o in segments(message, "OBX")}


@pytest.mark.parametrize("said", ALL.values(), ids=ALL.keys())
def test_every_report_is_one_oru_r01_in_its_order(said: Report) -> None:
    message = render(said)
    names = [s.name for s in parse(message.decode())]
    assert names[:5] == ["MSH", "PID", "PV1", "ORC", "OBR"]
    assert set(names[5:]) <= {"NTE", "OBX"}
    assert message.endswith(b"\r")
    assert b"\n" not in message


@pytest.mark.parametrize("said", ALL.values(), ids=ALL.keys())
def test_hl7apy_finds_no_fault_in_any_report(said: Report) -> None:
    """STRICT: structure, required fields, tables and lengths of 2.5.1.

    hl7apy takes OBX-5 for an ST of 199 characters whatever OBX-2 says, so the text is shortened for it
    (a TX holds 65536).
    """
    text = render(said).decode().replace(escape_lines(" ".join(sentences(said))), "shortened")
    message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT)
    assert message.validate()
    observations = message.oru_r01_patient_result.oru_r01_order_observation.oru_r01_observation
    assert len(observations) == len(segments(render(said), "OBX"))


@pytest.mark.parametrize("said", ALL.values(), ids=ALL.keys())
def test_nothing_is_ever_final(said: Report) -> None:
    for withdrawal, allowed in ((None, {"P", "D"}), ("W", {"W"}), ("D", {"D"})):
        message = render(said, previous=TWO_NODULES, withdrawal=withdrawal)
        assert only(message, "OBR").value(25) == "P"
        assert {o.value(11) for o in segments(message, "OBX")} <= allowed


@pytest.mark.parametrize("said", ALL.values(), ids=ALL.keys())
def test_every_message_says_research_and_the_sentences_of_the_report(said: Report) -> None:
    message = render(said)
    assert segments(message, "NTE")[0].value(3) == "RESEARCH - NOT FOR DIAGNOSIS."
    assert rows(message)["AISUMMARY", "0"] == " ".join(sentences(said))
    assert "RESEARCH" in only(message, "OBR").components(4)[1]


def test_set_ids_count_from_one_without_a_gap() -> None:
    found = segments(render(deleted=[nodule(9)]), "OBX")
    assert [o.value(1) for o in found] == [str(n) for n in range(1, len(found) + 1)]


def test_the_same_report_makes_the_same_bytes() -> None:
    assert render() == render()


def test_sender_receiver_and_control_id_stand_in_the_header() -> None:
    msh = only(render(), "MSH")
    assert [msh.value(n) for n in (3, 4, 5, 6, 10, 11, 12, 18)] == [
        "DICOMNODE", "RADIOLOGY", "EHR", "HOSP", "MSG00001", "P", "2.5.1", "UNICODE UTF-8"]
    assert msh.components(9) == ("ORU", "R01", "ORU_R01")
    assert (msh.value(15), msh.value(16)) == ("", "")


def test_a_nodule_keeps_its_number_as_sub_id_and_its_numbers_as_found() -> None:
    found = rows(render())
    assert found["103339001", "1"] == "9.4"
    assert found["103340004", "1"] == "7.0"
    assert found["AIMEANDIAM", "1"] == "8.2"
    assert found["118565006", "1"] == "301"
    assert found["112181", "1"] == "-45"
    assert found["AIDETECTION", "1"] == "0.870"
    assert found["AISUSP", "1"] == "0.370"
    assert found["AISIZEERROR", "1"] == "0.8"
    assert (found["AIVOLUMEERROR", "1"], found["118538004", "1"], found["AIMASSERROR", "1"]) == ("60", "287", "57")
    assert found["112040", "4"] == "2.25.1004"
    assert {sub for _, sub in found} == {"0", "1", "4"}


def test_every_number_has_a_ucum_unit() -> None:
    numbers = [o for o in segments(render(), "OBX") if o.value(2) == "NM"]
    assert numbers
    assert {o.components(6)[2] for o in numbers} == {"UCUM"}
    assert {o.components(6)[0] for o in numbers} == {"mm", "mm3", "mg", "[hnsf'U]", "1"}


def test_the_side_is_a_code() -> None:
    found = rows(render())
    assert (found["363698007", "1"], found["363698007", "4"]) == ("3341006", "44029006")
    assert ("363698007", "1") not in rows(render(report(reading(nodule(1, site=None)))))


def test_what_no_model_said_has_no_line() -> None:
    codes = {code for code, sub in rows(render()) if sub == "4"}
    assert not codes & {"AIDETECTION", "AISUSP", "C41144", "AISPICULATION", "AILOBULATION", "C3672"}


def test_study_and_report_are_named() -> None:
    found = rows(render())
    assert found["113014", "0"] == STUDY_UID
    assert found["AISRUID", "0"] == SR_UID


def test_none_found_is_not_detected_and_never_absent() -> None:
    message = render(NO_NODULE)
    assert rows(message)["27925004", "0"] == "260415000"
    assert b"272519000" not in message
    assert "this does not exclude nodules" in rows(message)["AISUMMARY", "0"]


@pytest.mark.parametrize("said", [PARTIAL, NOT_ANALYSED, RADIOGRAPH], ids=["partial", "not analysed", "radiograph"])
def test_only_a_whole_reading_that_looked_says_not_detected(said: Report) -> None:
    assert b"260415000" not in render(said)


def test_a_partial_reading_says_so_in_code_and_words() -> None:
    found = rows(render(PARTIAL))
    assert found["111065", "0"] == "111223"
    assert "PARTIAL: 12 cm2 of lung on the last slice" in found["AISUMMARY", "0"]


def test_not_analysed_is_one_text_with_the_reason() -> None:
    message = render(NOT_ANALYSED)
    texts = [o for o in segments(message, "OBX") if o.value(2) == "TX"]
    assert len(texts) == 1
    assert "Not analysed: 32.5 mm between the slices" in texts[0].value(5)
    assert rows(message)["111065", "0"] == "111225"
    assert only(message, "OBR").value(25) == "P"
    assert {o.value(11) for o in segments(message, "OBX")} == {"P"}


def test_a_demonstration_is_named_and_a_measured_method_is_not() -> None:
    said = "Technical demonstration, unvalidated detector."
    assert said in [n.value(3) for n in segments(render(), "NTE")]
    assert said not in [n.value(3) for n in segments(render(NOT_ANALYSED), "NTE")]


def test_algorithms_are_named_with_version_and_digest() -> None:
    assert rows(render())["AIALGORITHMS", "0"] == f"detect: hessian-dot 1 (demonstration, sha256 {'ab' * 32})"


def test_radiograph_findings_have_label_score_and_image() -> None:
    message = render(RADIOGRAPH, study=StudyRef(STUDY_UID, "DX"))
    found = rows(message)
    assert (found["121071", "1"], found["AISCORE", "1"], found["AIIMAGE", "1"]) == ("AIXEFFUSION", "0.660", "1.2.8")
    assert found["121071", "2"] == "AIXCARDIOMEGALY"
    assert b"Hernia" not in message
    assert [n.value(3) for n in segments(message, "NTE")].count("Technical demonstration, unvalidated.") == 1
    assert only(message, "OBR").value(24) == "RX"


def test_a_deleted_nodule_comes_as_deleted_line_by_line() -> None:
    message = render(deleted=[nodule(3)])
    statuses = {(o.value(4), o.value(11)) for o in segments(message, "OBX")}
    assert statuses == {("0", "P"), ("1", "P"), ("4", "P"), ("3", "D")}


def test_a_revision_takes_back_all_that_it_no_longer_says() -> None:
    """A receiver that updates line by line must not keep "not detected" beside a nodule."""
    message = render(TWO_NODULES, previous=NO_NODULE)
    gone = [(o.value(3), o.value(5)) for o in segments(message, "OBX") if o.value(11) == "D"]
    assert gone == [("27925004", "260415000")]


def test_a_revision_that_is_not_analysed_takes_every_nodule_back() -> None:
    message = render(NOT_ANALYSED, previous=TWO_NODULES, deleted=TWO_NODULES.nodules)
    assert {(o.value(4), o.value(11)) for o in segments(message, "OBX")} == {
        ("0", "P"), ("0", "D"), ("1", "D"), ("4", "D")}
    keys = [(o.value(3), o.value(4)) for o in segments(message, "OBX")]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("status", ["W", "D"])
def test_a_withdrawal_says_so_in_every_line_and_first_of_all(status: str) -> None:
    message = render(withdrawal=status)
    assert {o.value(11) for o in segments(message, "OBX")} == {status}
    assert segments(message, "NTE")[0].value(3).startswith("WITHDRAWN")
    assert rows(message)["AISUMMARY", "0"].startswith("WITHDRAWN")
    assert len(segments(message, "OBX")) == len(segments(render(), "OBX"))


@pytest.mark.parametrize(("where", "field"), [("OBR-18", 18), ("OBR-19", 19), ("OBR-2", 2), ("none", 0)])
def test_the_accession_number_goes_where_the_site_says(where: str, field: int) -> None:
    message = render(ehr=ehr(accession_in=where))
    places = [n for n in range(1, 26) if only(message, "OBR").value(n) == "ACC1001"]
    assert places == ([field] if field else [])
    assert only(message, "ORC").value(2) == only(message, "OBR").value(2)


def test_the_filler_number_is_our_own() -> None:
    obr = only(render(), "OBR")
    assert obr.components(3) == ("DN7F3A9C", "DICOMNODE")
    assert obr.components(4)[0] == "AICHEST"
    assert obr.components(4)[2] == "99DICOMNODE"


def test_the_patient_stands_in_the_order_of_hl7() -> None:
    pid = only(render(patient=Patient("P1", "HOSP", "Fam", "Giv", "Mid", "Dr", "Jr", "19600101", "M")), "PID")
    assert pid.components(5) == ("Fam", "Giv", "Mid", "Jr", "Dr", "", "L")
    assert (pid.value(7), pid.value(8)) == ("19600101", "M")


def test_an_unknown_authority_leaves_its_component_empty() -> None:
    assert only(render(patient=Patient("P1", "")), "PID").components(3) == ("P1", "", "", "", "MR")


def test_an_oid_as_authority_is_a_universal_id() -> None:
    assert only(render(patient=Patient("P1", "1.2.276.0.76")), "PID").field(3) == "P1^^^&1.2.276.0.76&ISO^MR"


def test_a_nameless_patient_is_unspecified_and_a_broken_date_left_out() -> None:
    pid = only(render(patient=Patient("P1", "HOSP", birth_date="1960-01-01", sex="female")), "PID")
    assert pid.components(5)[6] == "U"
    assert (pid.value(7), pid.value(8)) == ("", "")


@pytest.mark.parametrize("patient_id", ["", "  ", '""', "\x0b\x1c"])
def test_nobody_gets_no_result(patient_id: str) -> None:
    with pytest.raises(NoPatientId):
        render(patient=replace(PATIENT, patient_id=patient_id))


def test_delimiters_in_a_name_stay_letters() -> None:
    message = render(patient=replace(PATIENT, family="A|B^C&D~E\\F"))
    assert b"A\\F\\B\\S\\C\\T\\D\\R\\E\\E\\F" in message
    assert only(message, "PID").value(5) == "A|B^C&D~E\\F"


def test_line_ends_and_framing_bytes_never_leave_a_value() -> None:
    message = render(patient=replace(PATIENT, family="A\r\nPID|1\x0bB\x1c\x85C"), order=Order("F1", "AC\rC"))
    assert only(message, "PID").value(5) == "A PID|1 B C"
    assert only(message, "OBR").value(18) == "AC C"


def test_an_accession_number_of_56_characters_is_whole() -> None:
    assert only(render(order=Order("F1", "A" * 56)), "OBR").value(18) == "A" * 56


@pytest.mark.parametrize("changes", [
    {"order": Order("F1", "A" * 61)}, {"order": Order("F" * 200)}, {"control_id": "C" * 21},
    {"patient": Patient("P" * 241, "")}, {"patient": Patient("P1", "", family="F" * 241)},
])
def test_an_identifier_is_refused_rather_than_cut(changes: dict[str, object]) -> None:
    with pytest.raises(FieldTooLong, match="never cut"):
        render(**changes)


def test_a_japanese_name_goes_out_in_utf_8() -> None:
    assert only(render(patient=replace(PATIENT, family="山田")), "PID").value(5) == "山田"


@pytest.mark.parametrize(("charset", "family"), [("8859/1", "山田"), ("ASCII", "Müller"), ("UNICODE UTF-8", "\udc80")])
def test_a_name_that_the_destination_cannot_carry_is_an_error_that_shows_no_name(charset: str, family: str) -> None:
    with pytest.raises(NotInCharset, match="PID-5") as error:
        render(patient=replace(PATIENT, family=family), ehr=ehr(charset=charset))
    assert not any(letter in str(error.value) for letter in family if not letter.isascii())
    assert "his-main" in str(error.value)


def test_a_name_goes_out_in_the_bytes_that_msh_18_names() -> None:
    message = render(patient=replace(PATIENT, family="Müller"), ehr=ehr(charset="8859/1"))
    assert b"|8859/1\r" in message
    assert b"M\xfcller" in message


def test_words_of_ours_lose_an_accent_rather_than_the_message() -> None:
    wide = "\uff5c \uff3e"  # full-width | and ^ must not become delimiters
    said = replace(NO_NODULE, notes=(f"Füße 山 {wide}",))
    message = render(said, ehr=ehr(charset="ASCII"))
    assert b"Fu?e ? ? ?." in message


def test_times_carry_their_offset() -> None:
    zone = timezone(timedelta(hours=-3, minutes=-30))
    message = render(at=datetime(2026, 1, 5, 10, 17, tzinfo=zone), study=replace(STUDY, observed_at=None))
    assert only(message, "OBR").value(22) == "20260105101700-0330"
    assert only(message, "OBR").value(7) == ""
    with pytest.raises(ValueError, match="offset"):
        render(at=AT.replace(tzinfo=None))


def test_a_message_without_structure_is_caught_before_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hl7.oru, "_pid", lambda patient: "PV1|1|U")
    with pytest.raises(NotOneMessage):
        render()


def test_a_revision_keeps_the_order_number_and_has_a_later_time() -> None:
    first, second = render(), render(control_id="MSG00002", at=AT + timedelta(hours=1))
    assert only(first, "OBR").value(3) == only(second, "OBR").value(3) == ORDER.filler_number
    assert only(first, "OBR").value(22) < only(second, "OBR").value(22)


def test_attributes_of_a_graded_nodule_are_codes_and_scores() -> None:
    graded: Nodule = nodule(2, texture="part-solid", calcified=True, spiculation=0.25, lobulation=0.5)
    found = rows(render(report(reading(graded))))
    assert (found["C41144", "2"], found["C3672", "2"]) == ("RID50152", "52101004")
    assert (found["AISPICULATION", "2"], found["AILOBULATION", "2"]) == ("0.250", "0.500")


def test_a_texture_without_a_code_goes_as_text() -> None:
    message = render(report(reading(nodule(1, texture="milky"))))
    texture, = (o for o in segments(message, "OBX") if o.value(3) == "C41144")
    assert texture.components(5) == ("", "milky")


def test_unescape_reads_what_other_systems_write() -> None:
    assert unescape("a\\T\\b\\.br\\c\\X41\\\\H\\d\\N\\ \\Zx\\") == "a&b\ncAd \\Zx\\"


def test_a_very_long_text_is_cut_with_a_word_about_it() -> None:
    message = render(replace(NOT_ANALYSED, notes=("~" * 90000,)))
    text = next(o for o in segments(message, "OBX") if o.value(2) == "TX")
    assert len(text.field(5)) <= 65536
    assert text.value(5).endswith("(cut; the report has all of it)")
