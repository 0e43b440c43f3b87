"""Patches: what lies where in them, that they turn with the volume, and what happens at its rim."""

import numpy as np
import pytest
import torch

from inference.patches import NEAR, WIDE, View, patch_at, patches_at

SPACING = (2.5, 0.7, 0.8)


def volume() -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 400, (40, 90, 80)).astype(np.int16)


@pytest.mark.parametrize("view", [NEAR, WIDE])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_patch_of_a_flipped_volume_is_the_flipped_patch(view: View, axis: int) -> None:
    hu, centre = volume(), [20.3, 41.7, 33.0]
    turned = list(centre)
    turned[axis] = hu.shape[axis] - 1 - centre[axis]
    ours = patch_at(np.flip(hu, axis), SPACING, turned, view)
    assert np.allclose(ours, np.flip(patch_at(hu, SPACING, centre, view), axis), atol=1e-2)


@pytest.mark.parametrize("view", [NEAR, WIDE])
def test_a_slope_in_mm_stays_one(view: View) -> None:
    k, j, i = np.indices((40, 90, 80))
    hu = np.rint(2 * k * SPACING[0] + 3 * j * SPACING[1] - i * SPACING[2]).astype(np.int16)
    centre = (19.5, 44.5, 39.5)
    patch = patch_at(hu, SPACING, centre, View(8, view.mm, view.mean))
    steps = [float(np.diff(patch, axis=axis).mean()) / view.mm for axis in range(3)]
    assert np.allclose(steps, (2, 3, -1), atol=0.1)
    there = 2 * centre[0] * SPACING[0] + 3 * centre[1] * SPACING[1] - centre[2] * SPACING[2]
    assert float(patch.mean()) == pytest.approx(there, abs=0.6)


def test_beyond_the_volume_its_rim_goes_on_and_padding_is_air() -> None:
    hu = np.full((6, 8, 8), -3024, np.int16)
    assert np.allclose(patch_at(hu, SPACING, (0.0, 0.0, 7.0), WIDE), -1000, atol=1e-3)
    hu[:, :, -1] = 40
    assert patch_at(hu, SPACING, (3.0, 3.0, 7.0), NEAR)[:, :, -10:].min() == pytest.approx(40, abs=1e-3)


def test_wide_voxels_are_means_of_all_they_cover() -> None:
    hu = volume()
    wide = patch_at(hu, (1.0, 1.0, 1.0), (20.0, 45.0, 40.0), View(2, 3.0, mean=True))
    assert wide.shape == (2, 2, 2)
    assert wide[0, 0, 0] == pytest.approx(_covered(hu, 20.0 - 1.5, 45.0 - 1.5, 40.0 - 1.5), abs=0.5)


def _covered(hu: np.ndarray, k: float, j: float, i: float) -> float:
    """The mean over 3 mm around a point that lies between two voxels: two whole ones and two halves along each axis."""
    weights = np.array([0.5, 1, 1, 0.5]) / 3
    first = [int(at - 1.5) for at in (k, j, i)]
    box = hu[tuple(slice(f, f + 4) for f in first)].astype(float)
    return float(np.einsum("a,b,c,abc->", weights, weights, weights, box))


@pytest.mark.parametrize("view", [NEAR, WIDE, View(8, 0.5, mean=True)])
def test_many_places_at_once_give_the_patches_of_each(view: View) -> None:
    hu = np.random.default_rng(4).integers(-1200, 600, (20, 40, 50)).astype(np.int16)
    centres = [(0.0, 0.0, 0.0), (19.0, 39.0, 49.0), *np.random.default_rng(5).uniform(0, 20, (40, 3)).tolist()]
    many = patches_at(torch.from_numpy(hu), SPACING, centres, view).numpy()
    each = np.stack([patch_at(hu, SPACING, centre, view) for centre in centres])
    assert many == pytest.approx(each, abs=2e-3)
    assert patches_at(torch.from_numpy(hu), SPACING, [], view).shape == (0, view.size, view.size, view.size)
