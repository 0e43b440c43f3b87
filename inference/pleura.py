"""What a tumour or a scar on the chest wall takes away from a lung's mask, given back.

A closing bridges a dent as wide as its ball. A broader one is found on each axial slice as what the lung's convex hull
holds beside the lung. The chest wall is convex from inside, so a healthy lung leaves nothing there; heart, liver and spine
leave a lot, and are told apart by where it lies: a dent of the chest wall faces away from the midline, has ribs behind it,
and there is lung above and below it. What lies on diaphragm or mediastinum, or fills an apex, is not found in this way.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch
from scipy.spatial import ConvexHull, QhullError

from inference.device import CPU
from inference.grids import distance_mm, in_threads
from inference.masks import Mask, box_of

BONE_HU: Final = 220.0  # mean of a cell; soft tissue with contrast stays below but in large vessels and the heart
RIB_SHARE_MIN: Final = 0.6  # of a dent's outer rim with a rib behind it
MEDIAL_COS_MAX: Final = 0.5  # a dent that lies less than 60 degrees off the way to the midline is heart, hilum or spine
SLICE_CM2_MIN: Final = 8.0  # of lung: hulls of less say nothing
DENT_CM2_MIN: Final = 0.5
DENT_ML_MIN: Final = 0.8
ENCLOSED_SHARE_MIN: Final = (
    0.7  # of a dent's upper and of its lower face with lung behind it; heart and liver go on below
)
ABOVE_SHARE_MIN: Final = 0.1  # of the whole upper face
OUTSIDE_HU: Final = -500.0  # what is darker is no tissue

Labels = npt.NDArray[np.uint8]


def fill_dents(
    labels: Labels,
    hu: npt.NDArray[np.float32],
    mm: tuple[float, float, float],
    left: npt.NDArray[np.float64],
    headwards: int,
    rib_mm: float,
    device: torch.device = CPU,
) -> Labels:
    """The lungs with the dents of the chest wall filled.

    Args:
        labels: [k, j, i], 0 outside, 1 the right lung, 2 the left one; k across axial slices.
        hu: mean HU of the same cells.
        mm: size of a cell along k, j and i.
        left: the patient's left as a direction along (j, i).
        headwards: 1 where k grows to the head, else -1.
        rib_mm: from the inside of the chest wall to the nearest rib, also between two ribs.
    """
    bone = hu > BONE_HU

    def dents(one: tuple[int, npt.NDArray[np.float64]]) -> Mask:
        """Of one lung, and the way from it to the midline."""
        lung, medial = labels == one[0], one[1]
        added, rims, hulls = (np.zeros(labels.shape, bool) for _ in range(3))
        for k in np.flatnonzero(lung.sum(axis=(1, 2)) * mm[1] * mm[2] >= 100 * SLICE_CM2_MIN):
            hulls[k] = lung[k]
            for part in _dents(lung[k], mm[1:]):
                hulls[k] |= part
                if _faces_away(part, lung[k], medial, mm[1:]):
                    added[k] |= part
                    rims[k] |= part & ndi.binary_dilation(~(part | lung[k]))
        added &= (labels == 0) & (hu > OUTSIDE_HU) & (hu < BONE_HU)
        near_rib = _near(bone, added & rims, mm, rib_mm, device)
        return _of_chest_wall(added, rims, labels > 0, hulls, near_rib, mm, headwards)

    filled = labels.copy()
    for side, dent in zip((1, 2), in_threads(dents, ((1, left), (2, -left))), strict=True):
        filled[dent] = side
    return filled


def _near(bone: Mask, where: Mask, mm: tuple[float, float, float], reach_mm: float, device: torch.device) -> Mask:
    """What lies so near to bone, within the box of `where`."""
    near = np.zeros(bone.shape, bool)
    if where.any():
        wide = box_of(where, [int(np.ceil(reach_mm / size)) for size in mm])
        if bone[wide].any():
            near[wide] = distance_mm(bone[wide], mm, device, reach_mm + max(mm)) <= reach_mm
    return near


def hull_of(area: Mask) -> Mask:
    """The convex hull of an area on its own grid; the area itself where it is too thin to have one."""
    rim = np.argwhere(area & ~ndi.binary_erosion(area))
    try:
        hull = ConvexHull(rim)
    except (QhullError, ValueError):
        return area
    grid = np.moveaxis(np.indices(area.shape), 0, -1).astype(np.float32)
    inside = np.ones(area.shape, bool)
    for normal in np.unique(hull.equations.astype(np.float32), axis=0):
        inside &= grid @ normal[:2] + normal[2] <= 1e-3
    return inside | area


def _dents(area: Mask, mm: tuple[float, ...]) -> Iterator[Mask]:
    """What the hull holds beside the area, piece by piece."""
    box = ndi.find_objects(area.astype(np.uint8))[0]
    parts, count = ndi.label(hull_of(area[box]) & ~area[box])
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    for part in np.flatnonzero(sizes[1:] * mm[0] * mm[1] >= 100 * DENT_CM2_MIN) + 1:
        whole = np.zeros(area.shape, bool)
        whole[box] = parts == part
        yield whole


def _faces_away(part: Mask, area: Mask, medial: npt.NDArray[np.float64], mm: tuple[float, ...]) -> bool:
    away = (_middle(part) - _middle(area)) * mm
    return float(away @ medial) <= MEDIAL_COS_MAX * float(np.linalg.norm(away))


def _middle(area: Mask) -> npt.NDArray[np.float64]:
    lines = [area.sum(axis=across) for across in (1, 0)]
    return np.array([float(np.arange(len(line)) @ line) for line in lines]) / float(area.sum())


def _of_chest_wall(
    added: Mask,
    rims: Mask,
    lung: Mask,
    hulls: Mask,
    near_rib: Mask,
    mm: tuple[float, float, float],
    headwards: int,
) -> Mask:
    """The dents of some volume (a slice alone is chance) with ribs behind their outer rims, and lung above and below. Lungs
    taper to the head: chest wall above a dent, which the hull of the next slice does not hold, says nothing against it."""
    parts, count = ndi.label(added)
    kept = np.zeros(count + 1, bool)
    for number, box in enumerate(ndi.find_objects(parts), 1):
        around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        part, beside, held = parts[around] == number, lung[around], hulls[around]
        rim = near_rib[around][part & rims[around]]
        if part.sum() * np.prod(mm) / 1000 < DENT_ML_MIN or not rim.size or rim.mean() < RIB_SHARE_MIN:
            continue
        part, beside, held = part[::headwards], beside[::headwards], held[::headwards]
        lower, upper = part[1:] & ~part[:-1], part[:-1] & ~part[1:]
        kept[number] = (
            _share(beside[:-1], lower) >= ENCLOSED_SHARE_MIN
            and _share(beside[1:], upper) >= ABOVE_SHARE_MIN
            and _share(beside[1:], upper & held[1:]) >= ENCLOSED_SHARE_MIN
        )
    return np.asarray(kept[parts])


def _share(mask: Mask, where: Mask) -> float:
    return float(mask[where].mean()) if where.any() else 0.0
