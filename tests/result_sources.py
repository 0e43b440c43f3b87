"""Small CT series, radiographs and findings for the tests of results.

The files are encoded here byte by byte (Explicit VR Little Endian), so that a test can put anything into a header that
a real modality did, and no library has a say in it.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.results.context import Device, OrderNumbers, ResultContext
from dicom_node.results.uids import tracking_uid
from inference.findings import (
    Algorithm,
    Finding,
    KeySlice,
    LeftOut,
    MaskCrop,
    Nodule,
    NotRead,
    Reading,
    Reason,
    Report,
    Status,
)
from inference.headers import read_header

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
KEY = "0123456789abcdef" * 4
AT = datetime(2026, 1, 5, 10, 15, 30, tzinfo=UTC)
DEVICE = Device(ae_title="DICOMNODE", serial="TEST-0001", software_version="0.1.0")
CONTEXT = ResultContext(key=KEY, content_at=AT, device=DEVICE, settings_sha256="5" * 64)
CHAIN = (
    Algorithm("lungs", "threshold-lungs", "1.0", "a" * 64, "demonstration"),
    Algorithm("detector", "hessian-dot", "1.0", "b" * 64, "demonstration"),
    Algorithm("outliner", "seeded-outline", "1.0", "c" * 64, "demonstration"),
)


def encode(elements: Mapping[str, bytes | str | None], meta: Mapping[str, str]) -> bytes:
    """A Part 10 file; None leaves an element out, values are written as they are (padded to even length)."""
    head = _elements({"FileMetaInformationVersion": b"\0\1", **meta})
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(head))
    return b"\0" * 128 + b"DICM" + group + head + _elements(elements)


def _elements(elements: Mapping[str, bytes | str | None]) -> bytes:
    encoded = []
    for keyword, value in sorted(elements.items(), key=lambda e: tag_for_keyword(e[0]) or 0):
        if value is None:
            continue
        tag = tag_for_keyword(keyword)
        assert tag is not None
        vr = {"US or SS": "US", "OB or OW": "OW"}.get(dictionary_VR(tag), dictionary_VR(tag))
        content = value.encode("ascii") if isinstance(value, str) else value
        if len(content) % 2:
            content += b"\0" if vr in {"UI", "OB"} else b" "
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        head += struct.pack("<HI", 0, len(content)) if vr in _LONG else struct.pack("<H", len(content))
        encoded.append(head + content)
    return b"".join(encoded)


def _us(number: int) -> bytes:
    return struct.pack("<H", number)


PATIENT: Mapping[str, bytes | str | None] = {
    "PatientName": "Phantom^Alma",
    "PatientID": "P-1001",
    "IssuerOfPatientID": "HOSP",
    "PatientBirthDate": "19600101",
    "PatientSex": "F",
    "PatientAge": "065Y",
    "StudyInstanceUID": "1.2.3.4.5",
    "StudyID": "S1",
    "StudyDate": "20260105",
    "StudyTime": "101500",
    "AccessionNumber": "ACC1001",
    "ReferringPhysicianName": "Doctor^A",
    "StudyDescription": "CT chest",
    "TimezoneOffsetFromUTC": None,
    "SpecificCharacterSet": None,
}


@dataclass(frozen=True)
class Series:
    """Files on disk by SOP Instance UID; `order` is that of the volume's k."""

    uid: str
    files: Mapping[str, Path]
    order: tuple[str, ...]
    shape: tuple[int, int, int]


