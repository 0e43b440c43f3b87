"""A tumour on the chest wall stays inside the lungs, however broad; heart and liver stay outside."""

import numpy as np
import numpy.typing as npt
import pytest

from config.catalogue import find_entry
from inference.gate import flags
from inference.lungs import RIGHT, AirLungs, Lungs
from inference.pleura import hull_of
from inference.volume import Volume

from .balls import Point, affine_of, volume_of

SPACING, SHAPE = (2.5, 2.0, 2.0), (72, 108, 168)
AXES = (62.0, 84.0, 75.0)  # half axes of a lung along x, y and z in mm: a wall as flat as that of a chest
CENTRES = ((100.0, 107.0, 89.0), (234.0, 107.0, 89.0))  # of the right and the left lung, x y z in mm


def grid() -> list[npt.NDArray[np.float64]]:
    """z, y and x in mm, to be broadcast."""
    return [
        (np.arange(n) * mm).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, mm) in enumerate(zip(SHAPE, SPACING, strict=True))
    ]


def reach(centre: Point) -> npt.NDArray[np.float64]:
    """1 on the surface of the lung with this centre."""
    z, y, x = grid()
    return np.sqrt(
        ((x - centre[0]) / AXES[0]) ** 2 + ((y - centre[1]) / AXES[1]) ** 2 + ((z - centre[2]) / AXES[2]) ** 2
    )


def within(centre: Point, diameter_mm: float) -> npt.NDArray[np.bool_]:
    z, y, x = grid()
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < (diameter_mm / 2) ** 2


def ribbed(balls: list[tuple[Point, float, float]] | None = None) -> Volume:
    """Two lungs in an oval of tissue, ribs of 7 mm around them every 17 mm but towards the midline, and balls inside."""
    z, y, x = grid()
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to(((y - 107) / 102) ** 2 + ((x - 167) / 150) ** 2 < 1, SHAPE)] = 40
    for centre, lateral in zip(CENTRES, (-1, 1), strict=True):
        surface = reach(centre)
        hu[surface < 1] = -850
        hu[(surface > 1.06) & (surface < 1.16) & ((x - centre[0]) * lateral > -20) & (z % 17 < 7)] = 500
    for centre, diameter_mm, ball_hu in balls or []:
        hu[within(centre, diameter_mm) & ((reach(CENTRES[0]) < 1) | (reach(CENTRES[1]) < 1))] = ball_hu
    hu += np.random.default_rng(7).normal(0, 15, SHAPE)
    return volume_of(np.round(hu).astype(np.int16), affine_of(SPACING))


def lungs_of(volume: Volume) -> Lungs:
    return AirLungs(find_entry("lungs-air", "lungs")).segment(volume)


def right_part(centre: Point, diameter_mm: float) -> npt.NDArray[np.bool_]:
    """The part of a ball that lies inside the right lung's own ellipsoid."""
    return within(centre, diameter_mm) & (reach(CENTRES[0]) < 1)


LATERAL, POSTERIOR = (38.0, 107.0, 89.0), (75.0, 184.0, 89.0)


@pytest.mark.parametrize(("place", "diameter_mm"), [(LATERAL, 50.0), (LATERAL, 70.0), (POSTERIOR, 50.0)])
def test_most_of_a_broad_tumour_on_the_chest_wall_is_inside(place: Point, diameter_mm: float) -> None:
    """A chord stays where the wall was round; by a closing of 20 mm alone it would be less than a seventh."""
    volume = ribbed([(place, diameter_mm, 40.0)])
    labels = lungs_of(volume).labels
    assert (labels[right_part(place, diameter_mm)] == RIGHT).mean() > 0.6
    assert np.count_nonzero((labels > 0) & (volume.hu > 300)) < 0.001 * np.count_nonzero(labels)  # no rib
    outside = (reach(CENTRES[0]) > 1.05) & (reach(CENTRES[1]) > 1.05)
    assert np.count_nonzero(labels[outside]) < 0.02 * np.count_nonzero(labels)


