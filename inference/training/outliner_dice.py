"""How well outlines fit: Dice against the readers, nodule by nodule, with a point that is not quite the middle.

The point is moved by up to 3 mm, the same for every method (it hangs on the nodule's key and the seed alone), and the expected
size is one for all nodules. A native crop has hardly a slice beyond the nodule: every crop is continued along k by its end slices,
as far for all, so its shape tells nothing. `dice` counts the crop's own slices; `dice_continued` also what was marked on the
slices that do not exist, where no method can know the end. Cubes have all that is around.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from inference.lungs import RIGHT, Lungs
from inference.measure import sphere_diameter_mm
from inference.outline import SeededOutliner
from inference.outline_body import Box, Mask
from inference.outline_patch import Three
from inference.reader import Spot
from inference.training.crops import Crop, volume_of
from inference.training.outliner_samples import centre_of, moved

MOVED_MM: Final = 3.0
SIZE_MM: Final = 12.0  # expected of every nodule
_BOOTSTRAPS: Final = 2000
_CONTINUED_MM: Final = 15.0


class Finder(Protocol):
    """Anything that marks a body at a point."""

    def at(
        self, hu: npt.NDArray[np.int16], spacing_mm: Three, centre: Three, size_mm: float
    ) -> tuple[Box, Mask] | None: ...


@dataclass(frozen=True)
class Row:
    """One nodule: `dice` and `dice_continued` against the readers' mask (see above), `volume_error` as a share of theirs,
    `size_mm` of the ball of its volume."""

    patient: str
    dice: float
    dice_continued: float
    volume_error: float
    size_mm: float


def judge(finder: Finder, crops: Sequence[Crop], seed: int) -> list[Row]:
    """A row for each crop that has a mask; a nodule that was not found at all has Dice 0."""
    rows = []
    for crop in crops:
        if not crop.mask.any():
            continue
        more = 0 if is_cube(crop) else int(np.ceil(_CONTINUED_MM / crop.spacing_mm[0]))
        hu = np.pad(crop.hu, ((more, more), (0, 0), (0, 0)), mode="edge")
        k, j, i = centre_of(crop.mask) + moved(_rng(crop.key, seed), crop.spacing_mm, MOVED_MM)
        found = finder.at(hu, crop.spacing_mm, (float(k) + more, float(j), float(i)), SIZE_MM)
        mask = np.zeros(hu.shape, bool)
        if found is not None:
            mask[found[0]] = found[1]
        rows.append(_row(crop, mask, more))
    return rows


def is_cube(crop: Crop) -> bool:
    """Whether a crop is one of the cubes, with all that is around the nodule."""
    return crop.hu.shape == (51, 51, 51) and crop.spacing_mm == (1.0, 1.0, 1.0)


def figures(rows: Sequence[Row]) -> Mapping[str, Any]:
    """Mean and median Dice with a bootstrap interval over patients (95 %, of the mean), the volume's error, and n."""
    if not rows:
        return {"dice": {"mean": None, "median": None, "ci": None, "n": 0}, "n_patients": 0}
    dice = np.array([row.dice for row in rows])
    patients, of = np.unique([row.patient for row in rows], return_inverse=True)
    sums, counts = np.bincount(of, dice), np.bincount(of)
    drawn = np.random.default_rng(0).integers(len(patients), size=(_BOOTSTRAPS, len(patients)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    errors = np.array([row.volume_error for row in rows])
    return {
        "dice": {
            "mean": round(float(dice.mean()), 4),
            "median": round(float(np.median(dice)), 4),
            "ci": [round(float(at), 4) for at in np.percentile(means, [2.5, 97.5])],
            "mean_continued": round(float(np.mean([row.dice_continued for row in rows])), 4),
            "n": len(rows),
        },
        "volume_error": {
            "median": round(float(np.median(errors)), 4),
            "median_absolute": round(float(np.median(np.abs(errors))), 4),
            "n": len(rows),
        },
        "n_patients": len(patients),
    }


class Seeded:
    """The outline without a network, on a crop that is all lung: the base line. It sees where the crop ends along k."""

    def __init__(self, outliner: SeededOutliner) -> None:
        self._outliner = outliner

    def at(
        self, hu: npt.NDArray[np.int16], spacing_mm: Three, centre: Three, size_mm: float
    ) -> tuple[Box, Mask] | None:
        """As a `Finder`."""
        labels = np.full(hu.shape, RIGHT, np.uint8)
        crop = Crop("", "", 0, hu, spacing_mm, labels > 0, labels, {})
        spot = Spot(centre, 0.0, size_mm)
        (mask,) = self._outliner.outline(volume_of(crop), Lungs(labels, 0.0, (0.0, 0.0), 1.0, 0.0), [spot], _silent)
        if mask is None:
            return None
        k, j, i = (slice(at, at + n) for at, n in zip(mask.start, mask.voxels.shape, strict=True))
        return (k, j, i), mask.voxels


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def _rng(key: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)))


def _row(crop: Crop, mask: Mask, more: int) -> Row:
    own = mask[more : more + len(crop.mask)]
    ours, theirs = int(np.count_nonzero(own)), int(np.count_nonzero(crop.mask))
    shared = int(np.count_nonzero(own & crop.mask))
    return Row(
        patient=crop.patient,
        dice=2 * shared / (ours + theirs),
        dice_continued=2 * shared / (int(np.count_nonzero(mask)) + theirs),
        volume_error=(ours - theirs) / theirs,
        size_mm=sphere_diameter_mm(crop.mask, crop.spacing_mm),
    )