def ct_series(
    folder: Path,
    slices: int = 12,
    size: int = 48,
    series: str = "1.2.3.4.5.6",
    pixels: bool = True,
    spacing_mm: float = 0.8,
    thickness_mm: float = 1.25,
    per_slice: Sequence[Mapping[str, bytes | str | None]] = (),
    **header: bytes | str | None,
) -> Series:
    """An axial CT. `header` overrides elements of every slice, `per_slice` of one."""
    folder.mkdir(parents=True, exist_ok=True)
    files, order = {}, []
    for k in range(slices):
        sop = f"{series}.{k + 1}"
        elements: dict[str, bytes | str | None] = {
            **PATIENT,
            "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
            "SOPClassUID": CT,
            "SOPInstanceUID": sop,
            "Modality": "CT",
            "Manufacturer": "Scanner maker",
            "SeriesInstanceUID": series,
            "SeriesNumber": "2",
            "InstanceNumber": str(k + 1),
            "AcquisitionNumber": "1",
            "SliceThickness": f"{thickness_mm:g}",
            "KVP": "120",
            "PatientPosition": "HFS",
            "FrameOfReferenceUID": f"{series}.900",
            "PositionReferenceIndicator": "",
            "ImagePositionPatient": f"-20\\-30\\{k * thickness_mm:g}",
            "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
            "PixelSpacing": f"{spacing_mm:g}\\{spacing_mm:g}",
            "SamplesPerPixel": _us(1),
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": _us(size),
            "Columns": _us(size),
            "BitsAllocated": _us(16),
            "BitsStored": _us(16),
            "HighBit": _us(15),
            "PixelRepresentation": _us(1),
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "HU",
            "PixelData": bytes(2 * size * size) if pixels else None,
            **header,
            **(per_slice[k] if k < len(per_slice) else {}),
        }
        sop = str(elements["SOPInstanceUID"])
        meta = {
            "MediaStorageSOPClassUID": CT,
            "MediaStorageSOPInstanceUID": sop,
            "TransferSyntaxUID": "1.2.840.10008.1.2.1",
            "ImplementationClassUID": "1.2.3.4.999",
        }
        path = folder / f"{series}-{k:04d}.dcm"
        path.write_bytes(encode(elements, meta))
        files[sop] = path
        order.append(sop)
    return Series(str(header.get("SeriesInstanceUID") or series), files, tuple(order), (slices, size, size))


def radiograph(folder: Path, series: str = "1.2.3.4.5.7") -> Series:
    """A frontal DX image."""
    folder.mkdir(parents=True, exist_ok=True)
    sop = f"{series}.1"
    elements: dict[str, bytes | str | None] = {
        **PATIENT,
        "ImageType": "ORIGINAL\\PRIMARY",
        "SOPClassUID": DX,
        "SOPInstanceUID": sop,
        "Modality": "DX",
        "Manufacturer": "Detector maker",
        "SeriesInstanceUID": series,
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "StudyDescription": "Chest PA",
        "Rows": _us(64),
        "Columns": _us(64),
        "ViewPosition": "PA",
        "PixelData": bytes(2 * 64 * 64),
        "BitsAllocated": _us(16),
    }
    path = folder / "dx.dcm"
    meta = {
        "MediaStorageSOPClassUID": DX,
        "MediaStorageSOPInstanceUID": sop,
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "ImplementationClassUID": "1.2.3.4.999",
    }
    path.write_bytes(encode(elements, meta))
    return Series(series, {sop: path}, (sop,), (1, 64, 64))


