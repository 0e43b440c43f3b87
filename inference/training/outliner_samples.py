"""What the outline network learns from: grids around nodules, moved, cut, planted and made noisy; a new one at every call.

Native crops end where the nodule ends along k, and 10 mm beside it. Nothing may be learned from that: what lies beyond a
crop is its edge or its mirror image, crops are cut shorter at random, and slices beyond the last are lung of another patient
(no nodule there) or count for nothing. Cubes have true surroundings, but one reader's generous outline: its rim counts for
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.measure import sphere_diameter_mm
from inference.outline_patch import SIDE, Array, Beyond, Grid, Sizes, grid_around, sample
from inference.outline_unet import NEIGHBOURS
from inference.training.crops import Crop

_MOVED_MM: Final = 4.0  # the point is moved by up to this, a little more than is promised, or by ...
_MOVED_SHARE: Final = 0.15  # ... this share of the diameter where that is more
_SIZES_SEEN: Final = (0.4, 1.5)  # what a nodule's size is taken for at first, as a share of it: masses are seen in part
_NOISE_HU: Final = 70.0
_CUBE_SHARE: Final = 0.25  # of the samples, though they are a tenth of the nodules
_PLANTED_SHARE: Final = 0.5
_CUT_SHARE: Final = 0.5
_CUT_MARGIN: Final = 5  # voxels beside the nodule that a cut leaves
_TRIES_MAX: Final = 20


@dataclass(frozen=True)
class Sample:
    """`hu` [slices + 2 * NEIGHBOURS, SIDE, SIDE]; `target` and `weight` [slices, SIDE, SIDE], 0 to 1; `offset` of the slices
    of `hu` and their `step`, in steps of the rows."""

    hu: Array
    target: Array
    weight: Array
    offset: Array
    step: float


def centre_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Middle (k, j, i) of a mask, in voxels."""
    return np.asarray(np.argwhere(mask).mean(axis=0), np.float64)


def moved(rng: np.random.Generator, spacing_mm: Sequence[float], most_mm: float) -> npt.NDArray[np.float64]:
    """A shift in voxels, evenly spread in a ball of `most_mm`."""
    way = rng.normal(size=3)
    shift = way / np.linalg.norm(way) * most_mm * rng.random() ** (1 / 3) / np.array(spacing_mm)
    return np.asarray(shift, np.float64)


