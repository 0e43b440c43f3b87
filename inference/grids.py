"""Whole grids of floats: smoothed and resampled on a GPU, or by all threads of a CPU.

Arithmetic is that of scipy.ndimage, to which the CPU leaves the smoothing: the same grid gives the same numbers on either but
for the last bits of a float. Grids are torch tensors [k, j, i]; on a CPU they and numpy's arrays are one memory.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch

from inference.device import CPU, on_device

Array = npt.NDArray[np.float32]
Piece = TypeVar("Piece")
Result = TypeVar("Result")

THREADS_MAX: Final = 16  # more take longer to start than they save
_CELLS_A_THREAD: Final = 100_000  # smaller pieces take less time than a thread's start


def threads() -> int:
    """How many torch may use, at most `THREADS_MAX`."""
    return min(torch.get_num_threads(), THREADS_MAX)


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
    """The results in the order of the pieces, by `threads()` of them: for work that lets go of the interpreter."""
    todo = list(pieces)
    count = min(threads(), len(todo))
    if count < 2:
        return [work(piece) for piece in todo]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, todo))


def on(device: torch.device, values: npt.NDArray[np.generic]) -> torch.Tensor:
    """A grid on a device, for reading; on the CPU the array itself, where torch can take it as it is."""
    if min(values.strides) < 0 or (device.type == "cpu" and not values.flags.writeable):
        values = np.array(values, order="C")
    if values.flags.writeable:
        return torch.from_numpy(values).to(device)
    with warnings.catch_warnings():  # what is not to be written to is copied to another device all the same
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values).to(device)


def smoothed(values: torch.Tensor, sigmas: float | Sequence[float], truncate: float = 4.0) -> torch.Tensor:
    """A Gaussian, float32; beyond its border a grid goes on as its mirror image.

    Args:
        sigmas: in cells, one for all axes or one for each.
        truncate: how many sigmas the kernel reaches.
    """
    result = values.float()
    for axis, sigma in enumerate((sigmas,) * values.dim() if isinstance(sigmas, int | float) else sigmas):
        result = (_along_on_cpu if result.device.type == "cpu" else _along)(result, axis, sigma, truncate)
    return result


def _along_on_cpu(values: torch.Tensor, axis: int, sigma: float, truncate: float) -> torch.Tensor:
    """By scipy, a slab a thread; slabs lie across another axis, so that each line of cells is whole."""
    source = values.numpy()
    result = np.empty_like(source)
    across = 1 if axis == 0 else 0
    count = max(1, min(threads(), source.size // _CELLS_A_THREAD, source.shape[across]))

    def smooth(slab: tuple[Array, Array]) -> None:
        ndi.gaussian_filter1d(slab[0], sigma, axis=axis, output=slab[1], truncate=truncate)

    in_threads(
        smooth,
        zip(np.array_split(source, count, axis=across), np.array_split(result, count, axis=across), strict=True),
    )
    return torch.from_numpy(result)


def _along(values: torch.Tensor, axis: int, sigma: float, truncate: float) -> torch.Tensor:
    """As scipy does it: sums in double precision, the result in float32."""
    length, radius = values.shape[axis], int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    beyond = np.arange(-radius, length + radius) % (2 * length)
    mirrored = torch.from_numpy(np.minimum(beyond, 2 * length - 1 - beyond)).to(values.device)
    wide = values.index_select(axis, mirrored)
    total = wide.narrow(axis, radius, length).double() * float(weights[0])
    for reach in range(1, radius + 1):
        both = wide.narrow(axis, radius - reach, length).double() + wide.narrow(axis, radius + reach, length)
        total += both * float(weights[reach])
    return total.float()


def resampled(values: torch.Tensor, spacing_mm: Sequence[float], grid_mm: float) -> torch.Tensor:
    """`values` on a grid of `grid_mm`, float32, linear, the middle of both grids in one place.

    The common middle makes the answer move with a flipped volume.
    """
    result = values
    for axis, mm in enumerate(spacing_mm):
        length = values.shape[axis]
        count = int((length - 1) * mm / grid_mm + 1e-6) + 1
        at = (np.arange(count) - (count - 1) / 2) * (grid_mm / mm) + (length - 1) / 2
        low = np.clip(np.floor(at), 0, max(0, length - 2)).astype(np.int64)
        high = np.minimum(low + 1, length - 1)
        weight = torch.from_numpy((at - low).astype(np.float32)).to(values.device)
        below, above = _taken(result, axis, low).float(), _taken(result, axis, high).float()
        result = above.sub_(below).mul_(weight.reshape([-1 if a == axis else 1 for a in range(3)])).add_(below)
    return result.contiguous()


def distance_mm(
    seeds: npt.NDArray[np.bool_], cell_mm: Sequence[float], device: torch.device, reach_mm: float = np.inf
) -> npt.NDArray[np.float64]:
    """How far the middle of each cell is from that of the nearest seed.

    Args:
        seeds: [k, j, i]; some of them are.
        reach_mm: what is farther away may be said to be still farther, which saves a GPU time.
    """

    def measured(where: torch.device) -> npt.NDArray[np.float64]:
        if where.type == "cpu":
            return np.asarray(ndi.distance_transform_edt(~seeds, sampling=cell_mm))
        return _distance(seeds, cell_mm, reach_mm, where)

    return on_device(measured, device)


def _distance(
    seeds: npt.NDArray[np.bool_], cell_mm: Sequence[float], reach_mm: float, device: torch.device
) -> npt.NDArray[np.float64]:
    """Squares add up: along one axis after the other each cell takes the least that its neighbours in reach have to offer."""
    squares = torch.zeros(seeds.shape, dtype=torch.float64, device=device).masked_fill_(~on(device, seeds), torch.inf)
    for axis, mm in enumerate(cell_mm):
        length = squares.shape[axis]
        least = squares.clone()
        for step in range(1, int(min(length - 1, reach_mm / mm)) + 1):
            for at, to in ((0, step), (step, 0)):
                there = least.narrow(axis, to, length - step)
                torch.minimum(there, squares.narrow(axis, at, length - step) + (step * mm) ** 2, out=there)
        squares = least
    found: npt.NDArray[np.float64] = squares.sqrt_().cpu().numpy()
    return found


def _taken(values: torch.Tensor, axis: int, places: npt.NDArray[np.int64]) -> torch.Tensor:
    if values.device.type == "cpu":  # three times faster than torch
        return torch.from_numpy(values.numpy().take(places, axis=axis))
    return values.index_select(axis, torch.from_numpy(places).to(values.device))


def resampled_array(values: npt.NDArray[np.generic], spacing_mm: Sequence[float], grid_mm: float) -> Array:
    """As `resampled`, of numpy's arrays."""
    result: Array = resampled(on(CPU, values), spacing_mm, grid_mm).numpy()
    return result
