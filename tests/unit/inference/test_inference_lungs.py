"""Where the lungs are, which is which, and whether they are whole."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from config.catalogue import find_entry
from inference.errors import LungBase, LungsCut, LungsMayComplete, NoLung
from inference.lungs import LEFT, RIGHT, AirLungs, Lungs, judge_wholeness
from inference.volume import Volume

from .balls import affine_of, chest, volume_of


def lungs_of(volume: Volume) -> Lungs:
    return AirLungs(find_entry("lungs-air", "lungs")).segment(volume)


@cache
def whole() -> tuple[Volume, Lungs]:
    volume = chest()
    return volume, lungs_of(volume)


def changed(volume: Volume, hu: npt.NDArray[np.int16]) -> Volume:
    return volume_of(hu, volume.affine)


def test_two_lungs_are_found_whole_and_with_their_sides() -> None:
    volume, lungs = whole()
    air = volume.hu < -500
    air &= volume.hu > -930
    assert np.count_nonzero(air & (lungs.labels == 0)) < 0.03 * np.count_nonzero(lungs.labels)
    assert np.count_nonzero((lungs.labels > 0) & (volume.hu > -400)) < 0.05 * np.count_nonzero(lungs.labels)
    middle = volume.hu.shape[2] // 2
    assert not (lungs.labels[:, :, middle + 3 :] == RIGHT).any()  # LPS x grows to the patient's left
    assert not (lungs.labels[:, :, : middle - 3] == LEFT).any()
    assert judge_wholeness(lungs, may_wait=False) is None


def test_prone_or_feet_first_the_left_lung_is_still_the_left() -> None:
    volume, lungs = whole()
    affine = volume.affine.copy()
    affine[0, 2] *= -1
    affine[1, 1] *= -1
    turned = lungs_of(volume_of(volume.hu, affine))
    assert np.array_equal(turned.labels == LEFT, lungs.labels == RIGHT)


def test_a_tumour_on_the_pleura_is_inside() -> None:
    volume = chest([((37.0, 83.0, 71.0), 30.0, 40.0)])  # reaches 8 mm into the wall of the right lung
    lungs = lungs_of(volume)
    z, y, x = np.ogrid[: volume.hu.shape[0], : volume.hu.shape[1], : volume.hu.shape[2]]
    ball = (z * 2.0 - 71) ** 2 + (y * 1.5 - 83) ** 2 + (x * 1.5 - 37) ** 2 < 14**2
    inner = ball & (((x * 1.5 - 69.25) / 40) ** 2 + ((y * 1.5 - 83.25) / 58) ** 2 + ((z * 2.0 - 71) / 62) ** 2 < 0.9)
    assert (lungs.labels[inner] == RIGHT).mean() > 0.65  # a dent of some mm stays where the wall was


def test_the_trachea_is_no_lung() -> None:
    volume, _ = whole()
    hu = volume.hu.copy()
    z, y, x = np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
    tube = ((y - 50) * 1.5) ** 2 + ((x - 79.5) * 1.5) ** 2 + z * 0.0 < 8**2
    tube &= z > 36
    hu[tube] = -1000
    lungs = lungs_of(changed(volume, hu))
    assert not lungs.labels[tube].any()
    assert max(lungs.end_cm2) < 1


def test_lungs_that_touch_are_told_apart() -> None:
    volume, lungs = whole()
    hu = volume.hu.copy()
    hu[30:42, 50:54, 70:90] = -850  # 24 x 6 mm of a common wall is gone
    touching = lungs_of(changed(volume, hu))
    assert np.count_nonzero(touching.labels == RIGHT) == pytest.approx(np.count_nonzero(lungs.labels == RIGHT), rel=0.1)


def test_one_lung_alone_has_the_side_where_it_lies() -> None:
    volume, _ = whole()
    hu = volume.hu.copy()
    left_half = hu[:, :, 80:]
    left_half[(left_half < -700) & (left_half > -930)] = 40
    lungs = lungs_of(changed(volume, hu))
    assert set(np.unique(lungs.labels)) == {0, RIGHT}


def test_a_belly_with_gas_is_not_for_us() -> None:
    volume = chest([((80.0, 80.0, 70.0), 50.0, -1000.0)], noise_hu=0)
    hu = volume.hu.copy()
    hu[(hu == -850)] = 40
    with pytest.raises(NoLung) as turned:
        lungs_of(changed(volume, hu))
    assert (turned.value.outcome, turned.value.code) == ("passed_over", "no_lung")


def test_a_volume_of_air_or_of_one_value_is_not_for_us() -> None:
    for value in (-1000, 0, -2000):
        with pytest.raises(NoLung):
            lungs_of(volume_of(np.full((20, 64, 64), value, np.int16), affine_of()))


def test_air_outside_a_padded_round_field_and_foam_are_no_lung() -> None:
    volume, lungs = whole()
    hu = volume.hu.copy()
    hu[:, 104:, :] = np.where(hu[:, 104:, :] < -900, -880, hu[:, 104:, :])  # a mattress across the field
    y, x = np.ogrid[: hu.shape[1], : hu.shape[2]]
    hu[:, (y - 56) ** 2 + (x - 80) ** 2 > 78**2] = -2000
    padded = lungs_of(changed(volume, hu))
    assert np.count_nonzero(padded.labels != lungs.labels) < 0.01 * np.count_nonzero(lungs.labels)
    assert padded.edge_share == 0


@pytest.mark.parametrize("noise_hu", [0, 120])
def test_a_table_of_foam_within_the_field_is_no_lung_whatever_the_noise(noise_hu: int) -> None:
    volume, lungs = whole()
    hu = np.pad(volume.hu, ((0, 0), (0, 24), (0, 0)), constant_values=-1000)
    hu[:, 112:134, 10:150] = 100  # a shell, a voxel thick, round foam with beams in it
    hu[:, 113:133, 11:149] = -870
    hu[:, 114:132, 20:149:12] = -100
    noise = np.random.default_rng(1).normal(0, noise_hu or 1e-6, hu.shape)
    seen = lungs_of(changed(volume, np.clip(np.rint(hu + noise), -1024, 3000).astype(np.int16)))
    assert not seen.labels[:, 104:].any()
    assert np.count_nonzero(seen.labels[:, : lungs.labels.shape[1]] != lungs.labels) < 0.02 * np.count_nonzero(
        lungs.labels
    )


def test_cut_a_little_is_partial_cut_much_is_turned_away() -> None:
    volume, lungs = whole()
    assert judge_wholeness(lungs, may_wait=True) is None
    for first, outcome in ((8, "partial"), (20, "turned away")):
        cut = lungs_of(volume_of(volume.hu[first:], volume.affine))
        assert cut.end_cm2[0] > 5 > cut.end_cm2[1]
        if outcome == "partial":
            reason = judge_wholeness(cut, may_wait=False)
            assert reason is not None
            assert reason.code == "lungs_cut"
            assert "first slice" in reason.text
        else:
            with pytest.raises(LungsCut) as turned:
                judge_wholeness(cut, may_wait=False)
            assert (turned.value.outcome, turned.value.code) == ("declined", "lungs_cut")
        with pytest.raises(LungsMayComplete) as wait:  # the missing slices may be on their way
            judge_wholeness(cut, may_wait=True)
        assert wait.value.outcome == "wait"


def test_lungs_that_the_field_of_view_cuts_are_read_in_part() -> None:
    volume, _ = whole()
    hu = volume.hu.copy()
    narrow = lungs_of(volume_of(np.ascontiguousarray(hu[:, :, 36:-36]), volume.affine))
    reason = judge_wholeness(narrow, may_wait=True)  # no slice that may come would help
    assert reason is not None
    assert reason.code == "field_of_view"


@pytest.mark.parametrize("round_field", [False, True])
def test_a_field_around_the_heart_cuts_lungs_on_three_sides_and_they_are_read_in_part(round_field: bool) -> None:
    volume, _ = whole()
    hu = np.ascontiguousarray(volume.hu[:, 20:-20, 40:-40])
    if round_field:
        y, x = np.ogrid[: hu.shape[1], : hu.shape[2]]
        radius = min(hu.shape[1:]) / 2
        hu[:, (y - hu.shape[1] / 2) ** 2 + (x - hu.shape[2] / 2) ** 2 > radius**2] = -2000
    narrow = lungs_of(volume_of(hu, volume.affine))
    reason = judge_wholeness(narrow, may_wait=False)
    assert narrow.volume_ml > 300
    assert reason is not None
    assert reason.code == "field_of_view"


@pytest.mark.parametrize(
    ("stack_mm", "ends_cm2", "turned"),
    [
        ((80.0, 450.0), (0.0, 120.0), LungBase),  # the belly, with the lungs' bases
        ((80.0, 450.0), (120.0, 0.0), LungBase),
        ((80.0, 200.0), (0.0, 120.0), LungsCut),  # not much else: the upper slices are missing
        ((200.0, 450.0), (0.0, 120.0), LungsCut),  # chest and belly, the upper chest missing
        ((80.0, 450.0), (30.0, 120.0), LungsCut),  # lung at both ends
    ],
)
def test_the_bases_of_the_lungs_in_a_scan_of_the_belly_are_not_for_us(
    stack_mm: tuple[float, float], ends_cm2: tuple[float, float], turned: type[Exception]
) -> None:
    lungs = Lungs(np.zeros((1, 1, 1), np.uint8), 500.0, ends_cm2, 130.0, 0.0, stack_mm)
    with pytest.raises(turned):
        judge_wholeness(lungs, may_wait=False)
    with pytest.raises(LungsMayComplete):
        judge_wholeness(lungs, may_wait=True)


def test_thin_slices_make_the_same_lungs_as_usual_ones() -> None:
    """140 mm in slices of 0.8 and of 1.25 mm."""
    thin = chest(shape=(176, 112, 160), spacing_mm=(0.8, 1.5, 1.5))
    usual = chest(shape=(113, 112, 160), spacing_mm=(1.25, 1.5, 1.5))
    of_thin, of_usual = lungs_of(thin), lungs_of(usual)
    nearest = np.rint(np.arange(113) * 1.25 / 0.8).astype(int)
    for side in (RIGHT, LEFT):
        one, other = of_thin.labels[nearest] == side, of_usual.labels == side
        assert 2 * np.count_nonzero(one & other) > 0.97 * (np.count_nonzero(one) + np.count_nonzero(other))
    assert of_thin.volume_ml == pytest.approx(of_usual.volume_ml, rel=0.02)
    assert of_thin.stack_mm == pytest.approx(of_usual.stack_mm, abs=5)
    assert judge_wholeness(of_thin, may_wait=True) is None
