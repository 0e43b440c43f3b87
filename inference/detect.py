"""Where a nodule may be, without any training: bright dots by the eigenvalues of the Hessian, inside the lungs.

The dot filter of Li, Sone and Doi (Med Phys 2003;30:2040): at each scale the volume is smoothed, and where all three
eigenvalues l1 <= l2 <= l3 of its Hessian are negative, the response is l3^2 / |l1|, times the scale squared. A vessel has
one eigenvalue near zero and answers little, a ball answers most at the scale of its size. The response is no probability.

Works on the lungs' box at 1 mm; coarser scales on a half and a quarter of that resolution. `Faint` adds what the plain filter is
poor at: nodules on the pleura, where chest wall and heart outshine them, and faint ones, which vessels outrank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch

from config.catalogue import Entry
from config.errors import ConfigurationError
from inference.device import on_device
from inference.findings import Algorithm
from inference.lungs import Lungs
from inference.reader import Progress, Spot
from inference.volume import Volume

_CLIP_HU: Final = (-1000.0, 200.0)  # bone and contrast must not outshine a nodule
_MARGIN_MM: Final = 15.0  # what the widest scale sees beyond the lungs' box
_GRIDS_MM: Final = ((0.0, 1.0), (3.0, 2.0), (6.5, 4.0))  # from this scale on, this grid
_HALVING: Final = 0.7  # scale, in voxels of the finer grid, of the Gaussian before every second voxel is taken
_RESPONSE_FLOOR: Final = 10.0  # specks and noise
_SEPARATION: Final = 2.2  # a weaker answer within so many scales of a stronger one is the same body or its surface
_LUNG_HU, _SOFT_HU = -850.0, 0.0
_HULL_MM: Final = 1.0  # the Gaussian over which lung goes over into the filling
DIAMETER_PER_SCALE: Final = 2 * 3**0.5  # a ball of so many scales answers most (second derivatives of a Gaussian)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Peak:
    """A local maximum: place in mm from the middle of the lungs' box, scale and response."""

    place_mm: npt.NDArray[np.float64]
    scale_mm: float
    response: float


@dataclass(frozen=True)
class Faint:
    """A second look for ground glass: nothing is brighter than `hu_max` in it, so vessels and solid nodules answer no more than
    what is faint. Scales from `scale_mm_min` on; at most `places_max` places that the first look did not name.

    Raises:
        ConfigurationError: `hu_max` is no brighter than lung.
    """

    hu_max: float
    scale_mm_min: float
    places_max: int

    def __post_init__(self) -> None:
        if self.hu_max <= _LUNG_HU:
            raise ConfigurationError(
                f"faint_hu_max {self.hu_max:g} leaves nothing above lung ({_LUNG_HU:g} HU)", "", "give a higher one"
            )


