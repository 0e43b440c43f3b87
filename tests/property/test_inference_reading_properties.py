"""What must hold of a reading whatever the volume: findings move with the volume, numbers are never given twice."""

import dataclasses
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.catalogue import find_entry
from config.settings import Read
from inference.chain import build_part
from inference.detect import DotDetector
from inference.findings import KeySlice, MaskCrop, Nodule
from inference.lungs import Lungs
from inference.matching import match, vanished
from inference.measure import axes_of, measure_nodule
from inference.reader import Outliner
from inference.volume import Volume
from tests.unit.inference.balls import affine_of, volume_of

SHAPE, SPACING = (36, 44, 48), (1.4, 1.0, 1.0)


def turned(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same patient on another grid: axes in another order, some of them reversed."""
    hu, affine = volume.hu.transpose(order), volume.affine.copy()
    affine[:, :3] = affine[:, order]
    for axis, flip in enumerate(flips):
        if flip:
            hu = np.flip(hu, axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    return dataclasses.replace(volume_of(np.ascontiguousarray(hu), affine), series_instance_uid="turned")


def balls(seed: int) -> Volume:
    """Three balls of lung HU contrast somewhere in a block of lung."""
    rng = np.random.default_rng(seed)
    grid = [np.arange(n) * mm for n, mm in zip(SHAPE, SPACING, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    hu = rng.normal(-850, 20, SHAPE)
    for corner in ((12, 12, 12), (38, 30, 14), (24, 18, 36)):
        centre = np.array(corner) + rng.uniform(-1.5, 1.5, 3)
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        share = np.clip(rng.uniform(3, 5) - distance + 0.5, 0, 1)
        hu = hu * (1 - share) + rng.uniform(-200, 60) * share
    return volume_of(hu.astype(np.int16), affine_of(SPACING, (-20.0, 5.0, 100.0)))


@cache
def outliner_of(name: str) -> Outliner:
    outliner: Outliner = build_part(find_entry(name, "outliner"), torch.device("cpu"))
    return outliner


def found(volume: Volume, outliner: Outliner) -> list[Nodule]:
    """Strong places with an outline, measured, in an order that does not hang on the grid."""
    lungs = Lungs(np.ones(volume.hu.shape, np.uint8), 50.0, (0.0, 0.0), 10.0, 0.0)
    detector = DotDetector(find_entry("hessian-dot", "detector"), torch.device("cpu"))

    def silent(stage: str, done: int, total: int) -> None: ...

    spots = [s for s in detector.detect(volume, lungs, silent) if detector.is_strong(s)]
    masks = outliner.outline(volume, lungs, spots, silent)
    nodules = [measure_nodule(volume, m, n, lungs) for n, m in enumerate(masks) if m is not None]
    return sorted(nodules, key=lambda n: n.centre_lps_mm[2])


turns = given(
    seed=st.integers(0, 5),
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


def look_the_same(name: str, seed: int, order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    """The findings of a volume and of the same volume stored the other way round, by an outliner of the catalogue."""
    volume, outliner = balls(seed), outliner_of(name)
    here, there = found(volume, outliner), found(turned(volume, order, flips), outliner)
    assert len(here) == len(there) == 3
    for one, other in zip(here, there, strict=True):
        assert other.centre_lps_mm == pytest.approx(one.centre_lps_mm, abs=0.3)
        assert other.volume_mm3 == pytest.approx(one.volume_mm3, rel=0.1, abs=5)
        assert other.mean_hu == pytest.approx(one.mean_hu, abs=30)


@settings(max_examples=12, deadline=None, derandomize=True)
@turns
def test_findings_move_with_the_volume(seed: int, order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    look_the_same("outline-seeded", seed, order, flips)


@settings(max_examples=4, deadline=None, derandomize=True)
@turns
def test_findings_of_the_shipped_outliner_move_with_the_volume(
    seed: int, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    look_the_same(find_entry(Read().detector, "detector").outliner, seed, order, flips)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(0, 3))
def test_axes_do_not_hang_on_how_the_slice_lies(seed: int, turns: int) -> None:
    area = np.random.default_rng(seed).random((9, 9)) > 0.6
    area[4, 4] = True
    one, other = axes_of(area, (0.7, 0.7)), axes_of(np.rot90(area, turns), (0.7, 0.7))
    assert other.long_mm == pytest.approx(one.long_mm)
    assert one.short_mm <= one.long_mm


def nodule(number: int, place: tuple[int, int]) -> Nodule:
    mask, key = MaskCrop((0, 0, 0), np.ones((1, 1, 1), bool)), KeySlice("1.2", 0, (0.5, 0.5), 0.5)
    centre = (float(place[0]), float(place[1]), 0.0)
    return Nodule(number, f"2.25.{number}", centre, mask, key, 10.0, 10.0, 10.0, 1, 1, None)


places = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)


@given(before=places, after=places, used=st.integers(0, 20))
def test_numbers_are_kept_or_new_and_never_given_twice(before: list[Any], after: list[Any], used: int) -> None:
    old = [nodule(n, place) for n, place in enumerate(before, start=1)]
    new = match(old, [nodule(n, place) for n, place in enumerate(after, start=1)], used, lambda n: f"2.25.{n}")
    numbers = [n.number for n in new]
    assert len(set(numbers)) == len(after)
    assert numbers == sorted(numbers)
    assert all(n.number <= len(old) or n.number > max(used, len(old)) for n in new)
    assert all(n.tracking_uid == f"2.25.{n.number}" for n in new)
    assert {n.centre_lps_mm for n in new} == {(float(x), float(y), 0.0) for x, y in after}
    assert len(vanished(old, new)) == len(old) - sum(n.number <= len(old) for n in new)
