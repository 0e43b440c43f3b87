"""What is odd about a scan, but does not keep it from being read: said in the result, so that a reader knows what it is worth.

Pure, from the volume and its lungs. What turns a series away is said elsewhere: by headers in `fitness.py`, by values in
`volume.check_hu`, by the lungs in `lungs.judge_wholeness`. Limits are of guidelines where they have one, and name it.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.geometry import number
from inference.kernels import softness
from inference.lungs import LEFT, RIGHT, Lungs
from inference.volume import Volume

THICKNESS_MM_USUAL: Final = 2.5  # at most, for lung nodules (ACR-STR practice parameter for screening CT)
SLACK_MM: Final = 0.05
APART_SHARE: Final = 1.1  # slices further apart than this share of their thickness leave lung out
PIXEL_MM_USUAL: Final = 1.0  # a field of 512 mm; a larger one holds more than a chest
BONE_SOFTNESS: Final = 3.5  # from here on kernels are made for bone and inner ear
LUNG_HU_USUAL: Final = (-960, -600)  # median of lungs that hold air, in inspiration and in emphysema
ONE_SIDE_SHARE: Final = 0.3  # a lung with less than this share of the other's volume lacks air, or is none
SAMPLE_STEP: Final = 4


def flags(volume: Volume, lungs: Lungs) -> tuple[str, ...]:
    """Sentences on what is unusual about the scan; () for a usual one."""
    return (*_geometry(volume), *_kernel(volume), *_air(volume, lungs), *_sides(volume, lungs))


def limits(volume: Volume, lungs: Lungs) -> bool:
    """Whether lung was not looked through: none of the air on one side, or slices that lie apart."""
    return bool(_sides(volume, lungs)) or _apart(volume)


def _apart(volume: Volume) -> bool:
    return 0 < volume.thickness_mm * APART_SHARE + SLACK_MM < volume.spacing_mm[0]


def _geometry(volume: Volume) -> list[str]:
    slice_mm, row_mm, column_mm = volume.spacing_mm
    said = []
    if volume.thickness_mm > THICKNESS_MM_USUAL + SLACK_MM:
        said.append(
            f"Slices of {number(volume.thickness_mm)} mm, where at most {number(THICKNESS_MM_USUAL)} mm are usual "
            "for lung nodules; small ones are seen less well"
        )
    if _apart(volume):
        said.append(
            f"Slices of {number(volume.thickness_mm)} mm lie {number(slice_mm)} mm apart; what lies between them was not "
            "imaged"
        )
    if max(row_mm, column_mm) > PIXEL_MM_USUAL + SLACK_MM:
        said.append(f"Pixels of {number(max(row_mm, column_mm))} mm: a field of view larger than the chest")
    return said


def _kernel(volume: Volume) -> list[str]:
    if not volume.kernel:
        return ["The images do not name their reconstruction kernel"]
    if softness(volume.kernel, volume.manufacturer) < BONE_SOFTNESS:
        return []
    return [f"A sharp kernel ({volume.kernel}), made for bone: noise of such images can look like small nodules"]


def _air(volume: Volume, lungs: Lungs) -> list[str]:
    inside = _sampled(volume.hu)[_sampled(lungs.labels) > 0]
    if not inside.size:
        return []
    median = int(np.median(inside))
    if LUNG_HU_USUAL[0] <= median <= LUNG_HU_USUAL[1]:
        return []
    usual = f"{LUNG_HU_USUAL[0]} to {LUNG_HU_USUAL[1]} HU"
    what = "expiration, disease, or a scale that is not right"
    return [f"The lungs' median is {median} HU, unusual for lungs that hold air ({usual}): {what}"]


def _sides(volume: Volume, lungs: Lungs) -> list[str]:
    """One lung missing or much smaller: surgery, collapse, effusion. What holds no air is not looked through."""
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000 * SAMPLE_STEP**2
    sampled = _sampled(lungs.labels)
    right, left = (float(np.count_nonzero(sampled == side)) * voxel_ml for side in (RIGHT, LEFT))
    if min(right, left) >= ONE_SIDE_SHARE * max(right, left):
        return []
    name = "right" if right < left else "left"
    sizes = f"{min(right, left):.0f} ml of the {name} lung hold air, {max(right, left):.0f} ml of the other"
    return [f"Only {sizes}; what holds no air (fluid, collapse, consolidation) was not looked through"]


def _sampled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[:, ::SAMPLE_STEP, ::SAMPLE_STEP]
