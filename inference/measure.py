"""Mm, mm3, HU and mg of a mask: each number of a nodule is made and rounded here, once.

Axes are those of a radiologist (RECIST 1.1, Eisenhauer et al., Eur J Cancer 2009;45:228): in the plane of the slice where
the nodule's area is largest, the long axis from edge to edge, the short axis the largest extent perpendicular to it. The
mean diameter is that of Lung-RADS v2022: the mean of both axes as they are shown, each to one decimal, itself to one
decimal. An extent is the distance of pixel centres plus half a pixel: the outermost centres lie up to half a pixel inside
the edge at either end, the least where the extent is the widest (on discs of 4 to 30 pixels the mean diameter is then
right to 0.2 pixels on average).

Errors are what the voxel size alone can do, and say nothing of the outline. They hold for 19 of 20 shapes whose mask takes
a voxel from a quarter, a half or three quarters of it on (spheres and ellipsoids of 3 to 20 mm, voxels of 0.6 to 3 mm;
tests/unit/inference/test_inference_measure_errors.py):
- length: a pixel's diagonal, for either end lies somewhere in its pixel, and with it what lies between two slices: a ball
  of diameter d that is cut up to half a slice off its middle shows a chord c, where d^2 is at most c^2 + slice^2.
- volume: each face between a voxel of the mask and one outside moved by 0.3 voxels, so 0.3 of a voxel's volume a face.
  Faces follow the surface in all three directions, so a thick slice counts where the surface looks along it.
- mass: that volume at the mean density, for a voxel at the edge holds less of the nodule than one inside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.findings import KeySlice, MaskCrop, Nodule, Point
from inference.lungs import LEFT, RIGHT, Lungs
from inference.volume import Volume

_ANGLES: Final = np.deg2rad(np.arange(0.0, 180.0, 1.0))  # a degree changes an extent by less than 0.02 %

_EDGE_VOXELS: Final = 0.3  # how far a face of the mask may lie from the edge, in voxels
_AIR_HU: Final = -1000.0  # weighs nothing; water, 0 HU, weighs 1 mg/mm3

_SITES: Final = {RIGHT: "right lung", LEFT: "left lung"}


def to_lps_mm(affine: npt.NDArray[np.float64], kji: tuple[float, float, float]) -> Point:
    """The place of a voxel index (k, j, i), fractions allowed, in LPS mm to 0.01."""
    x, y, z = (affine @ np.array([*kji, 1.0]))[:3]
    return (round(float(x), 2), round(float(y), 2), round(float(z), 2))


@dataclass(frozen=True)
class Axes:
    """Long and short axis of a shape in a plane, mm, not rounded."""

    long_mm: float
    short_mm: float


def axes_of(area: npt.NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Axes:
    """Long and short axis of a shape [row, column] with at least one pixel; `spacing_mm` of rows and columns."""
    rows, columns = np.nonzero(area)
    y, x = rows * spacing_mm[0], columns * spacing_mm[1]
    along = np.outer(np.cos(_ANGLES), x) + np.outer(np.sin(_ANGLES), y)
    pixel = np.hypot(np.cos(_ANGLES) * spacing_mm[1], np.sin(_ANGLES) * spacing_mm[0])
    extents = np.ptp(along, axis=1) + pixel / 2
    longest = int(np.argmax(extents))
    perpendicular = (longest + len(_ANGLES) // 2) % len(_ANGLES)
    return Axes(float(extents[longest]), float(extents[perpendicular]))


def measure_nodule(volume: Volume, mask: MaskCrop, number: int, lungs: Lungs) -> Nodule:
    """The nodule of a mask on the volume's grid, with all that can be measured; no tracking UID, confidence or grades."""
    slice_mm, row_mm, column_mm = volume.spacing_mm
    areas = mask.voxels.sum(axis=(1, 2))
    kji = np.argwhere(mask.voxels) + np.array(mask.start)
    middle = kji.mean(axis=0)
    # of several slices of one area the one nearest the middle, so that the choice does not hang on the order of slices
    largest = np.flatnonzero(areas == areas.max())
    key = int(largest[np.argmin(np.abs(largest + mask.start[0] - middle[0]))])
    axes = axes_of(mask.voxels[key], (row_mm, column_mm))
    box = tuple(slice(start, start + length) for start, length in zip(mask.start, mask.voxels.shape, strict=True))
    inside = volume.hu[box][mask.voxels]
    voxel_mm3 = slice_mm * row_mm * column_mm
    error_mm3 = _EDGE_VOXELS * faces_of(mask.voxels) * voxel_mm3
    density = max(float(inside.mean()) - _AIR_HU, 0.0) / 1000  # mg/mm3
    long_mm, short_mm = round(axes.long_mm, 1), round(axes.short_mm, 1)
    sides = lungs.labels[box][mask.voxels]
    side = RIGHT if np.count_nonzero(sides == RIGHT) >= np.count_nonzero(sides == LEFT) else LEFT
    return Nodule(
        number=number,
        tracking_uid="",
        centre_lps_mm=to_lps_mm(volume.affine, (float(middle[0]), float(middle[1]), float(middle[2]))),
        mask=mask,
        key_slice=_key_slice(volume, mask, key, (row_mm, column_mm)),
        long_axis_mm=long_mm,
        short_axis_mm=short_mm,
        mean_diameter_mm=mean_of(long_mm, short_mm),
        volume_mm3=round(len(kji) * voxel_mm3),
        mean_hu=round(float(inside.mean())),
        confidence=None,
        site=_SITES[side],
        size_error_mm=round(length_error_mm(axes.long_mm, (slice_mm, row_mm, column_mm)), 1),
        mass_mg=round(len(kji) * voxel_mm3 * density),
        volume_error_mm3=math.ceil(error_mm3),
        mass_error_mg=math.ceil(error_mm3 * density),
    )


