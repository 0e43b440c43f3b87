"""Scans with planted nodules whose truth is known: a test set of its own, of crops that no training sees (`TEST_FOLD`).

The nodules of the test fold, turned by chance, lie in the lungs of whole scans on their own grid: what a voxel covers along
the slices is averaged (partial volume), and the scan's noise is laid over them. A place where most of a nodule would lie
behind pleura or heart is none. `ill_scan` lays patches of disease into a scan the same way: everything there is a false alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.findings import MaskCrop, Point
from inference.lungs import Lungs
from inference.measure import to_lps_mm
from inference.training.crops import load_cubes, load_native, patient_key
from inference.training.drawn import OPACITY_MM, drawn_opacity
from inference.training.patch_sampler import TEST_FOLD
from inference.training.places import lung_sites, noise_hu
from inference.training.planting import Shape, shapes_of
from inference.training.scans import Scan, Truth
from inference.volume import Volume

ILL_PATCHES: Final = 8
_WINDOW_MM: Final = (28.0, 2.0)  # where a patch is faded out, and over how much: the field that it is cut from goes on
APART_MM: Final = 18.0  # between the surfaces of two planted nodules, and from any mark
_SLICE_PARTS: Final = 5
_SEEN_HU: Final = 100.0
_SEEN_SHARE: Final = 0.6


@dataclass(frozen=True)
class Planted:
    """One planted nodule: `number` that of its truth, `place` anywhere, pleura or vessel, `key` of its crop."""

    number: int
    key: str
    diameter_mm: float
    texture: str
    place: str


def shapes_to_plant(data: Path, held_out: Sequence[str]) -> list[Shape]:
    """The nodules to be planted: of the test fold, without patients of whole scans (`held_out`)."""
    out = {patient_key(patient) for patient in held_out}
    crops = [c for c in (*load_native(data, out), *load_cubes(data, out)) if c.fold == TEST_FOLD]
    return shapes_of(crops)


def plant_scan(
    scan: Scan, lungs: Lungs, shapes: Sequence[Shape], count: int, rng: np.random.Generator
) -> tuple[Scan, tuple[Planted, ...]]:
    """The scan with up to `count` of the shapes in it, and nothing else that counts: its own marks stay as ignore zones."""
    hu = scan.volume.hu.astype(np.float32)
    spacing = np.array(scan.volume.spacing_mm)
    sigma = noise_hu(scan.volume, lungs)
    sites = list(lung_sites(scan, lungs, rng))
    order = rng.permutation(len(sites))
    taken: list[tuple[npt.NDArray[np.float64], float]] = []
    planted: list[Planted] = []
    truth: list[Truth] = []
    for n in order:
        if len(planted) == count:
            break
        centre, place = np.array(sites[n][0]), sites[n][1]
        shape = shapes[int(rng.integers(len(shapes)))].turned(rng)
        radius = shape.diameter_mm / 2
        clear = all(np.linalg.norm((centre - c) * spacing) > radius + r + APART_MM for c, r in taken)
        k, j, i = (float(at) for at in centre)
        if not clear or scan.marks_within(to_lps_mm(scan.volume.affine, (k, j, i)), radius + APART_MM):
            continue
        mask = _into(hu, spacing, centre, shape, sigma, rng)
        if mask is None:
            continue
        taken.append((centre, radius))
        number = 1000 + len(planted)
        middle = (np.argwhere(mask.voxels) + mask.start).mean(axis=0)
        lps: Point = to_lps_mm(scan.volume.affine, (float(middle[0]), float(middle[1]), float(middle[2])))
        truth.append(Truth(number, lps, shape.diameter_mm, None, mask, {}))
        planted.append(Planted(number, shape.key, shape.diameter_mm, shape.texture, place))
    ignored = [Truth(t.number, t.centre_lps_mm, t.diameter_mm, 0, t.mask, t.ratings) for t in scan.truth]
    volume = Volume(**{**scan.volume.__dict__, "hu": np.clip(np.rint(hu), -2000, 3000).astype(np.int16)})
    return Scan(scan.name, scan.patient, volume, (*ignored, *truth), False), tuple(planted)


def ill_scan(scan: Scan, lungs: Lungs, rng: np.random.Generator) -> Scan:
    """The scan with `ILL_PATCHES` patches of ground glass and consolidation in its lungs, none of them a nodule."""
    hu = scan.volume.hu.astype(np.float32)
    spacing, sigma = np.array(scan.volume.spacing_mm), noise_hu(scan.volume, lungs)
    sites = list(lung_sites(scan, lungs, rng))
    distance = np.linalg.norm(np.indices((OPACITY_MM,) * 3) - OPACITY_MM // 2, axis=0)
    window = 1 / (1 + np.exp((distance - _WINDOW_MM[0]) / _WINDOW_MM[1]))
    laid = 0
    for n in rng.permutation(len(sites)):
        if laid == ILL_PATCHES:
            break
        patch = drawn_opacity(rng).turned(rng)
        faded = replace(patch, filled=(patch.filled * window).astype(np.float32))
        laid += _into(hu, spacing, np.array(sites[n][0]), faded, sigma, rng) is not None
    volume = Volume(**{**scan.volume.__dict__, "hu": np.clip(np.rint(hu), -2000, 3000).astype(np.int16)})
    return replace(scan, volume=volume)


def _into(
    hu: npt.NDArray[np.float32],
    spacing: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    shape: Shape,
    sigma: float,
    rng: np.random.Generator,
) -> MaskCrop | None:
    """Lay the shape over the volume in place; None, and nothing changed, where too little of it would be seen."""
    reach = np.array(shape.filled.shape) // 2
    low = np.maximum(0, np.floor(centre - (reach + 1) / spacing)).astype(int)
    high = np.minimum(hu.shape, np.ceil(centre + (reach + 1) / spacing).astype(int) + 1)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    filled, inside = _sampled(shape, spacing, centre, low, high, reach)
    ground = hu[box]
    noise = ndi.gaussian_filter(rng.standard_normal(ground.shape, np.float32), (0, 0.6, 0.6))
    inside = inside + sigma * 1.3 * noise / max(float(noise.std()), 1e-3)
    lung = float(np.percentile(ground, 20))
    faint = inside - lung < 350
    mixed = np.where(faint, np.minimum(ground + filled * np.maximum(inside - lung, 0), np.maximum(ground, 0)), 0)
    solid = np.where(ground > inside + 60, ground, ground + filled * (inside - ground))
    result = np.where(faint, mixed, solid)
    body = filled > 0.5
    if not body.any() or np.mean(np.abs(result - ground)[body] > _SEEN_HU) < _SEEN_SHARE:
        return None
    hu[box] = result
    return MaskCrop((int(low[0]), int(low[1]), int(low[2])), body)


def _sampled(
    shape: Shape,
    spacing: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    low: npt.NDArray[np.intp],
    high: npt.NDArray[np.intp],
    reach: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """How much of each voxel of the box is filled, and with what, averaged over the thickness of a slice."""
    axes = [(np.arange(a, b) - c) * mm + r for a, b, c, mm, r in zip(low, high, centre, spacing, reach, strict=True)]
    filled = np.zeros(tuple(len(axis) for axis in axes), np.float32)
    weighted = np.zeros_like(filled)
    product = shape.filled * shape.hu
    for part in (np.arange(_SLICE_PARTS) + 0.5) / _SLICE_PARTS - 0.5:
        places = np.stack(np.meshgrid(axes[0] + part * spacing[0], axes[1], axes[2], indexing="ij"))
        filled += ndi.map_coordinates(shape.filled, places, order=1)
        weighted += ndi.map_coordinates(product, places, order=1)
    lung_like = np.float32(-850)
    inside = np.where(filled > 1e-3, weighted / np.maximum(filled, 1e-3), lung_like)
    return (filled / _SLICE_PARTS).astype(np.float32), inside.astype(np.float32)
