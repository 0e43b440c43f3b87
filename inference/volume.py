"""From the slices of one series to a volume in HU with an affine to LPS mm, and what was odd on the way.

Our own geometry, no image library: each voxel is the stored value times its slice's own slope plus its own intercept
(PS3.3 C.11.1), at the place that Image Position (Patient) gives. Any order of arrival gives the same volume. What can't be
one volume is refused with a reason; nothing is interpolated.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from inference import geometry
from inference.errors import NotHounsfield
from inference.findings import LeftOut
from inference.geometry import Stack, number
from inference.headers import Header

AIR_HU: Final = (-1200, -700)  # air around the patient or in the lungs lies here in any chest CT
TISSUE_HU: Final = (-250, 350)
CONTENT_SHARE_MIN: Final = 0.01  # less air or less tissue than this share of the voxels: no HU, or no patient
CONSTANT_SHARE_MAX: Final = 0.1  # of slices that hold one value only: a decoder's zeros
SAMPLE_STEP: Final = 4  # every fourth pixel is enough to judge a histogram

GapRule = Literal["refuse", "partial"]


@dataclass(frozen=True)
class Oddity:
    """Something odd that did not keep the volume from being read: a code, words, a length and the instances it concerns."""

    code: str
    text: str
    mm: float | None = None
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Volume:
    """One series in HU.

    `hu` int16 [k, j, i] = (slice, row, column), read-only, padding kept as stored; `affine` (4, 4) float64 takes (k, j, i, 1) to LPS
    mm at voxel centres; `sop_instance_uids` in the order of k, which ascends along row x column; `frame_numbers` likewise, ()
    where no image has several frames (then one instance stands for several k). `odd` says what was odd,
    `left_out` which images of the series are not in it and why. `thickness_mm` is the nominal slice thickness (the step where the
    header has none).
    """

    hu: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    series_instance_uid: str
    modality: str
    sop_instance_uids: tuple[str, ...]
    odd: tuple[Oddity, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    kernel: str = ""
    thickness_mm: float = 0.0
    series_number: str = ""
    description: str = ""
    manufacturer: str = ""
    frame_numbers: tuple[int | None, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxel centres along k, j and i."""
        k, j, i = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return k, j, i


