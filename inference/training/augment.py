"""Other scanners, doses and ways to lie: changes of the two views of a place that don't change what it is.

Kernel (blur or unsharp masking), dose (correlated noise of 0 to 120 HU), slice thickness (1.5 to 3 mm, then resampled),
orientation, a shift of the HU scale. In mm and HU, on the views of `inference/patches.py`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

Array = npt.NDArray[np.float32]

NOISE_HU_MAX: Final = 120.0
_NOISE_CUBE: Final = 84
_NOISE_SIGMAS: Final = (
    (0.0, 0.0),
    (0.5, 0.4),
    (0.9, 0.5),
    (0.6, 0.7),
    (1.3, 0.8),
    (0.9, 1.1),
)  # along k, in the plane; mm


def some_axes(rng: np.random.Generator) -> tuple[int, ...]:
    """Each of three axes with an even chance."""
    return tuple(axis for axis in range(3) if rng.random() < 0.5)


def flipped(values: Array, rng: np.random.Generator) -> Array:
    """Each axis turned round with an even chance."""
    return np.flip(values, axis=some_axes(rng))


class NoiseBank:
    """Cubes of correlated noise of standard deviation 1 at 1 mm, from which pieces are taken by chance."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 77])
        self._cubes: list[Array] = []
        for along, plane in _NOISE_SIGMAS:
            cube = ndi.gaussian_filter(rng.normal(size=(_NOISE_CUBE,) * 3), (along, plane, plane), mode="wrap")
            self._cubes.append((cube / cube.std()).astype(np.float32))

    def piece(self, rng: np.random.Generator, size: int, kind: int | None = None) -> Array:
        """A cube of noise of `size` mm; `kind` of correlation, by chance where None."""
        cube = self._cubes[int(rng.integers(len(self._cubes))) if kind is None else kind]
        start = rng.integers(0, _NOISE_CUBE - size + 1, 3)
        piece = cube[tuple(slice(s, s + size) for s in start)]
        return flipped(piece, rng)

    def kind(self, rng: np.random.Generator) -> int:
        """A kind of correlation, by chance."""
        return int(rng.integers(len(self._cubes)))


def thick(values: Array, rng: np.random.Generator) -> Array:
    """As if scanned with slices of 1.5 to 3 mm along k, then resampled to 1 mm."""
    size, step = len(values), rng.uniform(1.5, 3.0)
    offset = rng.uniform(0, step)
    centres = np.arange(-step + offset, size + step, step)
    voxels = np.arange(size)
    covered = np.minimum(centres[:, None] + step / 2, voxels + 0.5) - np.maximum(
        centres[:, None] - step / 2, voxels - 0.5
    )
    slices = np.clip(covered, 0, None)
    total = slices.sum(axis=1)
    keep = total > 0.3 * step
    slices, centres = slices[keep] / total[keep, None], centres[keep]
    back = np.clip(1 - np.abs(voxels[:, None] - centres) / step, 0, None)
    back /= np.maximum(back.sum(axis=1, keepdims=True), 1e-6)
    mixed = (back @ slices).astype(np.float32)
    mixed_values: Array = np.einsum("ab,bcd->acd", mixed, values)  # a BLAS call would wake every core for this little
    return mixed_values


def augmented(near: Array, wide: Array, rng: np.random.Generator, bank: NoiseBank) -> tuple[Array, Array]:
    """Both views changed alike. Returns copies."""
    if rng.random() < 0.3:
        near = thick(near, rng)
    chance = rng.random()
    if chance < 0.3:
        near = ndi.gaussian_filter(near, rng.uniform(0.4, 1.1))
    elif chance < 0.55:
        near = near + rng.uniform(0.3, 1.8) * (near - ndi.gaussian_filter(near, rng.uniform(0.6, 1.0)))
    if rng.random() < 0.6:
        sigma = NOISE_HU_MAX * rng.random() ** 2
        kind = bank.kind(rng)
        near = near + sigma * bank.piece(rng, len(near), kind)
        wide = wide + sigma * rng.uniform(0.2, 0.5) * bank.piece(rng, len(wide), kind)
    scale, shift = rng.uniform(0.95, 1.05), rng.uniform(-30, 30)
    near, wide = (near + 600) * scale - 600 + shift, (wide + 600) * scale - 600 + shift
    flips = some_axes(rng)
    near, wide = np.flip(near, axis=flips), np.flip(wide, axis=flips)
    axes = (0, 1, 2)
    chance = rng.random()
    if chance < 0.2:
        axes = tuple(int(axis) for axis in rng.permutation(3))  # type: ignore[assignment]
    elif chance < 0.6:
        axes = (0, 2, 1)
    return np.ascontiguousarray(near.transpose(axes), np.float32), np.ascontiguousarray(
        wide.transpose(axes), np.float32
    )