class Samples:
    """Samples of native crops and cubes; the same `rng` gives the same sample."""

    def __init__(self, native: Sequence[Crop], cubes: Sequence[Crop], sizes: Sizes) -> None:
        self._native = [crop for crop in native if crop.mask.any()]
        self._cubes = [crop for crop in cubes if crop.mask.any()]
        self._sizes = sizes

    def draw(self, rng: np.random.Generator, slices: int) -> Sample:
        """One sample of so many slices, somewhere along a nodule; something in it counts."""
        for _ in range(_TRIES_MAX):
            drawn = self._draw(rng, slices)
            if drawn.weight.any():
                break
        return drawn

    def _draw(self, rng: np.random.Generator, slices: int) -> Sample:
        whole = bool(self._cubes) and (rng.random() < _CUBE_SHARE or not self._native)
        crops = self._cubes if whole else self._native
        crop = crops[int(rng.integers(len(crops)))]
        middle, size_mm = centre_of(crop.mask), sphere_diameter_mm(crop.mask, crop.spacing_mm)
        start, stop = (np.zeros(3, int), np.array(crop.mask.shape)) if whole else _cut(crop, rng)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        hu, mask = crop.hu[box], crop.mask[box]
        k, j, i = middle + moved(rng, crop.spacing_mm, max(_MOVED_MM, _MOVED_SHARE * size_mm)) - start
        seen_mm = size_mm * np.exp(rng.uniform(*np.log(_SIZES_SEEN)))
        step_mm = self._sizes.step_mm(seen_mm) * rng.uniform(0.85, 1.2)
        every = int(rng.integers(1, 3)) if crop.spacing_mm[0] < 1.3 else 1
        thick_mm = max(crop.spacing_mm[0] * every, step_mm)
        # the window lies so that some nodule, or what is next to its end, is in it
        reach = size_mm / 2 / thick_mm + 2 - slices / 2 + 1
        shift = round(rng.uniform(-reach, reach)) if reach > 0 else 0
        numbers = range(shift - slices // 2 - NEIGHBOURS, shift - slices // 2 + slices + NEIGHBOURS)
        grid = grid_around((float(k), float(j), float(i)), crop.spacing_mm, step_mm, numbers, every)
        across: Beyond = "mirror" if rng.random() < 0.5 else "edge"
        values = sample(hu, grid, ("mirror" if whole else "edge", across, across))
        target = sample(mask, grid, ("zero", "zero", "zero"))[NEIGHBOURS:-NEIGHBOURS]
        weight = np.ones_like(target)
        if whole:
            rim = mask & ~ndi.binary_erosion(mask)
            weight -= sample(rim, grid, ("zero", "zero", "zero"))[NEIGHBOURS:-NEIGHBOURS]
        else:
            self._beyond(grid, len(hu), start[0] > 0, stop[0] < len(crop.mask), values, weight, rng)
        values = _disturbed(values, rng)
        return _turned(values, target, weight, grid, rng)

    def _beyond(
        self, grid: Grid, depth: int, cut_low: bool, cut_high: bool, hu: Array, weight: Array, rng: np.random.Generator
    ) -> None:
        """Slices beyond a native crop: lung of somebody else where the crop is whole, or nothing to learn from."""
        at = grid.positions()[0]
        for outside, cut in ((at < -0.5, cut_low), (at > depth - 0.5, cut_high)):
            if not outside.any():
                continue
            if not cut and self._cubes and rng.random() < _PLANTED_SHARE:
                hu[outside] = self._elsewhere(rng, grid, int(outside.sum()))
            else:
                weight[outside[NEIGHBOURS:-NEIGHBOURS]] = 0.0

    def _elsewhere(self, rng: np.random.Generator, grid: Grid, slices: int) -> Array:
        """Slices of a cube's end, 17 mm and more from its nodule's middle."""
        cube = self._cubes[int(rng.integers(len(self._cubes)))]
        j, i = rng.uniform(12, 39, 2)
        ends = cube.hu[:8] if rng.random() < 0.5 else cube.hu[-8:]
        numbers = np.arange(slices) * grid.thick_mm
        there = Grid((float(rng.uniform(0, 7)), float(j), float(i)), cube.spacing_mm, grid.step_mm, numbers, 1.0)
        return sample(ends, there, ("mirror", "mirror", "mirror"))


def _cut(crop: Crop, rng: np.random.Generator) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """The first voxel and the one behind the last of a crop cut shorter at random: never through the nodule across the
    stack, anywhere along it."""
    shape = np.array(crop.mask.shape)
    start, stop = np.zeros(3, int), shape.copy()
    there = np.argwhere(crop.mask)
    for axis in (1, 2):
        if rng.random() < _CUT_SHARE:
            start[axis] = rng.integers(0, max(1, there[:, axis].min() - _CUT_MARGIN + 1))
            stop[axis] = rng.integers(min(shape[axis], there[:, axis].max() + 1 + _CUT_MARGIN), shape[axis] + 1)
    if rng.random() < _CUT_SHARE:
        at = int(rng.integers(1, shape[0]))
        if rng.random() < 0.5:
            start[0] = at
        else:
            stop[0] = at
    return start, stop


def _disturbed(hu: Array, rng: np.random.Generator) -> Array:
    """Another kernel (blurred or sharpened in the slice), another dose (correlated noise), another scale."""
    if rng.random() < 0.5:
        smooth = ndi.gaussian_filter(hu, (0, *[rng.uniform(0.5, 1.2)] * 2))
        hu = hu + np.float32(rng.uniform(-1.0, 1.2)) * (hu - smooth)
    if rng.random() < 0.5:
        noise = ndi.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, *[rng.uniform(0.4, 1.0)] * 2))
        hu = hu + noise * np.float32(rng.uniform(0, _NOISE_HU) / max(float(noise.std()), 1e-6))
    return hu * np.float32(rng.uniform(0.95, 1.05)) + np.float32(rng.uniform(-25, 25))


def _turned(hu: Array, target: Array, weight: Array, grid: Grid, rng: np.random.Generator) -> Sample:
    """Mirrored along any axis, rows and columns exchanged; all alike."""
    offset = (grid.along_mm / grid.step_mm).astype(np.float32)
    arrays = [hu, target, weight]
    if rng.random() < 0.5:
        arrays, offset = [np.flip(a, 0) for a in arrays], -offset[::-1]
    for axis in (1, 2):
        if rng.random() < 0.5:
            arrays = [np.flip(a, axis) for a in arrays]
    if rng.random() < 0.5:
        arrays = [a.swapaxes(1, 2) for a in arrays]
    hu, target, weight = (np.ascontiguousarray(a) for a in arrays)
    assert hu.shape[1:] == (SIDE, SIDE)
    return Sample(hu, target, weight, np.ascontiguousarray(offset), grid.thick_mm / grid.step_mm)
