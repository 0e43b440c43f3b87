"""What must hold of a whole reading on any grid: the same patient, the same findings, sizes within their stated errors."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.chain import build_chain
from inference.errors import ReadingError
from inference.findings import Reading
from inference.reader import Chain, ReadLimits, read
from inference.volume import Volume
from tests.unit.inference.balls import affine_of, chest, volume_of

BALLS = (((70.0, 80.0, 70.0), 11.0, -30.0), ((165.0, 95.0, 60.0), 14.0, 20.0), ((172.0, 70.0, 96.0), 9.0, -60.0))


@pytest.fixture(scope="module")
def chain() -> Chain:
    return build_chain("hessian-dot", "cpu")


@pytest.fixture(scope="module")
def patient() -> Volume:
    return chest(BALLS)


@pytest.fixture(scope="module")
def reading(chain: Chain, patient: Volume) -> Reading:
    return read(patient, chain, ReadLimits())


def stated(found: Reading) -> list[dict[str, Any]]:
    """All that a reading says of its nodules, but UIDs."""
    return [
        {
            **{f.name: getattr(n, f.name) for f in dataclasses.fields(n) if f.name not in ("mask", "key_slice")},
            "mask": (n.mask.start, n.mask.voxels.tobytes()),
            "slice": n.key_slice.slice_index,
        }
        for n in found.nodules or ()
    ]


def resampled(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """The same patient as a scanner with other voxels would see it: smoothed to them, then sampled."""
    old = np.array(volume.spacing_mm)
    new = np.array(spacing_mm)
    sigma = np.sqrt(np.maximum(new**2 - old**2, 0)) / 2.355 / old
    smooth = ndi.gaussian_filter(volume.hu.astype(np.float32), sigma)
    hu = ndi.affine_transform(
        smooth, new / old, output_shape=tuple(int(n) for n in np.array(smooth.shape) * old / new), order=1
    )
    return volume_of(np.rint(hu).astype(np.int16), affine_of(spacing_mm))


def test_the_patient_has_its_three_nodules(reading: Reading) -> None:
    assert reading.nodules is not None
    found = sorted(n.centre_lps_mm for n in reading.nodules)
    assert len(found) == 3
    for place, ((x, y, z), _, _) in zip(found, sorted(BALLS), strict=True):
        assert place == pytest.approx((x, y, z), abs=1.0)


def test_two_readings_of_one_volume_are_equal(chain: Chain, patient: Volume, reading: Reading) -> None:
    assert stated(read(patient, chain, ReadLimits())) == stated(reading)


def test_new_uids_and_a_shifted_origin_give_the_same_reading(chain: Chain, patient: Volume, reading: Reading) -> None:
    """Places move with the origin, everything else is the same to the last digit."""
    affine, shift = patient.affine.copy(), np.array([-311.5, 1250.25, -87.75])
    affine[:3, 3] += shift
    other = dataclasses.replace(
        volume_of(patient.hu, affine), series_instance_uid="2.25.99", series_number="77", description="renamed"
    )
    other = dataclasses.replace(other, sop_instance_uids=tuple(f"2.25.99.{k}" for k in range(len(patient.hu))))
    moved = stated(read(other, chain, ReadLimits()))
    for one, two in zip(stated(reading), moved, strict=True):
        here, there = one.pop("centre_lps_mm"), two.pop("centre_lps_mm")
        assert there == pytest.approx(tuple(np.array(here) + shift), abs=0.011)
        assert one == two


@pytest.mark.parametrize("spacing_mm", [(1.25, 1.5, 1.5), (2.5, 1.5, 1.5), (3.0, 1.0, 1.0)])
def test_resampling_changes_sizes_by_less_than_the_stated_errors(
    chain: Chain, patient: Volume, reading: Reading, spacing_mm: tuple[float, float, float]
) -> None:
    again = read(resampled(patient, spacing_mm), chain, ReadLimits())
    assert again.nodules is not None
    assert reading.nodules is not None
    assert len(again.nodules) == len(reading.nodules)
    for one in reading.nodules:
        two = min(again.nodules, key=lambda n: float(np.linalg.norm(np.subtract(n.centre_lps_mm, one.centre_lps_mm))))
        assert abs(two.volume_mm3 - one.volume_mm3) < error(one.volume_error_mm3, two.volume_error_mm3)
        assert abs((two.mass_mg or 0) - (one.mass_mg or 0)) < error(one.mass_error_mg, two.mass_error_mg)
        assert abs(two.mean_diameter_mm - one.mean_diameter_mm) < error(one.size_error_mm, two.size_error_mm)


def error(one: float | None, other: float | None) -> float:
    """Of two measurements the larger: the coarser grid's."""
    assert one is not None
    assert other is not None
    return max(one, other)


@pytest.mark.parametrize("noise_hu", [0.0, 15.0])
def test_an_empty_lung_gives_no_finding(chain: Chain, noise_hu: float) -> None:
    assert read(chest((), noise_hu=noise_hu), chain, ReadLimits()).nodules == ()


cuts = st.tuples(st.integers(0, 40), st.integers(1, 72))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cut=cuts, rows=st.integers(40, 112), step=st.sampled_from([1, 2, 4]), order=st.sampled_from([0, 1]))
def test_a_truncated_or_anisotropic_series_never_crashes(
    chain: Chain, patient: Volume, cut: tuple[int, int], rows: int, step: int, order: int
) -> None:
    """It is read, in part or whole, or turned away with a reason; never anything else."""
    hu: npt.NDArray[np.int16] = patient.hu[cut[0] : cut[0] + cut[1] : step, :rows]
    spacing = (2.0 * step, 1.5, 1.5)
    if order:
        hu = hu[::-1]
    part = volume_of(np.ascontiguousarray(hu), affine_of(spacing))
    try:
        found = read(part, chain, ReadLimits())
    except ReadingError:
        return
    assert found.nodules is not None
    for nodule in found.nodules:
        end = np.array(nodule.mask.start) + nodule.mask.voxels.shape
        assert (np.array(nodule.mask.start) >= 0).all()
        assert (end <= hu.shape).all()
        assert 0 < nodule.short_axis_mm <= nodule.long_axis_mm
