"""The error beside a number is an error: for 19 of 20 shapes drawn on voxels the true value lies within it."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from inference.findings import MaskCrop, Nodule
from inference.measure import faces_of, length_error_mm, mean_of, measure_nodule

from .balls import affine_of, all_lung, volume_of

RATE = 0.95  # as inference/measure.py states it
SHARES = (0.25, 0.5, 0.75)  # of a voxel that must be covered for it to be in the mask
LUNG_HU, NODULE_HU = -850.0, -50.0


def covered(
    spacing_mm: npt.NDArray[np.float64],
    radii_mm: npt.NDArray[np.float64],
    turn: npt.NDArray[np.float64],
    middle: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The share of each voxel that lies in an ellipsoid, by 5 x 5 x 5 points a voxel."""
    shape = np.ceil(2 * radii_mm.max() / spacing_mm).astype(int) + 4
    centre = ((shape - 1) / 2 + middle) * spacing_mm
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    share = np.zeros(shape)
    for offset in np.ndindex(5, 5, 5):
        place = ((grid + (np.array(offset) - 2) / 5) * spacing_mm - centre) @ turn
        share += ((place / radii_mm) ** 2).sum(axis=-1) <= 1
    return share / 125


@cache
def drawn() -> tuple[tuple[bool, float, float, Nodule], ...]:
    """(a ball?, largest diameter mm, volume mm3, its Nodule) of shapes of 3 to 20 mm on voxels of 0.6 to 3 mm."""
    return tuple(_drawn())


def _drawn() -> Iterator[tuple[bool, float, float, Nodule]]:
    rng = np.random.default_rng(11)
    for n in range(120):
        slice_mm, pixel_mm = rng.uniform(0.6, 3.0), rng.uniform(0.6, 1.0 if n % 2 else 3.0)
        spacing = np.array([slice_mm, pixel_mm, pixel_mm])
        round_ = n % 3 > 0
        radii = rng.uniform(3, 20) / 2 * (np.ones(3) if round_ else rng.uniform(0.6, 1, 3))
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        share = covered(spacing, radii, turn, rng.uniform(-0.5, 0.5, 3))
        hu = np.rint(LUNG_HU + share * (NODULE_HU - LUNG_HU)).astype(np.int16)
        volume = volume_of(hu, affine_of((slice_mm, pixel_mm, pixel_mm)))
        for least in SHARES:
            mask = share >= least
            if mask.any():
                nodule = measure_nodule(volume, MaskCrop((0, 0, 0), mask), 1, all_lung(volume))
                yield round_, 2 * float(radii.max()), 4 / 3 * np.pi * float(np.prod(radii)), nodule


def test_the_true_volume_lies_within_the_stated_error() -> None:
    within = [abs(n.volume_mm3 - volume) <= (n.volume_error_mm3 or 0) + 0.5 for _, _, volume, n in drawn()]
    assert np.mean(within) >= RATE


def test_the_true_mass_lies_within_the_stated_error() -> None:
    density = (NODULE_HU + 1000) / 1000
    within = [abs((n.mass_mg or 0) - volume * density) <= (n.mass_error_mg or 0) + 0.5 for _, _, volume, n in drawn()]
    assert np.mean(within) >= RATE


def test_the_true_diameter_of_a_ball_lies_within_the_stated_error() -> None:
    within = [abs(n.long_axis_mm - mm) <= (n.size_error_mm or 0) + 0.05 for ball, mm, _, n in drawn() if ball]
    assert np.mean(within) >= RATE


def test_the_error_is_no_excuse_for_anything() -> None:
    """Smaller than the number itself for what is well drawn: 12 voxels across, a quarter of it at most."""
    spacing = np.array([0.8, 0.8, 0.8])
    share = covered(spacing, np.full(3, 5.0), np.eye(3), np.zeros(3))
    volume = volume_of(np.full(share.shape, -30, np.int16), affine_of((0.8, 0.8, 0.8)))
    nodule = measure_nodule(volume, MaskCrop((0, 0, 0), share >= 0.5), 1, all_lung(volume))
    assert nodule.volume_error_mm3 is not None
    assert nodule.volume_error_mm3 < 0.25 * nodule.volume_mm3
    assert nodule.size_error_mm is not None
    assert nodule.size_error_mm < 0.15 * nodule.long_axis_mm


def test_mass_is_volume_times_density() -> None:
    volume = volume_of(np.full((6, 6, 6), -300, np.int16), affine_of((2.0, 1.0, 1.0)))
    nodule = measure_nodule(volume, MaskCrop((1, 1, 1), np.ones((4, 4, 4), bool)), 1, all_lung(volume))
    assert (nodule.volume_mm3, nodule.mean_hu, nodule.mass_mg) == (128, -300, 90)  # 128 x 0.7
    assert nodule.volume_error_mm3 == 58  # 96 faces, 2 mm3 a voxel, 0.3 of it each
    assert nodule.mass_error_mg == 41  # 57.6 x 0.7


def test_what_is_lighter_than_air_weighs_nothing() -> None:
    volume = volume_of(np.full((4, 4, 4), -3024, np.int16), affine_of())
    nodule = measure_nodule(volume, MaskCrop((1, 1, 1), np.ones((2, 2, 2), bool)), 1, all_lung(volume))
    assert (nodule.mass_mg, nodule.mass_error_mg) == (0, 0)


def test_faces_are_counted_where_the_mask_ends_also_at_the_end_of_its_box() -> None:
    mask = np.zeros((3, 3, 4), bool)
    mask[1, 1, 1:3] = True
    assert faces_of(mask) == 10
    assert faces_of(np.ones((1, 1, 1), bool)) == 6
    assert faces_of(np.ones((3, 3, 3), bool)) == 54


@pytest.mark.parametrize(
    ("long_mm", "short_mm", "mean_mm"), [(9.4, 7.0, 8.2), (8.1, 8.0, 8.1), (6.0, 5.9, 6.0), (30.1, 29.8, 30.0)]
)
def test_the_mean_diameter_is_that_of_the_axes_shown(long_mm: float, short_mm: float, mean_mm: float) -> None:
    assert mean_of(long_mm, short_mm) == mean_mm


def test_a_thick_slice_adds_to_the_error_of_a_short_length_only() -> None:
    thin, thick = length_error_mm(5.0, (0.7, 0.7, 0.7)), length_error_mm(5.0, (3.0, 0.7, 0.7))
    assert thin < 1.0 < thick < 1.5
    assert length_error_mm(40.0, (3.0, 0.7, 0.7)) < 1.0
