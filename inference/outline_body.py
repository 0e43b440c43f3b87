"""The body at a point, by a network that is shown where the point is.

A grid around the point, as wide as the expected size asks for, goes through the network in several mirrored copies whose mean
counts; the part at the point is kept, and looked at again on a wider or narrower grid where its size was taken wrongly. Works on
arrays whose axes are the patient's; knows no volumes, lungs or files. What the reading does with a body is `outline_net`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch

from inference.device import CPU, mixed_precision, within_memory
from inference.outline_patch import Array, Grid, Sizes, Three, grid_around, sample, source_box, spread
from inference.outline_unet import ARCHITECTURES, NEIGHBOURS, grid_inputs, probabilities

_LOOKS_MAX: Final = 6
_WIDER: Final = 1.5  # the next look, where a body reaches the grid's border
_SIZES_RIGHT: Final = (0.6, 1.15)  # a body outside these shares of the size that was looked for is looked at again
_ALONG_MM: Final = 6.0  # beyond three quarters of the size, how far the grid goes along the stack
_SLICES_STEP: Final = 8  # 3-D networks halve the grid three times
_COPIES_AT_ONCE: Final = (8, 1)  # on a GPU; fewer where its memory is not enough
_NEAR_MM: Final = 4.0  # a part that begins farther from the point is another body

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Use:
    """How a network is used; the names of the catalogue's parameters. `dimensions`: 2 (slices with their neighbours) or 3;
    `mirrored`: 1, 2, 4 or 8 copies, in the slice first; `threshold` of their mean; the others as in `Sizes`."""

    dimensions: int
    widths: tuple[int, ...]
    steps_per_diameter: float
    step_mm_min: float
    step_mm_max: float
    mirrored: int
    threshold: float

    @property
    def sizes(self) -> Sizes:
        """The rule for a grid's step."""
        return Sizes(self.steps_per_diameter, self.step_mm_min, self.step_mm_max)

    def network(self) -> torch.nn.Module:
        """Without its weights."""
        return ARCHITECTURES[self.dimensions](self.widths)


@dataclass(frozen=True, eq=False)
class Found:
    """A body: a box of the array, the voxels in it, and `peak`, the highest likelihood that the network gave one of them."""

    box: Box
    voxels: Mask
    peak: float


