"""What must hold of outlines by a network whatever the volume: they move with it, stay apart, and stay in the lungs."""

import dataclasses
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.findings import MaskCrop
from inference.lungs import Lungs
from inference.outline_net import NetOutliner
from inference.reader import Spot
from inference.volume import Volume
from tests.unit.inference.balls import affine_of, volume_of
from tests.unit.inference.bright_net import bright_entry

SHAPE, SPACING = (24, 40, 44), (1.4, 1.0, 1.0)


@pytest.fixture(scope="module")
def outliner(tmp_path_factory: pytest.TempPathFactory) -> NetOutliner:
    folder = tmp_path_factory.mktemp("weights")
    entry = bright_entry(folder, mirrored=8, diameter_mm_min=3.0).model_copy(update={"folder": folder})
    return NetOutliner(entry, torch.device("cpu"))


def scene(seed: int) -> tuple[Volume, Lungs, list[Spot]]:
    """Some balls, of which some touch or lie in each other, a lung that ends somewhere, and a spot near each ball."""
    rng = np.random.default_rng(seed)
    grid = [np.arange(n) * mm for n, mm in zip(SHAPE, SPACING, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    hu = rng.normal(-850, 20, SHAPE)
    spots = []
    for _ in range(int(rng.integers(1, 5))):
        centre, radius = rng.uniform((8, 10, 10), (24, 28, 32)), rng.uniform(2.5, 6)
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        hu = np.maximum(hu, -850 + 880 * np.clip(radius - distance + 0.5, 0, 1))
        k, j, i = (centre + rng.uniform(-1, 1, 3)) / SPACING
        spots.append(Spot((float(k), float(j), float(i)), 1.0, float(radius * rng.uniform(1.4, 2.6))))
    labels = np.ones(SHAPE, np.uint8)
    labels[:, int(rng.integers(20, 40)) :] = 0
    labels.flags.writeable = False
    return (
        volume_of(hu.astype(np.int16), affine_of(SPACING, (-20.0, 5.0, 100.0))),
        Lungs(labels, 1.0, (0, 0), 1.0, 0),
        spots,
    )


def turned(
    volume: Volume, lungs: Lungs, spots: Sequence[Spot], order: tuple[int, ...], flips: tuple[bool, ...], real: bool
) -> tuple[Volume, Lungs, list[Spot]]:
    """The same scene on another grid (`real`: its affine says so), or a mirrored patient on the same one."""
    hu, labels, affine = volume.hu.transpose(order), lungs.labels.transpose(order), volume.affine.copy()
    affine[:, :3] = affine[:, order]
    places = [[spot.centre[axis] for axis in order] for spot in spots]
    for axis, flip in enumerate(flips):
        if flip:
            hu, labels = np.flip(hu, axis), np.flip(labels, axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
            for place in places:
                place[axis] = hu.shape[axis] - 1 - place[axis]
    if not real:
        affine = volume.affine
    moved = [dataclasses.replace(s, centre=(p[0], p[1], p[2])) for s, p in zip(spots, places, strict=True)]
    return volume_of(np.ascontiguousarray(hu), affine), dataclasses.replace(lungs, labels=labels), moved


def masks(outliner: NetOutliner, volume: Volume, lungs: Lungs, spots: Sequence[Spot]) -> list[np.ndarray | None]:
    """On the whole grid."""

    def whole(mask: MaskCrop) -> np.ndarray:
        full = np.zeros(volume.hu.shape, bool)
        full[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
        return full

    found = outliner.outline(volume, lungs, spots, lambda stage, done, total: None)
    return [None if mask is None else whole(mask) for mask in found]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    real=st.booleans(),
)
def test_outlines_move_with_the_volume(
    outliner: NetOutliner, seed: int, order: tuple[int, ...], flips: tuple[bool, ...], real: bool
) -> None:
    """Stored otherwise, or another patient who is the mirror image: the same voxels but for rounding at the edge."""
    if not real:
        order = (0, 1, 2)
    volume, lungs, spots = scene(seed)
    there = turned(volume, lungs, spots, order, flips, real)
    for one, other in zip(masks(outliner, volume, lungs, spots), masks(outliner, *there), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            moved = one.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
            assert np.count_nonzero(moved != other) <= 0.02 * np.count_nonzero(one) + 1


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_outlines_share_no_voxel_stay_in_the_lungs_and_are_whole_pieces(outliner: NetOutliner, seed: int) -> None:
    volume, lungs, spots = scene(seed)
    found = [mask for mask in masks(outliner, volume, lungs, spots) if mask is not None]
    total = np.zeros(SHAPE, int)
    for mask in found:
        total += mask
    assert total.max(initial=0) <= 1
    assert not (total * (lungs.labels == 0)).any()
