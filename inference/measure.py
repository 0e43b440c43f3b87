"""Mm, mm3 and HU of a mask: each number of a nodule is made and rounded here, once.

Axes are those of a radiologist: in the plane of the slice where the nodule's area is largest, the long axis from edge to
edge, the short axis the largest extent perpendicular to it. An extent is the distance of pixel centres plus half a pixel:
the outermost centres lie up to half a pixel inside the edge at either end, the least where the extent is the widest (on
discs of 4 to 30 pixels the mean diameter is then right to 0.2 pixels on average).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.findings import KeySlice, MaskCrop, Nodule, Point
from inference.lungs import LEFT, RIGHT, Lungs
from inference.volume import Volume

_ANGLES: Final = np.deg2rad(np.arange(0.0, 180.0, 1.0))  # a degree changes an extent by less than 0.02 %

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
    sides = lungs.labels[box][mask.voxels]
    side = RIGHT if np.count_nonzero(sides == RIGHT) >= np.count_nonzero(sides == LEFT) else LEFT
    return Nodule(
        number=number,
        tracking_uid="",
        centre_lps_mm=to_lps_mm(volume.affine, (float(middle[0]), float(middle[1]), float(middle[2]))),
        mask=mask,
        key_slice=_key_slice(volume, mask, key, (row_mm, column_mm)),
        long_axis_mm=round(axes.long_mm, 1),
        short_axis_mm=round(axes.short_mm, 1),
        mean_diameter_mm=round((axes.long_mm + axes.short_mm) / 2, 1),
        volume_mm3=round(len(kji) * slice_mm * row_mm * column_mm),
        mean_hu=round(float(inside.mean())),
        confidence=None,
        site=_SITES[side],
        size_error_mm=round(float(np.hypot(row_mm, column_mm)), 1),
    )


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
    )
