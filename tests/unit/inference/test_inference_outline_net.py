"""Outlines by a network: the body at the spot, apart from others, in the lungs, however the volume is stored.

The network marks what is bright (weights set by hand), so that these tests are about all that is around it.
"""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference import outline_unet
from inference.errors import ModelRefused
from inference.findings import MaskCrop
from inference.lungs import Lungs
from inference.outline_body import BodyFinder
from inference.outline_net import NetOutliner
from inference.reader import Spot
from inference.volume import Volume

from .balls import affine_of, all_lung, volume_of
from .bright_net import bright_entry

SHAPE, SPACING = (48, 80, 80), (1.25, 0.8, 0.8)
CPU = torch.device("cpu")
Ball = tuple[tuple[float, float, float], float]


@pytest.fixture(scope="module")
def outliner(tmp_path_factory: pytest.TempPathFactory) -> NetOutliner:
    folder = tmp_path_factory.mktemp("weights")
    return NetOutliner(in_folder(folder), CPU)


def in_folder(folder: Path, **changes: int | float):  # type: ignore[no-untyped-def]
    """The entry, its weights in this folder."""
    return bright_entry(folder, **changes).model_copy(update={"folder": folder})


def lung_with(*balls: Ball, shape: tuple[int, int, int] = SHAPE, hu: float = 30.0) -> Volume:
    """A block of lung with balls of one density: centre (k, j, i) in mm, diameter in mm."""
    grid = [np.arange(n) * mm for n, mm in zip(shape, SPACING, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    values = np.full(shape, -850.0)
    for centre, diameter_mm in balls:
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        values = np.maximum(values, -850 + (hu + 850) * np.clip(diameter_mm / 2 - distance + 0.5, 0, 1))
    return volume_of(values.astype(np.int16), affine_of(SPACING))


def spot_at(centre_mm: tuple[float, float, float], size_mm: float) -> Spot:
    k, j, i = (c / s for c, s in zip(centre_mm, SPACING, strict=True))
    return Spot((k, j, i), 1.0, size_mm)


def outlines(outliner: NetOutliner, volume: Volume, *spots: Spot, lungs: Lungs | None = None) -> list[MaskCrop | None]:
    return list(outliner.outline(volume, lungs or all_lung(volume), spots, lambda stage, done, total: None))


def whole(mask: MaskCrop | None, shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.bool_]:
    """The mask on the volume's grid."""
    assert mask is not None
    full = np.zeros(shape, bool)
    full[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
    return full


def diameter_mm(mask: MaskCrop | None, shape: tuple[int, int, int] = SHAPE) -> float:
    return float((6 / np.pi * whole(mask, shape).sum() * np.prod(SPACING)) ** (1 / 3))


@pytest.mark.parametrize("size", [5.0, 9.0, 20.0])
@pytest.mark.parametrize("seen", [0.7, 1.4])
def test_a_ball_is_outlined_on_the_source_grid(outliner: NetOutliner, size: float, seen: float) -> None:
    volume = lung_with(((30.0, 32.0, 33.0), size))
    (mask,) = outlines(outliner, volume, spot_at((30.5, 32.8, 32.4), size * seen))
    assert diameter_mm(mask) == pytest.approx(size, abs=0.8)
    assert not mask.voxels.flags.writeable if mask else False


def test_a_mass_of_80_mm_is_one_outline_though_the_detector_saw_a_quarter_of_it(outliner: NetOutliner) -> None:
    shape = (80, 130, 130)
    volume = lung_with(((50.0, 52.0, 52.0), 80.0), shape=shape)
    masks = outlines(outliner, volume, spot_at((50.0, 55.0, 50.0), 20.0), spot_at((60.0, 60.0, 45.0), 20.0))
    assert diameter_mm(masks[0], shape) == pytest.approx(80.0, abs=2.5)
    assert masks[1] is None


def test_touching_balls_are_told_apart_and_share_no_voxel(outliner: NetOutliner) -> None:
    one, other = (30.0, 32.0, 27.0), (30.0, 32.0, 37.0)
    masks = outlines(outliner, lung_with((one, 10.5), (other, 10.5)), spot_at(one, 9.0), spot_at(other, 9.0))
    assert [diameter_mm(m) for m in masks] == pytest.approx([10.5, 10.5], abs=0.8)
    assert not (whole(masks[0]) & whole(masks[1])).any()


def test_two_spots_on_one_ball_are_one_nodule_the_stronger_one(outliner: NetOutliner) -> None:
    centre = (30.0, 32.0, 33.0)
    masks = outlines(outliner, lung_with((centre, 16.0)), spot_at(centre, 14.0), spot_at((30.0, 35.0, 33.0), 9.0))
    assert diameter_mm(masks[0]) == pytest.approx(16.0, abs=0.8)
    assert masks[1] is None


def test_nothing_is_marked_outside_the_lungs(outliner: NetOutliner) -> None:
    centre = (30.0, 32.0, 33.0)
    labels = np.ones(SHAPE, np.uint8)
    labels[:, 42:] = 0  # the wall runs through the ball, 1.6 mm from its centre
    lungs = Lungs(labels, 100.0, (0.0, 0.0), 10.0, 0.0)
    (mask,) = outlines(outliner, lung_with((centre, 14.0)), spot_at(centre, 13.0), lungs=lungs)
    assert whole(mask).any()
    assert not (whole(mask) & (labels == 0)).any()


def test_what_lies_elsewhere_or_is_too_small_has_no_outline(outliner: NetOutliner) -> None:
    small = lung_with(((30.0, 32.0, 33.0), 3.0))
    assert outlines(outliner, small, spot_at((30.0, 32.0, 33.0), 5.0)) == [None]
    far = lung_with(((30.0, 32.0, 33.0), 8.0))
    assert outlines(outliner, far, spot_at((30.0, 45.0, 45.0), 8.0)) == [None]
    assert outlines(outliner, lung_with(), spot_at((30.0, 32.0, 33.0), 8.0)) == [None]


@pytest.mark.parametrize(
    ("hu", "size", "outlined"), [(-370.0, 9.0, False), (-340.0, 9.0, True), (-340.0, 16.0, False), (-300.0, 16.0, True)]
)
def test_a_body_that_the_network_is_not_sure_of_has_no_outline(
    outliner: NetOutliner, hu: float, size: float, outlined: bool
) -> None:
    """This network's likelihood is 0.77 at -370 HU, 0.92 at -340 HU and 0.98 at -300 HU; larger bodies must be surer."""
    volume = lung_with(((30.0, 32.0, 33.0), size), hu=hu)
    (mask,) = outlines(outliner, volume, spot_at((30.0, 32.0, 33.0), size))
    assert (mask is not None) == outlined


def test_a_spot_at_the_volumes_corner_is_no_trouble(outliner: NetOutliner) -> None:
    (mask,) = outlines(outliner, lung_with(((2.0, 2.0, 2.0), 9.0)), spot_at((1.0, 1.0, 1.0), 9.0))
    assert whole(mask)[0, 0, 0]


def test_the_same_reading_twice_is_the_same_to_the_voxel(outliner: NetOutliner) -> None:
    volume = lung_with(((30.0, 32.0, 33.0), 11.0), ((30.0, 32.0, 43.0), 8.0))
    spots = (spot_at((30.0, 32.0, 33.0), 10.0), spot_at((30.0, 32.0, 43.0), 8.0))
    one, other = outlines(outliner, volume, *spots), outlines(outliner, volume, *spots)
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(whole(a), whole(b))


def test_weights_that_are_not_the_catalogues_are_refused(tmp_path: Path) -> None:
    entry = in_folder(tmp_path)
    file = tmp_path / entry.weights
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelRefused, match="SHA-256"):
        NetOutliner(entry, CPU)
    file.unlink()
    with pytest.raises(ModelRefused):
        NetOutliner(entry, CPU)


def test_a_device_without_memory_leaves_the_work_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outliner: NetOutliner
) -> None:
    """The device is a made one: what is asked of it runs out of memory."""
    volume, spot = lung_with(((30.0, 32.0, 33.0), 9.0)), spot_at((30.0, 32.0, 33.0), 9.0)
    small = NetOutliner(in_folder(tmp_path), torch.device("meta"))
    mean = type(small._finder)._mean

    asked = []

    def out_of_memory(self, hu, grid, device, at_once):  # type: ignore[no-untyped-def]
        asked.append((device.type, at_once))
        if device.type == "meta":
            raise torch.cuda.OutOfMemoryError("none left")
        return mean(self, hu, grid, device, at_once)

    monkeypatch.setattr(type(small._finder), "_mean", out_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    (there,), (here,) = outlines(small, volume, spot), outlines(outliner, volume, spot)
    assert np.array_equal(whole(there), whole(here))
    assert asked[:3] == [("meta", 8), ("meta", 1), ("cpu", 1)]


def test_more_mirrored_copies_change_nothing_where_the_network_is_the_same_in_all(
    tmp_path: Path, outliner: NetOutliner
) -> None:
    volume, spot = lung_with(((30.0, 32.0, 33.0), 9.0)), spot_at((30.3, 32.0, 33.4), 9.0)
    eight = NetOutliner(in_folder(tmp_path, mirrored=8), CPU)
    (one,), (other,) = outlines(outliner, volume, spot), outlines(eight, volume, spot)
    assert np.array_equal(whole(one), whole(other))


def test_an_array_stored_the_other_way_round_has_the_outline_at_the_other_end(outliner: NetOutliner) -> None:
    """k towards the feet: the same patient, the same voxels."""
    volume = lung_with(((22.0, 32.0, 33.0), 9.0))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (SHAPE[0] - 1)
    affine[:3, 0] *= -1
    flipped = dataclasses.replace(volume, hu=np.ascontiguousarray(volume.hu[::-1]), affine=affine)
    k, j, i = spot_at((22.0, 32.0, 33.0), 9.0).centre
    (one,) = outlines(outliner, volume, Spot((k, j, i), 1.0, 9.0))
    (other,) = outlines(outliner, flipped, Spot((SHAPE[0] - 1 - k, j, i), 1.0, 9.0))
    assert np.array_equal(whole(one), whole(other)[::-1])


def test_all_mirrored_copies_at_once_as_on_a_gpu_give_the_same_outlines(
    outliner: NetOutliner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = lung_with(((30.0, 32.0, 33.0), 9.0), ((18.0, 40.0, 20.0), 22.0))
    spots = (spot_at((30.5, 32.8, 32.4), 9.0), spot_at((18.0, 40.0, 20.0), 10.0))
    one_by_one = outlines(outliner, volume, *spots)
    monkeypatch.setitem(outline_unet._SLICES_AT_ONCE, "cpu", 512)
    other = NetOutliner(in_folder(tmp_path), CPU)
    other._finder._rungs = [(CPU, 8)]
    at_once = outlines(other, volume, *spots)
    for mask, its in zip(one_by_one, at_once, strict=True):
        assert np.array_equal(whole(mask), whole(its))


def test_a_place_is_looked_at_once_in_a_reading_and_anew_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outliner = NetOutliner(in_folder(tmp_path), CPU)
    seen: list[tuple[float, ...]] = []
    look = BodyFinder.look

    def counted(self: BodyFinder, hu: object, spacing_mm: object, centre: tuple[float, ...], *more: object) -> object:
        seen.append(centre)
        return look(self, hu, spacing_mm, centre, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(BodyFinder, "look", counted)
    ball, spot = ((30.0, 32.0, 33.0), 9.0), spot_at((30.5, 32.8, 32.4), 9.0)
    volume = lung_with(ball)
    lungs = all_lung(volume)
    first, second = (outlines(outliner, volume, spot, lungs=lungs) for _ in range(2))
    assert len(seen) == 1
    assert np.array_equal(whole(first[0]), whole(second[0]))
    assert outlines(outliner, lung_with(), spot, lungs=lungs) == [None]  # the same lungs, another volume
    outlines(outliner, volume, spot)  # the same volume, other lungs
    assert len(seen) == 3
