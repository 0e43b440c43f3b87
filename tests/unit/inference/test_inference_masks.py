"""Morphology by shifted slices: cell for cell what scipy does."""

import numpy as np
import scipy.ndimage as ndi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.masks import IN_PLANE, box_of, by_slabs, dilated, eroded, opened

CROSS = ndi.generate_binary_structure(3, 1)
SLICE = CROSS & np.array([False, True, False])[:, None, None]


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 9), st.integers(1, 9)))
    share = draw(st.sampled_from([0.0, 0.2, 0.6, 0.9, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 999))).random(shape) < share


@settings(max_examples=60, deadline=None)
@given(masks(), st.sampled_from([((0, 1, 2), CROSS), (IN_PLANE, SLICE)]), st.integers(1, 3), st.integers(1, 4))
def test_as_scipy_does_it_whatever_the_number_of_threads(
    mask: np.ndarray, along: tuple[tuple[int, ...], np.ndarray], times: int, threads: int
) -> None:
    axes, structure = along
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert np.array_equal(dilated(mask, axes, times), ndi.binary_dilation(mask, structure, iterations=times))
        assert np.array_equal(eroded(mask, axes, times), ndi.binary_erosion(mask, structure, iterations=times))
        assert np.array_equal(opened(mask, axes), ndi.binary_opening(mask, structure))
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(masks())
def test_a_box_holds_all_of_a_mask_and_no_more(mask: np.ndarray) -> None:
    box = box_of(mask)
    assert mask[box].sum() == mask.sum()
    if mask.any():
        assert box == ndi.find_objects(mask.astype(int))[0]
        wide = box_of(mask, (1, 2, 20))
        assert all(
            0 <= w.start <= b.start <= b.stop <= w.stop <= n for w, b, n in zip(wide, box, mask.shape, strict=True)
        )
        assert wide[0].start == max(0, box[0].start - 1)
        assert wide[2] == slice(0, mask.shape[2])


def test_slabs_are_all_slices_once() -> None:
    for length in (0, 1, 7, 40):
        seen = np.zeros(length, int)

        def work(slab: slice, seen: np.ndarray = seen) -> None:
            seen[slab] += 1

        by_slabs(work, length)
        assert (seen == 1).all()
