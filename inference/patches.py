"""Patches of a volume in mm, whatever its grid: `near` shows a place, `wide` what lies around it.

Each axis is resampled by a small matrix of its own, straight from the source grid: nothing is interpolated twice, nothing
but the box around the place is touched, and the patch of a flipped volume is the flipped patch. `near` is linear between
voxel centres (1 mm), `wide` the mean of what a voxel covers (3 mm). Beyond the volume its outermost voxels go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

HU_RANGE: Final = (-1000.0, 400.0)  # padding of scanners lies below, metal above
NEAR_MM: Final = 1.0
WIDE_MM: Final = 3.0
NEAR_SIZE: Final = 32
WIDE_SIZE: Final = 24
_BOXES_AT_ONCE: Final = 32  # of about a million voxels each, on the finest grids five

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """A cube of `size` voxels of `mm` a side; `mean`: each voxel is the mean of what it covers, else linear."""

    size: int
    mm: float
    mean: bool


NEAR: Final = View(NEAR_SIZE, NEAR_MM, mean=False)
WIDE: Final = View(WIDE_SIZE, WIDE_MM, mean=True)


def order_of(affine: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Which axes of an array lie nearest to the patient's: along the body, to the back, to the side.

    Args:
        affine: (4, 4), from (k, j, i) to LPS mm.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return max(permutations(range(3)), key=lambda axes: sum(abs(cosines[2 - to, axis]) for to, axis in enumerate(axes)))


def flips_of(affine: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Which axes, in the order of `order_of`, run the other way: to the feet, to the front, to the right.

    Args:
        affine: (4, 4), from (k, j, i) to LPS mm.
    """
    return tuple(to for to, axis in enumerate(order_of(affine)) if affine[2 - to, axis] < 0)


def patch_at(hu: npt.NDArray[np.int16], spacing_mm: Sequence[float], centre: Sequence[float], view: View) -> Array:
    """The patch [k, j, i] of HU, clipped to `HU_RANGE`, float32, whose middle lies at a voxel index (fractions allowed).

    Args:
        hu: [k, j, i], of any size.
        spacing_mm: along k, j, i.
        centre: (k, j, i) in voxels of `hu`.
    """
    boxes, weights = [], []
    for length, mm, at in zip(hu.shape, spacing_mm, centre, strict=True):
        first, matrix = _axis(length, mm, at, view)
        boxes.append(slice(first, first + matrix.shape[1]))
        weights.append(matrix)
    values = np.clip(hu[tuple(boxes)], *HU_RANGE).astype(np.float32)
    values = np.tensordot(weights[0], values, (1, 0))
    values = np.tensordot(weights[1], values, (1, 1)).transpose(1, 0, 2)
    return np.ascontiguousarray(values @ weights[2].T)


def patches_at(
    hu: torch.Tensor, spacing_mm: Sequence[float], centres: Sequence[Sequence[float]], view: View
) -> torch.Tensor:
    """As `patch_at`, of many places at once, on the device where the volume lies: (n, size, size, size), float32.

    Args:
        hu: [k, j, i], all of the volume.
        centres: (n, 3).
    """
    found = [torch.empty(0, view.size, view.size, view.size, device=hu.device)]
    for first in range(0, len(centres), _BOXES_AT_ONCE):
        axes = np.array(centres[first : first + _BOXES_AT_ONCE]).T
        weights, voxels = [], []
        for length, mm, at in zip(hu.shape, spacing_mm, axes, strict=True):
            low, full = _weights(mm, at, view)
            inside = np.clip(low[:, None] + np.arange(full.shape[2]), 0, length - 1)
            weights.append(torch.from_numpy(full.astype(np.float32)).to(hu.device))
            voxels.append(torch.from_numpy(inside).to(hu.device))
        k, j, i = voxels
        boxes = hu[k[:, :, None, None], j[:, None, :, None], i[:, None, None, :]].clamp(*HU_RANGE).float()
        for axis, to in zip(weights, ("nak,nkji->naji", "nbj,naji->nabi", "nci,nabi->nabc"), strict=True):
            boxes = torch.einsum(to, axis, boxes)
        found.append(boxes)
    return torch.cat(found)


def _axis(length: int, mm: float, at: float, view: View) -> tuple[int, Array]:
    """The first voxel that a view needs along an axis, and the weights (size, voxels) of its voxels."""
    (low,), (full,) = _weights(mm, np.array([at]), view)
    inside = np.clip(low + np.arange(full.shape[1]), 0, length - 1)
    first, last = int(inside[0]), int(inside[-1])
    weights = np.zeros((view.size, last - first + 1))
    for column, voxel in enumerate(inside - first):
        weights[:, voxel] += full[:, column]
    return first, weights.astype(np.float32)


def _weights(
    mm: float, at: npt.NDArray[np.float64], view: View
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For n places along an axis without ends: the first voxels (n,) that a view needs, and the weights (n, size, voxels)."""
    places = at[:, None] + (np.arange(view.size) - (view.size - 1) / 2) * (view.mm / mm)
    mean = view.mean and view.mm > mm
    half = view.mm / mm / 2 if mean else 0.0
    low = np.floor(places[:, 0] - half).astype(np.int64) - mean
    high = (np.ceil if mean else np.floor)(places[:, -1] + half).astype(np.int64) + 1
    voxels = (low[:, None] + np.arange(int((high - low).max()) + 1))[:, None]
    places = places[:, :, None]
    if mean:
        overlap = np.minimum(places + half, voxels + 0.5) - np.maximum(places - half, voxels - 0.5)
        return low, np.clip(overlap, 0, None) / (2 * half)
    return low, np.clip(1 - np.abs(places - voxels), 0, None)
