"""Nodules put into healthy lung: real ones with their masks, and drawn ones; each with the noise of the scan it lies in.

A `Shape` is a nodule without surroundings, on a grid of 1 mm: how much of each voxel it fills, and its HU. It is freed of
its own noise, laid over the two views of a place (`inference/patches.py`), and given the noise of that scan, so that
smoothness tells nothing. What is brighter there (pleura, vessels) stays in front of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.grids import resampled_array
from inference.measure import sphere_diameter_mm
from inference.patches import NEAR_SIZE, WIDE_MM, WIDE_SIZE
from inference.training.augment import some_axes
from inference.training.crops import Crop

Array = npt.NDArray[np.float32]

_PAD_MM: Final = 5.0
_REACH: Final = int(WIDE_SIZE * WIDE_MM) // 2  # mm from the middle of a place to the end of its wide view
_FAINT_ABOVE_LUNG_HU: Final = 350.0  # less than this above lung lets vessels shine through


@dataclass(frozen=True, eq=False)
class Shape:
    """`filled` 0 to 1 and `hu` [k, j, i] at 1 mm, an odd number of voxels along each axis, the nodule's centroid in the
    middle one. `diameter_mm` of the sphere of its volume. `patient` "" for a drawn one. `nodule` False: a scar or a vessel.
    """

    filled: Array
    hu: Array
    diameter_mm: float
    patient: str = ""
    key: str = ""
    texture: str = "solid"
    nodule: bool = True

    def turned(self, rng: np.random.Generator) -> "Shape":
        """One of the 48 ways to hold it, by chance."""
        axes = rng.permutation(3)
        flips = some_axes(rng)
        return replace(
            self,
            filled=np.flip(self.filled.transpose(axes), axis=flips),
            hu=np.flip(self.hu.transpose(axes), axis=flips),
        )

    def rolled(self, shift_mm: npt.NDArray[np.intp]) -> "Shape":
        """Moved by whole mm, and what leaves the grid on one side comes back on the other: for fields that have no edge."""
        shift = tuple(int(mm) for mm in shift_mm)
        axes = (0, 1, 2)
        return replace(self, filled=np.roll(self.filled, shift, axes), hu=np.roll(self.hu, shift, axes))


def shape_of(crop: Crop) -> Shape | None:
    """The nodule of a crop; None when its mask is empty or too small to be resampled."""
    pad = [int(np.ceil(_PAD_MM / mm)) for mm in crop.spacing_mm]
    hu = resampled_array(np.pad(crop.hu.astype(np.float32), [(p, p) for p in pad], mode="edge"), crop.spacing_mm, 1.0)
    mask = resampled_array(np.pad(crop.mask, [(p, p) for p in pad]), crop.spacing_mm, 1.0)
    filled = np.clip(2 * ndi.gaussian_filter(mask, 0.7), 0, 1)  # whole up to the readers' line, faded out beyond it
    if filled.sum() < 8 or not (mask > 0.5).any():
        return None
    texture = crop.ratings.get("texture", 5.0)
    return centred(
        Shape(
            filled=filled.astype(np.float32),
            hu=ndi.gaussian_filter(hu, 0.5).astype(np.float32),
            diameter_mm=sphere_diameter_mm(crop.mask, crop.spacing_mm),
            patient=crop.patient,
            key=crop.key,
            texture="non-solid" if texture <= 2 else "part-solid" if texture < 4 else "solid",
        )
    )


def shapes_of(crops: Iterable[Crop]) -> list[Shape]:
    """The nodules of crops that have one."""
    return [shape for shape in map(shape_of, crops) if shape is not None]


def resized(shape: Shape, diameter_mm: float) -> Shape:
    """The shape grown or shrunk to a diameter."""
    factor = diameter_mm / shape.diameter_mm
    return centred(
        replace(
            shape,
            filled=ndi.zoom(shape.filled, factor, order=1).astype(np.float32),
            hu=ndi.zoom(shape.hu, factor, order=1, mode="nearest").astype(np.float32),
            diameter_mm=diameter_mm,
        )
    )


def centred(shape: Shape) -> Shape:
    """The shape cut to where it is, its centroid in the middle voxel."""
    places = np.argwhere(shape.filled > 0.02)
    middle = np.rint(np.average(places, axis=0, weights=shape.filled[tuple(places.T)])).astype(int)
    reach = int(min(max(np.abs(places - middle).max(), 1), _REACH))
    padded = [(max(0, reach - m), max(0, m + reach + 1 - n)) for m, n in zip(middle, shape.filled.shape, strict=True)]
    start = [m - reach + low for m, (low, _) in zip(middle, padded, strict=True)]
    box = tuple(slice(s, s + 2 * reach + 1) for s in start)
    return replace(
        shape,
        filled=np.pad(shape.filled, padded)[box].astype(np.float32),
        hu=np.pad(shape.hu, padded, mode="edge")[box].astype(np.float32),
    )


def plant(
    near: Array, wide: Array, shape: Shape, shift_mm: npt.NDArray[np.intp], noise: Array, noise_hu: float
) -> tuple[Array, Array]:
    """The two views of a place with the shape in it.

    Args:
        near, wide: HU, (32, 32, 32) at 1 mm and (24, 24, 24) at 3 mm around one place.
        shift_mm: (k, j, i), whole mm, of the shape's middle from the middle of the views (taken as voxel 16 of `near`).
        noise: correlated noise of standard deviation 1, at least (72, 72, 72) at 1 mm; `noise_hu` that of the scan.
    """
    size = 2 * _REACH
    filled, hu = np.zeros((size,) * 3, np.float32), np.zeros((size,) * 3, np.float32)
    there, here = [], []
    for axis in range(3):
        first = _REACH + int(shift_mm[axis]) - shape.filled.shape[axis] // 2
        low, high = max(first, 0), min(first + shape.filled.shape[axis], size)
        if high <= low:
            return near, wide
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    filled[tuple(there)] = shape.filled[tuple(here)]
    hu[tuple(there)] = shape.hu[tuple(here)] + noise_hu * noise[tuple(there)]
    edge = _REACH - NEAR_SIZE // 2
    inner = (slice(edge, edge + NEAR_SIZE),) * 3
    share, weighted = _thirds(filled), _thirds(filled * hu)
    return (
        _laid_over(near, filled[inner], hu[inner]),
        _laid_over(wide, share, (weighted / np.maximum(share, 1e-3)).astype(np.float32)),
    )


def _thirds(values: Array) -> Array:
    """Means of 3 x 3 x 3 voxels."""
    values = (values[::3] + values[1::3] + values[2::3]) / np.float32(3)
    values = (values[:, ::3] + values[:, 1::3] + values[:, 2::3]) / np.float32(3)
    return (values[:, :, ::3] + values[:, :, 1::3] + values[:, :, 2::3]) / np.float32(3)


def _laid_over(ground: Array, filled: Array, hu: Array) -> Array:
    """Solid parts take the place of lung; faint ones add to it. What is brighter than the nodule stays."""
    lung = float(np.percentile(ground, 20))
    faint = hu - lung < _FAINT_ABOVE_LUNG_HU
    added = np.where(faint, np.minimum(ground + filled * np.maximum(hu - lung, 0), np.maximum(ground, 0)), 0)
    solid = ground + filled * (hu - ground)
    cavity = hu < lung - 20  # air inside a wall is darker than lung
    result: Array = np.where(faint & ~cavity, added, np.where((ground > hu + 60) & ~cavity, ground, solid))
    return result.astype(np.float32)
