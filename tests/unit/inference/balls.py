"""Volumes of balls: two ellipsoids of lung in a block of tissue, with balls of known place and size in them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.lungs import LEFT, RIGHT, Lungs
from inference.volume import Volume

Point = tuple[float, float, float]


def affine_of(spacing_mm: Point = (2.0, 1.5, 1.5), origin: Point = (0.0, 0.0, 0.0)) -> npt.NDArray[np.float64]:
    """k towards the head, j towards the back, i towards the left, as most CTs are."""
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 1], affine[2, 0] = spacing_mm[2], spacing_mm[1], spacing_mm[0]
    affine[:3, 3] = origin
    affine[3, 3] = 1
    return affine


def volume_of(hu: npt.NDArray[np.int16], affine: npt.NDArray[np.float64]) -> Volume:
    return Volume(
        hu=hu,
        affine=affine,
        series_instance_uid="1.2.3",
        modality="CT",
        sop_instance_uids=tuple(f"1.2.3.{k}" for k in range(len(hu))),
        series_number="4",
    )


def chest(
    balls: Sequence[tuple[Point, float, float]] = (),
    *,
    shape: tuple[int, int, int] = (72, 112, 160),
    spacing_mm: Point = (2.0, 1.5, 1.5),
    noise_hu: float = 15.0,
) -> Volume:
    """Room air, an oval of tissue, two lungs of about 0.5 l each, and balls (centre LPS mm, diameter mm, HU).

    A ball's edge is as wide as a voxel (its share of each voxel counts), so that its volume is its own.
    """
    affine = affine_of(spacing_mm)
    z, y, x = (
        np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]) * mm
        for axis, (n, mm) in enumerate(zip(shape, spacing_mm, strict=True))
    )
    middle = [(n - 1) * mm / 2 for n, mm in zip(shape, spacing_mm, strict=True)]
    hu = np.full(shape, -1000.0)
    hu[np.broadcast_to(((y - middle[1]) / 76) ** 2 + ((x - middle[2]) / 112) ** 2 < 1, shape)] = 40
    for side in (-1, 1):
        lung = ((z - middle[0]) / 62) ** 2 + ((y - middle[1]) / 58) ** 2 + ((x - middle[2] - side * 50) / 40) ** 2 < 1
        hu[lung] = -850
    for centre, diameter_mm, ball_hu in balls:
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        share = np.clip((diameter_mm / 2 - distance) / max(spacing_mm) + 0.5, 0, 1)
        hu = hu * (1 - share) + ball_hu * share
    if noise_hu:
        hu = hu + np.random.default_rng(7).normal(0, noise_hu, shape)
    return volume_of(np.round(hu).astype(np.int16), affine)


def all_lung(volume: Volume) -> Lungs:
    """Every voxel is lung, the half of low x the right one."""
    labels = np.full(volume.hu.shape, RIGHT, np.uint8)
    labels[:, :, volume.hu.shape[2] // 2 :] = LEFT
    return Lungs(labels, 1000.0, (0.0, 0.0), 100.0, 0.0)
