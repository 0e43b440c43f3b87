import json
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage

from inference.errors import NotDicom
from inference.headers import Header, read_header
from tests.conftest import REPOSITORY
from tests.unit.inference.made import ct_dataset, patient, write

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom comments on what these tests write on purpose


def read(tmp_path: Path, **changes: object) -> Header:
    return read_header(write(ct_dataset(0, patient(), **changes), tmp_path / "one.dcm"))


def test_a_plain_slice_is_read_as_its_header_says(tmp_path: Path) -> None:
    header = read(
        tmp_path, AccessionNumber="ACC1", StudyDescription="CT Thorax", PatientAge="054Y", AcquisitionNumber=3
    )
    assert header.position == (-10.0, -20.0, 0.0)
    assert header.pixel_spacing == (0.8, 0.6)
    assert (header.rows, header.columns, header.frames) == (32, 32, 1)
    assert (header.accession, header.study_description, header.age_years) == ("ACC1", "CT Thorax", 54.0)
    assert (header.series_number, header.instance_number, header.acquisition_number) == ("2", 1, 3)
    assert header.has_pixels
    assert header.pixel_bytes == 2048
    assert header.faults == ()


def test_a_header_survives_json(tmp_path: Path) -> None:
    header = read(tmp_path)
    assert Header.from_json(json.loads(json.dumps(header.to_json()))) == header


def test_the_pixel_digest_is_over_the_raw_pixel_bytes(tmp_path: Path) -> None:
    one = read(tmp_path)
    same = read(tmp_path, PatientID="P2")
    pixels = patient()
    pixels[0, 0] += 1
    other = read_header(write(ct_dataset(0, pixels), tmp_path / "other.dcm"))
    assert one.pixel_sha256 == same.pixel_sha256 != other.pixel_sha256
    assert read_header(tmp_path / "one.dcm", with_pixel_digest=False).pixel_sha256 == ""


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"PatientAge": "54"}, "age_years", 54.0),
        ({"PatientAge": "018M"}, "age_years", 1.5),
        ({"PatientAge": "?"}, "age_years", None),
        ({"PatientBirthDate": "19600101", "StudyDate": "20200101"}, "age_years", pytest.approx(60.0, abs=0.01)),
        ({"StudyDate": "20260105", "StudyTime": "101500.25"}, "acquired_at", "2026-01-05T10:15:00"),
        ({"StudyDate": "20260105"}, "acquired_at", "2026-01-05"),
        (
            {"AcquisitionDate": "20260104", "AcquisitionTime": "0915", "StudyDate": "20260105", "StudyTime": "10"},
            "acquired_at",
            "2026-01-04T09:15:00",
        ),
        (
            {"AcquisitionDateTime": "20260105101500.000000+0100"},
            "acquired_at",
            "2026-01-05T10:15:00+01:00",
        ),
        (
            {"StudyDate": "20260105", "StudyTime": "101500", "TimezoneOffsetFromUTC": "-0330"},
            "acquired_at",
            "2026-01-05T10:15:00-03:30",
        ),
        ({"StudyDate": "20261399", "StudyTime": "9999"}, "acquired_at", ""),
    ],
)
def test_ages_and_times_are_taken_as_hospitals_write_them(
    tmp_path: Path, changes: dict[str, object], field: str, value: object
) -> None:
    assert getattr(read(tmp_path, **changes), field) == value


def test_a_decimal_comma_is_read_and_noted(tmp_path: Path) -> None:
    path = write(ct_dataset(0, patient(), SliceThickness="2.5"), tmp_path / "one.dcm")
    path.write_bytes(path.read_bytes().replace(b"2.5 ", b"2,5 "))
    header = read_header(path)
    assert header.slice_thickness == 2.5
    assert "SliceThickness: decimal comma" in header.faults


def test_bad_values_are_faults_and_no_errors(tmp_path: Path) -> None:
    path = write(ct_dataset(0, patient(), ImagePositionPatient=["-10", "-20", "77.125"]), tmp_path / "one.dcm")
    path.write_bytes(path.read_bytes().replace(b"77.125", b"nan   "))
    header = read_header(path)
    assert header.position is None
    assert any(fault.startswith("ImagePositionPatient") for fault in header.faults)


def test_a_name_in_bytes_that_its_character_set_does_not_have_is_noted(tmp_path: Path) -> None:
    path = write(
        ct_dataset(0, patient(), SpecificCharacterSet="ISO_IR 192", PatientName="XXXX^YY"), tmp_path / "one.dcm"
    )
    path.write_bytes(path.read_bytes().replace(b"XXXX^YY", b"M\xfcll^YY"))
    header = read_header(path)
    assert header.patient_name.endswith("^YY")
    assert any(fault.startswith("PatientName") for fault in header.faults)


