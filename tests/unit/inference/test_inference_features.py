"""What is measured of a nodule on its own outline, and that it means the same on every grid."""

import numpy as np
import numpy.typing as npt
import pytest

from inference.features import NAMES, measure_features
from inference.findings import MaskCrop

Spacing = tuple[float, float, float]


def made(
    spacing: Spacing = (1.0, 0.7, 0.7),
    *,
    radius_mm: float = 5.0,
    lobes: float = 0.0,
    jags: float = 0.0,
    hu: float = 30.0,
    core_hu: float | None = None,
    field_mm: float = 44.0,
) -> tuple[npt.NDArray[np.int16], MaskCrop, Spacing]:
    """A ball in lung, its outline bent by 3 lobes or 8 jags (share of the radius) in each slice; voxels hold their share."""
    shape = tuple(int(field_mm / mm) for mm in spacing)
    z, y, x = (
        (np.arange(n) - (n - 1) / 2).reshape([-1 if a == axis else 1 for a in range(3)]) * mm
        for axis, (n, mm) in enumerate(zip(shape, spacing, strict=True))
    )
    angle = np.arctan2(y, x)
    reach = radius_mm * (1 + lobes * np.cos(3 * angle) + jags * np.cos(8 * angle))
    depth = np.sqrt(np.maximum(radius_mm**2 - z**2, 0)) / radius_mm * reach - np.hypot(y, x)
    share = np.clip(depth / 0.7 + 0.5, 0, 1) * (np.abs(z) <= radius_mm)
    values = -850 + share * (hu + 850)
    if core_hu is not None:
        values = np.where(np.sqrt(x**2 + y**2 + z**2) < radius_mm / 2, core_hu, values)
    return values.astype(np.int16), cropped(share > 0.5), spacing


def cropped(mask: npt.NDArray[np.bool_]) -> MaskCrop:
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    k, j, i = (int(at) for at in low)
    return MaskCrop((k, j, i), mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])


def named(hu: npt.NDArray[np.int16], mask: MaskCrop, spacing: Spacing) -> dict[str, float]:
    values = measure_features(hu, mask, spacing)
    assert values is not None
    return dict(zip(NAMES, values.tolist(), strict=True))


def test_a_solid_ball_measures_as_what_it_is() -> None:
    ball = named(*made())
    assert np.exp([ball["diameter"], ball["area_diameter"]]) == pytest.approx([10, 10], abs=0.5)
    assert np.exp([ball["long_axis"], ball["short_axis"]]) == pytest.approx([10, 10], abs=0.7)
    assert ball["hu_median"] == pytest.approx(30, abs=5)
    assert ball["core_hu"] == pytest.approx(30, abs=5)
    assert (ball["calcium_share"], ball["rim_dense_share"], ball["outer_dense_share"]) == (0, 0, 0)
    assert ball["axis_ratio"] > 0.95
    assert ball["roundness"] == pytest.approx(1, abs=0.06)
    assert ball["filling"] == pytest.approx(1, abs=0.08)  # the hull goes around the corners of pixels
    assert ball["contrast"] == pytest.approx(ball["hu_mean"] + 850, abs=60)


def test_calcium_and_ground_glass_and_cores_show() -> None:
    assert named(*made(hu=600))["calcium_share"] > 0.8
    assert named(*made(hu=-600))["faint_share"] == 1
    cored = named(*made(hu=-550, core_hu=50))
    assert cored["core_rise"] > 100
    assert cored["hu_p99"] > 0


def test_lobes_are_lobes_and_jags_are_jags() -> None:
    plain, lobed, jagged = (named(*made(**bent)) for bent in ({}, {"lobes": 0.15}, {"jags": 0.15}))
    assert lobed["lobes"] > 3 * plain["lobes"]
    assert lobed["lobes"] > 2 * lobed["jags"]
    assert jagged["jags"] > 3 * plain["jags"]
    assert jagged["jags"] > 2 * jagged["lobes"]
    assert jagged["filling"] < plain["filling"]
    assert jagged["roundness"] < plain["roundness"]


@pytest.mark.parametrize("slices_mm", [0.6, 1.25, 2.0, 3.0])
@pytest.mark.parametrize("pixels_mm", [0.55, 0.7, 0.9])
def test_slices_of_0_6_to_3_mm_give_the_same_numbers(slices_mm: float, pixels_mm: float) -> None:
    fine, here = (
        named(*made((0.6, 0.6, 0.6), radius_mm=7)),
        named(*made((slices_mm, pixels_mm, pixels_mm), radius_mm=7)),
    )
    for name in ("diameter", "area_diameter", "long_axis", "short_axis"):
        assert here[name] == pytest.approx(fine[name], abs=0.08), name  # 8 % of a length
    for name in ("hu_median", "hu_p90", "core_hu", "contrast", "rim_hu"):
        assert here[name] == pytest.approx(fine[name], abs=60), name
    for name in ("roundness", "filling", "axis_ratio", "rim_dense_share", "outer_dense_share", "lobes", "jags"):
        assert here[name] == pytest.approx(fine[name], abs=0.08), name


def test_how_far_the_crop_reaches_changes_nothing() -> None:
    """Beyond the widest ring nothing is looked at, along the stack nothing beyond the mask."""
    hu, mask, spacing = made()
    k, j, i = mask.start
    n, m, p = mask.voxels.shape
    edge = 14
    cut = hu[k : k + n, j - edge : j + m + edge, i - edge : i + p + edge]
    moved = MaskCrop((0, edge, edge), mask.voxels)
    assert np.array_equal(measure_features(cut, moved, spacing), measure_features(hu, mask, spacing))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_nodule_measures_the_same(axis: int) -> None:
    hu, mask, spacing = made(lobes=0.1, jags=0.05)
    noisy = (hu + np.random.default_rng(1).normal(0, 30, hu.shape)).astype(np.int16)
    whole = np.zeros(hu.shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
    there = measure_features(noisy, mask, spacing)
    mirrored = measure_features(np.flip(noisy, axis), cropped(np.flip(whole, axis)), spacing)
    assert mirrored == pytest.approx(there, rel=1e-3, abs=2e-3)


def test_a_nodule_at_the_edge_of_the_field_of_view_has_features_too() -> None:
    hu, mask, spacing = made()
    k, j, i = mask.start
    half = mask.voxels.shape[1] // 2
    cut = MaskCrop((k, 0, i), mask.voxels[:, half:])
    assert measure_features(hu[:, j + half :], cut, spacing) is not None


def test_what_is_too_small_has_no_features_rather_than_odd_ones() -> None:
    hu = np.full((20, 20, 20), -800, np.int16)
    assert measure_features(hu, MaskCrop((5, 5, 5), np.ones((1, 1, 1), bool)), (1.0, 0.7, 0.7)) is None
    assert measure_features(hu, MaskCrop((5, 5, 5), np.ones((3, 2, 2), bool)), (1.0, 0.7, 0.7)) is None
    assert measure_features(hu, MaskCrop((2, 5, 5), np.ones((14, 2, 2), bool)), (1.0, 0.7, 0.7)) is None  # a thread


def test_a_body_without_contrast_gives_finite_numbers() -> None:
    hu = np.full((30, 40, 40), -800, np.int16)
    values = measure_features(hu, MaskCrop((10, 15, 15), np.ones((8, 9, 9), bool)), (1.0, 0.7, 0.7))
    assert values is not None
    assert np.isfinite(values).all()