def ball(
    series: Series,
    number: int,
    centre: tuple[int, int, int],
    radius: int = 3,
    key: str = KEY,
    site: str | None = "right lung",
    spacing_mm: float = 0.8,
    thickness_mm: float = 1.25,
) -> Nodule:
    """A round nodule (in voxels) whose numbers tell it from others."""
    k, j, i = np.indices((2 * radius + 1,) * 3) - radius
    voxels: npt.NDArray[np.bool_] = (k * k + j * j + i * i) <= radius * radius
    start = (centre[0] - radius, centre[1] - radius, centre[2] - radius)
    keep = slice(max(0, -start[0]), max(0, series.shape[0] - start[0]))
    voxels = voxels[keep]
    start = (max(0, start[0]), start[1], start[2])
    long_mm = round((2 * radius + 1) * spacing_mm, 1)
    return Nodule(
        number=number,
        tracking_uid=tracking_uid(key, number),
        centre_lps_mm=(
            round(-20 + centre[2] * spacing_mm, 2),
            round(-30 + centre[1] * spacing_mm, 2),
            round(centre[0] * thickness_mm, 2),
        ),
        mask=MaskCrop(start, voxels),
        key_slice=KeySlice(series.order[centre[0]], centre[0], (centre[2] + 0.5, centre[1] + 0.5), radius + 0.75),
        long_axis_mm=long_mm,
        short_axis_mm=round(long_mm - 0.1 * number, 1),
        mean_diameter_mm=round(long_mm - 0.05 * number, 1),
        volume_mm3=round(voxels.sum() * spacing_mm**2 * thickness_mm),
        mean_hu=-40 - number,
        confidence=None,
        site=site,
        size_error_mm=round(spacing_mm * 2**0.5, 1),
        mass_mg=100 + number,
        volume_error_mm3=20 + number,
        mass_error_mg=10 + number,
    )


def graded(nodule: Nodule, texture: str | None = "solid", calcified: bool | None = False) -> Nodule:
    """A nodule of which every model said something."""
    return replace(
        nodule, confidence=0.873, malignancy=0.37, texture=texture, spiculation=0.2, lobulation=0.1, calcified=calcified
    )


GRADER = Algorithm("grader", "graded-by-test", "1.0", "e" * 64, "measured")


def ct_reading(
    series: Series, nodules: Sequence[Nodule] = (), status: Status = Status.COMPLETED, **changes: object
) -> Reading:
    """A reading of the whole series."""
    reading = Reading(
        series_instance_uid=series.uid,
        modality="CT",
        status=status,
        reason=Reason("lungs_cut", "the last slice still shows 12.5 cm2 of lung") if status is Status.PARTIAL else None,
        nodules=tuple(nodules),
        findings=None,
        algorithms=CHAIN,
        slices_read=series.order,
        slices_left_out=(),
        quality=(),
        smallest_mm=4.0,
        series_number="2",
        series_description="Chest 1.25",
    )
    return replace(reading, **changes)  # type: ignore[arg-type]


