"""Outlines of balls: their size, apart from what touches them, never outside the lungs."""

import numpy as np
import numpy.typing as npt
import pytest

from config.catalogue import find_entry
from inference.findings import MaskCrop
from inference.lungs import Lungs
from inference.outline import SeededOutliner
from inference.reader import Spot
from inference.volume import Volume

from .balls import affine_of, all_lung, volume_of

SHAPE, SPACING = (48, 72, 72), (1.25, 0.8, 0.8)
Z, Y, X = (
    np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]) * mm
    for axis, (n, mm) in enumerate(zip(SHAPE, SPACING, strict=True))
)
Ball = tuple[tuple[float, float, float], float, float]


def lung_with(*balls: Ball, background: float = -850.0) -> Volume:
    """A block of lung with balls: centre (k, j, i) in mm, diameter in mm, HU; edges one voxel wide, noise of 15 HU."""
    hu = np.full(SHAPE, background)
    for centre, diameter_mm, ball_hu in balls:
        distance = np.sqrt((Z - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (X - centre[2]) ** 2)
        share = np.clip(diameter_mm / 2 - distance + 0.5, 0, 1)
        hu = hu * (1 - share) + ball_hu * share
    noise = np.random.default_rng(11).normal(0, 15, SHAPE)
    return volume_of((hu + noise).astype(np.int16), affine_of(SPACING))


def spot_at(centre_mm: tuple[float, float, float], size_mm: float) -> Spot:
    k, j, i = (c / s for c, s in zip(centre_mm, SPACING, strict=True))
    return Spot((k, j, i), 150.0, size_mm)


def outlines(volume: Volume, *spots: Spot, lungs: Lungs | None = None) -> list[MaskCrop | None]:
    outliner = SeededOutliner(find_entry("outline-seeded", "outliner"))
    return list(outliner.outline(volume, lungs or all_lung(volume), spots, lambda stage, done, total: None))


def whole(mask: MaskCrop | None) -> npt.NDArray[np.bool_]:
    """The mask on the volume's grid."""
    assert mask is not None
    full = np.zeros(SHAPE, bool)
    full[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
    return full


def diameter_mm(mask: MaskCrop | None) -> float:
    return float((6 / np.pi * whole(mask).sum() * np.prod(SPACING)) ** (1 / 3))


@pytest.mark.parametrize("ball_hu", [40.0, -250.0, -550.0])
@pytest.mark.parametrize("size", [5.0, 8.0, 14.0, 24.0])
@pytest.mark.parametrize("seen", [0.8, 1.25])
def test_a_ball_is_outlined_to_the_voxel_whatever_its_density(size: float, ball_hu: float, seen: float) -> None:
    centre = (30.0, 28.0, 29.0)
    (mask,) = outlines(lung_with((centre, size, ball_hu)), spot_at((30.6, 28.5, 28.7), size * seen))
    assert diameter_mm(mask) == pytest.approx(size, abs=0.8)


def test_a_body_wider_than_the_detector_saw_is_outlined_whole() -> None:
    (mask,) = outlines(lung_with(((30.0, 28.0, 29.0), 40.0, 40.0)), spot_at((28.0, 33.0, 25.0), 22.0))
    assert diameter_mm(mask) == pytest.approx(40.0, abs=1.5)


def test_a_ring_is_filled() -> None:
    centre = (30.0, 28.0, 29.0)
    volume = lung_with((centre, 10.0, -100.0), (centre, 5.5, -840.0))
    (mask,) = outlines(volume, spot_at(centre, 9.0))
    assert diameter_mm(mask) == pytest.approx(10.0, abs=1.5)


def test_a_vessel_that_leads_to_it_is_cut_off() -> None:
    centre = (30.0, 28.0, 29.0)
    volume = lung_with((centre, 10.0, 40.0))
    hu = volume.hu.copy()
    hu[np.broadcast_to((Z - 30) ** 2 + (Y - 28) ** 2 < 1.5**2, SHAPE) & (X > 29)] = 40
    (mask,) = outlines(volume_of(hu, volume.affine), spot_at(centre, 10.0))
    assert diameter_mm(mask) == pytest.approx(10.0, abs=0.8)
    assert np.argwhere(whole(mask))[:, 2].max() * SPACING[2] < 29 + 7


def test_touching_balls_are_told_apart_and_share_no_voxel() -> None:
    one, other = (30.0, 28.0, 22.0), (30.0, 28.0, 32.0)
    masks = outlines(lung_with((one, 10.0, 40.0), (other, 10.0, 40.0)), spot_at(one, 9.0), spot_at(other, 9.0))
    assert [diameter_mm(m) for m in masks] == pytest.approx([10.0, 10.0], abs=0.8)
    assert not (whole(masks[0]) & whole(masks[1])).any()


def test_two_spots_on_one_ball_are_one_nodule_the_stronger_one() -> None:
    centre = (30.0, 28.0, 29.0)
    masks = outlines(lung_with((centre, 14.0, 40.0)), spot_at(centre, 13.0), spot_at((30.0, 30.0, 29.0), 11.0))
    assert diameter_mm(masks[0]) == pytest.approx(14.0, abs=0.8)
    assert masks[1] is None


def test_nothing_is_marked_outside_the_lungs() -> None:
    centre = (30.0, 28.0, 29.0)
    volume = lung_with((centre, 14.0, 40.0))
    labels = np.ones(SHAPE, np.uint8)
    labels[:, 37:] = 0  # the wall runs through the ball, 1.6 mm from its centre
    (mask,) = outlines(volume, spot_at(centre, 13.0), lungs=Lungs(labels, 100.0, (0.0, 0.0), 10.0, 0.0))
    assert whole(mask).any()
    assert not (whole(mask) & (labels == 0)).any()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(((30.0, 28.0, 29.0), 3.0, 40.0), id="too small"),
        pytest.param(((30.0, 28.0, 29.0), 10.0, -800.0), id="no contrast"),
        pytest.param(((30.0, 28.0, 29.0), 16.0, 300.0), id="large and as bright as blood with contrast"),
    ],
)
def test_what_is_no_nodule_has_no_outline(what: Ball) -> None:
    assert outlines(lung_with(what), spot_at(what[0], max(4.0, what[1]))) == [None]


