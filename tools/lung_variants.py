"""Scans as another scanner or another illness would have given them: thinner and thicker slices, a sharp noisy kernel, patches
of consolidation and ground glass. For measuring what stays the same (`tools/lungs.py`)."""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.lungs import Lungs
from inference.volume import Volume

THIN_MM: Final = 0.8
THICK_MM: Final = 3.0
NOISE_HU: Final = (80.0, 110.0)
PATCHES: Final = 8
PATCH_MM: Final = (10.0, 28.0)  # half axes
PATCH_HU: Final = (-650.0, -50.0)  # from ground glass to consolidation
PATCH_DEPTH_MM: Final = 14.0  # middles lie nearer to the surface
_SHARPEN: Final = 2.0
_SHARPEN_MM: Final = 0.8

Labels = npt.NDArray[np.uint8]


def with_slices(volume: Volume, slice_mm: float) -> Volume:
    """The same stack in slices of `slice_mm`: thinner ones interpolated linearly, thicker ones as the mean of what they cover."""
    from_mm = volume.spacing_mm[0]
    places = slice_places(volume, slice_mm)
    apart = np.abs(places[:, None] - np.arange(len(volume.hu))[None]) * from_mm
    thin, thick = from_mm - apart, np.minimum((slice_mm + from_mm) / 2 - apart, from_mm)
    weights = np.clip(thin if slice_mm <= from_mm else thick, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    hu = np.stack([np.tensordot(row[row > 0], volume.hu[row > 0], 1) for row in weights.astype(np.float32)])
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * places[0]
    affine[:3, 0] *= slice_mm / from_mm
    names = tuple(f"{k}" for k in range(len(hu)))
    return replace(
        volume, hu=np.rint(hu).astype(np.int16), affine=affine, sop_instance_uids=names, thickness_mm=slice_mm
    )


def slice_places(volume: Volume, slice_mm: float) -> npt.NDArray[np.float64]:
    """Where such slices lie, in slices of the volume."""
    step, last = slice_mm / volume.spacing_mm[0], len(volume.hu) - 1
    return np.arange(int(last / step + 1e-6) + 1, dtype=np.float64) * step


def labels_at(labels: Labels, places: npt.NDArray[np.float64]) -> Labels:
    """The labels of the nearest slices."""
    return labels[np.minimum(np.rint(places).astype(np.intp), len(labels) - 1)]


def sharp_and_noisy(volume: Volume, rng: np.random.Generator) -> Volume:
    """Edges raised by unsharp masking, and noise of the grain of a sharp kernel."""
    hu = volume.hu.astype(np.float32)
    in_plane = (0.0, _SHARPEN_MM / volume.spacing_mm[1], _SHARPEN_MM / volume.spacing_mm[2])
    hu += np.float32(_SHARPEN) * (hu - ndi.gaussian_filter(hu, in_plane))
    noise = ndi.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.4, 0.4))
    noise -= ndi.gaussian_filter(noise, (0, 2.5, 2.5))
    hu += np.float32(rng.uniform(*NOISE_HU) / float(noise.std())) * noise
    return replace(volume, hu=np.rint(np.clip(hu, -2000, 3000)).astype(np.int16))


def with_patches(volume: Volume, lungs: Lungs, rng: np.random.Generator) -> tuple[Volume, npt.NDArray[np.bool_]]:
    """Peripheral lung that is denser in patches, and which voxels were made so (half of the patch's HU or more)."""
    spacing = np.array(volume.spacing_mm)
    inside = lungs.labels > 0
    coarse = inside[:, ::4, ::4]
    depth = ndi.distance_transform_edt(coarse, sampling=spacing * (1, 4, 4))
    middles = np.argwhere((depth > 0) & (depth < PATCH_DEPTH_MM)) * (1, 4, 4)
    hu = volume.hu.astype(np.float32)
    changed = np.zeros(hu.shape, bool)
    for _ in range(PATCHES):
        middle, axes_mm = middles[rng.integers(len(middles))], rng.uniform(*PATCH_MM, 3)
        low = np.maximum(0, (middle - 1.6 * axes_mm / spacing).astype(int))
        high = np.minimum(hu.shape, (middle + 1.6 * axes_mm / spacing).astype(int) + 1)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grain = ndi.gaussian_filter(rng.standard_normal(tuple(high - low)), 3.0 / spacing)
        grain /= grain.std()
        places = np.moveaxis(np.indices(high - low), 0, -1) + low
        radius = np.linalg.norm((places - middle) * spacing / axes_mm, axis=-1) + 0.28 * grain
        share = 1 / (1 + np.exp((radius - 1) * rng.uniform(5, 14)))
        denser = np.maximum(hu[box], rng.uniform(*PATCH_HU) + 60 * grain)
        hu[box] += np.where(inside[box], share * (denser - hu[box]), 0)
        changed[box] |= inside[box] & (share >= 0.5)
    return replace(volume, hu=np.rint(hu).astype(np.int16)), changed


def dice(one: Labels, other: Labels) -> float:
    """Of the masks of both lungs together."""
    return float(2 * np.count_nonzero((one > 0) & (other > 0)) / (np.count_nonzero(one) + np.count_nonzero(other)))