class DotFilter:
    """The filter at `scales_mm`; of all places the `candidates_max` strongest are kept.

    With `faint`, the lungs are filled up with lung beyond their hull first, and looked at twice.
    """

    def __init__(
        self, scales_mm: Sequence[float], candidates_max: int, device: torch.device, faint: Faint | None = None
    ) -> None:
        self._scales_mm = tuple(scales_mm)
        self._candidates_max = candidates_max
        self._device = device
        self._faint = faint

    def places(self, volume: Volume, lungs: Lungs, progress: Progress) -> list[Spot]:
        """The strongest places whose centre lies in the lungs, strongest first; then the faint ones, strongest first."""
        spacing = np.array(volume.spacing_mm)
        start, box = _box(lungs.labels > 0, spacing)
        hu = np.clip(resampled(volume.hu[box], volume.spacing_mm, 1.0), *_CLIP_HU)
        inside = resampled(lungs.labels[box] > 0, volume.spacing_mm, 1.0)
        if not (inside >= 0.5).any():
            return []  # less lung than a voxel of 1 mm
        if self._faint is not None:
            hu = _without_walls(hu, inside)
        kept = strongest(self._peaks(hu, inside, self._scales_mm, progress), self._candidates_max)
        if self._faint is not None:
            kept += self._faint_peaks(hu, inside, self._faint, kept, progress)
        middle = start + (np.array(volume.hu[box].shape) - 1) / 2
        spots: list[Spot] = []
        for peak in kept:
            k, j, i = (float(at) for at in middle + peak.place_mm / spacing)
            spots.append(Spot((k, j, i), peak.response, peak.scale_mm * DIAMETER_PER_SCALE))
        return spots

    def _peaks(self, hu: Array, inside: Array, scales_mm: Sequence[float], progress: Progress) -> list[_Peak]:
        peaks: list[_Peak] = []
        grid_mm, smoothed_mm2 = 1.0, 0.0
        for done, scale_mm in enumerate(scales_mm):
            progress("detect", done, len(scales_mm))
            while grid_mm < _grid_of(scale_mm):
                hu = resampled(ndi.gaussian_filter(hu, _HALVING, truncate=3), (1, 1, 1), 2.0)
                inside = resampled(inside, (1, 1, 1), 2.0)
                smoothed_mm2 += (_HALVING * grid_mm) ** 2
                grid_mm *= 2
            rest = (scale_mm**2 - smoothed_mm2) ** 0.5 / grid_mm
            smooth = ndi.gaussian_filter(hu, rest, truncate=3)
            response = on_device(partial(dot_response, smooth, inside >= 0.5), self._device)
            peaks += _peaks(response * np.float32((scale_mm / grid_mm) ** 2), grid_mm, scale_mm)
        progress("detect", len(scales_mm), len(scales_mm))
        return peaks

    def _faint_peaks(
        self, hu: Array, inside: Array, faint: Faint, known: Sequence[_Peak], progress: Progress
    ) -> list[_Peak]:
        """Answers as a share of the contrast that is left, so that they compare with those of the first look."""
        scales_mm = [scale for scale in self._scales_mm if scale >= faint.scale_mm_min]
        gain = (_SOFT_HU - _LUNG_HU) / (faint.hu_max - _LUNG_HU)
        dim = self._peaks(np.minimum(hu, np.float32(faint.hu_max)), inside, scales_mm, progress)
        found = strongest(dim, len(known) + faint.places_max)
        new = [peak for peak in found if all(_apart(peak, other) for other in known)]
        return [replace(peak, response=peak.response * gain) for peak in new[: faint.places_max]]


class DotDetector:
    """The Hessian dot filter; parameters of the catalogue: `scales_mm`, `responses_min` (one a scale), `candidates_max`,
    `findings_max`.

    Forks of vessels are small: at the scales of small nodules more is asked of an answer before it goes into a result.
    """

    def __init__(self, entry: Entry, device: torch.device) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self.findings_max = int(entry.number("candidates_max"))
        self._scales_mm = entry.numbers("scales_mm")
        self._responses_min = entry.numbers("responses_min")
        if len(self._responses_min) != len(self._scales_mm):
            raise ConfigurationError("responses_min has not one number for each of scales_mm", entry.name)
        self._filter = DotFilter(self._scales_mm, int(entry.number("candidates_max")), device)

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        """The strongest places, at most `candidates_max`, whose centre lies in the lungs."""
        return self._filter.places(volume, lungs, progress)

    def is_strong(self, spot: Spot) -> bool:
        """Whether the answer reaches what its scale asks for."""
        scale = int(np.argmin(np.abs(np.array(self._scales_mm) * DIAMETER_PER_SCALE - spot.scale_mm)))
        return spot.response >= self._responses_min[scale]


def _grid_of(scale_mm: float) -> float:
    return next(grid for least, grid in reversed(_GRIDS_MM) if scale_mm >= least)


def _box(
    mask: npt.NDArray[np.bool_], spacing_mm: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], tuple[slice, ...]]:
    """The box of a mask with a margin, and the index of its first voxel."""
    low, high = [], []
    for axis, mm in enumerate(spacing_mm):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(_MARGIN_MM / mm))
        low.append(max(0, int(there[0]) - margin))
        high.append(min(mask.shape[axis], int(there[-1]) + 1 + margin))
    return np.array(low), tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _without_walls(hu: Array, inside: Array) -> Array:
    """The lungs, and beyond their hull nothing but lung, with a seam of 2 mm inside it: a nodule on the pleura is a dot then.

    Args:
        hu, inside: [k, j, i] at 1 mm; `inside` 0 to 1.
    """
    lung = np.float32(np.median(hu[inside >= 0.5]))
    weight = np.clip(2 * ndi.gaussian_filter(inside, _HULL_MM, truncate=2) - 1, 0, 1)
    return lung + weight * (hu - lung)


