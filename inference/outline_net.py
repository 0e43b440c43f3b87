"""Outlines by a network: the body at each spot, within the lungs, no two with a voxel in common.

The array is turned to the patient's axes first, so the answer does not hang on how a volume is stored. What two outlines have
in common is one body when nothing between the two spots is narrower than either (the first spot has it, the other none), else
two bodies that touch, and each has what is nearer to its own core. A network marks something nearly everywhere: a body of which
no voxel is marked as surely as in nearly all nodules of its size is a piece of vessel, hilum or wall, and none.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch

from config.catalogue import Entry
from inference.findings import Algorithm, MaskCrop
from inference.lungs import Lungs
from inference.measure import sphere_diameter_mm
from inference.outline_body import BodyFinder, Box, Found, Mask, Use
from inference.outline_patch import Three
from inference.patches import flips_of, order_of
from inference.reader import Progress, Spot
from inference.volume import Volume
from inference.weights import load_tensors

_NECK: Final = 0.75  # two bodies: the way between their cores is narrower than this share of the shallower core's depth
_CORE_SHARE: Final = 0.35  # of the expected size: how far from its spot a body's core may lie
_SAME_SHARE: Final = 0.5  # of the smaller of two bodies without a neck, in common: one and the same


_Looks = weakref.WeakKeyDictionary[Volume, tuple[weakref.ref[Lungs], dict[tuple[Three, float], Found | None]]]


@dataclass(frozen=True)
class _Body:
    """What the network found at a spot: a box and the voxels in it, in the patient's axes."""

    spot: Spot
    box: Box
    voxels: Mask


