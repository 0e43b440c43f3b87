"""What results take from their sources: geometry in a clean shadow, identity as untouched bytes.

Real headers hold a Sex of `U`, dashed dates, names in a character set that they don't declare. highdicom refuses some
of them and
pydicom re-encodes others, so objects are built from a *shadow* (geometry and UIDs alone, empty patient and study),
and the raw
elements of the source are laid over the finished object. What the PACS files our result under is then what it sent,
byte for byte.
The source's character set governs the whole file: all text of ours is ASCII (`ascii_text`).
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Final, cast

import numpy as np
import pydicom
from pydicom import config as pydicom_config
from pydicom import datadict, dcmread, dcmwrite, filewriter
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag
from pydicom.uid import CTImageStorage

from dicom_node.results.context import MODEL, ResultContext, Written, write
from dicom_node.results.errors import ResultError, SourcesDisagree, SourceUnusable
from dicom_node.results.uids import uid
from inference.headers import Header, read_header

# Copied verbatim where the source has them (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2 and SOP Common): what a result is filed
# under, and
# that the images are de-identified. No more of the patient's state than that (weight, history) goes into another
# object.
IDENTITY: Final = tuple(
    Tag(keyword)
    for keyword in (
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "PatientAge",
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "StudyInstanceUID",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyDescription",
    )
)
_EMPTY: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_GEOMETRY: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_TAGS: Final = (
    *IDENTITY,
    *(
        Tag(k)
        for k in (
            "SOPClassUID",
            "SOPInstanceUID",
            "SeriesInstanceUID",
            "Modality",
            "FrameOfReferenceUID",
            "Rows",
            "Columns",
            *_GEOMETRY,
        )
    ),
)
_CHARACTER_SET: Final = Tag("SpecificCharacterSet")
_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)")


@dataclass(frozen=True)
class Identity:
    """Raw elements of the first source, to be laid over each result; `character_set` as pydicom names its encodings."""

    elements: Mapping[BaseTag, RawDataElement]
    character_set: str | Sequence[str]

    def text(self, keyword: str) -> str:
        """The ASCII text of an element, "" where it is missing."""
        raw = self.elements.get(Tag(keyword))
        return "" if raw is None else (raw.value or b"").decode("ascii", "replace").strip(" \0")


@dataclass(frozen=True)
class Frame:
    """A frame of a multi-frame image; `number` counts from 1."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int


@dataclass(frozen=True)
class Shadow:
    """Stand-ins for the sources, in the order asked for, and what is laid over the results.

    `remarks` are sentences on what the shadow had to make up (a frame of reference, a thickness): they belong into
    the result. `frames`: a frame of a multi-frame image has a stand-in of its own, a single-frame CT with a UID that is
    nobody's; by that UID here is what it stands for. `name_frames` puts the image and the frame in its place.
    """

    datasets: tuple[Dataset, ...]
    identity: Identity
    remarks: tuple[str, ...]
    frames: Mapping[str, "Frame"] = field(default_factory=dict)

    @property
    def instances(self) -> tuple[Dataset, ...]:
        """The stand-ins of whole images, each once, under their own UIDs."""
        found: dict[str, Dataset] = {}
        for dataset in self.datasets:
            frame = self.frames.get(str(dataset.SOPInstanceUID))
            if frame is not None:
                whole = Dataset()
                whole.update(dataset)  # the elements are shared: none of them is changed
                whole.SOPClassUID, whole.SOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
            else:
                whole = dataset
            found.setdefault(str(whole.SOPInstanceUID), whole)
        return tuple(found.values())


@contextmanager
def unconcerned() -> Iterator[None]:
    """pydicom takes values as they are, in and out, and says nothing about them."""
    reading, writing = pydicom_config.settings.reading_validation_mode, pydicom_config.settings.writing_validation_mode
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    pydicom_config.settings.writing_validation_mode = pydicom_config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom_config.settings.reading_validation_mode = reading
        pydicom_config.settings.writing_validation_mode = writing


def ascii_text(text: str, length_max: int | None = None) -> str:
    """Text of ours that fits any character set: what is not printable ASCII becomes `?`."""
    plain = "".join(c if " " <= c <= "~" or c in "\r\n" else "?" for c in text)
    return plain if length_max is None else plain[:length_max]


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
    except (
        OSError,
        InvalidDicomError,
        EOFError,
        ValueError,
        NotImplementedError,
        AttributeError,
        KeyError,
    ) as unreadable:
        raise SourceUnusable(
            f"a source file can't be read: {unreadable}", path.name, "put the image back and requeue the study"
        ) from unreadable


