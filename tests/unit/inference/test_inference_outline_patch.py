"""Grids around a point: what lies on them is what lies in the volume, and the way back."""

import numpy as np
import numpy.typing as npt
import pytest

from inference.outline_patch import SIDE, Beyond, Sizes, grid_around, sample, source_box, spread

SPACING = (2.0, 0.8, 0.8)
SHAPE = (30, 90, 90)
EDGE: tuple[Beyond, Beyond, Beyond] = ("edge", "edge", "edge")


def ramp() -> npt.NDArray[np.float32]:
    """Mm from the corner along k, tenfold along j, a hundredfold along i."""
    k, j, i = (np.arange(n) * mm for n, mm in zip(SHAPE, SPACING, strict=True))
    return (k[:, None, None] + 10 * j[:, None] + 100 * i).astype(np.float32)


@pytest.mark.parametrize("step_mm", [0.5, 0.8, 1.7])
def test_a_ramp_is_sampled_as_it_is_on_finer_and_coarser_grids(step_mm: float) -> None:
    centre = (14.3, 44.1, 46.8)
    grid = grid_around(centre, SPACING, step_mm, range(-4, 5))
    found = sample(ramp(), grid, EDGE)
    across = (np.arange(SIDE) - (SIDE - 1) / 2) * step_mm
    k, j, i = grid.along_mm + 14.3 * 2.0, across + 44.1 * 0.8, across + 46.8 * 0.8
    inside = slice(12, 36)  # clear of the volume's edges
    want = k[:, None, None] + 10 * j[:, None] + 100 * i
    assert found.shape == (9, SIDE, SIDE)
    assert found[:, inside, inside] == pytest.approx(want[:, inside, inside], abs=5.0)  # 0.05 mm


def test_slices_of_the_grid_are_slices_of_the_source_unless_those_are_thinner_than_a_row() -> None:
    thick = grid_around((14.3, 44.0, 44.0), SPACING, 0.8, range(-2, 3))
    assert thick.positions()[0] == pytest.approx([12, 13, 14, 15, 16])
    thin = grid_around((14.3, 44.0, 44.0), (0.5, 0.8, 0.8), 0.8, range(-1, 2))
    assert thin.positions()[0] == pytest.approx([14.3 - 1.6, 14.3, 14.3 + 1.6])
    assert thin.thick_mm == 0.8


def test_beyond_the_source_lies_its_edge_its_mirror_image_or_nothing() -> None:
    values = np.arange(1.0, 5.0)[:, None, None] * np.ones((4, 3, 3))
    grid = grid_around((0.0, 1.0, 1.0), (1.0, 1.0, 1.0), 1.0, range(-3, 4))
    middle = SIDE // 2 - 1

    def column(beyond: Beyond) -> list[float]:
        return [float(v) for v in sample(values, grid, (beyond, "edge", "edge"))[:, middle, middle]]

    assert column("edge") == [1, 1, 1, 1, 2, 3, 4]
    assert column("mirror") == [4, 3, 2, 1, 2, 3, 4]
    assert column("zero") == [0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("step_mm", [0.7, 1.1])
def test_a_ball_comes_back_from_the_grid_at_its_place_and_size(step_mm: float) -> None:
    centre = (14.3, 44.1, 46.8)
    k, j, i = (np.arange(n) * mm - at * mm for n, mm, at in zip(SHAPE, SPACING, centre, strict=True))
    distance = np.sqrt(k[:, None, None] ** 2 + j[:, None] ** 2 + i**2)
    ball = distance < 8
    grid = grid_around(centre, SPACING, step_mm, range(-8, 9))
    box = source_box(grid, SHAPE)
    back = np.zeros(SHAPE, bool)
    back[box] = spread(sample(ball, grid, EDGE), grid, box) >= 0.5
    shared = np.count_nonzero(back & ball)
    assert 2 * shared / (np.count_nonzero(back) + np.count_nonzero(ball)) > 0.96


def test_a_mirrored_source_gives_the_mirrored_grid() -> None:
    hu = np.random.default_rng(1).normal(0, 100, SHAPE)
    centre = (14.3, 44.1, 46.8)
    mirrored = tuple(n - 1 - at for n, at in zip(SHAPE, centre, strict=True))
    one = sample(hu, grid_around(centre, SPACING, 1.3, range(-5, 6)), EDGE)
    there = grid_around((mirrored[0], mirrored[1], mirrored[2]), SPACING, 1.3, range(-5, 6))
    assert sample(hu[::-1, ::-1, ::-1], there, EDGE) == pytest.approx(one[::-1, ::-1, ::-1], abs=1e-3)


def test_a_point_at_the_corner_of_a_volume_has_a_grid_too() -> None:
    grid = grid_around((0.0, 0.0, 89.0), SPACING, 0.8, range(-3, 4))
    assert np.isfinite(sample(ramp(), grid, EDGE)).all()
    assert source_box(grid, SHAPE)[0] == slice(0, 4)


def test_a_step_follows_the_size_within_its_bounds() -> None:
    sizes = Sizes(steps_per_diameter=26, step_mm_min=0.7, step_mm_max=3.2)
    assert [sizes.step_mm(mm) for mm in (5.0, 26.0, 52.0, 200.0)] == pytest.approx([0.7, 1.0, 2.0, 3.2])
