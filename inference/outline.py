"""How far a nodule reaches: a threshold between its core and the lung around it, cut from vessels and pleura.

For each spot alone: the threshold comes from the nodule's own core and from the lung next to it, so solid, ground-glass and
ring-like nodules are all outlined where their edge is. What hangs on it (vessels, pleura) is narrower than the nodule and
goes by an opening whose width follows the nodule's inscribed ball (after Kuhnigk et al., IEEE TMI 2006;25:417); nothing
outside the lungs' hull is marked, and nothing far beyond the size that the detector saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from config.catalogue import Entry
from inference.findings import Algorithm, MaskCrop
from inference.lungs import RIGHT, Lungs
from inference.reader import Progress, Spot
from inference.volume import Volume

_BRIGHTEST_HU: Final = 200.0  # calcium and contrast must not lift the threshold above soft tissue
_LUNG_HU_MAX: Final = -500.0  # brighter is no background, but a neighbour
_LUNG_HU_USUAL: Final = -850.0  # where too little lung is near
_CONTRAST_HU_MIN: Final = 100.0  # less is noise
_FAINT_HU: Final = 200.0  # with less contrast in its middle a nodule may be a ring
_WALL_SHARE_MAX: Final = 0.6  # of its surface outside the lungs' hull: a part of the wall
_HILUM_SHARE_MAX: Final = 0.1  # of its surface beyond the hull, on the side of the other lung, and larger than ...
_HILUM_MM_MIN: Final = 15.0  # ... this: the closing of the lungs has only cut it out of hilum or heart
_FILLED_SHARE: Final = 0.25
_WIDENING: Final = 1.4
_WIDENINGS_MAX: Final = 2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Site:
    """A spot's surroundings: box in the volume, HU clipped to soft tissue, labels of the lungs, distance from the spot in mm."""

    volume: Volume
    box: tuple[slice, slice, slice]
    hu: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    distance_mm: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    size_mm: float

    @property
    def hull(self) -> Mask:
        """Inside either lung."""
        return self.labels > 0

    def within(self, share: float) -> Mask:
        """The ball around the spot whose radius is this share of the expected diameter, at least a voxel or 1.5 mm."""
        return self.distance_mm <= self._radius_mm(share)

    def is_filled_by(self, body: Mask, share: float) -> bool:
        """Whether a body has much of the outermost tenth of that ball."""
        rim = (self.distance_mm > 0.9 * self._radius_mm(share)) & self.within(share) & self.hull
        return int(np.count_nonzero(body & rim)) > _FILLED_SHARE * int(np.count_nonzero(rim))

    def is_medial(self, places: npt.NDArray[np.intp], body: Mask) -> Mask:
        """Which places (k, j, i) of the box lie towards the other lung, seen from a body's middle."""
        leftwards = (places - np.argwhere(body).mean(axis=0)) @ self.volume.affine[0, :3]
        sides = self.labels[body]
        inwards: Mask = leftwards * (1 if np.count_nonzero(sides == RIGHT) * 2 >= sides.size else -1) > 0
        return inwards

    def mean_hu(self, body: Mask) -> float:
        """Mean of a body, nothing clipped."""
        return float(self.volume.hu[self.box][body].mean())

    def _radius_mm(self, share: float) -> float:
        return max(share * self.size_mm, 0.75 * max(self.spacing_mm), 1.5)