@dataclass(frozen=True)
class _Turn:
    """From an array as it is stored to one whose axes are the patient's: k to the head, j to the back, i to the left."""

    order: tuple[int, ...]
    flips: tuple[int, ...]
    shape: tuple[int, ...]

    def array(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A view in the patient's axes."""
        return np.flip(values.transpose(self.order), self.flips)

    def point(self, kji: Three) -> Three:
        """A place in voxels in the patient's axes."""
        at = [kji[axis] for axis in self.order]
        k, j, i = (self.shape[axis] - 1 - at[axis] if axis in self.flips else at[axis] for axis in range(3))
        return k, j, i

    def back(self, start: Three, voxels: Mask) -> MaskCrop:
        """A crop in the patient's axes as one of the stored array."""
        starts = [
            self.shape[axis] - round(start[axis]) - voxels.shape[axis] if axis in self.flips else round(start[axis])
            for axis in range(3)
        ]
        stored = [self.order.index(axis) for axis in range(3)]
        own = np.ascontiguousarray(np.flip(voxels, self.flips).transpose(stored))
        own.flags.writeable = False
        return MaskCrop((starts[stored[0]], starts[stored[1]], starts[stored[2]]), own)


class NetOutliner:
    """Outlines from spots by a network; parameters of the catalogue: those of `Use`, `diameter_mm_min`, and what the likeliest
    voxel of a body must reach: `peak_min`, from a diameter of `large_mm` on `peak_min_large`.

    Raises:
        ModelRefused: the weights are missing, or are not those of the catalogue.
    """

    def __init__(self, entry: Entry, device: torch.device) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self.diameter_mm_min = entry.number("diameter_mm_min")
        self._peak_min = entry.number("peak_min")
        self._peak_min_large = entry.number("peak_min_large")
        self._large_mm = entry.number("large_mm")
        use = Use(
            dimensions=int(entry.number("dimensions")),
            widths=tuple(int(width) for width in entry.numbers("widths")),
            steps_per_diameter=entry.number("steps_per_diameter"),
            step_mm_min=entry.number("step_mm_min"),
            step_mm_max=entry.number("step_mm_max"),
            mirrored=int(entry.number("mirrored")),
            threshold=entry.number("threshold"),
        )
        self._finder = BodyFinder(use, load_tensors(entry), device)
        self._looks: _Looks = weakref.WeakKeyDictionary()

    def outline(
        self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
    ) -> Sequence[MaskCrop | None]:
        """Masks in the order of spots; see the Protocol."""
        turn = _turn_of(volume)
        hu = np.asarray(turn.array(volume.hu), np.int16)
        hull = np.asarray(turn.array(lungs.labels), np.uint8)
        k, j, i = (volume.spacing_mm[axis] for axis in turn.order)
        spacing_mm = (k, j, i)
        looks = self._looks_at(volume, lungs)
        bodies: list[_Body | None] = []
        for done, spot in enumerate(spots):
            progress("outline", done, len(spots))
            centre = turn.point(spot.centre)
            if (centre, spot.scale_mm) not in looks:
                looks[centre, spot.scale_mm] = self._finder.look(hu, spacing_mm, centre, spot.scale_mm, hull)
            found = looks[centre, spot.scale_mm]
            body = None
            if found is not None and self._is_sure(found, spacing_mm):
                body = _Body(Spot(centre, spot.response, spot.scale_mm), found.box, found.voxels)
            bodies.append(None if body is None else _settled(body, bodies, spacing_mm, hu.shape))
        progress("outline", len(spots), len(spots))
        return [None if body is None else self._mask(body, turn, spacing_mm) for body in bodies]

    def _looks_at(self, volume: Volume, lungs: Lungs) -> dict[tuple[Three, float], Found | None]:
        """What was found before at places of this volume: a reading asks again when some of them turn out to be none."""
        known = self._looks.get(volume)
        if known is None or known[0]() is not lungs:
            known = self._looks[volume] = (weakref.ref(lungs), {})
        return known[1]

    def _is_sure(self, found: Found, spacing_mm: Three) -> bool:
        """Whether a body's likeliest voxel is as likely as in a nodule of its size."""
        least = (
            self._peak_min_large if sphere_diameter_mm(found.voxels, spacing_mm) >= self._large_mm else self._peak_min
        )
        return found.peak >= least

    def _mask(self, body: _Body, turn: _Turn, spacing_mm: Three) -> MaskCrop | None:
        """The largest piece of a body, cropped; None where it is too small."""
        parts, count = ndi.label(body.voxels)
        if not count:
            return None
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        largest = parts == 1 + int(np.argmax(sizes))
        if sphere_diameter_mm(largest, spacing_mm) < self.diameter_mm_min:
            return None
        own = ndi.find_objects(largest.astype(np.uint8))[0]
        k, j, i = (outer.start + inner.start for outer, inner in zip(body.box, own, strict=True))
        return turn.back((k, j, i), largest[own])


def _turn_of(volume: Volume) -> _Turn:
    """The order and flips that bring a volume's axes nearest to the patient's."""
    order = order_of(volume.affine)
    return _Turn(order, flips_of(volume.affine), tuple(volume.hu.shape[axis] for axis in order))


def _settled(body: _Body, bodies: list[_Body | None], spacing_mm: Three, shape: tuple[int, ...]) -> _Body | None:
    """A body beside those of earlier spots, which may lose voxels to it; None where it is one of them."""
    changed: dict[int, _Body] = {}
    for place, other in enumerate(bodies):
        if other is None:
            continue
        box = _around(body.box, other.box)
        ours, theirs = _in(box, body), _in(box, other)
        shared = int(np.count_nonzero(ours & theirs))
        if not shared:
            continue
        cores = _cores(ours | theirs, (body.spot, other.spot), box, spacing_mm)
        if cores is None:
            if shared >= _SAME_SHARE * min(np.count_nonzero(ours), np.count_nonzero(theirs)):
                return None
            ours &= ~theirs
        else:
            away = [ndi.distance_transform_edt(~core, sampling=spacing_mm) for core in cores]
            nearer = np.asarray(away[0]) < np.asarray(away[1])
            ours, theirs = ours & ~(theirs & ~nearer), theirs & ~(ours & nearer)
        body = _Body(body.spot, box, ours)
        changed[place] = _Body(other.spot, box, theirs)
    for place, other in changed.items():
        bodies[place] = other  # not before: one that turns out to be an earlier body takes nothing from the others
    return body


def _cores(union: Mask, spots: tuple[Spot, Spot], box: Box, spacing_mm: Three) -> tuple[Mask, Mask] | None:
    """The inner parts of two bodies that touch; None where there is no neck between the two spots."""
    depth = np.asarray(ndi.distance_transform_edt(np.pad(union, 1), sampling=spacing_mm))[1:-1, 1:-1, 1:-1]
    seeds = [_deepest(depth, spot, box, spacing_mm) for spot in spots]
    parts, _ = ndi.label(depth > _NECK * min(float(depth[seed]) for seed in seeds))
    one, other = (int(parts[seed]) for seed in seeds)
    return None if 0 in (one, other) or one == other else (parts == one, parts == other)


def _deepest(depth: npt.NDArray[np.float64], spot: Spot, box: Box, spacing_mm: Three) -> tuple[int, int, int]:
    """The voxel (of a box) that lies deepest in a body, near a spot."""
    squares = [
        ((np.arange(part.start, part.stop) - at) * mm) ** 2
        for part, at, mm in zip(box, spot.centre, spacing_mm, strict=True)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    near = distance <= max(_CORE_SHARE * spot.scale_mm, max(spacing_mm), 2.0)
    k, j, i = np.unravel_index(int(np.argmax(np.where(near, depth, -1.0) - 1e-6 * distance)), depth.shape)
    return int(k), int(j), int(i)


def _around(one: Box, other: Box) -> Box:
    """The box of two."""
    k, j, i = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return k, j, i


def _in(box: Box, body: _Body) -> Mask:
    """A body's voxels in a larger box."""
    whole = np.zeros([part.stop - part.start for part in box], bool)
    at = tuple(slice(own.start - part.start, own.stop - part.start) for own, part in zip(body.box, box, strict=True))
    whole[at] = body.voxels
    return whole