class BodyFinder:
    """A network with its weights, on a device; on the CPU where that one's memory is not enough."""

    def __init__(self, use: Use, tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self._use = use
        self._rungs = [(device, count) for count in _COPIES_AT_ONCE if device.type != "cpu"] + [(CPU, 1)]
        network = use.network()
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        self._networks = {CPU: network.eval()}
        axes = [kept for count in range(4) for kept in combinations((1, 2, 0), count)]
        self._mirrored = sorted(axes, key=lambda kept: 0 in kept)[: use.mirrored]

    def at(
        self, hu: npt.NDArray[np.int16], spacing_mm: Three, centre: Three, size_mm: float
    ) -> tuple[Box, Mask] | None:
        """As `look`, anywhere: the box, and the voxels in it."""
        found = self.look(hu, spacing_mm, centre, size_mm)
        return None if found is None else (found.box, found.voxels)

    def look(
        self,
        hu: npt.NDArray[np.int16],
        spacing_mm: Three,
        centre: Three,
        size_mm: float,
        hull: npt.NDArray[np.uint8] | None = None,
    ) -> Found | None:
        """The body at a point (k, j, i) of an array whose axes are the patient's. None: nothing.

        Args:
            size_mm: what its diameter was taken for; the first look hangs on it.
            hull: not 0 where a body may lie; None: anywhere.
        """
        found: Found | None = None
        for _ in range(_LOOKS_MAX):
            grid = self._grid(centre, spacing_mm, size_mm)
            box = source_box(grid, hu.shape)
            mean = within_memory(partial(self._mean, hu, grid), self._rungs)
            likelihood = spread(mean, grid, box)
            likely = likelihood >= self._use.threshold
            if hull is not None:
                likely &= hull[box] > 0
            part = _part_near(likely, box, centre, spacing_mm)
            if part is None:
                break
            found = Found(box, part, float(likelihood[part].max()))
            found_mm = float((6 / np.pi * np.count_nonzero(part) * np.prod(spacing_mm)) ** (1 / 3))
            before_mm = size_mm
            if _reaches_border(part, box, hu.shape):
                size_mm = max(_WIDER * max(size_mm, grid.step_mm * self._use.steps_per_diameter), found_mm)
            elif not _SIZES_RIGHT[0] * size_mm <= found_mm <= _SIZES_RIGHT[1] * size_mm:
                size_mm = found_mm
            if size_mm <= before_mm and self._use.sizes.step_mm(size_mm) == grid.step_mm:
                break  # the next look would see the same
        return found

    def _grid(self, centre: Three, spacing_mm: Three, size_mm: float) -> Grid:
        """Around a point, for a body of this size, with the slices that are seen as neighbours only."""
        step_mm = self._use.sizes.step_mm(size_mm)
        half = int(np.ceil((0.75 * size_mm + _ALONG_MM) / max(spacing_mm[0], step_mm)))
        below, count = half, 2 * half + 1
        if self._use.dimensions == 3:
            count = -(-count // _SLICES_STEP) * _SLICES_STEP
            below = count // 2
        return grid_around(centre, spacing_mm, step_mm, range(-below - NEIGHBOURS, count - below + NEIGHBOURS))

    def _mean(self, hu: npt.NDArray[np.int16], grid: Grid, device: torch.device, at_once: int) -> Array:
        """What the network says on the grid, mean of the mirrored copies; 0 on slices that are neighbours only."""
        if device not in self._networks:
            copy = self._use.network().eval()
            copy.load_state_dict(self._networks[CPU].state_dict())
            self._networks[device] = copy.to(device)
        values = torch.from_numpy(sample(hu, grid, ("edge", "edge", "edge")))[None].to(device)
        offset = torch.from_numpy((grid.along_mm / grid.step_mm).astype(np.float32))[None].to(device)
        step = torch.tensor([grid.thick_mm / grid.step_mm], dtype=torch.float32, device=device)
        total = torch.zeros(values.shape[1] - 2 * NEIGHBOURS, *values.shape[2:], device=device)
        for group in (self._mirrored[at : at + at_once] for at in range(0, len(self._mirrored), at_once)):
            there = [offset.flip(1).neg() if 0 in axes else offset for axes in group]
            copies = [values.flip([axis + 1 for axis in axes]) for axes in group]
            inputs = grid_inputs(torch.cat(copies), torch.cat(there), step.expand(len(group)))
            with mixed_precision(device):
                found = probabilities(self._networks[device], self._use.dimensions, inputs)
            for one, axes in zip(found, group, strict=True):
                total += one.flip(axes)
        mean: Array = (total / len(self._mirrored)).cpu().numpy()
        return np.pad(mean, ((NEIGHBOURS, NEIGHBOURS), (0, 0), (0, 0)))


def _part_near(likely: Mask, box: Box, centre: Three, spacing_mm: Three) -> Mask | None:
    """The connected part at a point: of those that begin near it, about as near as the nearest, the largest."""
    parts, count = ndi.label(likely)
    if not count:
        return None
    squares = [
        ((np.arange(part.start, part.stop) - at) * mm) ** 2
        for part, at, mm in zip(box, centre, spacing_mm, strict=True)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    numbers = np.arange(1, count + 1)
    begins = np.asarray(ndi.minimum(distance, parts, numbers))
    near = begins <= min(float(begins.min()) + _NEAR_MM / 2, _NEAR_MM + max(spacing_mm))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    part: Mask = parts == numbers[int(np.argmax(np.where(near, sizes, 0)))]
    return part if near.any() else None


def _reaches_border(part: Mask, box: Box, shape: tuple[int, ...]) -> bool:
    """Whether a part touches a side of its box that is not the array's own end."""
    for axis, (side, length) in enumerate(zip(box, shape, strict=True)):
        faces = np.asarray(part.any(axis=tuple(other for other in range(3) if other != axis)))
        if (faces[0] and side.start > 0) or (faces[-1] and side.stop < length):
            return True
    return False