@dataclass(frozen=True, eq=False)
class Slice:
    """One decoded image: its header and its pixels in HU, (rows, columns) int16."""

    header: Header
    hu: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Plan:
    """Which images become which slice of the volume, before any pixel is decoded."""

    stack: Stack
    odd: tuple[Oddity, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        first = self.stack.headers[0]
        return len(self.stack.headers), first.rows or 0, first.columns or 0


def plan_volume(
    headers: Sequence[Header], gap: GapRule = "refuse", same: Callable[[Header, Header], bool] | None = None
) -> Plan:
    """Decide the order of slices, and what is left out.

    Args:
        headers: all images of one series, in any order.
        gap: `refuse` a series with missing slices, or read its longest part (`partial`).
        same: whether two images at one position have the same pixels; by default by their pixel digests.
    Raises:
        NotOneVolume, NoGeometry, OnlyLocalizer: as in `geometry`; the text says why.
    """
    whole = geometry.stack_headers(headers)
    stack = geometry.without_repeats(whole, same or same_digest)
    odd = [*_notes("duplicates", stack.left_out[len(whole.left_out) :]), *_notes("left_out", whole.left_out)]
    if stack.gaps and gap == "partial":
        odd += [Oddity("gap", g.text, g.mm, g.sop_instance_uids) for g in stack.gaps]
        stack = geometry.largest_run(stack)
    geometry.need_whole(stack)
    geometry.need_straight(stack)
    geometry.need_even(stack)
    geometry.need_one_frame(stack)
    return Plan(stack, (*odd, *_oddities(stack)))


def _notes(code: str, left_out: Sequence[LeftOut]) -> list[Oddity]:
    """One note for each reason why images were left out."""
    by_reason: dict[str, list[str]] = {}
    for left in left_out:
        by_reason.setdefault(left.why, []).append(left.sop_instance_uid)
    return [
        Oddity(
            code, f"{len(uids)} image{'s' if len(uids) > 1 else ''} left out: {why}", None, tuple(dict.fromkeys(uids))
        )
        for why, uids in by_reason.items()
    ]


def same_digest(one: Header, other: Header) -> bool:
    """Equal pixel bytes in one transfer syntax, scaled alike."""
    return bool(one.pixel_sha256) and _pixels_as_sent(one) == _pixels_as_sent(other)


def _pixels_as_sent(header: Header) -> tuple[object, ...]:
    return (
        header.pixel_sha256,
        header.transfer_syntax_uid,
        header.rescale_slope,
        header.rescale_intercept,
        header.pixel_representation,
        header.bits_stored,
    )


def _oddities(stack: Stack) -> list[Oddity]:
    odd: list[Oddity] = []
    if len({h.frame_of_reference_uid for h in stack.headers}) > 1:
        odd.append(
            Oddity(
                "frame_of_reference", "every slice has a Frame of Reference UID of its own; they were read as one frame"
            )
        )
    if stack.jitter_mm > 0.01:
        odd.append(
            Oddity(
                "jitter", f"slice positions lie up to {number(stack.jitter_mm)} mm off an even grid", stack.jitter_mm
            )
        )
    if len({h.rescale_intercept for h in stack.headers} | {h.rescale_slope for h in stack.headers}) > 2:
        odd.append(Oddity("rescale", "rescale slope or intercept differs between slices; each was scaled by its own"))
    return odd


def assemble_volume(slices: Sequence[Slice], gap: GapRule = "refuse") -> Volume:
    """Stack the slices of one series along their normal.

    Args:
        slices: of one series, in any order; each `hu` is (rows, columns) int16. A Frame of Reference UID of its own in every slice
            is no second frame: it is noted in `odd`.
        gap: as in `plan_volume`.
    Raises:
        NotOneVolume, NoGeometry: two orientations, stacks, sizes; gaps, tilt; no telling where the slices lie.
    """
    pixels = {s.header.key: s.hu for s in slices}

    def same(one: Header, other: Header) -> bool:
        return bool(np.array_equal(pixels[one.key], pixels[other.key]))

    plan = plan_volume([s.header for s in slices], gap, same)
    hu = np.stack([pixels[h.key] for h in plan.stack.headers])
    return volume_of(plan, hu, plan.odd)


def volume_of(plan: Plan, hu: npt.NDArray[np.int16], odd: Sequence[Oddity]) -> Volume:
    """The volume of a plan whose slices have been decoded into `hu`, in the plan's order."""
    first = plan.stack.headers[0]
    thickness = max((h.slice_thickness or 0.0 for h in plan.stack.headers), default=0.0)
    frames = tuple(h.frame for h in plan.stack.headers)
    hu.flags.writeable = False
    affine = geometry.affine_of(plan.stack)
    affine.flags.writeable = False
    return Volume(
        hu=hu,
        affine=affine,
        series_instance_uid=first.series_instance_uid,
        modality=first.modality,
        sop_instance_uids=tuple(h.sop_instance_uid for h in plan.stack.headers),
        odd=tuple(odd),
        left_out=plan.stack.left_out,
        kernel=first.kernel,
        thickness_mm=thickness or plan.stack.step_mm,
        series_number=first.series_number,
        description=first.series_description,
        manufacturer=first.manufacturer,
        frame_numbers=frames if any(frames) else (),
    )


def check_hu(hu: npt.NDArray[np.int16]) -> tuple[Oddity, ...]:
    """Is this Hounsfield units of a patient? A wrong scale, or a decoder that gives zeros, is refused before any reading.

    Raises:
        NotHounsfield: no air near -1000 HU, no soft tissue, or more than a tenth of the slices hold a single value.
    """
    sample = hu[:, ::SAMPLE_STEP, ::SAMPLE_STEP].reshape(len(hu), -1)
    constant = int((sample.min(axis=1) == sample.max(axis=1)).sum())
    if constant > CONSTANT_SHARE_MAX * len(hu):
        raise NotHounsfield(f"{constant} of {len(hu)} slices hold a single value")
    for name, (low, high) in (("air", AIR_HU), ("soft tissue", TISSUE_HU)):
        share = float(((sample >= low) & (sample <= high)).mean())
        if share < CONTENT_SHARE_MIN:
            raise NotHounsfield(
                f"the values are no HU of a patient: {share:.1%} of the voxels lie between {low} and {high} ({name})"
            )
    said = f"{constant} slice{'s hold' if constant > 1 else ' holds'} a single value"
    return (Oddity("constant_slices", said),) if constant else ()


def to_json(volume: Volume) -> dict[str, Any]:
    """Everything but the voxels, as plain values."""
    plain = {name: getattr(volume, name) for name in _PLAIN}
    return {
        **plain,
        "affine": volume.affine.tolist(),
        "odd": [asdict(odd) for odd in volume.odd],
        "left_out": [asdict(left) for left in volume.left_out],
    }


def from_json(plain: dict[str, Any], hu: npt.NDArray[np.int16]) -> Volume:
    """Take back `to_json`, with the voxels."""
    affine = np.asarray(plain["affine"], np.float64)
    affine.flags.writeable = False
    odd = tuple(Oddity(o["code"], o["text"], o["mm"], tuple(o["sop_instance_uids"])) for o in plain["odd"])
    kept = {name: plain[name] for name in _PLAIN}
    kept |= {name: tuple(plain[name]) for name in ("sop_instance_uids", "frame_numbers")}
    return Volume(hu=hu, affine=affine, odd=odd, left_out=tuple(LeftOut(**left) for left in plain["left_out"]), **kept)


_PLAIN: Final = (
    "series_instance_uid",
    "modality",
    "sop_instance_uids",
    "kernel",
    "thickness_mm",
    "series_number",
    "description",
    "manufacturer",
    "frame_numbers",
)
