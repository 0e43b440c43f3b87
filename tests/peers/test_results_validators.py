"""What validators that are not ours say about our SEG, SR and rejection notes, and what DCMTK reads out of them.

Complaints about right objects, and about values that we copy from the images on purpose, are listed below one by one
with
the reason; all else is an error.
"""

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.results.note import Rejection, write_note
from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from inference.findings import LUNG_RADS, Assessment, Finding, NotRead, Reason, Report, Status
from tests.multiframe import legacy
from tests.result_sources import (
    CHAIN,
    CONTEXT,
    GRADER,
    HOSTILE_NAMES,
    LEFT_OUT,
    ORDER,
    Series,
    as_frames,
    ball,
    ct_reading,
    ct_series,
    graded,
    hostile_series,
    radiograph,
    radiograph_reading,
    report_of,
)

pytestmark = pytest.mark.peer
Lines = Callable[[Path], list[str]]
AllLines = Callable[[list[Path]], list[str]]


@dataclass(frozen=True)
class Known:
    """Lines that match `pattern` are no fault of ours, because ..."""

    pattern: str
    why: str


ONE_PLANAR_GROUP: Final = (
    Known(
        r"^Error: Template 1410 .*SCOORD \(111030,DCM,\"Image Region\"\): within 1\.9\.1: .*Missing conditional content item$",
        "with exactly one planar group PixelMed 2022 checks the volumetric group (1.9.1) against TID 1410 too; it has a segment",
    ),
    Known(
        r"^Error: Template 1410 .*\"Referenced Segmentation Frame\"\): within 1\.9\.1: .*Missing conditional content item$",
        "the same: the volumetric group references a segment, as TID 1411 asks",
    ),
    Known(
        r"^Error: Template 1410 .*\"Source image for segmentation\"\): within 1\.9\.1: .*condition not satisfied$",
        "the same: TID 1411 asks for the source images of a segment",
    ),
)
ACCESSION: Final = Known(
    r"^Warning - Different information entities for attribute - Element=<AccessionNumber> IE <Series> versus <Study>",
    "dicom3tools files the Accession Number of SR and KO under the study and that of images under the series; values agree",
)
NOTE_TEMPLATE: Final = Known(
    r"^W: Check for template constraints not yet supported$", "DCMTK says that it doesn't check TID 2010"
)
LAST_MENSTRUAL_DATE: Final = Known(
    r"^Warning - Attribute present in one instance but not the other - Element=<LastMenstrualDate>",
    "optional: a result carries no more of the patient than it is filed under",
)
TIME_POINT: Final = Known(
    r"^Warning - Attribute present in one instance but not the other - Element=<ClinicalTrialTimePointID>",
    "type 2: the converter of the test puts an empty one into the images; no result is part of a trial",
)
CHARACTER_SET: Final = Known(
    r"(VR checker does not support this|Reading unknown/unsupported) ?Specific ?Character ?Set",
    "DCMTK 3.6.7 knows few character sets; the images' own one governs the file",
)


def copied(*keywords: str) -> Known:
    """A complaint about an element that carries what the images carry."""
    return Known(rf"\b({'|'.join(keywords)})\b ?\(", f"{', '.join(keywords)}: copied byte for byte from the images")


# What is wrong in each hostile header, and therefore in results that must be filed under the same patient and study.
HOSTILE_KNOWN: Mapping[str, tuple[Known, ...]] = {
    "sex U": (copied("PatientSex"),),
    "sex in words": (copied("PatientSex"),),
    "dashed dates": (copied("StudyDate", "StudyTime", "PatientBirthDate"),),
    "no type 2 elements": (
        Known(
            r"^Warning - Attribute present in one instance but not the other - Element=<(AccessionNumber|Patient\w+|"
            r"ReferringPhysicianName|Study\w+)>",
            "type 2: empty in results, missing in the images",
        ),
    ),
    "56-character accession number": (copied("AccessionNumber"),),
    "80-character name, 70-character ID": (copied("PatientName", "PatientID"),),
    "age without unit, ID with backslash": (copied("PatientAge", "PatientID"),),
    "study UID that is none": (copied("StudyInstanceUID"),),
    "Latin-1 without a label": (copied("PatientName"),),
    "Chinese GBK": (copied("PatientName"),),
    "character set LATIN1": (copied("PatientName"),),
    "character set ISO-IR 100": (copied("PatientName", "SpecificCharacterSet"),),
    "lone ISO 2022 IR 100": (copied("PatientName"),),
    "de-identified, method as codes": (
        Known(
            r"^Warning - Attribute present in one instance but not the other - Element=<DeidentificationMethod>",
            "type 1C: the images have the method as a sequence of codes, a result points at them in words",
        ),
    ),
}