def turned_over(volume: Volume) -> Volume:
    """The same patient, slices from the head down."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (len(volume.hu) - 1)
    affine[:3, 0] *= -1
    return volume_of(np.ascontiguousarray(volume.hu[::-1]), affine)


@pytest.mark.parametrize("from_the_head", [False, True])
def test_a_broad_tumour_is_inside_where_the_lung_tapers_to_the_head(from_the_head: bool) -> None:
    """Above it lies chest wall as much as lung."""
    place, diameter_mm = (45.2, 107.0, 124.0), 60.0
    volume = ribbed([(place, diameter_mm, 40.0)])
    labels = lungs_of(turned_over(volume) if from_the_head else volume).labels
    labels = labels[::-1] if from_the_head else labels
    assert (labels[right_part(place, diameter_mm)] == RIGHT).mean() > 0.6


def test_nothing_is_added_to_lungs_without_a_dent() -> None:
    volume = ribbed()
    labels = lungs_of(volume).labels
    assert np.count_nonzero((labels > 0) & (volume.hu > -300)) < 0.05 * np.count_nonzero(labels)


def test_a_heart_and_a_dome_of_the_liver_stay_outside() -> None:
    heart, liver = ((160.0, 70.0, 70.0), 90.0), ((100.0, 107.0, 10.0), 110.0)
    volume = ribbed([(*heart, 40.0), (*liver, 60.0)])
    labels = lungs_of(volume).labels
    for centre, diameter_mm in (heart, liver):
        core = right_part(centre, diameter_mm - 44)  # a closing of 20 mm reaches a little over their rims
        assert not core.any() or (labels[core] > 0).mean() < 0.1


def test_a_hull_is_convex_and_holds_its_area() -> None:
    j, i = np.ogrid[:40, :40]
    moon = ((j - 20) ** 2 + (i - 20) ** 2 < 15**2) & ((j - 20) ** 2 + (i - 35) ** 2 > 12**2)
    hull = hull_of(moon)
    assert hull[moon].all()
    assert hull[20, 27]
    assert not hull[20, 34]
    line = np.zeros((9, 9), bool)
    line[4, 2:7] = True
    assert np.array_equal(hull_of(line), line)


def overlap(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Dice of two masks of both lungs."""
    return float(2 * np.count_nonzero((one > 0) & (other > 0)) / (np.count_nonzero(one) + np.count_nonzero(other)))


def test_noise_of_a_bone_kernel_changes_little() -> None:
    volume = ribbed()
    hu = volume.hu + np.random.default_rng(3).normal(0, 120, volume.hu.shape)
    noisy = lungs_of(volume_of(np.round(hu).astype(np.int16), volume.affine))
    assert overlap(noisy.labels, lungs_of(volume).labels) > 0.97


def test_an_effusion_is_no_lung_and_its_flag_says_that_it_was_not_looked_through() -> None:
    volume = ribbed()
    hu = volume.hu.copy()
    fluid = (reach(CENTRES[0]) < 1) & (grid()[1] > 80)  # the dependent four fifths of the right lung
    hu[fluid] = 15
    lungs = lungs_of(volume_of(hu, volume.affine))
    core = fluid & (grid()[1] > 110)  # beyond what a closing reaches
    assert (lungs.labels[core] > 0).mean() < 0.05
    assert any("of the right lung hold air" in said for said in flags(volume_of(hu, volume.affine), lungs))


def test_gas_of_the_bowel_under_the_diaphragm_is_no_lung() -> None:
    volume = ribbed()
    hu = volume.hu.copy()
    gas = within((234.0, 80.0, 6.0), 20.0) | within((215.0, 120.0, 2.0), 16.0)
    hu[gas & (reach(CENTRES[1]) > 1.12)] = -1000
    assert not lungs_of(volume_of(hu, volume.affine)).labels[gas & (reach(CENTRES[1]) > 1.12)].any()
