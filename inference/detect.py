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
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from config.catalogue import Entry
from config.errors import ConfigurationError
from inference.device import on_device
from inference.findings import Algorithm
from inference.grids import on, resampled, smoothed
from inference.lungs import Lungs
from inference.masks import box_of
from inference.reader import Progress, Spot
from inference.volume import Volume

_CLIP_HU: Final = (-1000.0, 200.0)  # bone and contrast must not outshine a nodule
_MARGIN_MM: Final = 15.0  # what the widest scale sees beyond the lungs' box
_GRIDS_MM: Final = ((0.0, 1.0), (3.0, 2.0), (6.5, 4.0))  # from this scale on, this grid
_HALVING: Final = 0.7  # scale, in voxels of the finer grid, of the Gaussian before every second voxel is taken
_RESPONSE_FLOOR: Final = 10.0  # specks and noise
_HERE: Final = 13  # the middle of 27
_SEPARATION: Final = 2.2  # a weaker answer within so many scales of a stronger one is the same body or its surface
_LUNG_HU, _SOFT_HU = -850.0, 0.0
_HULL_MM: Final = 1.0  # the Gaussian over which lung goes over into the filling
DIAMETER_PER_SCALE: Final = 2 * 3**0.5  # a ball of so many scales answers most (second derivatives of a Gaussian)


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
        return on_device(partial(self._places, volume, lungs, progress), self._device)

    def _places(self, volume: Volume, lungs: Lungs, progress: Progress, device: torch.device) -> list[Spot]:
        spacing = np.array(volume.spacing_mm)
        lung = lungs.labels > 0
        box = box_of(lung, np.ceil(_MARGIN_MM / spacing).astype(int).tolist())
        hu = resampled(on(device, volume.hu[box]), volume.spacing_mm, 1.0).clamp(*_CLIP_HU)
        inside = resampled(on(device, lung[box]), volume.spacing_mm, 1.0)
        if not (inside >= 0.5).any():
            return []  # less lung than a voxel of 1 mm
        if self._faint is not None:
            hu = without_walls(hu, inside)
        kept = strongest(self._peaks(hu, inside, self._scales_mm, progress), self._candidates_max)
        if self._faint is not None:
            kept += self._faint_peaks(hu, inside, self._faint, kept, progress)
        middle = np.array([(side.start + side.stop - 1) / 2 for side in box])
        spots: list[Spot] = []
        for peak in kept:
            k, j, i = (float(at) for at in middle + peak.place_mm / spacing)
            spots.append(Spot((k, j, i), peak.response, peak.scale_mm * DIAMETER_PER_SCALE))
        return spots

    def _peaks(
        self, hu: torch.Tensor, inside: torch.Tensor, scales_mm: Sequence[float], progress: Progress
    ) -> list[_Peak]:
        peaks: list[_Peak] = []
        grid_mm, smoothed_mm2 = 1.0, 0.0
        for done, scale_mm in enumerate(scales_mm):
            progress("detect", done, len(scales_mm))
            while grid_mm < _grid_of(scale_mm):
                hu = resampled(smoothed(hu, _HALVING, truncate=3), (1, 1, 1), 2.0)
                inside = resampled(inside, (1, 1, 1), 2.0)
                smoothed_mm2 += (_HALVING * grid_mm) ** 2
                grid_mm *= 2
            rest = (scale_mm**2 - smoothed_mm2) ** 0.5 / grid_mm
            response = dot_response(smoothed(hu, rest, truncate=3), inside >= 0.5)
            peaks += _peaks(response * (scale_mm / grid_mm) ** 2, grid_mm, scale_mm)
        progress("detect", len(scales_mm), len(scales_mm))
        return peaks

    def _faint_peaks(
        self, hu: torch.Tensor, inside: torch.Tensor, faint: Faint, known: Sequence[_Peak], progress: Progress
    ) -> list[_Peak]:
        """Answers as a share of the contrast that is left, so that they compare with those of the first look."""
        scales_mm = [scale for scale in self._scales_mm if scale >= faint.scale_mm_min]
        gain = (_SOFT_HU - _LUNG_HU) / (faint.hu_max - _LUNG_HU)
        dim = self._peaks(hu.clamp(max=faint.hu_max), inside, scales_mm, progress)
        found = strongest(dim, len(known) + faint.places_max)
        places_mm = np.array([peak.place_mm for peak in known]).reshape(-1, 3)
        known_mm = np.array([peak.scale_mm for peak in known])
        new = [peak for peak in found if _is_apart(peak, places_mm, known_mm)]
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