class SeededOutliner:
    """Outlines from spots; parameters of the catalogue: `threshold_share`, `opening_share`, `regrow_share`,
    `reach_share`, `elongation_max`, `bright_hu`, `bright_diameter_mm_max`, `diameter_mm_min`."""

    def __init__(self, entry: Entry) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self.diameter_mm_min = entry.number("diameter_mm_min")
        self._threshold_share = entry.number("threshold_share")
        self._opening_share = entry.number("opening_share")
        self._regrow_share = entry.number("regrow_share")
        self._reach_share = entry.number("reach_share")
        self._bright_hu = entry.number("bright_hu")
        self._bright_diameter_mm_max = entry.number("bright_diameter_mm_max")
        self._elongation_max = entry.number("elongation_max")

    def outline(
        self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
    ) -> Sequence[MaskCrop | None]:
        """Masks in the order of spots; see the Protocol. Of two that overlap by half the second is the same nodule."""
        masks: list[MaskCrop | None] = []
        for done, spot in enumerate(spots):
            progress("outline", done, len(spots))
            mask = self._mask(volume, lungs, spot)
            masks.append(None if mask is None else _apart(mask, [m for m in masks if m is not None]))
        progress("outline", len(spots), len(spots))
        return masks

    def _mask(self, volume: Volume, lungs: Lungs, spot: Spot) -> MaskCrop | None:
        """The mask of one spot. A body that fills its reach is larger than the detector saw (its widest scale is bounded):
        it is looked at again from its own middle, in a wider one."""
        mask: MaskCrop | None = None
        for _ in range(_WIDENINGS_MAX + 1):
            site = _site(volume, lungs, spot, self._reach_share)
            body = self._body(site)
            if body is None or not self._nodule_like(body, site):
                break
            mask = _cropped(body, site.box)
            if not site.is_filled_by(body, self._reach_share):
                break
            k, j, i = (float(at) for at in np.argwhere(mask.voxels).mean(axis=0) + mask.start)
            spot = Spot((k, j, i), spot.response, spot.scale_mm * _WIDENING)
        return mask

    def _threshold(self, site: _Site) -> float | None:
        """HU of the edge: between the middle of the nodule and the lung around it. None without contrast."""
        shell = (site.distance_mm > 0.75 * site.size_mm) & (site.distance_mm < 1.5 * site.size_mm + 3)
        around = site.hu[shell & site.hull & (site.hu < _LUNG_HU_MAX)]
        lung = float(np.median(around)) if around.size > 20 else _LUNG_HU_USUAL
        core = float(np.median(site.hu[site.within(0.3)]))
        if core - lung < _FAINT_HU:
            core = float(np.percentile(site.hu[site.within(0.5)], 90))
        return lung + self._threshold_share * (core - lung) if core - lung >= _CONTRAST_HU_MIN else None

    def _body(self, site: _Site) -> Mask | None:
        """What is brighter than the edge around the spot, when all that is thinner than a share of its ball is cut off."""
        threshold = self._threshold(site)
        if threshold is None:
            return None
        bright = (site.hu > threshold) & site.hull & site.within(self._reach_share)
        bright = np.stack([ndi.binary_fill_holes(area) for area in bright])
        depth = ndi.distance_transform_edt(np.pad(bright, 1), sampling=site.spacing_mm)[1:-1, 1:-1, 1:-1]
        near = np.where(site.within(0.4), depth, 0.0)
        seed = np.unravel_index(int(near.argmax()), near.shape)
        radius_mm = float(near[seed])
        if radius_mm <= 0:
            return None
        cut_mm = self._opening_share * radius_mm
        core = _part_at(depth > cut_mm, seed)
        reach = ndi.distance_transform_edt(~core, sampling=site.spacing_mm) <= cut_mm * (1 + self._regrow_share) + 1e-6
        return _part_at(reach & bright, seed)

    def _nodule_like(self, body: Mask, site: _Site) -> bool:
        """Large enough, no piece of a vessel, not a part of the wall or of the hilum."""
        places = np.argwhere(body) * site.spacing_mm
        diameter_mm = (6 / np.pi * len(places) * np.prod(site.spacing_mm)) ** (1 / 3)
        if diameter_mm < self.diameter_mm_min:
            return False
        spread = np.linalg.eigvalsh(
            (np.cov(places.T) if len(places) > 1 else 0.0) + np.diag(np.square(site.spacing_mm)) / 12
        )
        rim = ndi.binary_dilation(body) & ~body
        vessel = spread[2] > self._elongation_max**2 * spread[0]
        beyond = np.argwhere(rim & ~site.hull)
        wall = len(beyond) > _WALL_SHARE_MAX * np.count_nonzero(rim)
        inwards = np.count_nonzero(site.is_medial(beyond, body))
        hilum = diameter_mm > _HILUM_MM_MIN and inwards > _HILUM_SHARE_MAX * np.count_nonzero(rim)
        blood = diameter_mm > self._bright_diameter_mm_max and site.mean_hu(body) > self._bright_hu
        return not (vessel or wall or hilum or blood)


def _site(volume: Volume, lungs: Lungs, spot: Spot, reach_share: float) -> _Site:
    """The box around a spot: as far as an outline may reach and its background is sought."""
    reach_mm = max(reach_share, 1.5) * spot.scale_mm + 4
    ranges = [
        (max(0, int(np.floor(at - reach_mm / mm))), min(length, int(np.ceil(at + reach_mm / mm)) + 1))
        for at, mm, length in zip(spot.centre, volume.spacing_mm, volume.hu.shape, strict=True)
    ]
    box = (slice(*ranges[0]), slice(*ranges[1]), slice(*ranges[2]))
    offsets = np.ogrid[box]
    squares = [((o - at) * mm) ** 2 for o, at, mm in zip(offsets, spot.centre, volume.spacing_mm, strict=True)]
    return _Site(
        volume=volume,
        box=box,
        hu=np.clip(volume.hu[box], -1024, _BRIGHTEST_HU).astype(np.float32),
        labels=lungs.labels[box],
        distance_mm=np.sqrt(squares[0] + squares[1] + squares[2]),
        spacing_mm=volume.spacing_mm,
        size_mm=spot.scale_mm,
    )


def _part_at(mask: Mask, seed: tuple[np.intp, ...]) -> Mask:
    """The component of a mask that holds the seed."""
    parts, _ = ndi.label(mask)
    part: Mask = parts == parts[seed]
    return part


def _cropped(mask: Mask, box: tuple[slice, slice, slice]) -> MaskCrop:
    """A mask in a box of the volume, cropped to itself."""
    own = ndi.find_objects(mask.astype(np.uint8))[0]
    voxels = np.ascontiguousarray(mask[own])
    voxels.flags.writeable = False
    k, j, i = (outer.start + inner.start for outer, inner in zip(box, own, strict=True))
    return MaskCrop((k, j, i), voxels)


def _apart(mask: MaskCrop, earlier: Sequence[MaskCrop]) -> MaskCrop | None:
    """A mask without what stronger nodules have; None where half of one of the two is shared: the same nodule."""
    left = mask.voxels.copy()
    for other in earlier:
        shared = np.zeros_like(left)
        theirs, ours = _common(other, mask)
        shared[ours] = other.voxels[theirs]
        shared &= mask.voxels
        if 2 * np.count_nonzero(shared) >= min(np.count_nonzero(mask.voxels), np.count_nonzero(other.voxels)):
            return None
        left &= ~shared
    parts, count = ndi.label(left)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:]))
    return _cropped(largest, (slice(mask.start[0], None), slice(mask.start[1], None), slice(mask.start[2], None)))


def _common(one: MaskCrop, other: MaskCrop) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where two crops overlap, in the voxels of each; empty slices where they don't."""
    of_one, of_other = [], []
    for a, n, b, m in zip(one.start, one.voxels.shape, other.start, other.voxels.shape, strict=True):
        low, high = max(a, b), max(max(a, b), min(a + n, b + m))
        of_one.append(slice(low - a, high - a))
        of_other.append(slice(low - b, high - b))
    return tuple(of_one), tuple(of_other)