def test_a_rejection_note_gives_its_title_and_what_it_rejects(tmp_path: Path) -> None:
    note = ct_dataset(0, patient(), SOPClassUID=KeyObjectSelectionDocumentStorage, Modality="KO")
    del note.PixelData
    title, instance, series, study = Dataset(), Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = (
        "113037",
        "DCM",
        "Rejected for Patient Safety Reasons",
    )
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.7"
    series.ReferencedSOPSequence, series.SeriesInstanceUID = Items([instance]), "1.2.3"
    study.ReferencedSeriesSequence, study.StudyInstanceUID = Items([series]), "1.2"
    note.ConceptNameCodeSequence = Items([title])
    note.CurrentRequestedProcedureEvidenceSequence = Items([study])
    header = read_header(write(note, tmp_path / "note.dcm"))
    assert header.note_title == "113037"
    assert header.note_references == (("1.2.840.10008.5.1.4.1.1.2", "1.2.3.7"),)
    assert not header.has_pixels


def test_a_file_that_names_no_instance_is_not_dicom(tmp_path: Path) -> None:
    for content in (b"", b"%PDF-1.4 nothing", b"\0" * 128 + b"DICM", bytes(range(256)) * 40):
        path = tmp_path / "x.dcm"
        path.write_bytes(content)
        with pytest.raises(NotDicom):
            read_header(path)


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", group, number, vr, 0, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def bare(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    meta = element(2, 0x10, b"UI", syntax)
    return b"\0" * 128 + b"DICM" + element(2, 0, b"UL", struct.pack("<L", len(meta))) + meta + b"".join(elements)


IDENTITY = (
    element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    element(8, 0x18, b"UI", b"1.2.3.1\0"),
    element(0x20, 0x0D, b"UI", b"1.2\0"),
)


def test_an_element_that_claims_3_gb_costs_neither_memory_nor_the_rest_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(bare(IDENTITY[0], IDENTITY[1], IDENTITY[2], element(0x20, 0x4000, b"UT", b"abc", 3_000_000_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_header(path).sop_instance_uid == "1.2.3.1"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_sequences_nested_a_thousand_deep_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    nested = (struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + item) * 1000
    path.write_bytes(bare(*IDENTITY, nested))
    with pytest.raises(NotDicom, match="nested"):
        read_header(path)


def test_a_sequence_that_ends_in_the_middle_of_a_tag_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(bare(*IDENTITY, struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00"))
    with pytest.raises(NotDicom):
        read_header(path)


def test_a_deflated_bomb_is_refused_and_an_honest_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.dcm"
    stream = zlib.compressobj(wbits=-15)
    content = b"".join(IDENTITY) + element(0x7FE0, 0x10, b"OW", b"\0" * 4_000_000)
    packed = stream.compress(content) + stream.flush()
    path.write_bytes(bare(syntax=b"1.2.840.10008.1.2.1.99\0\0"[:22]) + packed)
    assert read_header(path).pixel_bytes == 4_000_000
    assert read_header(path).transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    monkeypatch.setattr("inference.elements.INFLATED_BYTES_MAX", 1_000_000)
    with pytest.raises(NotDicom, match="inflates"):
        read_header(path)


def test_pixel_data_that_end_early_are_noted(tmp_path: Path) -> None:
    path = write(ct_dataset(0, patient()), tmp_path / "one.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    header = read_header(path)
    assert header.has_pixels
    assert any(fault.startswith("PixelData") for fault in header.faults)


def test_a_number_written_as_text_in_an_unsigned_element_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(bare(*IDENTITY, element(0x28, 0x10, b"IS", b"512 "), element(0x28, 0x11, b"CS", b"many")))
    header = read_header(path)
    assert (header.rows, header.columns) == (512, None)
    assert header.faults == ("Rows: a number written as text", "Columns: not a number")


def test_the_child_answers_a_line_a_file_and_outlives_bad_ones(tmp_path: Path) -> None:
    good = write(ct_dataset(0, np.zeros((4, 4), np.int16)), tmp_path / "good.dcm")
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no")
    lines = f"{bad}\n{tmp_path / 'missing.dcm'}\n{good}\n"
    child = subprocess.run(
        [sys.executable, "-m", "inference.headers", "--mib", "1024"],
        input=lines,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    assert [a.get("error", {}).get("code") for a in answers] == ["not_dicom", "unreadable_file", None]
    assert Header.from_json(answers[2]["header"]) == read_header(good)


@pytest.mark.shared
def test_no_odd_file_does_more_than_be_no_dicom(shared_data: Path) -> None:
    read, refused = [], []
    for path in sorted((shared_data / "odd").rglob("*.dcm")):
        try:
            read.append(read_header(path))
        except NotDicom:
            refused.append(path.name)
    assert len(read) > 150
    assert {"not_dicom_raw.dcm", "no_meta.dcm", "nema12_noclass.dcm"} <= set(refused)
    assert all(Header.from_json(json.loads(json.dumps(h.to_json()))) == h for h in read)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "patient_name"),
    [
        ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrRuss", "Люкceмбypг"),  # noqa: RUF001 - the file mixes Cyrillic and Latin letters
        ("chrX1", "Wang^XiaoDong=王^小東="),
        ("chrX2", "Wang^XiaoDong=王^小东="),
        ("chrGreek", "Διονυσιος"),
        ("chrArab", "قباني^لنزار"),
        ("chrHbrw", "שרון^דבורה"),
    ],
)
def test_names_are_decoded_in_every_character_set(shared_data: Path, name: str, patient_name: str) -> None:
    assert read_header(shared_data / "odd" / "charset" / f"{name}.dcm").patient_name == patient_name