def _text(source: Dataset, keyword: str) -> str:
    item = source.get_item(keyword)
    value = None if item is None else item.value
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip(" \0")
    return "" if value is None else str(value).strip(" \0")


def _numbers(source: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The values of a DS, a decimal comma taken as a point; None where they are missing or no numbers."""
    item = source.get_item(keyword)
    value = None if item is None else item.value
    parts = (
        value.decode("ascii", "replace").split("\\")
        if isinstance(value, bytes)
        else np.atleast_1d(value or ()).tolist()
    )
    try:
        numbers = tuple(float(str(p).strip(" \0").replace(",", ".")) for p in parts)
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(np.isfinite(numbers)) else None


def _identity(source: Dataset) -> Identity:
    elements = {}
    for tag in IDENTITY:
        item: DataElement | RawDataElement | None = source.get_item(tag)
        if item is None:
            continue
        if not isinstance(item, RawDataElement):  # pydicom decodes the character set while reading: plain ASCII
            values = item.value if isinstance(item.value, pydicom.multival.MultiValue | list) else [item.value or ""]
            item = RawDataElement(tag, item.VR, 0, "\\".join(values).encode("ascii", "replace"), 0, False, True)
        value = item.value or b""
        if len(value) % 2:  # a length must be even (PS3.5 7.1.1)
            value += b"\0" if tag == Tag("StudyInstanceUID") else b" "
        vr = datadict.dictionary_VR(tag)
        elements[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return Identity(elements, source.original_character_set)


def _blank(source: Dataset, which: str) -> Dataset:
    """A dataset of UIDs and class, with an empty patient and study."""
    shadow = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = _text(source, keyword)
        if not value:
            raise SourceUnusable(
                f"the source has no {keyword}", which, "it can't be referenced; leave it out of the reading"
            )
        setattr(shadow, keyword, value)
    shadow.Modality = _text(source, "Modality")
    for keyword in _EMPTY:
        setattr(shadow, keyword, "")
    return shadow


def references(files: Mapping[str, Path], sop_instance_uids: Iterable[str]) -> Shadow:
    """Stand-ins that can be referenced but carry no geometry, in the order given; identity is that of the first.

    Raises:
        SourceUnusable: a file is missing, or lacks a UID.
        SourcesDisagree: more than one study.
    """
    with unconcerned():
        opened = {s: _read(_path(files, s)) for s in dict.fromkeys(sop_instance_uids)}  # frames share their image
        sources = [(s, opened[s]) for s in sop_instance_uids]
        if not sources:
            raise SourceUnusable("no source at all", "", "a result needs at least one image of its study")
        blanks = tuple(_blank(source, which) for which, source in sources)
        if len({b.StudyInstanceUID for b in blanks}) > 1:
            raise SourcesDisagree("the sources are of more than one study", str(blanks[0].StudyInstanceUID))
        return Shadow(blanks, _identity(sources[0][1]), ())


def joined(shadows: Sequence[Shadow]) -> Shadow:
    """One shadow of several series of a study; identity is that of the first.

    Raises:
        SourcesDisagree: more than one study.
    """
    datasets = {str(d.SOPInstanceUID): d for shadow in shadows for d in shadow.datasets}
    if len({str(d.StudyInstanceUID) for d in datasets.values()}) > 1:
        raise SourcesDisagree("the sources are of more than one study", str(shadows[0].datasets[0].StudyInstanceUID))
    return Shadow(
        tuple(datasets.values()),
        shadows[0].identity,
        tuple(r for s in shadows for r in s.remarks),
        {stand_in: frame for s in shadows for stand_in, frame in s.frames.items()},
    )


def _path(files: Mapping[str, Path], sop_instance_uid: str) -> Path:
    if sop_instance_uid not in files:
        raise SourceUnusable(
            "no file is known for a source", sop_instance_uid, "put the image back and requeue the study"
        )
    return files[sop_instance_uid]


def planes(files: Mapping[str, Path], sop_instance_uids: Sequence[str], frames: Sequence[int | None] = ()) -> Shadow:
    """Stand-ins for the slices of one volume, in the order given, with clean geometry (LPS mm).

    `frames` says for each slice which frame of its image it is; () and None: the whole image.

    Orientation, spacing and the frame of reference are one for all: that they agree was judged when the volume was
    made. Where
    the sources name none, or one for each slice, a Frame of Reference UID is derived from the series.
    Raises:
        SourceUnusable: a file is missing, or has no position, orientation or spacing.
        SourcesDisagree: sizes differ, or two slices lie at one place.
    """
    with unconcerned():
        sources = [(s, _read(_path(files, s))) for s in sop_instance_uids]
        if not sources:
            raise SourceUnusable("no source at all", "", "a result needs at least one image of its study")
        blanks = tuple(_blank(source, which) for which, source in sources)
        stood_for, placed = _as_frames(files, blanks, [s for _, s in sources], frames)
        remarks = _lay_geometry(blanks, placed)
        return Shadow(blanks, _identity(sources[0][1]), remarks, stood_for)


def _as_frames(
    files: Mapping[str, Path], blanks: Sequence[Dataset], sources: Sequence[Dataset], frames: Sequence[int | None]
) -> tuple[dict[str, Frame], list[Dataset]]:
    """Make the stand-ins of frames single images of their own; what they stand for, and the sources with the frames' geometry."""
    stood_for: dict[str, Frame] = {}
    placed = list(sources)
    described: dict[str, tuple[Header, ...]] = {}
    for k, number in enumerate(frames):
        if number is None:
            continue
        blank = blanks[k]
        which = str(blank.SOPInstanceUID)
        if which not in described:
            described[which] = read_header(_path(files, which), with_pixel_digest=False).as_frames()
        if number > len(described[which]):
            raise SourceUnusable(f"the source has no frame {number}", which, "put the image back and requeue the study")
        frame = described[which][number - 1]
        placed[k] = _placed(sources[k], frame)
        stand_in = uid(f"frame {number}", which)
        stood_for[stand_in] = Frame(str(blank.SOPClassUID), which, number)
        blank.SOPClassUID, blank.SOPInstanceUID = CTImageStorage, stand_in
    return stood_for, placed


def _placed(source: Dataset, frame: Header) -> Dataset:
    """The source as an image of one frame."""
    placed = Dataset()
    placed.FrameOfReferenceUID = _text(source, "FrameOfReferenceUID")
    placed.Rows, placed.Columns = source.get("Rows"), source.get("Columns")
    for keyword, values in (
        ("ImagePositionPatient", frame.position),
        ("ImageOrientationPatient", frame.orientation),
        ("PixelSpacing", frame.pixel_spacing),
        ("SliceThickness", None if frame.slice_thickness is None else (frame.slice_thickness,)),
    ):
        if values is not None:
            setattr(placed, keyword, [_ds(v) for v in values])
    return placed


def name_frames(dataset: Dataset, frames: Mapping[str, Frame]) -> None:
    """Put images and frames in the place of their stand-ins, wherever the object refers to one.

    Source images get the frame's number (PS3.3 10.3); lists of what an object refers to name each image once.
    """
    if not frames:
        return
    for element in dataset:
        if element.VR != "SQ":
            continue
        seen: set[str] = set()
        kept = []
        for item in element.value:
            frame = frames.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if frame is not None:
                if element.keyword == "ReferencedInstanceSequence" and frame.sop_instance_uid in seen:
                    continue
                seen.add(frame.sop_instance_uid)
                item.ReferencedSOPClassUID = frame.sop_class_uid
                item.ReferencedSOPInstanceUID = frame.sop_instance_uid
                if element.keyword != "ReferencedInstanceSequence":
                    item.ReferencedFrameNumber = frame.number
            name_frames(item, frames)
            kept.append(item)
        if len(kept) < len(element.value):
            element.value = Items(kept)


def _lay_geometry(blanks: Sequence[Dataset], sources: Sequence[Dataset]) -> tuple[str, ...]:
    first, which = sources[0], str(blanks[0].SeriesInstanceUID)
    orientation, spacing = _numbers(first, "ImageOrientationPatient", 6), _numbers(first, "PixelSpacing", 2)
    positions = [_numbers(s, "ImagePositionPatient", 3) for s in sources]
    if orientation is None or spacing is None or None in positions:
        raise SourceUnusable("a slice has no position, orientation or spacing", which, "leave it out of the reading")
    if len({(s.get("Rows"), s.get("Columns")) for s in sources}) > 1:
        raise SourcesDisagree("the slices differ in size", which)
    places = np.asarray(positions, dtype=np.float64)
    along = np.sort(places @ np.cross(orientation[:3], orientation[3:]))
    steps = np.diff(along)
    if len(steps) and steps.min() < 1e-4:
        raise SourcesDisagree("two slices lie at the same place", which, "leave one of them out of the reading")
    remarks = []
    thickness = (_numbers(first, "SliceThickness", 1) or (0.0,))[0]
    if thickness <= 0:
        thickness = float(np.median(steps)) if len(steps) else float(spacing[0])
        remarks.append(f"Slice thickness is missing in the images; {thickness:.2f} mm is the distance of their slices")
    frames_of_reference = {_text(s, "FrameOfReferenceUID") for s in sources}
    frame_of_reference = frames_of_reference.pop()
    if frames_of_reference or not frame_of_reference:
        had = (
            "each slice has a frame of reference of its own"
            if frames_of_reference
            else "the images name no frame of reference"
        )
        remarks.append(f"In the source {had}; the segmentation has one derived from the series")
        frame_of_reference = uid("frame-of-reference", which)
    for blank, place in zip(blanks, places, strict=True):
        blank.FrameOfReferenceUID = frame_of_reference
        blank.PositionReferenceIndicator = ""
        blank.Rows, blank.Columns = first.Rows, first.Columns
        blank.ImageOrientationPatient = [_ds(v) for v in orientation]
        blank.ImagePositionPatient = [_ds(v) for v in place]
        blank.PixelSpacing = [_ds(v) for v in spacing]
        blank.SliceThickness = _ds(thickness)
    return tuple(remarks)


def _ds(value: float) -> pydicom.valuerep.DSfloat:
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)


