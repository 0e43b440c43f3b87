"""The phantom is a chest, its truth is true, and the same seed makes the same voxels."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage

from inference.phantom import ChestPhantom, NoduleWish, chest_phantom, radiograph_phantom


def coarse(nodules: Sequence[NoduleWish] | None = None, *, seed: int) -> ChestPhantom:
    return chest_phantom(nodules, seed=seed, spacing_mm=(2.5, 1.9, 1.9), shape=(120, 192, 192))


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return coarse(seed=3)


@pytest.fixture(scope="module")
def empty() -> ChestPhantom:
    return coarse((), seed=3)


def _distance_mm(phantom: ChestPhantom, centre: tuple[float, float, float]) -> np.ndarray:
    k, j, i = (np.arange(n) for n in phantom.hu.shape)
    x, y, z = (phantom.origin_lps_mm[n] + axis * phantom.spacing_mm[2 - n] for n, axis in enumerate((i, j, k)))
    x, y, z = x[None, None, :] - centre[0], y[None, :, None] - centre[1], z[:, None, None] - centre[2]
    return np.asarray(np.sqrt(x**2 + y**2 + z**2))


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others(chest: ChestPhantom) -> None:
    again = coarse(seed=3)
    other = coarse(seed=4)
    assert np.array_equal(chest.hu, again.hu)
    assert chest.nodules == again.nodules
    assert not np.array_equal(chest.hu, other.hu)
    assert chest.nodules != other.nodules


def test_each_nodule_of_the_truth_is_where_it_says(chest: ChestPhantom, empty: ChestPhantom) -> None:
    assert len(chest.nodules) == 7
    for nodule in chest.nodules:
        inside = _distance_mm(chest, nodule.centre_lps_mm) < nodule.diameter_mm / 2 - 1
        gain = (chest.hu.astype(float) - empty.hu)[inside].mean()
        assert gain > 200, nodule  # the same chest without it is lung there


def test_an_empty_chest_has_no_truth_and_differs_only_where_nodules_were(
    chest: ChestPhantom, empty: ChestPhantom
) -> None:
    assert empty.nodules == ()
    near = np.zeros(chest.hu.shape, bool)
    for nodule in chest.nodules:
        near |= _distance_mm(chest, nodule.centre_lps_mm) < nodule.diameter_mm / 2 + 8
    assert np.array_equal(chest.hu[~near], empty.hu[~near])


def test_a_nodule_has_the_volume_of_its_sphere() -> None:
    """Partial volumes are right: the mass above lung equals that of a sphere, though voxels are 2.5 mm thick."""
    wish = (NoduleWish("solid", 8.0),)
    with_it, without = coarse(wish, seed=5), coarse((), seed=5)
    (nodule,) = with_it.nodules
    more = (with_it.hu.astype(float) - without.hu)[_distance_mm(with_it, nodule.centre_lps_mm) < 14]
    lung = float(np.median(without.hu[_distance_mm(with_it, nodule.centre_lps_mm) < 4]))
    volume = more.sum() / (35.0 - lung) * np.prod(with_it.spacing_mm)
    assert volume == pytest.approx(np.pi / 6 * 8.0**3, rel=0.06)


def test_the_lungs_are_two_of_an_adult_and_end_inside_the_volume(empty: ChestPhantom) -> None:
    aerated = (empty.hu < -600) & (empty.hu > -980)
    labels, count = ndimage.label(ndimage.binary_erosion(aerated))
    sizes = ndimage.sum_labels(np.ones_like(labels), labels, range(1, count + 1)) * np.prod(empty.spacing_mm) / 1e6
    large = sorted(sizes)[-2:]
    assert 1.2 < large[0] < large[1] < 3.5  # litres, each
    lungs = np.isin(labels, np.argsort(sizes)[-2:] + 1)
    assert not lungs[[0, -1]].any()


def test_tissues_have_the_hounsfield_units_of_tissues(empty: ChestPhantom) -> None:
    def at(x: float, y: float, z: float) -> float:
        return float(np.median(empty.hu[_distance_mm(empty, (x, y, z)) < 5]))

    assert at(0, -120, 150) == pytest.approx(-1000, abs=8)  # air before the chest
    assert -900 < at(-75, -30, 170) < -780  # lung
    assert -120 < at(0, 110, 150) < 60  # fat and muscle of the back
    assert 20 < at(20, -25, 100) < 70  # heart
    assert at(0, 62, 143) > 120  # vertebra
    assert at(0, 8, 230) < -900  # trachea


def test_the_affine_takes_indices_to_patient_coordinates(chest: ChestPhantom) -> None:
    assert np.allclose(chest.affine @ (0, 0, 0, 1), (*chest.origin_lps_mm, 1))
    assert np.allclose(chest.affine @ (1, 0, 0, 0), (0, 0, 2.5, 0))
    assert np.allclose(chest.affine @ (0, 0, 1, 0), (1.9, 0, 0, 0))


def test_a_nodule_that_no_lung_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for a solid nodule of 120 mm"):
        chest_phantom((NoduleWish("solid", 120.0),), seed=1, spacing_mm=(10, 8, 8), shape=(30, 46, 46))


def test_the_radiograph_shows_lungs_darker_than_spine_and_fits_twelve_bits() -> None:
    picture = radiograph_phantom(seed=1, shape=(400, 480))
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels.max() <= 4095
    rows, columns = picture.pixels.shape
    spine = picture.pixels[rows // 2, columns // 2 - 5 : columns // 2 + 5].mean()
    lung = picture.pixels[rows // 2, columns // 4 : columns // 4 + 10].mean()
    assert lung + 500 < spine
    assert picture.spacing_mm == (0.75, 0.75)
