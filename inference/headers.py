"""From a file to a frozen `Header`: all that indexer, selection and results ask of an instance, without its pixels.

Promises: a bad value is a fault in `faults`, never an exception; no element is believed about its length, nesting is bounded, and
memory follows the size of the file's header, whatever it claims. Values are read from the raw bytes, so that no value
representation of a converting archive (UN, a swapped VR) and no locale's comma stops anything.
`python -m inference.headers --mib N` is the child process of the indexer: a path a line in, a JSON object a line out.
"""

import argparse
import hashlib
import io
import json
import math
import re
import resource
import struct
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from inference.errors import NotDicom

VALUE_BYTES_MAX: Final = 64 * 1024  # longest text or number element that is looked at
SEQUENCE_BYTES_MAX: Final = 8 * 1024 * 1024  # longest sequence that is looked at; 20,000 references of a rejection note
INFLATED_BYTES_MAX: Final = 1024 * 1024 * 1024  # a deflated data set may grow to this
REFERENCES_MAX: Final = 100_000
CHUNK_BYTES: Final = 1024 * 1024
UNDEFINED: Final = 0xFFFFFFFF
PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
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

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` of it is equal to this header."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Header":
        """Take back `to_json`, also after a JSON round trip; fields of another version are ignored."""
        known = {f.name for f in dataclass_fields(cls)}
        return cls(**{key: _frozen(value) for key, value in plain.items() if key in known})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


class BoundedFile:
    """A file that never hands out, nor allocates, more than it has, whatever length is asked for."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, at most what is left."""
        left = max(0, self.size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file behind."""
        self._file.close()


@dataclass(frozen=True)
class PixelElement:
    """Where the value of the pixel data element lies. `length` is as claimed, UNDEFINED for encapsulated pixels."""

    tag: int
    length: int
    start: int


@dataclass(frozen=True)
class OpenDataset:
    """A data set read up to its pixels, and the bytes (inflated where the syntax deflates) that they can be read from."""

    dataset: Dataset
    transfer_syntax_uid: str
    little_endian: bool
    file: BoundedFile
    pixels: PixelElement | None


def read_to_pixels(path: Path, tags: Sequence[int] | None) -> OpenDataset:
    """Read the elements named by `tags` (None: all) up to the pixel data.

    The whole file is not loaded, but for a deflated one, whose inflated size is bounded. The open file is returned inside.

    Raises:
        NotDicom: no data set can be made out, it is nested too deeply, or inflates beyond INFLATED_BYTES_MAX.
        OSError: the file can't be opened or read.
    """
    file = BoundedFile(path.open("rb"), str(path))
    try:
        return _read_to_pixels(file, path, tags)
    except (MemoryError, RecursionError) as error:
        raise NotDicom("its data set is nested too deeply or too large to read", path.name) from error
    except (NotDicom, OSError):
        file.close()
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a broken structure provokes; all mean the same here
        raise NotDicom(f"no DICOM data set can be read ({type(error).__name__})", path.name) from error


def _read_to_pixels(file: BoundedFile, path: Path, tags: Sequence[int] | None) -> OpenDataset:
    found: list[PixelElement] = []
    source = file

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if int(tag) in PIXEL_TAGS:
            found.append(PixelElement(int(tag), length, source.tell()))
        return int(tag) in PIXEL_TAGS

    specific = [int(t) for t in tags] if tags is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes values in its warnings, and a value may name a patient
        start = file.read(4096)
        file.seek(0)
        if DeflatedExplicitVRLittleEndian.encode() in start:
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                source = _inflated(file, path, meta_end=132 + 12 + int(meta.FileMetaInformationGroupLength))
                dataset = read_dataset(cast(BinaryIO, source), False, True, stop_when=at_pixels,
                                       defer_size=SEQUENCE_BYTES_MAX, specific_tags=cast(Any, specific))
                return OpenDataset(dataset, str(DeflatedExplicitVRLittleEndian), True, source, found[0] if found else None)
        whole = read_partial(cast(BinaryIO, file), stop_when=at_pixels, defer_size=SEQUENCE_BYTES_MAX, force=True,
                             specific_tags=cast(Any, specific))
    syntax = str(whole.file_meta.get("TransferSyntaxUID", "") or "")
    return OpenDataset(whole, syntax, bool(whole.original_encoding[1]), file, found[0] if found else None)


def _inflated(file: BoundedFile, path: Path, meta_end: int) -> BoundedFile:
    """The data set behind the file meta, inflated (PS3.5 A.5)."""
    file.seek(meta_end)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(file.read(), INFLATED_BYTES_MAX)
    if stream.unconsumed_tail:
        raise NotDicom(f"it inflates to more than {INFLATED_BYTES_MAX // 2**20} MiB", path.name)
    return BoundedFile(io.BytesIO(data), file.name)


# ---------------------------------------------------------------- values

PN_DELIMITERS: Final = {0x5E, 0x3D, 0x5C}  # ^ = \ reset a code extension (PS3.5 6.1.2.5.3)
TEXT_DELIMITERS: Final = {0x5C, 0x0A, 0x0C, 0x0D, 0x09}


def tag_of(keyword: str) -> int:
    """The tag of a keyword, as a number."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return tag


class Values:
    """The values of one data set, read from raw bytes; what makes no sense becomes None or "" and a fault."""

    def __init__(self, dataset: Dataset, little_endian: bool, faults: list[str], encodings: list[str] | None = None) -> None:
        self.dataset = dataset
        self.faults = faults
        self.order = "<" if little_endian else ">"
        self.character_set = tuple(v.strip() for v in (self.raw("SpecificCharacterSet") or b"").decode("ascii", "replace").split("\\"))
        named = any(self.character_set)
        self.encodings = self._encodings() if named or encodings is None else encodings
        if not named:
            self.character_set = ()

    def _encodings(self) -> list[str]:
        try:
            return convert_encodings(list(self.character_set)) if any(self.character_set) else ["iso8859"]
        except (LookupError, AttributeError):
            self.faults.append("SpecificCharacterSet: unknown character set, read as Latin-1")
            return ["iso8859"]

    def raw(self, keyword: str, limit: int = VALUE_BYTES_MAX) -> bytes | None:
        """The value's bytes; None when it is missing, too long, or no plain value."""
        try:
            element = self.dataset.get_item(tag_of(keyword), keep_deferred=True)
        except KeyError:
            return None
        if element is None:
            return None
        if isinstance(element, RawDataElement):
            if element.length not in (0, UNDEFINED) and (element.value is None or len(element.value) > limit):
                self.faults.append(f"{keyword}: {element.length} bytes, too long to be looked at")
                return None
            return element.value or b""
        value = element.value  # something in pydicom has converted it already: only character sets
        if isinstance(value, str):
            return value.encode("latin-1", "replace")
        if isinstance(value, Sequence) and all(isinstance(v, str) for v in value):
            return "\\".join(value).encode("latin-1", "replace")
        return None

    def text(self, keyword: str, delimiters: set[int] = TEXT_DELIMITERS) -> str:
        """Decoded text without padding; several values stay joined by a backslash."""
        value = self.raw(keyword)
        if not value:
            return ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                text = decode_bytes(value.rstrip(b"\0 "), self.encodings, delimiters)
            except (UnicodeError, LookupError):
                text = value.decode("latin-1")
        if "\ufffd" in text:
            self.faults.append(f"{keyword}: not written in the character set that the header names")
        return text.replace("\0", "").strip()

    def code(self, keyword: str) -> str:
        """Text of the default repertoire (CS, UI, DA, TM, IS, DS): never decoded by the character set."""
        value = self.raw(keyword)
        return value.decode("latin-1").replace("\0", "").strip() if value else ""

    def uid(self, keyword: str) -> str:
        """One UID as it stands; characters that no UID has are a fault, and kept."""
        text = self.code(keyword).split("\\")[0].strip()
        if text and not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
            self.faults.append(f"{keyword}: not a valid UID")
        elif len(text) > 64:
            self.faults.append(f"{keyword}: longer than 64 characters")
        return text

    def words(self, keyword: str) -> tuple[str, ...]:
        """The values of a CS."""
        text = self.code(keyword)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def decimals(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Exactly `count` finite numbers of a DS (a decimal comma is taken, with a fault), or None."""
        text = self.code(keyword)
        if not text:
            return None
        parts = text.split("\\")
        if "," in text:
            self.faults.append(f"{keyword}: decimal comma")
            parts = [p.replace(",", ".") for p in parts]
        try:
            numbers = tuple(float(p) for p in parts)
        except ValueError:
            self.faults.append(f"{keyword}: not a number")
            return None
        if len(numbers) < count or not all(math.isfinite(n) for n in numbers):
            self.faults.append(f"{keyword}: {len(numbers)} values where {count} finite ones are needed")
            return None
        return numbers[:count]

    def decimal(self, keyword: str) -> float | None:
        """The first number of a DS, or None."""
        numbers = self.decimals(keyword, 1)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        """A whole number of an IS, or None."""
        text = self.code(keyword).split("\\")[0]
        if not text:
            return None
        try:
            return int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else int(float(text))
        except (ValueError, OverflowError):
            self.faults.append(f"{keyword}: not a whole number")
            return None

    def short(self, keyword: str) -> int | None:
        """An unsigned 16-bit number (US), or None; a number written as text is taken."""
        value = self.raw(keyword)
        if not value:
            return None
        if len(value) == 2:
            return int(struct.unpack(self.order + "H", value)[0])
        text = value.decode("latin-1").strip("\0 ")
        if re.fullmatch(r"[0-9]{1,5}", text):
            self.faults.append(f"{keyword}: a number written as text")
            return int(text)
        self.faults.append(f"{keyword}: not a number")
        return None

    def items(self, keyword: str) -> list["Values"]:
        """The items of a sequence; () when it is missing, broken or too long."""
        tag = tag_of(keyword)
        try:
            element = self.dataset.get_item(tag, keep_deferred=True)
        except KeyError:
            return []
        if element is None:
            return []
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            self.faults.append(f"{keyword}: {element.length} bytes, too long to be looked at")
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [item for item in self.dataset[tag].value or [] if isinstance(item, Dataset)]
        except (Exception, RecursionError) as error:  # noqa: BLE001 - a broken sequence fails in any way; it is a fault, no more
            self.faults.append(f"{keyword}: broken sequence ({type(error).__name__})")
            return []
        return [Values(item, self.order == "<", self.faults, self.encodings) for item in found]


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
)
HEADER_TAGS: Final = tuple(sorted({tag_of(k) for table in (TEXTS, CODES, UIDS, SHORTS, DECIMALS) for k in table.values()}
                                  | {tag_of(k) for k in OTHERS}))
LOSSY_SYNTAXES: Final = frozenset({
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203",
})


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
    plain["acquired_at"] = _acquired_at(values, plain["timezone_offset"])
    plain["age_years"] = _age_years(values, plain["birth_date"], plain["acquired_at"])
    plain |= _pixels_of(opened, faults, with_pixel_digest)
    plain["faults"] = tuple(dict.fromkeys(faults))
    return Header(**plain)


def _from_sequences(values: Values, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in items: orders, procedures, views, species, and the references of a Key Object document."""
    orders = values.items("RequestAttributesSequence")
    found: dict[str, Any] = {"requested_procedure": values.text("RequestedProcedureDescription")}
    for keyword, items in (("RequestedProcedureDescription", orders), ("CodeMeaning", values.items("RequestedProcedureCodeSequence"))):
        found["requested_procedure"] = found["requested_procedure"] or next((t for i in items if (t := i.text(keyword))), "")
    found["view_meaning"] = next((t for i in values.items("ViewCodeSequence") if (t := i.text("CodeMeaning"))), "")
    found["species"] = values.text("PatientSpeciesDescription") or next(
        (t for i in values.items("PatientSpeciesCodeSequence") if (t := i.text("CodeMeaning"))), "")
    if not plain["contrast_agent"]:
        found["contrast_agent"] = next((t for i in values.items("ContrastBolusAgentSequence") if (t := i.text("CodeMeaning"))), "")
    if plain["sop_class_uid"] == SOP_CLASS_KOS:
        found["note_title"] = next((t for i in values.items("ConceptNameCodeSequence") if (t := i.text("CodeValue"))), "")
        found["note_references"] = _references(values)
    return found


def _references(note: Values) -> tuple[tuple[str, str], ...]:
    """(SOP class, SOP instance) of Current Requested Procedure Evidence (PS3.3 C.17.6.2)."""
    found = [(instance.uid("ReferencedSOPClassUID"), instance.uid("ReferencedSOPInstanceUID"))
             for study in note.items("CurrentRequestedProcedureEvidenceSequence")
             for series in study.items("ReferencedSeriesSequence")
             for instance in series.items("ReferencedSOPSequence")]
    if len(found) > REFERENCES_MAX:
        note.faults.append(f"CurrentRequestedProcedureEvidenceSequence: {len(found)} references, only {REFERENCES_MAX} are looked at")
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
    hour, minute, second = (int(digits[i:i + 2] or 0) for i in (0, 2, 4))
    return f"{hour:02}:{minute:02}:{min(second, 59):02}" if hour < 24 and minute < 60 and second <= 60 else ""


def _offset(text: str) -> str:
    """An offset as +HH:MM; "" when it makes no sense."""
    match = re.fullmatch(r"([+-])([01][0-9]):?([0-5][0-9])", text.strip())
    return "".join((match[1], match[2], ":", match[3])) if match else ""


def _acquired_at(values: Values, timezone: str) -> str:
    stamp = values.code("AcquisitionDateTime")
    match = re.fullmatch(r"([0-9]{8})([0-9]{2,6})?(\.[0-9]+)?([+-][0-9]{4})?", stamp)
    pairs = [(match[1], match[2] or "", match[4] or timezone)] if match else []
    pairs += [(values.code(f"{kind}Date"), values.code(f"{kind}Time"), timezone) for kind in ("Acquisition", "Series", "Study")]
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


# ---------------------------------------------------------------- pixels, unread


def _pixels_of(opened: OpenDataset, faults: list[str], with_digest: bool) -> dict[str, Any]:
    element = opened.pixels
    if element is None or element.length == 0:
        return {"has_pixels": False}
    digest = hashlib.sha256()
    opened.file.seek(element.start)
    if element.length == UNDEFINED:
        whole, size = _walk_fragments(opened, digest if with_digest else None)
    else:
        size = min(element.length, opened.file.size - element.start)
        whole = size == element.length
        left = size if with_digest else 0
        while left > 0 and (chunk := opened.file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    if not whole:
        faults.append("PixelData: the file ends before its pixel data does")
    return {"has_pixels": size > 0, "pixel_bytes": size, "pixel_sha256": digest.hexdigest() if with_digest and size else ""}


def _walk_fragments(opened: OpenDataset, digest: "hashlib._Hash | None") -> tuple[bool, int]:
    """Over the items of encapsulated pixels (PS3.5 A.4): do they end in a delimiter, and how many bytes lie in them."""
    size = 0
    while len(head := opened.file.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return True, size
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
            return False, size
        if digest is not None:
            digest.update(head)
        end = opened.file.tell() + length
        if end > opened.file.size:
            return False, size
        while digest is not None and (left := end - opened.file.tell()) > 0:
            digest.update(opened.file.read(min(left, CHUNK_BYTES)))
        opened.file.seek(end)
        size += length
    return False, size


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