def left(lines: Iterable[str], *known: Known) -> list[str]:
    return [line for line in lines if not any(re.search(k.pattern, line) for k in known)]


@dataclass(frozen=True)
class Made:
    """Files of one result."""

    images: list[Path]
    seg: Path | None
    sr: Path

    @property
    def objects(self) -> list[Path]:
        return [self.sr] if self.seg is None else [self.seg, self.sr]


def make(report: Report, series: Series, folder: Path, **context: object) -> Made:
    folder.mkdir(exist_ok=True)
    used = replace(CONTEXT, **context)  # type: ignore[arg-type]
    seg, segs = None, {}
    for reading in report.readings:
        written = write_seg(reading, series.files, used, folder / "seg.dcm")
        if written is not None:
            seg = segs[reading.series_instance_uid] = written.path
    return Made(list(series.files.values()), seg, write_sr(report, series.files, segs, used, folder / "sr.dcm").path)


def not_analysed(series: Series, modality: str, outcome: str, reason: Reason) -> Report:
    return report_of(not_read=[NotRead(series.uid, modality, outcome, reason, "2")], reason=reason)


def result(name: str, folder: Path) -> Made:
    """The result of each kind of study that is reported."""
    if name.startswith("radiograph"):
        image = radiograph(folder / "images")
        findings = [
            Finding(image.order[0], "Cardiomegaly", 0.8, True, False),
            Finding(image.order[0], "Edema", 0.7, True, False),
        ]
        if name == "radiograph":
            return make(report_of(radiograph_reading(image, *findings)), image, folder)
        return make(not_analysed(image, "DX", "declined", Reason("no_model", "no model is installed")), image, folder)
    series = ct_series(folder / "images")
    one = ball(series, 1, (5, 20, 20))
    many = [
        ball(series, 1, (5, 10, 10)),
        ball(series, 2, (8, 30, 30), site=None),
        ball(series, 5, (6, 35, 12), site="left lung"),
    ]
    graded_by_all = [graded(many[0], "solid", True), graded(many[1], "part-solid", False), graded(many[2], None, None)]
    category = Assessment(LUNG_RADS, "4A", "low-dose CT in 3 months", 1, ("nodule 1: 9.0 mm",), next_ct_months=(3, 3))
    gap = Reason("gap", "slices are missing: 32.5 mm between z = -100.0 and z = -67.5")
    match name:
        case "no nodule":
            return make(report_of(ct_reading(series)), series, folder)
        case "one nodule":
            return make(report_of(ct_reading(series, [one])), series, folder, order=ORDER)
        case "many nodules":
            return make(report_of(ct_reading(series, many), notes=["Age not judged"]), series, folder)
        case "touching nodules":
            return make(report_of(ct_reading(series, [one, ball(series, 2, (5, 20, 27))])), series, folder)
        case "graded nodules":
            reading = ct_reading(series, graded_by_all, algorithms=(*CHAIN, GRADER))
            return make(replace(report_of(reading), assessment=category), series, folder)
        case "partial":
            reading = replace(
                ct_reading(series, many, Status.PARTIAL), slices_read=series.order, slices_left_out=(LEFT_OUT,)
            )
            return make(report_of(reading), series, folder)
        case "partial without nodules":
            return make(report_of(ct_reading(series, (), Status.PARTIAL)), series, folder)
        case "not analysed":
            return make(not_analysed(series, "CT", "declined", gap), series, folder)
        case "failed":
            return make(not_analysed(series, "CT", "failed", Reason("failed", "three attempts failed")), series, folder)
        case _:
            first = make(report_of(ct_reading(series, [one])), series, folder / "first")
            return make(
                report_of(ct_reading(series, many)), series, folder, key="e" * 64, revision=2, predecessor=first.sr
            )


