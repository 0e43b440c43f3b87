"""Tumours of soft tissue laid on the lungs' surface, of which it is known what lung they took: on the costal pleura, the
mediastinum, the diaphragm and in the apex.

Places are drawn from the surface of a scan's own lungs and told apart by geometry alone, in the patient's directions (LPS). A
tumour is an ellipsoid across the pleura: what lies in the lung is seen, what lies behind it is wall as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.findings import MaskCrop
from inference.lungs import LEFT, RIGHT, Lungs
from inference.training.places import noise_hu
from inference.volume import Volume

Kind = Literal["costal", "mediastinum", "diaphragm", "apex"]
KINDS: Final[Sequence[Kind]] = get_args(Kind)
DIAMETERS_MM: Final = (20.0, 60.0)  # of the longest axis
ROUNDNESS: Final = (0.7, 1.0)  # of the other axes
SUNK: Final = (0.0, 0.5)  # of the middle inward from the pleura, in least radii
TUMOUR_HU: Final = 40.0
AIR_HU: Final = -500.0  # former lung is what was darker
APEX_MM: Final = 25.0  # below a lung's highest point
HEIGHTS: Final[dict[Kind, tuple[float, float]]] = {
    "costal": (0.25, 0.85),
    "mediastinum": (0.2, 0.85),
    "diaphragm": (0.0, 0.5),
    "apex": (0.5, 1.0),
}
"""From the lowest point of a lung, 0, to its highest, 1."""
LUNG_ML_MIN: Final = 2.0  # of former lung in a tumour: else it is hardly on this lung
_GRID_MM: Final = 4.0
_SMOOTH_MM: Final = 6.0  # over which the surface's direction is taken
_RIM_MM: Final = 3.0  # the half-filled voxels of the pleura are filled
_EDGE_MM: Final = 1.0
_TRIES: Final = 60

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surface:
    """Points of the lungs' surface. `voxels` (n, 3) k, j, i; `outward` (n, 3) unit vectors in LPS; `sides` RIGHT or LEFT;
    `heights` 0 to 1 in their lung; `below_top_mm` from its highest point."""

    voxels: npt.NDArray[np.intp]
    outward: Numbers
    sides: npt.NDArray[np.uint8]
    heights: Numbers
    below_top_mm: Numbers

    def of_kind(self, kind: Kind) -> npt.NDArray[np.intp]:
        """Which of the points are of this kind."""
        up = self.outward[:, 2]
        medial = np.where(self.sides == RIGHT, self.outward[:, 0], -self.outward[:, 0])
        low, high = HEIGHTS[kind]
        there = (self.heights >= low) & (self.heights <= high)
        facing = {
            "costal": (medial <= 0) & (np.abs(up) <= 0.4),
            "mediastinum": medial >= 0.8,
            "diaphragm": up <= -0.7,
            "apex": (up >= 0.6) & (self.below_top_mm <= APEX_MM),
        }
        return np.flatnonzero(there & facing[kind])


@dataclass(frozen=True, eq=False)
class Ground:
    """What tumours are laid on: a scan, its lungs, their surface, and the scan's noise at 1 mm."""

    volume: Volume
    lungs: Lungs
    surface: Surface
    noise_hu: float


@dataclass(frozen=True, eq=False)
class Pasted:
    """A scan with one tumour. `body`: the voxels of former lung, now tumour; `voxel` the place on the pleura."""

    kind: Kind
    diameter_mm: float
    voxel: tuple[int, int, int]
    side: int
    volume: Volume
    body: MaskCrop


def ground_of(volume: Volume, lungs: Lungs) -> Ground:
    """All that laying a tumour needs to know of a scan."""
    return Ground(volume, lungs, surface_of(volume, lungs), noise_hu(volume, lungs))


