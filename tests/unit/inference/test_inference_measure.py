"""Numbers of a nodule: mm, mm3, HU, and where its key slice and circle lie."""

import numpy as np
import numpy.typing as npt
import pytest

from inference.findings import MaskCrop
from inference.measure import axes_of, measure_nodule, to_lps_mm

from .balls import affine_of, all_lung, volume_of

Mask = npt.NDArray[np.bool_]


def ellipsoid(
    shape: tuple[int, int, int], centre_mm: tuple[float, ...], axes_mm: tuple[float, ...], spacing_mm: tuple[float, ...]
) -> Mask:
    grid = np.indices(shape).transpose(1, 2, 3, 0) * spacing_mm
    inside: Mask = (((grid - centre_mm) / (np.array(axes_mm) / 2)) ** 2).sum(axis=-1) <= 1
    return inside


@pytest.mark.parametrize("diameter_mm", [5.0, 8.0, 12.5, 20.0])
def test_a_ball_has_its_diameter_and_volume_within_the_voxel_error(diameter_mm: float) -> None:
    spacing = (1.25, 0.7, 0.7)
    mask = ellipsoid((30, 50, 50), (18.0, 17.3, 17.6), (diameter_mm,) * 3, spacing)
    volume = volume_of(np.full(mask.shape, -30, np.int16), affine_of(spacing))
    nodule = measure_nodule(volume, MaskCrop((0, 0, 0), mask), 1, all_lung(volume))
    assert nodule.size_error_mm == 1.0
    assert nodule.long_axis_mm == pytest.approx(diameter_mm, abs=nodule.size_error_mm)
    assert nodule.short_axis_mm == pytest.approx(diameter_mm, abs=nodule.size_error_mm)
    assert nodule.volume_mm3 == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.08)
    assert nodule.centre_lps_mm == pytest.approx((17.6, 17.3, 18.0), abs=0.2)
    assert nodule.mean_hu == -30


def test_the_axes_of_a_tilted_oval_are_its_own() -> None:
    y, x = np.mgrid[:80, :80] - 39.5
    along, across = (x + y) / np.sqrt(2), (x - y) / np.sqrt(2)
    axes = axes_of((along / 30) ** 2 + (across / 15) ** 2 <= 1, (1.0, 1.0))
    assert (axes.long_mm, axes.short_mm) == pytest.approx((60, 30), abs=0.8)


def test_axes_are_in_mm_when_pixels_are_oblong() -> None:
    y, x = np.mgrid[:40, :80] - np.array([19.5, 39.5])[:, None, None]
    axes = axes_of((y * 2) ** 2 + x**2 <= 20**2, (2.0, 1.0))
    assert (axes.long_mm, axes.short_mm) == pytest.approx((40, 40), abs=1.2)


def test_one_voxel_has_the_size_of_a_voxel() -> None:
    volume = volume_of(np.zeros((3, 3, 3), np.int16), affine_of((2.0, 0.5, 0.5)))
    nodule = measure_nodule(volume, MaskCrop((1, 2, 1), np.ones((1, 1, 1), bool)), 1, all_lung(volume))
    assert nodule.volume_mm3 == 0  # 0.5 mm3, to the mm3
    assert nodule.key_slice.centre_px == (1.5, 2.5)
    assert nodule.key_slice.sop_instance_uid == "1.2.3.1"


def test_the_key_slice_is_the_largest_and_its_circle_holds_the_outline() -> None:
    spacing = (2.0, 0.8, 0.8)
    mask = ellipsoid((20, 60, 60), (19.0, 24.0, 20.0), (14.0, 18.0, 9.0), spacing)
    crop = MaskCrop((3, 0, 0), mask[3:])
    volume = volume_of(np.zeros(mask.shape, np.int16), affine_of(spacing))
    key = measure_nodule(volume, crop, 1, all_lung(volume)).key_slice
    assert mask[key.slice_index].sum() == mask.sum(axis=(1, 2)).max()
    rows, columns = np.nonzero(mask[key.slice_index])
    corners = [(c + dc, r + dr) for r, c in zip(rows, columns, strict=True) for dr in (0, 1) for dc in (0, 1)]
    reach = max(np.hypot(c - key.centre_px[0], r - key.centre_px[1]) for c, r in corners)
    assert key.radius_px == pytest.approx(reach, abs=0.02)


def test_the_side_is_the_lung_that_holds_most_of_it() -> None:
    volume = volume_of(np.zeros((4, 4, 20), np.int16), affine_of())
    lungs = all_lung(volume)
    assert measure_nodule(volume, MaskCrop((1, 1, 7), np.ones((2, 2, 4), bool)), 1, lungs).site == "right lung"
    assert measure_nodule(volume, MaskCrop((1, 1, 9), np.ones((2, 2, 4), bool)), 1, lungs).site == "left lung"


def test_places_follow_the_affine() -> None:
    affine = affine_of((2.0, 0.5, 0.75), origin=(-100.0, 50.0, 10.0))
    assert to_lps_mm(affine, (1, 2, 4)) == (-97.0, 51.0, 12.0)