NAMES = (
    "no nodule",
    "one nodule",
    "many nodules",
    "touching nodules",
    "graded nodules",
    "partial",
    "partial without nodules",
    "not analysed",
    "failed",
    "revision",
    "radiograph",
    "radiograph not analysed",
)


# PixelMed needs half a minute for a report with groups: one of each shape of content tree is enough
CONTENT_NAMES = ("no nodule", "one nodule", "graded nodules", "not analysed", "radiograph")


@pytest.mark.parametrize("name", NAMES)
def test_no_validator_finds_an_error_in_any_kind_of_result(
    tmp_path: Path, name: str, dciodvfy: Lines, dcentvfy: AllLines, dsrdump: Lines
) -> None:
    made = result(name, tmp_path)
    assert {path.name: dciodvfy(path) for path in made.objects} == {path.name: [] for path in made.objects}
    assert left(dcentvfy([*made.images, *made.objects]), ACCESSION) == []
    assert dsrdump(made.sr) == []


@pytest.mark.parametrize("name", CONTENT_NAMES)
def test_the_content_of_each_shape_of_report_is_that_of_its_template(
    tmp_path: Path, name: str, pixelmed: Lines
) -> None:
    known = ONE_PLANAR_GROUP if name == "one nodule" else ()
    assert left(pixelmed(result(name, tmp_path).sr), *known) == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_header_brings_no_complaint_but_of_what_is_copied_from_it(
    tmp_path: Path, name: str, dciodvfy: Lines, dcentvfy: AllLines, dsrdump: Lines
) -> None:
    series = hostile_series(tmp_path / "images", name)
    made = make(
        report_of(ct_reading(series, [ball(series, 1, (5, 20, 20)), ball(series, 2, (5, 20, 30))])), series, tmp_path
    )
    known = HOSTILE_KNOWN.get(name, ())
    for path in made.objects:
        assert left(dciodvfy(path), *known) == []
    assert left(dcentvfy([*made.images, *made.objects]), ACCESSION, *known) == []
    assert left(dsrdump(made.sr), CHARACTER_SET, *known) == []


@pytest.mark.parametrize("name", ["Japanese", "Latin-1 with a label", "UTF-8"])
def test_the_content_is_right_in_any_character_set(tmp_path: Path, name: str, pixelmed: Lines) -> None:
    series = hostile_series(tmp_path / "images", name)
    assert pixelmed(make(report_of(ct_reading(series)), series, tmp_path).sr) == []


@pytest.mark.parametrize("rejection", Rejection)
def test_no_validator_finds_an_error_in_a_rejection_note(
    tmp_path: Path, rejection: Rejection, dciodvfy: Lines, dcentvfy: AllLines, dsrdump: Lines
) -> None:
    made = result("many nodules", tmp_path)
    note = write_note(made.objects, rejection, CONTEXT, tmp_path / "note.dcm").path
    assert dciodvfy(note) == []
    assert left(dcentvfy([*made.images, *made.objects, note]), ACCESSION) == []
    assert left(dsrdump(note), NOTE_TEMPLATE) == []


def test_a_real_series_gets_a_right_result(
    tmp_path: Path, shared_data: Path, dciodvfy: Lines, dcentvfy: AllLines, dsrdump: Lines
) -> None:
    """LIDC-IDRI-0063, JPEG-LS: the pixels are never needed."""
    series = real_series(shared_data / "ct" / "lidc-idri-0063" / "dicom")
    nodules = [ball(series, 1, (66, 332, 187), radius=3), ball(series, 2, (100, 250, 300), radius=4, site="left lung")]
    made = make(report_of(ct_reading(series, nodules)), series, tmp_path)
    assert {path.name: dciodvfy(path) for path in made.objects} == {path.name: [] for path in made.objects}
    assert left(dcentvfy([*made.images, *made.objects]), ACCESSION, LAST_MENSTRUAL_DATE) == []
    assert dsrdump(made.sr) == []


