"""Small grids around a point: HU of a volume on them, and what a network said of them back on the volume.

A grid is square in the slice, with one step for rows and columns that follows the nodule's size; along the stack it takes the
source's own slices, or steps as wide as a row's where slices are thinner. Separable tents do both ways: linear where the grid
is finer than the source, a weighted mean where it is coarser. Arrays are [k, j, i] with k along the patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

SIDE: Final = 48
"""Rows and columns of a grid."""

Array = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.floating]
Three = tuple[float, float, float]
Beyond = Literal["edge", "mirror", "zero"]


@dataclass(frozen=True)
class Grid:
    """`centre` (k, j, i) in voxels of the source, of which one is `spacing_mm` large; `step_mm` of rows and columns;
    `along_mm`: places of the slices, from the centre; `thick_mm`: their distance."""

    centre: Three
    spacing_mm: Three
    step_mm: float
    along_mm: Offsets
    thick_mm: float

    def positions(self) -> tuple[Offsets, Offsets, Offsets]:
        """Of the grid's points, in voxels of the source, for each axis."""
        across = (np.arange(SIDE) - (SIDE - 1) / 2) * self.step_mm
        k, j, i = (
            at + steps / mm
            for at, steps, mm in zip(self.centre, (self.along_mm, across, across), self.spacing_mm, strict=True)
        )
        return k, j, i


@dataclass(frozen=True)
class Sizes:
    """How wide a grid's step is for a nodule of a size; one rule for training and reading, in the catalogue's parameters."""

    steps_per_diameter: float
    step_mm_min: float
    step_mm_max: float

    def step_mm(self, diameter_mm: float) -> float:
        """Of rows and columns."""
        return float(np.clip(diameter_mm / self.steps_per_diameter, self.step_mm_min, self.step_mm_max))


def grid_around(centre: Three, spacing_mm: Three, step_mm: float, slices: range, every: int = 1) -> Grid:
    """The grid whose slices are numbered `slices`, number 0 the source's slice next to the centre.

    Args:
        every: take each second, third ... slice only, as thick ones (for training).
    """
    thick_mm = spacing_mm[0] * every
    first_mm = (np.floor(centre[0] + 0.5) - centre[0]) * spacing_mm[0]
    if thick_mm < step_mm:
        thick_mm, first_mm = step_mm, 0.0
    return Grid(centre, spacing_mm, step_mm, first_mm + np.array(slices) * thick_mm, thick_mm)


def sample(values: npt.NDArray[np.generic], grid: Grid, beyond: tuple[Beyond, Beyond, Beyond]) -> Array:
    """`values` [k, j, i] on the grid, float32 [slices, SIDE, SIDE].

    Args:
        beyond: what lies outside the source, for each axis: its edge, its mirror image, or nothing (0).
    """
    steps = (grid.thick_mm, grid.step_mm, grid.step_mm)
    ways, parts = [], []
    for at, step, mm, length, rule in zip(grid.positions(), steps, grid.spacing_mm, values.shape, beyond, strict=True):
        weights = _tents(at, length, max(1.0, step / mm), rule)
        used = np.flatnonzero(weights.any(axis=0))
        part = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
        parts.append(part)
        ways.append(weights[:, part])
    return _separable(values[tuple(parts)].astype(np.float32), ways)


def spread(found: Array, grid: Grid, box: Sequence[slice]) -> Array:
    """The inverse: what stands on the grid's points, linear at the voxels of a box of the source; 0 outside the grid."""
    ways = []
    for at, part, length in zip(grid.positions(), box, found.shape, strict=True):
        step = (at[-1] - at[0]) / (length - 1) if length > 1 else 1.0
        places = (np.arange(part.start, part.stop) - at[0]) / step
        ways.append(_tents(places, length, 1.0, "zero"))
    return _separable(found, ways)


def source_box(grid: Grid, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The voxels of the source that lie within the grid."""
    k, j, i = (
        slice(min(n, max(0, int(np.ceil(at[0] - 1e-9)))), max(0, min(n, int(np.floor(at[-1] + 1e-9)) + 1)))
        for at, n in zip(grid.positions(), shape, strict=True)
    )
    return k, j, i


def _tents(at: Offsets, length: int, width: float, beyond: Beyond) -> Array:
    """(points, length): weights that sum up to 1, tents of `width` voxels to either side of each point."""
    last = length - 1
    outside = (at < -0.5) | (at > last + 0.5)
    at = np.abs((at + last) % (2 * last) - last) if beyond == "mirror" and last > 0 else np.clip(at, 0, last)
    weights = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(length)) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    if beyond == "zero":
        weights[outside] = 0.0
    tents: Array = weights.astype(np.float32)
    return tents


def _separable(values: Array, ways: Sequence[Array]) -> Array:
    """Each axis through its own matrix (out, in)."""

    def along(result: Array, place: int) -> Array:
        return np.moveaxis(np.tensordot(ways[place], result, axes=(1, place)), 0, place)

    return np.ascontiguousarray(reduce(along, range(3), values))