def test_a_calcified_small_one_is_kept() -> None:
    (mask,) = outlines(lung_with(((30.0, 28.0, 29.0), 6.0, 600.0)), spot_at((30.0, 28.0, 29.0), 6.0))
    assert mask is not None


def test_a_piece_of_a_vessel_has_no_outline() -> None:
    volume = lung_with()
    hu = volume.hu.copy()
    hu[np.broadcast_to((Z - 30) ** 2 + (Y - 28) ** 2 < 2.0**2, SHAPE) & (X > 0)] = 40
    assert outlines(volume_of(hu, volume.affine), spot_at((30.0, 28.0, 29.0), 16.0)) == [None]


def test_a_spot_at_the_volumes_corner_is_no_trouble() -> None:
    (mask,) = outlines(lung_with(((2.0, 2.0, 2.0), 8.0, 40.0)), spot_at((2.0, 2.0, 2.0), 8.0))
    assert mask is None or whole(mask).any()


def test_a_piece_of_the_heart_that_the_closed_lung_holds_has_no_outline() -> None:
    """On the side of the other lung it goes on beyond the hull; a tumour on the chest wall does so on the other side."""
    centre = (30.0, 28.0, 29.0)
    volume = lung_with((centre, 24.0, 40.0))
    labels = np.ones(SHAPE, np.uint8)  # all the right lung
    labels[:, :, 46:] = 0  # 8 mm to the left of the middle
    heart = outlines(volume, spot_at(centre, 22.0), lungs=Lungs(labels, 100.0, (0.0, 0.0), 10.0, 0.0))
    pleura = outlines(volume, spot_at(centre, 22.0), lungs=Lungs(labels * np.uint8(2), 100.0, (0.0, 0.0), 10.0, 0.0))
    assert heart == [None]
    assert pleura[0] is not None


def test_one_coarse_voxel_is_no_trouble() -> None:
    hu = np.full((24, 24, 24), -850, np.int16)
    hu[12, 12, 12] = 50
    volume = volume_of(hu, affine_of((3.0, 4.0, 4.0)))
    outliner = SeededOutliner(find_entry("outline-seeded", "outliner"))
    spots = [Spot((12.0, 12.0, 12.0), 150.0, 5.0)]
    (mask,) = outliner.outline(volume, all_lung(volume), spots, lambda stage, done, total: None)
    assert mask is None or mask.voxels.sum() < 30
