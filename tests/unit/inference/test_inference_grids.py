"""Whole grids: what a GPU is given does what scipy does, and threads change nothing."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import grids
from inference.device import CPU
from inference.grids import _distance, distance_mm, in_threads, on, smoothed

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 7))


def drawn(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 300, shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 99), st.floats(0.3, 4.0), st.sampled_from([2.0, 3.0, 4.0]))
def test_a_gpu_smooths_as_scipy_does_also_what_is_thinner_than_the_kernel(
    shape: tuple[int, int, int], seed: int, sigma: float, truncate: float
) -> None:
    values = drawn(shape, seed)
    ours = torch.from_numpy(values)
    for axis in range(3):
        ours = grids._along(ours, axis, sigma, truncate)
    expected = ndi.gaussian_filter(values, sigma, truncate=truncate)
    assert ours.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_a_cpu_smooths_to_the_same_numbers_with_one_thread_and_with_many() -> None:
    values = drawn((40, 90, 80), 3)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(smoothed(torch.from_numpy(values), (0.5, 1.2, 0.7), truncate=3).numpy())
    finally:
        torch.set_num_threads(before)
    expected = ndi.gaussian_filter(values, (0.5, 1.2, 0.7), truncate=3)
    assert all(np.array_equal(one, expected) for one in found)


def test_pieces_come_back_in_their_order() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert in_threads(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    finally:
        torch.set_num_threads(before)


def test_a_fault_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 // n, (2, 1, 0))


def test_what_is_read_only_or_flipped_goes_onto_a_device_too() -> None:
    values = drawn((3, 4, 5), 1)
    values.flags.writeable = False
    assert np.array_equal(on(torch.device("cpu"), values).numpy(), values)
    for part in (values[::-1, :, ::-1], values[:, 1:3, ::2], values.copy()[:1][::-1]):
        assert np.array_equal(on(torch.device("cpu"), part).numpy(), part)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 99), st.sampled_from([0.02, 0.2, 0.7]), st.sampled_from([2.5, 7.0, np.inf]))
def test_a_gpu_measures_distances_as_scipy_does_as_far_as_they_are_asked_for(
    shape: tuple[int, int, int], seed: int, share: float, reach_mm: float
) -> None:
    seeds = np.random.default_rng(seed).random(shape) < share
    seeds.flat[seed % seeds.size] = True
    cell_mm = (2.5, 1.6, 0.7)
    found = _distance(seeds, cell_mm, reach_mm, CPU)
    expected = distance_mm(seeds, cell_mm, CPU)
    near = expected <= reach_mm
    assert found[near] == pytest.approx(expected[near])
    assert (found[~near] > reach_mm).all()
