"""Lungs of whatever comes: cut anywhere, of any spacing, turned or not; and lungs without a nodule give none."""

from contextlib import suppress
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from config.catalogue import find_entry
from inference.chain import build_chain
from inference.errors import NoLung, ReadingError
from inference.lungs import AirLungs, judge_wholeness
from inference.reader import ReadLimits, read
from inference.volume import Volume
from tests.unit.inference.balls import affine_of, chest, volume_of


@cache
def whole() -> Volume:
    return chest()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    start=st.tuples(st.integers(0, 70), st.integers(0, 100), st.integers(0, 150)),
    length=st.tuples(st.integers(1, 72), st.integers(1, 112), st.integers(1, 160)),
    step=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_a_cut_or_anisotropic_volume_gives_lungs_or_a_reason(
    start: tuple[int, int, int],
    length: tuple[int, int, int],
    step: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> None:
    part = tuple(slice(s, s + n, f) for s, n, f in zip(start, length, step, strict=True))
    hu = whole().hu[part]
    mm = tuple(float(m * f) for m, f in zip((2.0, 1.5, 1.5), step, strict=True))
    affine = affine_of((mm[0], mm[1], mm[2]))
    for axis, flip in enumerate(flips):
        if flip:
            hu, affine[:, axis] = np.flip(hu, axis), -affine[:, axis]
    volume = volume_of(np.ascontiguousarray(hu), affine)
    try:
        lungs = AirLungs(find_entry("lungs-air", "lungs")).segment(volume)
    except NoLung:
        return
    assert lungs.labels.shape == volume.hu.shape
    assert set(np.unique(lungs.labels)) <= {0, 1, 2}
    assert lungs.volume_ml > 0
    with suppress(ReadingError):  # nothing else may come out of it
        judge_wholeness(lungs, may_wait=False)


def test_lungs_without_a_nodule_give_none() -> None:
    reading = read(whole(), build_chain("hessian-dot", "cpu"), ReadLimits())
    assert reading.nodules == ()
