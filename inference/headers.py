"""From a file to a frozen `Header`: all that indexer, selection and results ask of an instance, without its pixels.

A bad value is a fault in `faults`, never an exception. `python -m inference.headers --mib N` is the child process of the
indexer: a path a line in, a JSON object a line out.
"""

import argparse
import json
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from inference.elements import PN_DELIMITERS, OpenDataset, Values, pixel_facts, read_to_pixels, tag_of
from inference.errors import NotDicom
from inference.planes import ENHANCED_CLASSES, FACTS, Plane, plane_of, read_planes

REFERENCES_MAX: Final = 100_000  # of a rejection note
SOP_CLASS_KOS: Final = "1.2.840.10008.5.1.4.1.1.88.59"  # Key Object Selection Document Storage

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Header:
    """One instance as its header describes it. Text is decoded Unicode, "" where missing; lengths in mm, positions LPS mm.

    `acquired_at` is an ISO 8601 date or date and time of the acquisition (else the series, else the study), with the offset of
    Timezone Offset From UTC where that is given. `pixel_spacing` is (between rows, between columns), for radiographs
    that of the detector. `pixel_sha256` is over the raw value of Pixel Data. `note_references` are (SOP class, SOP instance) of a Key
    Object document, `note_title` its title's code. `faults` say in words which values were missing sense.
    """

    sop_instance_uid: str
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    series_instance_uid: str = ""
    study_instance_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    protocol: str = ""
    series_description: str = ""
    study_description: str = ""
    requested_procedure: str = ""
    kernel: str = ""
    manufacturer: str = ""
    model: str = ""
    station: str = ""
    institution: str = ""
    series_number: str = ""
    instance_number: int | None = None
    acquisition_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    samples_per_pixel: int | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    position: Vector | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    patient_position: str = ""
    patient_orientation: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    gantry_tilt: float | None = None
    contrast_agent: str = ""
    view_position: str = ""
    view_meaning: str = ""
    laterality: str = ""
    photometric: str = ""
    bits_allocated: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    pixel_representation: int | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    rescale_type: str = ""
    presentation_intent: str = ""
    lossy: bool = False
    has_pixels: bool = False
    pixel_bytes: int | None = None
    burned_in: str = ""
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    age_years: float | None = None
    species: str = ""
    animal: str = ""
    accession: str = ""
    placer_order: str = ""
    filler_order: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    acquired_at: str = ""
    timezone_offset: str = ""
    character_set: tuple[str, ...] = ()
    device_serial: str = ""
    software_versions: str = ""
    note_title: str = ""
    note_references: tuple[tuple[str, str], ...] = ()
    pixel_sha256: str = ""
    faults: tuple[str, ...] = ()
    frame: int | None = None
    planes: tuple[Plane, ...] = ()
    stack: str = ""
    phase: str = ""
    technique: str = ""
    presentation: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """What tells images apart: SOP Instance UID, and the frame (0 for an image of one)."""
        return self.sop_instance_uid, self.frame or 0

    def as_frames(self) -> tuple["Header", ...]:
        """A header for each frame of a multi-frame CT, numbered from 1; itself for any other image.

        The digest of the pixels is that of the object and none of a frame's.
        """
        return tuple(
            replace(
                self,
                frames=1,
                frame=number,
                planes=(),
                pixel_sha256="",
                **{name: value for name in FACTS if (value := getattr(plane, name)) not in (None, "", ())},
            )
            for number, plane in enumerate(self.planes, 1)
        ) or (self,)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` of it is equal to this header."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Header":
        """Take back `to_json`, also after a JSON round trip; fields of another version are ignored."""
        known = {f.name for f in dataclass_fields(cls)}
        kept = {key: _frozen(value) for key, value in plain.items() if key in known and key != "planes"}
        return cls(**kept, planes=tuple(plane_of(plane) for plane in plain.get("planes", ())))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


# fmt: off
TEXTS: Final[Mapping[str, str]] = {
    "protocol": "ProtocolName", "series_description": "SeriesDescription", "study_description": "StudyDescription",
    "kernel": "ConvolutionKernel", "manufacturer": "Manufacturer", "model": "ManufacturerModelName", "station": "StationName",
    "institution": "InstitutionName", "contrast_agent": "ContrastBolusAgent", "patient_id": "PatientID",
    "issuer": "IssuerOfPatientID", "accession": "AccessionNumber", "study_id": "StudyID", "device_serial": "DeviceSerialNumber",
    "software_versions": "SoftwareVersions", "rescale_type": "RescaleType", "placer_order": "PlacerOrderNumberImagingServiceRequest",
    "filler_order": "FillerOrderNumberImagingServiceRequest", "body_part": "BodyPartExamined",
}
CODES: Final[Mapping[str, str]] = {
    "modality": "Modality", "series_number": "SeriesNumber", "view_position": "ViewPosition", "photometric": "PhotometricInterpretation",
    "patient_position": "PatientPosition", "presentation_intent": "PresentationIntentType", "birth_date": "PatientBirthDate",
    "sex": "PatientSex", "study_date": "StudyDate", "study_time": "StudyTime", "timezone_offset": "TimezoneOffsetFromUTC",
    "burned_in": "BurnedInAnnotation",
}
UIDS: Final[Mapping[str, str]] = {
    "sop_instance_uid": "SOPInstanceUID", "sop_class_uid": "SOPClassUID", "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID", "frame_of_reference_uid": "FrameOfReferenceUID",
}
SHORTS: Final[Mapping[str, str]] = {
    "rows": "Rows", "columns": "Columns", "samples_per_pixel": "SamplesPerPixel", "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored", "high_bit": "HighBit", "pixel_representation": "PixelRepresentation",
}
DECIMALS: Final[Mapping[str, str]] = {
    "slice_thickness": "SliceThickness", "gantry_tilt": "GantryDetectorTilt", "rescale_slope": "RescaleSlope",
    "rescale_intercept": "RescaleIntercept",
}
OTHERS: Final = (
    "SpecificCharacterSet", "ImageType", "RequestedProcedureDescription", "RequestAttributesSequence", "RequestedProcedureCodeSequence",
    "InstanceNumber", "AcquisitionNumber", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient", "PatientOrientation", "ContrastBolusAgentSequence", "ViewCodeSequence", "Laterality", "ImageLaterality",
    "LossyImageCompression", "PatientName", "PatientAge", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
    "ConceptNameCodeSequence", "CurrentRequestedProcedureEvidenceSequence", "IssuerOfPatientIDQualifiersSequence",
    "PatientBreedDescription", "PatientBreedCodeSequence", "PatientSexNeutered", "ResponsiblePersonRole",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)
HEADER_TAGS: Final = tuple(sorted({tag_of(k) for table in (TEXTS, CODES, UIDS, SHORTS, DECIMALS) for k in table.values()}
                                  | {tag_of(k) for k in OTHERS}))
LOSSY_SYNTAXES: Final = frozenset({
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203",
})
# fmt: on


def read_header(path: Path, *, with_pixel_digest: bool = True) -> Header:
    """The header of one file.

    Args:
        path: a DICOM file; one without preamble or file meta is taken where its data set can be made out.
        with_pixel_digest: also hash the pixel data (in pieces, never loaded whole).
    Raises:
        NotDicom: no data set, or none that names its SOP Instance and study.
        OSError: the file can't be opened or read.
    """
    opened = read_to_pixels(path, HEADER_TAGS)
    try:
        return _header_of(opened, path, with_pixel_digest)
    finally:
        opened.file.close()


def _header_of(opened: OpenDataset, path: Path, with_pixel_digest: bool) -> Header:
    faults: list[str] = []
    values = Values(opened.dataset, opened.little_endian, faults)
    plain: dict[str, Any] = {name: values.text(keyword) for name, keyword in TEXTS.items()}
    plain |= {name: values.code(keyword) for name, keyword in CODES.items()}
    plain |= {name: values.uid(keyword) for name, keyword in UIDS.items()}
    plain |= {name: values.short(keyword) for name, keyword in SHORTS.items()}
    plain |= {name: values.decimal(keyword) for name, keyword in DECIMALS.items()}
    if not plain["sop_instance_uid"] or not plain["study_instance_uid"]:
        raise NotDicom("it names no SOP Instance UID and Study Instance UID", path.name)
    plain["transfer_syntax_uid"] = opened.transfer_syntax_uid
    plain["image_type"] = values.words("ImageType")
    plain["instance_number"] = values.integer("InstanceNumber")
    plain["acquisition_number"] = values.integer("AcquisitionNumber")
    plain["frames"] = max(1, values.integer("NumberOfFrames") or 1)
    plain["position"] = values.decimals("ImagePositionPatient", 3)
    plain["orientation"] = values.decimals("ImageOrientationPatient", 6)
    plain["pixel_spacing"] = values.decimals("PixelSpacing", 2) or values.decimals("ImagerPixelSpacing", 2)
    plain["patient_orientation"] = values.words("PatientOrientation")
    plain["patient_name"] = values.text("PatientName", PN_DELIMITERS)
    plain["laterality"] = values.code("ImageLaterality") or values.code("Laterality")
    plain["lossy"] = values.code("LossyImageCompression") == "01" or opened.transfer_syntax_uid in LOSSY_SYNTAXES
    plain["character_set"] = values.character_set
    plain |= _from_sequences(values, plain)
    if plain["sop_class_uid"] in ENHANCED_CLASSES:
        common, plain["planes"] = read_planes(values, plain["frames"])
        plain |= {name: value for name, value in common.items() if not (name == "body_part" and plain[name])}
    plain["acquired_at"] = _acquired_at(values, plain["timezone_offset"])
    plain["age_years"] = _age_years(values, plain["birth_date"], plain["acquired_at"])
    plain |= pixel_facts(opened, faults, with_pixel_digest)
    plain["faults"] = tuple(dict.fromkeys(faults))
    return Header(**plain)


def _from_sequences(values: Values, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in items: orders, procedures, views, species, and the references of a Key Object document."""
    orders = values.items("RequestAttributesSequence")
    found: dict[str, Any] = {"requested_procedure": values.text("RequestedProcedureDescription")}
    for keyword, items in (
        ("RequestedProcedureDescription", orders),
        ("CodeMeaning", values.items("RequestedProcedureCodeSequence")),
    ):
        found["requested_procedure"] = found["requested_procedure"] or next(
            (t for i in items if (t := i.text(keyword))), ""
        )
    found["view_meaning"] = next((t for i in values.items("ViewCodeSequence") if (t := i.text("CodeMeaning"))), "")
    found["species"] = values.text("PatientSpeciesDescription") or next(
        (t for i in values.items("PatientSpeciesCodeSequence") if (t := i.text("CodeMeaning"))), ""
    )
    found["animal"] = _animal(values)
    if not plain["contrast_agent"]:
        found["contrast_agent"] = next(
            (t for i in values.items("ContrastBolusAgentSequence") if (t := i.text("CodeMeaning"))), ""
        )
    if plain["sop_class_uid"] == SOP_CLASS_KOS:
        found["note_title"] = next(
            (t for i in values.items("ConceptNameCodeSequence") if (t := i.text("CodeValue"))), ""
        )
        found["note_references"] = _references(values)
    return found


def _animal(values: Values) -> str:
    """What the header tells of a patient that it tells of animals alone (PS3.3 C.7.1.1); "" for nothing."""
    if values.text("PatientBreedDescription") or values.items("PatientBreedCodeSequence"):
        return "a breed is named"
    if values.code("PatientSexNeutered"):
        return "it is said whether it is neutered"
    return "an owner is named" if values.code("ResponsiblePersonRole").upper() == "OWNER" else ""


def _references(note: Values) -> tuple[tuple[str, str], ...]:
    """(SOP class, SOP instance) of Current Requested Procedure Evidence (PS3.3 C.17.6.2)."""
    found = [
        (instance.uid("ReferencedSOPClassUID"), instance.uid("ReferencedSOPInstanceUID"))
        for study in note.items("CurrentRequestedProcedureEvidenceSequence")
        for series in study.items("ReferencedSeriesSequence")
        for instance in series.items("ReferencedSOPSequence")
    ]
    if len(found) > REFERENCES_MAX:
        note.faults.append(
            f"CurrentRequestedProcedureEvidenceSequence: {len(found)} references, only {REFERENCES_MAX} are looked at"
        )
    return tuple(dict.fromkeys(found[:REFERENCES_MAX]))


# ---------------------------------------------------------------- times


def _day(text: str) -> date | None:
    """A DA, also as 2000-01-31 or 2000.01.31."""
    digits = re.sub(r"[-./]", "", text.split("\\")[0].strip())
    try:
        return datetime.strptime(digits, "%Y%m%d").date() if re.fullmatch(r"[0-9]{8}", digits) else None  # noqa: DTZ007 - a date
    except ValueError:
        return None


def _clock(text: str) -> str:
    """A TM as HH:MM:SS, also with colons or shortened; "" when it makes no sense."""
    digits = re.sub(r":", "", text.split("\\")[0].strip()).split(".")[0]
    if not re.fullmatch(r"([0-9]{2}){1,3}", digits):
        return ""
    hour, minute, second = (int(digits[i : i + 2] or 0) for i in (0, 2, 4))
    return f"{hour:02}:{minute:02}:{min(second, 59):02}" if hour < 24 and minute < 60 and second <= 60 else ""


def _offset(text: str) -> str:
    """An offset as +HH:MM; "" when it makes no sense."""
    match = re.fullmatch(r"([+-])([01][0-9]):?([0-5][0-9])", text.strip())
    return "".join((match[1], match[2], ":", match[3])) if match else ""


def _acquired_at(values: Values, timezone: str) -> str:
    stamp = values.code("AcquisitionDateTime")
    match = re.fullmatch(r"([0-9]{8})([0-9]{2,6})?(\.[0-9]+)?([+-][0-9]{4})?", stamp)
    pairs = [(match[1], match[2] or "", match[4] or timezone)] if match else []
    pairs += [
        (values.code(f"{kind}Date"), values.code(f"{kind}Time"), timezone)
        for kind in ("Acquisition", "Series", "Study")
    ]
    dated = [(day, _clock(time), _offset(zone)) for text, time, zone in pairs if (day := _day(text))]
    for day, time, zone in dated:
        if time:
            return f"{day.isoformat()}T{time}{zone}"
    return dated[0][0].isoformat() if dated else ""


def _age_years(values: Values, birth_date: str, acquired_at: str) -> float | None:
    """Patient's Age ("054Y", also "54"), else from birth date and acquisition; None when neither makes sense."""
    text = values.code("PatientAge").upper()
    match = re.fullmatch(r"([0-9]{1,3})([DWMY]?)", text)
    if match:
        return int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}[match[2]]
    if text:
        values.faults.append("PatientAge: not an age")
    born, taken = _day(birth_date), _day(acquired_at[:10])
    if born is None or taken is None or taken < born:
        return None
    years = (taken - born).days / 365.25
    return years if years < 130 else None


# ---------------------------------------------------------------- the child process


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a path a line from standard input; write {"header": ...} or {"error": {"code", "text"}} a line."""
    parser = argparse.ArgumentParser(prog="python -m inference.headers", description=main.__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="limit of the address space, MiB")
    limit = parser.parse_args(arguments).mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"header": read_header(Path(line.rstrip("\n"))).to_json()}
        except NotDicom as error:
            answer = {"error": {"code": error.code, "text": error.what}}
        except OSError as error:
            answer = {"error": {"code": "unreadable_file", "text": error.strerror or type(error).__name__}}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