def surface_of(volume: Volume, lungs: Lungs) -> Surface:
    """The lungs' surface on a grid of about 4 mm."""
    steps = tuple(max(1, round(_GRID_MM / mm)) for mm in volume.spacing_mm)
    mm = np.multiply(volume.spacing_mm, steps)
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    coarse = lungs.labels[:: steps[0], :: steps[1], :: steps[2]]
    parts: list[tuple[npt.NDArray[np.intp], Numbers, Numbers]] = []
    sides: list[int] = []
    for side in (RIGHT, LEFT):
        lung = coarse == side
        if not lung.any():
            continue
        slopes = np.gradient(ndi.gaussian_filter(lung.astype(np.float64), _SMOOTH_MM / mm))
        at = np.argwhere(lung & ~ndi.binary_erosion(lung, border_value=1))
        steep = -np.stack([slope[tuple(at.T)] for slope in slopes], axis=1) / mm
        outward = steep @ directions.T
        length = np.linalg.norm(outward, axis=1, keepdims=True)
        everywhere = np.argwhere(lung) * steps @ volume.affine[:3, :3].T
        heads = (at * steps @ volume.affine[:3, :3].T)[:, 2] - everywhere[:, 2].min()
        parts.append((at * steps, outward / np.maximum(length, 1e-9), heads))
        sides.append(side)
    tops = [float(heads.max()) for _, _, heads in parts]
    return Surface(
        voxels=np.concatenate([at for at, _, _ in parts]).astype(np.intp),
        outward=np.concatenate([outward for _, outward, _ in parts]),
        sides=np.concatenate([np.full(len(at), side, np.uint8) for (at, _, _), side in zip(parts, sides, strict=True)]),
        heights=np.concatenate([heads / max(top, 1e-9) for (_, _, heads), top in zip(parts, tops, strict=True)]),
        below_top_mm=np.concatenate([top - heads for (_, _, heads), top in zip(parts, tops, strict=True)]),
    )


def paste(ground: Ground, kind: Kind, rng: np.random.Generator) -> Pasted | None:
    """The scan with a tumour of this kind at a place drawn by `rng`; None where no place could be had."""
    candidates = ground.surface.of_kind(kind)
    for _ in range(_TRIES if len(candidates) else 0):
        at = int(candidates[rng.integers(len(candidates))])
        axes_mm = rng.uniform(*DIAMETERS_MM) / 2 * np.array([1.0, *rng.uniform(*ROUNDNESS, 2)])
        sunk = rng.uniform(*SUNK) * axes_mm.min()
        pasted = _laid(ground, kind, at, axes_mm, float(sunk), rng)
        if pasted is not None:
            return pasted
    return None


def _laid(
    ground: Ground, kind: Kind, at: int, axes_mm: Numbers, sunk_mm: float, rng: np.random.Generator
) -> Pasted | None:
    """An ellipsoid of these half axes whose middle lies `sunk_mm` inward of a point of the surface."""
    volume, surface = ground.volume, ground.surface
    side, voxel = int(surface.sides[at]), surface.voxels[at]
    spacing = np.array(volume.spacing_mm)
    directions = volume.affine[:3, :3] / spacing
    centre = voxel - (surface.outward[at] @ directions) * sunk_mm / spacing
    reach = (axes_mm.max() + _RIM_MM) / spacing
    low = np.maximum(0, np.floor(centre - reach)).astype(int)
    high = np.minimum(volume.hu.shape, np.ceil(centre + reach).astype(int) + 1)
    if (high <= low).any():
        return None
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    places = np.moveaxis(np.indices(high - low), 0, -1) + low
    radius = np.linalg.norm((places - centre) * spacing @ rotation / axes_mm, axis=-1)
    share = np.clip((1 - radius) * axes_mm.min() / _EDGE_MM + 0.5, 0, 1)
    labels, before = ground.lungs.labels[box], volume.hu[box].astype(np.float64)
    own = labels == side
    if not own.any():
        return None
    body = own & (share >= 0.5) & (before < AIR_HU)
    if body.sum() * spacing.prod() / 1000 < LUNG_ML_MIN:
        return None
    near = (ndi.distance_transform_edt(~own, sampling=spacing) <= _RIM_MM) & ((labels == 0) | own)
    noise = ndi.gaussian_filter(rng.standard_normal(before.shape), (0, 0.6, 0.6))
    tissue = TUMOUR_HU + 1.3 * ground.noise_hu / noise.std() * noise
    hu = volume.hu.copy()
    hu[box] = np.rint(np.where(near & (before < TUMOUR_HU), before + share * (tissue - before), before))
    k, j, i = (int(n) for n in voxel)
    start = (int(low[0]), int(low[1]), int(low[2]))
    diameter_mm = float(2 * axes_mm.max())
    return Pasted(kind, diameter_mm, (k, j, i), side, replace(volume, hu=hu), MaskCrop(start, body))