def resampled(values: npt.NDArray[np.generic], spacing_mm: Sequence[float], grid_mm: float) -> Array:
    """`values` [k, j, i] on a grid of `grid_mm`, float32, linear, the middle of both grids in one place.

    The common middle makes the answer move with a flipped volume.
    """
    result = values
    for axis, mm in enumerate(spacing_mm):
        length = values.shape[axis]
        count = int((length - 1) * mm / grid_mm + 1e-6) + 1
        at = (np.arange(count) - (count - 1) / 2) * (grid_mm / mm) + (length - 1) / 2
        low = np.clip(np.floor(at), 0, max(0, length - 2)).astype(np.intp)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below = result.take(low, axis=axis).astype(np.float32)
        result = below + weight * (result.take(np.minimum(low + 1, length - 1), axis=axis) - below)
    return np.ascontiguousarray(result, dtype=np.float32)


def dot_response(smooth: Array, inside: npt.NDArray[np.bool_], device: torch.device) -> Array:
    """l3^2 / |l1| where all eigenvalues of the Hessian are negative, else 0; in HU per voxel squared.

    Central differences; eigenvalues in closed form (Smith, Comm ACM 1961;4:168). The outermost voxels have no Hessian.
    """
    interior = np.zeros_like(inside)
    interior[1:-1, 1:-1, 1:-1] = inside[1:-1, 1:-1, 1:-1]
    values = torch.from_numpy(smooth.reshape(-1)).to(device)
    at = torch.from_numpy(np.flatnonzero(interior)).to(device)
    k, j, i = smooth.shape[1] * smooth.shape[2], smooth.shape[2], 1

    def around(step: int) -> torch.Tensor:
        return values[at + step] + values[at - step]

    at = at[around(k) + around(j) + around(i) < 6 * values[at]]  # a negative trace: at least one eigenvalue is
    here = 2 * values[at]
    kk, jj, ii = around(k) - here, around(j) - here, around(i) - here

    def mixed(one: int, other: int) -> torch.Tensor:
        return (
            values[at + one + other] + values[at - one - other] - values[at + one - other] - values[at - one + other]
        ) / 4

    kj, ki, ji = mixed(k, j), mixed(k, i), mixed(j, i)
    mean = (kk + jj + ii) / 3
    kk, jj, ii = kk - mean, jj - mean, ii - mean
    spread = torch.sqrt(((kk**2 + jj**2 + ii**2) / 2 + kj**2 + ki**2 + ji**2) / 3).clamp_min(1e-6)
    determinant = kk * (jj * ii - ji**2) - kj * (kj * ii - ji * ki) + ki * (kj * ji - jj * ki)
    angle = torch.acos((determinant / (2 * spread**3)).clamp(-1, 1)) / 3
    largest = mean + 2 * spread * torch.cos(angle)
    least = mean + 2 * spread * torch.cos(angle + 2 * np.pi / 3)
    answer = torch.where(largest < 0, largest**2 / least.abs().clamp_min(1e-6), 0.0)
    response = torch.zeros_like(values)
    response[at] = answer
    return response.cpu().numpy().reshape(smooth.shape)


def _peaks(response: Array, grid_mm: float, scale_mm: float) -> list[_Peak]:
    """Local maxima among 26 neighbours, placed between voxels by a parabola along each axis."""
    middle = (np.array(response.shape) - 1) / 2
    found: list[_Peak] = []
    for place in np.argwhere(response >= _RESPONSE_FLOOR):
        around = response[tuple(slice(p - 1, p + 2) for p in place)]
        if around.max() > around[1, 1, 1]:
            continue
        shift = np.array([_vertex(*line) for line in (around[:, 1, 1], around[1, :, 1], around[1, 1, :])])
        found.append(_Peak((place + shift - middle) * grid_mm, scale_mm, float(around[1, 1, 1])))
    return found


def _vertex(before: float, here: float, after: float) -> float:
    """Where a parabola through three values has its maximum, -0.5 to 0.5 from the middle one."""
    bend = float(before) - 2 * float(here) + float(after)
    return 0.0 if bend >= 0 else float(np.clip((float(before) - float(after)) / (2 * bend), -0.5, 0.5))


def strongest(peaks: Sequence[_Peak], count: int) -> list[_Peak]:
    """The strongest peaks, each more than 2.2 scales of every stronger one away from it."""
    kept: list[_Peak] = []
    for peak in sorted(peaks, key=lambda p: (-p.response, *p.place_mm)):
        if len(kept) == count:
            break
        if all(_apart(peak, stronger) for stronger in kept):
            kept.append(peak)
    return kept


def _apart(peak: _Peak, stronger: _Peak) -> bool:
    return bool(np.linalg.norm(peak.place_mm - stronger.place_mm) > _SEPARATION * stronger.scale_mm)
