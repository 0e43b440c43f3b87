"""Between our volumes and a bundle's world: HU [k, j, i] with an affine to LPS mm, images [c, x, y, z] with one to RAS or LPS.

MONAI's world is RAS (x to the right, y to the front). A bundle whose loader says `affine_lps_to_ras = false` was made in
LPS all the same; its letters "RAS" then only mean "along the axes of the world". `affine_lps_to_ras = true` at the boxes
turns them round once more. Nothing is interpolated here.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor

from inference.masks import box_of
from inference.volume import Volume

MARGIN_MM: Final = 20.0
"""What a network sees beyond the box of the lungs."""

_LETTERS: Final = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
_TURNED: Final = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS, and back


@dataclass(frozen=True)
class World:
    """What a bundle takes and gives.

    `axes`: letters of the axes of its images (`RAS`); empty: columns, rows, slices as they are stored. `image_is_ras`: its
    images' affine leads to RAS, else to LPS. `boxes_turned`: its boxes lie in the other of the two worlds.
    """

    axes: str = "RAS"
    image_is_ras: bool = True
    boxes_turned: bool = False

    def to_lps(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Points (n, 3) in mm of the bundle's boxes, in LPS mm."""
        is_ras = self.image_is_ras != self.boxes_turned
        return points * np.array([-1.0, -1.0, 1.0]) if is_ras else points


def image_of(volume: Volume, inside: npt.NDArray[np.generic], world: World) -> MetaTensor:
    """The part of a volume around `inside`, as a loader of MONAI gives it: float32 [1, x, y, z] with its affine.

    Args:
        inside: [k, j, i], not zero where it matters; the image is its box and 20 mm around it.
    """
    box = box_of(inside != 0, [int(np.ceil(MARGIN_MM / mm)) for mm in volume.spacing_mm])
    start = np.array([float(side.start) for side in box])
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    values = volume.hu[box].transpose(2, 1, 0)
    affine = affine[:, [2, 1, 0, 3]]
    if world.image_is_ras:
        affine = _TURNED @ affine
    if world.axes:
        values, affine = along(values, affine, world.axes)
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32)[None])
    return MetaTensor(tensor, affine=torch.from_numpy(np.ascontiguousarray(affine)))


def along(
    values: npt.NDArray[np.int16], affine: npt.NDArray[np.float64], axes: str
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """An array with its axes swapped and turned so that they run along those of the world, and its affine.

    Args:
        axes: a letter of LR, of PA and of IS; R, A and S are the positive directions of the world.
    """
    wanted = [_LETTERS[letter] for letter in axes]
    directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    order = max(
        permutations(range(3)),
        key=lambda p: sum(directions[row, column] for (row, _), column in zip(wanted, p, strict=True)),
    )
    values, affine = values.transpose(order), affine[:, [*order, 3]]
    for axis, (row, sign) in enumerate(wanted):
        if affine[row, axis] * sign < 0:
            values = np.flip(values, axis)
            affine = affine.copy()
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
    return values, affine
