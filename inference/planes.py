"""The frames of a multi-frame CT object as its functional groups describe them (PS3.3 C.7.6.16, C.8.15.3).

What all frames share is told once, for the object; a `Plane` holds what is a frame's own. As in all headers, a bad value
is a fault and never an exception.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from inference.elements import Values

ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"  # Enhanced CT Image Storage
LEGACY_ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.2"  # Legacy Converted Enhanced CT Image Storage
ENHANCED_CLASSES: Final = frozenset({ENHANCED_CT, LEGACY_ENHANCED_CT})
FRAMES_MAX: Final = 20_000  # more is no scan of a chest

_KERNELS: Final = (
    "CTReconstructionSequence",
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """What is a frame's own; None or empty where the object's header tells it for all frames. The names are those of
    `headers.Header`; `stack` is the Stack ID, `phase` says in words which moment a frame shows (temporal position, heart
    phase), `technique` how it was computed from a volume (`NONE` for acquired slices), `presentation` COLOR or MONOCHROME.
    """

    position: Vector | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    rescale_type: str = ""
    image_type: tuple[str, ...] = ()
    kernel: str = ""
    acquisition_number: int | None = None
    body_part: str = ""
    stack: str = ""
    phase: str = ""
    technique: str = ""
    presentation: str = ""


FACTS: Final = tuple(field.name for field in fields(Plane))


def read_planes(values: Values, frames: int) -> tuple[dict[str, Any], tuple[Plane, ...]]:
    """What the functional groups of a multi-frame CT say: facts of all its frames, and one `Plane` for each frame.

    Args:
        values: the data set of the object.
        frames: Number of Frames.
    Returns:
        ({}, ()) where the object describes other than `frames` frames: nothing can be said where any of them lies.
    """
    groups = values.items("PerFrameFunctionalGroupsSequence")
    if len(groups) != frames or frames > FRAMES_MAX:
        values.faults.append(f"PerFrameFunctionalGroupsSequence: {len(groups)} items for {frames} frames")
        return {}, ()
    shared = _facts(values.items("SharedFunctionalGroupsSequence"))
    own = [{**shared, **_facts([group])} for group in groups]
    common = {name: own[0][name] for name in FACTS if name in own[0] and all(o.get(name) == own[0][name] for o in own)}
    return common, tuple(Plane(**{k: v for k, v in o.items() if k not in common}) for o in own)


def _facts(groups: list[Values]) -> dict[str, Any]:
    """What one item of functional groups says; only what it does say."""
    found: dict[str, Any] = {}
    for group in groups[:1]:
        for item in group.items("PlanePositionSequence")[:1]:
            found["position"] = item.decimals("ImagePositionPatient", 3)
        for item in group.items("PlaneOrientationSequence")[:1]:
            found["orientation"] = item.decimals("ImageOrientationPatient", 6)
        for item in group.items("PixelMeasuresSequence")[:1]:
            found["pixel_spacing"] = item.decimals("PixelSpacing", 2)
            found["slice_thickness"] = item.decimal("SliceThickness")
        for item in group.items("PixelValueTransformationSequence")[:1]:
            found["rescale_slope"] = item.decimal("RescaleSlope")
            found["rescale_intercept"] = item.decimal("RescaleIntercept")
            found["rescale_type"] = item.text("RescaleType")
        for item in group.items("CTImageFrameTypeSequence")[:1]:
            found["image_type"] = item.words("FrameType")
            found["technique"] = item.code("VolumeBasedCalculationTechnique")
            found["presentation"] = item.code("PixelPresentation")
        for name in _KERNELS:  # a converter leaves it among what it could not assign
            for item in group.items(name)[:1]:
                found["kernel"] = found.get("kernel") or item.text("ConvolutionKernel")
        for item in group.items("FrameContentSequence")[:1]:
            found["acquisition_number"] = item.short("FrameAcquisitionNumber")
            found["stack"] = item.code("StackID")
        for item in group.items("FrameAnatomySequence")[:1]:
            meanings = [region.text("CodeMeaning") for region in item.items("AnatomicRegionSequence")]
            found["body_part"] = " ; ".join(m for m in meanings if m)
        if phase := _phase(group):
            found["phase"] = phase
    return {name: value for name, value in found.items() if value not in (None, "", ())}


def _phase(group: Values) -> str:
    """Which moment a frame shows, in words; "" where nothing tells moments apart."""
    said = []
    for item in group.items("FrameContentSequence")[:1]:
        index = item.raw("TemporalPositionIndex")
        if index and len(index) == 4:
            said.append(f"temporal position {struct.unpack(item.order + 'I', index)[0]}")
    for sequence, keyword, name in (
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", "time"),
        ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", "heart phase"),
        ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", "breathing phase"),
    ):
        for item in group.items(sequence)[:1]:
            value = item.raw(keyword)
            if value and len(value) == 8:
                said.append(f"{name} {struct.unpack(item.order + 'd', value)[0]:g}")
    return ", ".join(said)


def plane_of(plain: Mapping[str, Any]) -> Plane:
    """A plane from plain values, as JSON gives them back; facts of another version are ignored."""
    frozen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items() if name in FACTS
    }
    return Plane(**frozen)