def report_of(
    *readings: Reading,
    study: str = "1.2.3.4.5",
    not_read: Sequence[NotRead] = (),
    reason: Reason | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """A report of a demonstration chain."""
    return Report(
        study, "dicom-node 0.1.0", tuple(readings), tuple(not_read), reason, demonstration=True, notes=tuple(notes)
    )


def radiograph_reading(series: Series, *findings: Finding) -> Reading:
    """A reading of a radiograph."""
    return Reading(
        series.uid,
        "DX",
        Status.COMPLETED,
        None,
        None,
        findings,
        (Algorithm("radiograph", "cxr", "0.1", "d" * 64, "measured"),),
        series.order,
        (),
        series_number="1",
    )


# Headers that real modalities sent, each with what it does to the bytes of a source: (name, elements).
HOSTILE: Mapping[str, Mapping[str, bytes | str | None]] = {
    "sex U": {"PatientSex": "U"},
    "sex in words": {"PatientSex": "male"},
    "dashed dates": {"StudyDate": "2026-01-05", "StudyTime": "10:15:00", "PatientBirthDate": "1960.01.01"},
    "no type 2 elements": dict.fromkeys(
        (
            "StudyID",
            "AccessionNumber",
            "StudyDate",
            "StudyTime",
            "PatientBirthDate",
            "PatientSex",
            "ReferringPhysicianName",
            "PatientID",
            "PatientName",
            "IssuerOfPatientID",
            "PatientAge",
            "StudyDescription",
        )
    ),
    "56-character accession number": {"AccessionNumber": "A" * 56},
    "80-character name, 70-character ID": {"PatientName": "N" * 80, "PatientID": "I" * 70},
    "age without unit, ID with backslash": {"PatientAge": "66", "PatientID": "12\\34"},
    "study UID that is none": {"StudyInstanceUID": "1.2.03.4.abc"},
    "Latin-1 with a label": {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "M\xfcller^J\xf6rg".encode("latin-1"),
    },
    "Latin-1 without a label": {"PatientName": "M\xfcller^J\xf6rg".encode("latin-1")},
    "Latin-1 under a label of UTF-8": {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "M\xfcller".encode("latin-1"),
    },
    "UTF-8": {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "M\xfcller^\u674e".encode(),
        "StudyDescription": "Th\xf6rax".encode(),
    },
    "Japanese": {
        "SpecificCharacterSet": "\\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    },
    "Japanese, two sets": {
        "SpecificCharacterSet": "ISO 2022 IR 13\\ISO 2022 IR 87",
        "PatientName": b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    },
    "Korean": {
        "SpecificCharacterSet": "\\ISO 2022 IR 149",
        "PatientName": b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    },
    "Chinese GB18030": {"SpecificCharacterSet": "GB18030", "PatientName": b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"},
    "Chinese GBK": {"SpecificCharacterSet": "GBK", "PatientName": b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"},
    "character set LATIN1": {"SpecificCharacterSet": "LATIN1", "PatientName": "M\xfcller".encode("latin-1")},
    "character set ISO_IR 6": {"SpecificCharacterSet": "ISO_IR 6"},
    "character set ISO-IR 100": {"SpecificCharacterSet": "ISO-IR 100", "PatientName": "M\xfcller".encode("latin-1")},
    "lone ISO 2022 IR 100": {"SpecificCharacterSet": "ISO 2022 IR 100", "PatientName": "M\xfcller".encode("latin-1")},
    "offset from UTC": {"TimezoneOffsetFromUTC": "+0900"},
    "offset that is none": {"TimezoneOffsetFromUTC": "CET"},
    "de-identified, method as codes": {"PatientIdentityRemoved": "YES"},
    "de-identified": {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "DCM:113100\\DCM:113105"},
    "decimal comma": {"SliceThickness": "1,25", "ImagePositionPatient": None},
    "no slice thickness": {"SliceThickness": None},
    "empty slice thickness": {"SliceThickness": ""},
    "DS longer than 16 characters": {"PixelSpacing": "0.80000000000000004\\0.80000000000000004"},
    "no frame of reference": {"FrameOfReferenceUID": None},
    "empty frame of reference": {"FrameOfReferenceUID": ""},
}


def hostile_series(folder: Path, name: str, slices: int = 12) -> Series:
    """A CT with one of the `HOSTILE` headers, or with "a frame of reference per slice"."""
    if name == "a frame of reference per slice":
        return ct_series(folder, slices, per_slice=[{"FrameOfReferenceUID": f"1.2.3.9.{k}"} for k in range(slices)])
    header = dict(HOSTILE[name])
    if name == "decimal comma":
        header.pop("ImagePositionPatient")
        commas = [f"-20\\-30\\{k * 1.25:g}".replace(".", ",") for k in range(slices)]
        return ct_series(folder, slices, per_slice=[{"ImagePositionPatient": c} for c in commas], **header)
    return ct_series(folder, slices, **header)


HOSTILE_NAMES = (*HOSTILE, "a frame of reference per slice")
ORDER = OrderNumbers("ACC1001", "PL-1", "FI-1", "RP-1", "CT chest")
LEFT_OUT = LeftOut("1.2.3.4.5.6.999", "same position as another slice")


def as_frames(path: Path) -> tuple[Series, tuple[int, ...]]:
    """A multi-frame CT as a series, its slices in the order of their place, and the number of each one's frame."""
    header = read_header(path)
    planes = sorted(header.as_frames(), key=lambda h: (h.position or (0.0, 0.0, 0.0))[2])
    uid = header.sop_instance_uid
    shape = (len(planes), header.rows or 0, header.columns or 0)
    series = Series(header.series_instance_uid, {uid: path}, (uid,) * len(planes), shape)
    return series, tuple(h.frame or 0 for h in planes)
