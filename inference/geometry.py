"""Where slices lie: normal, order, gaps, repeats, tilt, and the affine from voxels to LPS mm.

Pure, from headers alone. Order comes from Image Position (Patient), never from Instance Number or a file name
(PS3.3 C.7.6.2.1.1), so any order of arrival gives the same stack. Leaves to others what may be read (`selection.py`) and
pixels (`volume.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.errors import (
    MissingSlices,
    NoGeometry,
    NotOneVolume,
    OnlyLocalizer,
    SamePlace,
    Tilted,
    TooFewSlices,
    UnevenSpacing,
)
from inference.findings import LeftOut
from inference.headers import Header, Vector

SAME_PLACE_MM: Final = 0.01  # nearer slices lie at one position: no scanner steps that little
SAME_ORIENTATION: Final = 0.01  # difference of direction cosines, 0.6 degrees: rounding, no second orientation
UNIT_ERROR_MAX: Final = 0.02  # direction cosines with two decimals still pass
GAP_STEPS: Final = 1.5  # a distance of this many steps lacks a slice
JITTER_MM_MIN: Final = 0.12  # always tolerated: positions rounded to 0.1 mm, at both ends of the grid and between
JITTER_SHARE_MAX: Final = 0.1  # of a step, off the even grid
TILT_DEG_MAX: Final = 0.5  # 2.6 mm of shear over 300 mm; the affine carries what is below
SHIFT_MM_MAX: Final = 0.5  # sideways, off the straight line
STRAY_SLICES_MAX: Final = 3  # of another orientation in one series: localizers that don't say so
ORIENTATIONS_MAX: Final = 8  # with more there is no need to count on
POSITION_MM_MAX: Final = 100_000.0  # no scanner is 100 m long; beyond it the number is nonsense
SPACING_MM_MAX: Final = 100.0


@dataclass(frozen=True)
class Gap:
    """Slices are missing between two: `mm` from one to the other where `step_mm` is usual; positions in LPS mm."""

    mm: float
    step_mm: float
    positions: tuple[Vector, Vector]
    sop_instance_uids: tuple[str, str]

    @property
    def text(self) -> str:
        """For people: the length and both positions."""
        low, high = (place(p, self._axis) for p in self.positions)
        return (
            f"slices are missing: {number(self.mm)} mm between the slices at {low} and {high}, "
            f"where the others lie {number(self.step_mm)} mm apart"
        )

    @property
    def _axis(self) -> int:
        return int(np.argmax(np.abs(np.subtract(self.positions[1], self.positions[0]))))


@dataclass(frozen=True)
class Stack:
    """Slices of one orientation in ascending order along their normal (row x column), one for each position.

    `along_mm` is each slice's distance along the normal from the first; `repeats` are groups of slices at one position, of which
    `headers` holds the first; `step_mm` is the median distance (0 for a single slice). `jitter_mm` is the largest distance from an
    even grid, `shift_mm` sideways from a straight line, `tilt_deg` between that line and the normal, `off_axis_deg` between
    the normal and the patient's long axis (0 to 90).
    """

    headers: tuple[Header, ...]
    along_mm: tuple[float, ...]
    step_mm: float
    gaps: tuple[Gap, ...]
    repeats: tuple[tuple[Header, ...], ...]
    jitter_mm: float
    shift_mm: float
    tilt_deg: float
    off_axis_deg: float
    left_out: tuple[LeftOut, ...] = ()

    @property
    def length_mm(self) -> float:
        """From the first slice's centre to the last one's."""
        return self.along_mm[-1]


def number(value: float) -> str:
    """A length as people write it: one decimal, a second one where it says something."""
    text = f"{value:.2f}".removesuffix("0")
    return "0.0" if text == "-0.0" else text


def place(position: Vector, axis: int = 2) -> str:
    """A slice position as people write it, along one axis of the patient."""
    return f"{'xyz'[axis]} = {number(position[axis])} mm"


def normal_of(orientation: Sequence[float]) -> npt.NDArray[np.float64]:
    """The unit normal (row x column) of six direction cosines.

    Raises:
        NoGeometry: they are no two perpendicular unit vectors.
    """
    row, column = np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64)
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if max(abs(length - 1) for length in lengths) > UNIT_ERROR_MAX or abs(float(row @ column)) > UNIT_ERROR_MAX:
        raise NoGeometry("Image Orientation (Patient) holds no two perpendicular unit vectors")
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def off_axis_deg(orientation: Sequence[float]) -> float:
    """The angle between the slice's normal and the patient's long axis: 0 axial, 90 sagittal or coronal."""
    return math.degrees(math.acos(min(1.0, abs(float(normal_of(orientation)[2])))))


def is_localizer(header: Header) -> bool:
    """Scout or topogram, by Image Type (PS3.3 C.8.2.1.1.1)."""
    return "LOCALIZER" in (word.upper() for word in header.image_type[2:])


def left(header: Header, why: str) -> LeftOut:
    """An image, or a frame of one, that is left out."""
    return LeftOut(header.sop_instance_uid, why, header.frame)


def stack_headers(headers: Sequence[Header]) -> Stack:
    """Order the slices of one series along their normal; of a multi-frame object every frame is a slice.

    Localizers, and up to three slices of another orientation, are left out with a note.
    Raises:
        OnlyLocalizer, TooFewSlices, NoGeometry: nothing to stack, or no telling where.
        NotOneVolume: two orientations, matrix sizes or pixel spacings.
    """
    frames = [frame for header in headers for frame in header.as_frames()]
    headers = list({h.key: h for h in frames}.values())
    images = [h for h in headers if not is_localizer(h)]
    if headers and not images:
        raise OnlyLocalizer("the series holds nothing but localizers")
    if not images:
        raise TooFewSlices("the series holds no image")
    left_out = [left(h, "a localizer") for h in headers if is_localizer(h)]
    _need_geometry(images)
    images, strays = _one_orientation(images)
    left_out += [left(h, "of another orientation than the series") for h in strays]
    _need_one_grid(images)
    return _stacked(images, sorted(left_out, key=lambda one: (one.sop_instance_uid, one.frame or 0)))


def _need_geometry(headers: Sequence[Header]) -> None:
    for what, lacking in (
        (
            "Image Position (Patient)",
            [h for h in headers if h.position is None or max(map(abs, h.position)) > POSITION_MM_MAX],
        ),
        ("Image Orientation (Patient)", [h for h in headers if h.orientation is None]),
        (
            "Pixel Spacing",
            [
                h
                for h in headers
                if h.pixel_spacing is None or not all(0 < s <= SPACING_MM_MAX for s in h.pixel_spacing)
            ],
        ),
        ("Rows or Columns", [h for h in headers if not h.rows or not h.columns]),
    ):
        if lacking:
            raise NoGeometry(
                f"{len(lacking)} of {len(headers)} images have no usable {what}", lacking[0].sop_instance_uid
            )


def _one_orientation(headers: Sequence[Header]) -> tuple[list[Header], list[Header]]:
    """The images of the most frequent orientation, and the few others."""
    groups: list[tuple[npt.NDArray[np.float64], list[Header]]] = []
    for header in sorted(headers, key=_tie):
        cosines = np.asarray(header.orientation, np.float64)
        for first, members in groups:
            if float(np.abs(first - cosines).max()) <= SAME_ORIENTATION:
                members.append(header)
                break
        else:
            groups.append((cosines, [header]))
            if len(groups) > ORIENTATIONS_MAX:
                raise NotOneVolume(f"more than {ORIENTATIONS_MAX} orientations in one series", header.sop_instance_uid)
    groups.sort(key=lambda group: -len(group[1]))
    main, strays = groups[0][1], [h for _, members in groups[1:] for h in members]
    if strays and (len(strays) > STRAY_SLICES_MAX or len(strays) >= len(main)):
        raise NotOneVolume(
            f"{len(groups)} orientations in one series, {len(strays)} of {len(headers)} images differ from the others",
            strays[0].sop_instance_uid,
        )
    return main, strays


def _need_one_grid(headers: Sequence[Header]) -> None:
    first = headers[0]
    for header in headers:
        if (header.rows, header.columns) != (first.rows, first.columns):
            raise NotOneVolume(
                f"images of {first.rows} x {first.columns} and of {header.rows} x {header.columns} pixels in one series",
                header.sop_instance_uid,
            )
        if not np.allclose(header.pixel_spacing or 0, first.pixel_spacing or 0, rtol=1e-3, atol=0):
            raise NotOneVolume("two pixel spacings in one series", header.sop_instance_uid)


def _tie(header: Header) -> tuple[int, str, int]:
    """Among equals the lower Instance Number, then the lower UID, then the lower frame: never the order of arrival."""
    return (header.instance_number if header.instance_number is not None else 2**40, *header.key)


def _stacked(headers: Sequence[Header], left_out: Sequence[LeftOut]) -> Stack:
    reference = min(headers, key=_tie)
    normal = normal_of(reference.orientation or ())
    positions = {h.key: np.asarray(h.position, np.float64) for h in headers}
    ordered = sorted(headers, key=lambda h: (float(positions[h.key] @ normal), _tie(h)))
    groups: list[list[Header]] = []
    for header in ordered:
        here = float(positions[header.key] @ normal)
        if groups and here - float(positions[groups[-1][0].key] @ normal) < SAME_PLACE_MM:
            groups[-1].append(header)
        else:
            groups.append([header])
    groups = [sorted(group, key=_tie) for group in groups]
    return _measured([g[0] for g in groups], [g for g in groups if len(g) > 1], normal, left_out)


def _measured(
    headers: Sequence[Header],
    repeats: Sequence[Sequence[Header]],
    normal: npt.NDArray[np.float64],
    left_out: Sequence[LeftOut],
) -> Stack:
    places = np.asarray([h.position for h in headers], np.float64)
    along = (places - places[0]) @ normal
    steps = np.diff(along)
    step = float(np.median(steps)) if len(steps) else 0.0
    gaps = tuple(
        Gap(
            float(steps[k]),
            step,
            (_vector(places[k]), _vector(places[k + 1])),
            (headers[k].sop_instance_uid, headers[k + 1].sop_instance_uid),
        )
        for k in (int(index) for index in np.flatnonzero(steps > GAP_STEPS * step))
    )
    even = np.linspace(0, along[-1], len(along))
    sideways = (places - places[0]) - np.outer(along, normal)
    slope = sideways[-1] / along[-1] if along[-1] > 0 else np.zeros(3)
    return Stack(
        headers=tuple(headers),
        along_mm=tuple(float(a) for a in along),
        step_mm=step,
        gaps=gaps,
        repeats=tuple(tuple(group) for group in repeats),
        jitter_mm=float(np.abs(along - even).max()),
        shift_mm=float(np.linalg.norm(sideways - np.outer(along, slope), axis=1).max()),
        tilt_deg=math.degrees(math.atan(float(np.linalg.norm(slope)))),
        off_axis_deg=math.degrees(math.acos(min(1.0, abs(float(normal[2]))))),
        left_out=tuple(left_out),
    )


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def without_repeats(stack: Stack, same: Callable[[Header, Header], bool]) -> Stack:
    """Leave out the slices that repeat another one at the same position with the same pixels, with a note each.

    Args:
        same: whether two slices have the same pixels.
    Raises:
        SamePlace: one or more positions hold different pixels.
        NotOneVolume: most positions do, or slices of different acquisitions: two stacks lie in one series.
    """
    differing = [group for group in stack.repeats if not all(same(group[0], other) for other in group[1:])]
    if differing:
        raise _repeated(stack, differing)
    dropped = [
        left(other, "the same pixels at the same position as another image of the series")
        for group in stack.repeats
        for other in group[1:]
    ]
    return replace(stack, repeats=(), left_out=(*stack.left_out, *dropped))


def _repeated(stack: Stack, differing: Sequence[Sequence[Header]]) -> NotOneVolume:
    numbers = sorted({h.acquisition_number for group in differing for h in group if h.acquisition_number is not None})
    first = differing[0]
    axis = int(np.argmax(np.abs(normal_of(first[0].orientation or ()))))
    where = place(first[0].position or (0.0, 0.0, 0.0), axis)
    which = " and ".join(h.sop_instance_uid for h in first[:2])
    if len(numbers) > 1:
        named = ", ".join(str(n) for n in numbers[:4])
        return NotOneVolume(f"two stacks in one series: acquisitions {named} hold different images at {where}", which)
    if 2 * len(differing) >= len(stack.headers):
        return NotOneVolume(
            f"two stacks in one series: {len(differing)} of {len(stack.headers)} positions hold different images", which
        )
    others = f" and at {len(differing) - 1} more" if len(differing) > 1 else ""
    return SamePlace(f"different images at one position ({where}{others})", which)


def largest_run(stack: Stack) -> Stack:
    """The longest part of the stack without a gap; the rest is left out with a note."""
    starts = {gap.positions[1] for gap in stack.gaps}
    runs: list[list[Header]] = []
    for header in stack.headers:
        if not runs or header.position in starts:
            runs.append([])
        runs[-1].append(header)
    longest = max(runs, key=len)
    beyond = [left(h, "beyond a gap in the series") for run in runs if run is not longest for h in run]
    normal = normal_of(longest[0].orientation or ())
    return _measured(longest, (), normal, (*stack.left_out, *beyond))


def need_straight(stack: Stack) -> None:
    """The slices lie straight above each other.

    Raises:
        Tilted, NotOneVolume: they don't.
    """
    if stack.tilt_deg > TILT_DEG_MAX:
        raise Tilted(f"gantry tilt: the slices are stacked {number(stack.tilt_deg)} degrees off their normal")
    if stack.shift_mm > SHIFT_MM_MAX:
        raise NotOneVolume(f"slices are shifted sideways by up to {number(stack.shift_mm)} mm")


def need_whole(stack: Stack) -> None:
    """Nothing is missing between the first slice and the last.

    Raises:
        MissingSlices: there is a gap (the first three are named).
    """
    if stack.gaps:
        more = f"; {len(stack.gaps) - 3} more gaps" if len(stack.gaps) > 3 else ""
        raise MissingSlices(
            "; ".join(gap.text for gap in stack.gaps[:3]) + more, " and ".join(stack.gaps[0].sop_instance_uids)
        )


def need_even(stack: Stack) -> None:
    """The slices lie at equal distances; rounding and jitter are tolerated.

    Raises:
        UnevenSpacing: they don't.
        TooFewSlices: a single slice has no distance.
    """
    if len(stack.headers) < 2:
        raise TooFewSlices("the series holds a single slice")
    if stack.jitter_mm > max(JITTER_MM_MIN, JITTER_SHARE_MAX * stack.step_mm):
        steps = np.diff(stack.along_mm)
        raise UnevenSpacing(
            f"the distance between slices varies from {number(float(steps.min()))} to {number(float(steps.max()))} mm"
        )


def need_one_frame(stack: Stack) -> None:
    """Two frames of reference are two volumes; one of its own in every slice is only what some de-identifiers leave.

    Raises:
        NotOneVolume: there are two or more, each of several slices.
    """
    frames = {h.frame_of_reference_uid for h in stack.headers}
    if 1 < len(frames) <= len(stack.headers) / 2:
        raise NotOneVolume(f"{len(frames)} frames of reference in one series", stack.headers[0].series_instance_uid)


def affine_of(stack: Stack) -> npt.NDArray[np.float64]:
    """(4, 4): (k, j, i, 1) = (slice, row, column, 1) to LPS mm at the voxel's centre (PS3.3 C.7.6.2.1.1).

    The slice column is the mean step from the first to the last slice, so a shear below TILT_DEG_MAX is carried.
    """
    first, last = stack.headers[0], stack.headers[-1]
    cosines = np.asarray(first.orientation, np.float64)
    row, column = cosines[:3] / np.linalg.norm(cosines[:3]), cosines[3:] / np.linalg.norm(cosines[3:])
    between_rows, between_columns = first.pixel_spacing or (0.0, 0.0)
    affine = np.eye(4)
    start, end = np.asarray(first.position, np.float64), np.asarray(last.position, np.float64)
    affine[:3, 0] = (end - start) / (len(stack.headers) - 1)
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = row * between_columns
    affine[:3, 3] = start
    return affine