def without_walls(hu: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """The lungs, and beyond their hull nothing but lung, with a seam of 2 mm inside it: a nodule on the pleura is a dot then.

    Args:
        hu, inside: [k, j, i] at 1 mm; `inside` 0 to 1.
    """
    lung = _median(hu[inside >= 0.5])
    weight = (2 * smoothed(inside, _HULL_MM, truncate=2) - 1).clamp(0, 1)
    return lung + weight * (hu - lung)


def _median(values: torch.Tensor) -> float:
    """With the mean of both middle ones where their number is even, which torch's has not."""
    if values.device.type == "cpu":
        return float(np.median(values.numpy()))
    ordered = values.sort().values
    middle = len(ordered) // 2
    return float(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def dot_response(smooth: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """l3^2 / |l1| where all eigenvalues of the Hessian are negative, else 0; in HU per voxel squared.

    Central differences; eigenvalues in closed form (Smith, Comm ACM 1961;4:168). The outermost voxels have no Hessian.

    Args:
        smooth: float32 [k, j, i].
        inside: bool, where an answer is wanted.
    """
    interior = torch.zeros_like(inside)
    interior[1:-1, 1:-1, 1:-1] = inside[1:-1, 1:-1, 1:-1]
    values = smooth.reshape(-1)
    at = interior.reshape(-1).nonzero()[:, 0]
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
    return torch.zeros_like(values).scatter_(0, at, answer).reshape(smooth.shape)


def _peaks(response: torch.Tensor, grid_mm: float, scale_mm: float) -> list[_Peak]:
    """Local maxima among 26 neighbours, placed between voxels by a parabola along each axis."""
    middle = (np.array(response.shape) - 1) / 2
    at = (response.reshape(-1) >= _RESPONSE_FLOOR).nonzero()[:, 0]
    steps = [response.shape[1] * response.shape[2], response.shape[2], 1]
    cube = [sum(s * n for s, n in zip(steps, way, strict=True)) for way in product((-1, 0, 1), repeat=3)]
    around = response.reshape(-1)[at[:, None] + torch.tensor(cube, device=at.device)]
    highest = around.max(dim=1).values <= around[:, _HERE]
    values = around[highest].cpu().numpy().astype(np.float64).reshape(-1, 3, 3, 3)
    lines = np.stack([values[:, :, 1, 1], values[:, 1, :, 1], values[:, 1, 1, :]], axis=1)
    places = np.stack(np.unravel_index(at[highest].cpu().numpy(), response.shape), axis=1)
    places_mm = (places + _vertices(lines) - middle) * grid_mm
    return [_Peak(mm, scale_mm, float(here)) for mm, here in zip(places_mm, values[:, 1, 1, 1], strict=True)]


def _vertices(lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where parabolas through three values (..., 3) have their maxima, -0.5 to 0.5 from the middle ones."""
    before, here, after = np.moveaxis(lines, -1, 0)
    bend = before - 2 * here + after
    curved = bend < 0
    shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=curved)
    return np.asarray(np.clip(shift, -0.5, 0.5))


def strongest(peaks: Sequence[_Peak], count: int) -> list[_Peak]:
    """The strongest peaks, each more than 2.2 scales of every stronger one away from it."""
    kept: list[_Peak] = []
    places, scales_mm = np.empty((len(peaks), 3)), np.empty(len(peaks))
    for peak in sorted(peaks, key=lambda p: (-p.response, *p.place_mm)):
        had = len(kept)
        if had == count:
            break
        if _is_apart(peak, places[:had], scales_mm[:had]):
            places[had], scales_mm[had] = peak.place_mm, peak.scale_mm
            kept.append(peak)
    return kept


def _is_apart(peak: _Peak, places_mm: npt.NDArray[np.float64], scales_mm: npt.NDArray[np.float64]) -> bool:
    """From stronger peaks: places (n, 3), scales (n,)."""
    return bool(np.all(np.linalg.norm(places_mm - peak.place_mm, axis=1) > _SEPARATION * scales_mm))