def mean_of(long_mm: float, short_mm: float) -> float:
    """The mean of two lengths of one decimal, to one decimal, a half upwards."""
    return (round(long_mm * 10) + round(short_mm * 10) + 1) // 2 / 10


def sphere_diameter_mm(voxels: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    """Of the ball of a mask's volume; 0 without a voxel. `spacing_mm` along the three axes of the mask."""
    return float((6 / np.pi * np.count_nonzero(voxels) * np.prod(spacing_mm)) ** (1 / 3))


def length_error_mm(chord_mm: float, spacing_mm: tuple[float, float, float]) -> float:
    """What voxels of this size (slices, rows, columns) can make of a length in the plane; see above."""
    slice_mm, row_mm, column_mm = spacing_mm
    between_slices_mm = math.hypot(chord_mm, slice_mm) - chord_mm
    return math.hypot(row_mm, column_mm, between_slices_mm)


def faces_of(voxels: npt.NDArray[np.bool_]) -> int:
    """How many faces lie between a voxel of the mask and one outside; beyond the array lies no mask."""
    padded = np.pad(voxels, 1)
    return sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in range(3))


def _key_slice(volume: Volume, mask: MaskCrop, key: int, spacing_mm: tuple[float, float]) -> KeySlice:
    """The slice of largest area and a circle around the outline there (PS3.3 C.18.6.1.2: pixel corners count)."""
    rows, columns = np.nonzero(mask.voxels[key])
    centre_row, centre_column = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    reach_mm = np.hypot(
        (np.abs(rows - centre_row) + 0.5) * spacing_mm[0], (np.abs(columns - centre_column) + 0.5) * spacing_mm[1]
    )
    index = mask.start[0] + key
    return KeySlice(
        sop_instance_uid=volume.sop_instance_uids[index],
        slice_index=index,
        centre_px=(
            round(float(mask.start[2] + centre_column + 0.5), 2),
            round(float(mask.start[1] + centre_row + 0.5), 2),
        ),
        radius_px=round(float(reach_mm.max() / spacing_mm[1]), 2),
        frame=volume.frame_numbers[index] if volume.frame_numbers else None,
    )