def test_a_multi_frame_object_gets_a_right_result(
    tmp_path: Path, dciodvfy: Lines, dcentvfy: AllLines, dsrdump: Lines, pixelmed: Lines
) -> None:
    """References name frames; the object itself is highdicom's, whose own faults are not looked at."""
    single = ct_series(tmp_path / "single")
    series, frames = as_frames(legacy(list(single.files.values()), tmp_path / "multi.dcm"))
    one = ball(series, 1, (5, 20, 20))
    one = replace(one, key_slice=replace(one.key_slice, frame=frames[5]))
    made = make(report_of(ct_reading(series, [one], frames_read=frames)), series, tmp_path / "result")
    assert {path.name: dciodvfy(path) for path in made.objects} == {path.name: [] for path in made.objects}
    assert left(dcentvfy([*made.images, *made.objects]), ACCESSION, TIME_POINT) == []
    assert dsrdump(made.sr) == []
    assert left(pixelmed(made.sr), *ONE_PLANAR_GROUP) == []


def real_series(folder: Path) -> Series:
    headers = [(path, dcmread(path, stop_before_pixels=True)) for path in sorted(folder.glob("*.dcm"))]
    headers.sort(key=lambda h: float(h[1].ImagePositionPatient[2]))
    first = headers[0][1]
    order = tuple(str(h.SOPInstanceUID) for _, h in headers)
    files = dict(zip(order, (path for path, _ in headers), strict=True))
    return Series(str(first.SeriesInstanceUID), files, order, (len(order), first.Rows, first.Columns))


@pytest.mark.parametrize("name", ["one nodule", "many nodules"])
def test_dcmtk_reads_the_same_voxels_out_of_the_seg(
    tmp_path: Path, name: str, peer_program: Callable[[str], str]
) -> None:
    made = result(name, tmp_path)
    seg = json.loads(subprocess.run([peer_program("dcm2json"), str(made.seg)], check=True, capture_output=True).stdout)
    rows, columns = seg["00280010"]["Value"][0], seg["00280011"]["Value"][0]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(seg["7FE00010"]["InlineBinary"]), np.uint8), bitorder="little")
    shared = seg["52009229"]["Value"][0]
    counts: dict[int, int] = {}
    for n, group in enumerate(seg["52009230"]["Value"]):
        holder = group if "0062000A" in group else shared
        segment = holder["0062000A"]["Value"][0]["0062000B"]["Value"][0]
        counts[segment] = counts.get(segment, 0) + int(bits[n * rows * columns : (n + 1) * rows * columns].sum())
    ball_voxels = 123  # of a radius of 3
    assert counts == dict.fromkeys(range(1, len(seg["00620002"]["Value"]) + 1), ball_voxels)


def test_dcmtk_reads_the_same_numbers_out_of_the_sr(tmp_path: Path, peer_program: Callable[[str], str]) -> None:
    made = result("one nodule", tmp_path)
    xml = subprocess.run([peer_program("dsr2xml"), "-Ee", str(made.sr)], check=True, capture_output=True).stdout
    report = ElementTree.fromstring(xml)
    numbers = [float(item.findtext("value", "")) for item in report.iter("num")]
    nodule = ball(ct_series(tmp_path / "again"), 1, (5, 20, 20))
    assert numbers == [
        nodule.long_axis_mm,
        nodule.short_axis_mm,
        nodule.mean_diameter_mm,
        nodule.volume_mm3,
        nodule.mean_hu,
        nodule.mass_mg,
    ]
    assert "RESEARCH - NOT FOR DIAGNOSIS" in "".join(report.itertext())