def content_time(context: ResultContext, identity: Identity) -> datetime:
    """The time that the result states: in the sources' offset from UTC where they name one, else as the caller gave
    it."""
    named = _OFFSET.fullmatch(identity.text("TimezoneOffsetFromUTC"))
    if named is None:
        return context.content_at
    minutes = int(named[2]) * 60 + int(named[3])
    return context.content_at.astimezone(timezone(timedelta(minutes=minutes if named[1] == "+" else -minutes)))


def seal(kind: str, dataset: Dataset, shadow: Shadow, context: ResultContext, path: Path) -> Written:
    """Fix what moves between two builds, lay the identity over, write, and look that it came out as it went in.

    Two builds with equal UIDs would differ in InstanceCreationDate/Time, ContributionDateTime and
    DimensionOrganizationUID.
    """
    at = content_time(context, shadow.identity)
    day, time = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    with unconcerned():
        dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
        dataset.SeriesDate, dataset.SeriesTime = day, time
        dataset.ContentDate, dataset.ContentTime = day, time
        dataset.ManufacturerModelName = MODEL
        dataset.DeviceSerialNumber = ascii_text(context.device.serial, 64)
        dataset.SoftwareVersions = ascii_text(context.device.software_version, 64)
        for item in dataset.get("ContributingEquipmentSequence", ()):
            item.ContributionDateTime = day + time
        organization = uid("dimension-organization", context.key)
        for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in dataset.get(keyword, ()):
                item.DimensionOrganizationUID = organization
        if not shadow.identity.text("AccessionNumber") and context.order.accession.isascii():
            dataset.AccessionNumber = context.order.accession  # a copy of the order knew it, the first image did not
            keep = {t: e for t, e in shadow.identity.elements.items() if t != Tag("AccessionNumber")}
        else:
            keep = dict(shadow.identity.elements)
        if shadow.identity.text("PatientIdentityRemoved") and Tag("DeidentificationMethod") not in keep:
            dataset.DeidentificationMethod = "see the images"  # type 1C; theirs is a sequence of codes
        content = _encode(dataset, keep, shadow.identity.character_set)
        _look(content, keep, kind)
    return write(kind, dataset, content, path)


def _encode(dataset: Dataset, keep: Mapping[BaseTag, RawDataElement], character_set: str | Sequence[str]) -> bytes:
    # The order matters: pydicom decodes and re-encodes raw elements of a dataset that it takes for changed
    filewriter.correct_ambiguous_vr(dataset, True)
    for tag, element in keep.items():
        dataset[tag] = element
    dataset.set_original_encoding(False, True, cast(str, character_set))
    buffer = BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _look(content: bytes, keep: Mapping[BaseTag, RawDataElement], kind: str) -> None:
    """The written object names the same patient and study as its source (promise 4), whatever a library did to it."""
    found = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(keep))
    for tag, element in keep.items():
        item = found.get_item(tag)
        if tag != _CHARACTER_SET and (item is None or (item.value or b"") != (element.value or b"")):
            raise ResultError(f"{datadict.keyword_for_tag(tag)} changed while writing", kind, "report this as a bug")
