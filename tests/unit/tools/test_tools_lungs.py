"""What the lung mask is measured with lies where it says, and changes nothing else."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.catalogue import find_entry
from inference.lungs import RIGHT, AirLungs, Lungs
from inference.measure import to_lps_mm
from inference.volume import Volume
from tests.unit.inference.balls import chest, volume_of
from tools.lung_tumours import KINDS, Ground, Kind, Pasted, ground_of, paste
from tools.lung_variants import labels_at, slice_places, with_slices
from tools.lungs import kept_of, seen_of

MIDDLE = (119.25, 83.25, 71.0)  # of the made chest, x y z in LPS mm
LUNG_X = 50.0  # from the middle to the middle of a lung
AXES = np.array([40.0, 58.0, 62.0])  # half axes of a lung


@cache
def made(flipped: bool = False) -> Ground:
    """The chest of the unit tests; flipped: the same patient, slices from the head down and columns from the left."""
    volume = chest()
    if flipped:
        affine = volume.affine.copy()
        for axis, length in ((0, volume.hu.shape[0]), (2, volume.hu.shape[2])):
            affine[:3, 3] += affine[:3, axis] * (length - 1)
            affine[:3, axis] *= -1
        volume = volume_of(np.ascontiguousarray(volume.hu[::-1, :, ::-1]), affine)
    return ground_of(volume, AirLungs(find_entry("lungs-air", "lungs")).segment(volume))


def facing(pasted: Pasted) -> npt.NDArray[np.float64]:
    """Which way the made lung's own ellipsoid faces at the place: to the patient's side (away from the midline), back, head."""
    k, j, i = (float(n) for n in pasted.voxel)
    place = np.array(to_lps_mm(pasted.volume.affine, (k, j, i))) - MIDDLE
    lateral = -1 if pasted.side == RIGHT else 1
    assert place[0] * lateral > 0  # the patient's right is where LPS x is small
    normal = (place - [lateral * LUNG_X, 0, 0]) / AXES**2
    normal[0] *= lateral
    return np.asarray(normal / np.linalg.norm(normal))


@settings(max_examples=24, deadline=None, derandomize=True)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), flipped=st.booleans())
def test_a_pasted_tumour_lies_where_its_kind_says(kind: Kind, seed: int, flipped: bool) -> None:
    ground = made(flipped)
    pasted = paste(ground, kind, np.random.default_rng(seed))
    assert pasted is not None
    lateral, _, up = facing(pasted)
    slack = 0.25  # the surface is known on a grid of 4 mm
    if kind == "costal":
        assert lateral > -slack
        assert abs(up) < 0.4 + slack
    elif kind == "mediastinum":
        assert lateral < -0.8 + slack
    elif kind == "diaphragm":
        assert up < -0.7 + slack
    else:
        assert up > 0.6 - slack


@settings(max_examples=12, deadline=None, derandomize=True)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000))
def test_a_pasted_tumour_is_tissue_where_one_lung_was_and_changes_nothing_else(kind: Kind, seed: int) -> None:
    ground = made()
    pasted = paste(ground, kind, np.random.default_rng(seed))
    assert pasted is not None
    body = np.zeros(ground.volume.hu.shape, bool)
    body[tuple(slice(a, a + n) for a, n in zip(pasted.body.start, pasted.body.voxels.shape, strict=True))] = (
        pasted.body.voxels
    )
    assert (ground.lungs.labels[body] == pasted.side).all()
    assert ground.volume.hu[body].max() < -500
    assert pasted.volume.hu[body].mean() > -150  # its edge is half tissue
    assert np.count_nonzero(body) * 4.5 / 1000 >= 2
    extent_mm = [np.ptp(at) * mm for at, mm in zip(np.nonzero(body), ground.volume.spacing_mm, strict=True)]
    assert max(extent_mm) <= pasted.diameter_mm <= 60
    changed = pasted.volume.hu != ground.volume.hu
    assert not changed[ground.lungs.labels == 3 - pasted.side].any()
    assert (ground.volume.hu[changed] < 100).all()  # bone and metal stay


def test_the_same_seed_gives_the_same_tumour() -> None:
    one, other = (paste(made(), "costal", np.random.default_rng(4)) for _ in range(2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.volume.hu, other.volume.hu)


def test_what_is_kept_is_counted_in_the_mask() -> None:
    ground = made()
    pasted = paste(ground, "costal", np.random.default_rng(4))
    assert pasted is not None
    assert kept_of(ground.lungs, pasted.body) == (1.0, True)
    assert seen_of(ground.volume, ground.lungs, pasted.body) > 0.9
    none = Lungs(np.zeros_like(ground.lungs.labels), 0.0, (0.0, 0.0), 0.0, 0.0)
    assert kept_of(none, pasted.body) == (0.0, False)
    assert seen_of(ground.volume, none, pasted.body) == 0.0


@pytest.mark.parametrize("slice_mm", [0.8, 2.0, 3.0])
def test_slices_of_another_thickness_show_the_same_patient_at_the_same_place(slice_mm: float) -> None:
    ramp = np.broadcast_to(np.arange(30, dtype=np.int16)[:, None, None] * 20, (30, 4, 4)).copy()
    affine = chest().affine.copy()
    affine[2, 3] = -7.0
    other: Volume = with_slices(volume_of(ramp, affine), slice_mm)
    z = other.affine[2, 3] + other.affine[2, 0] * np.arange(len(other.hu))
    inner = slice(2, -2)
    assert other.hu[inner, 1, 1] == pytest.approx((z[inner] + 7.0) / 2.0 * 20, abs=0.51)
    assert z[-1] <= -7.0 + 29 * 2.0 + 1e-6
    places = slice_places(volume_of(ramp, affine), slice_mm)
    assert len(labels_at(np.zeros((30, 4, 4), np.uint8), places)) == len(other.hu)
