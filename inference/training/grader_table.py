"""From crops to rows of features: each nodule outlined by the node from several points, and once by its readers, for comparison.

The readers' masks serve two things only: the point near the nodule's middle, and the comparison. No shipped number is learned
from them.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.features import NAMES, measure_features
from inference.findings import MaskCrop
from inference.measure import sphere_diameter_mm
from inference.scoring import Numbers
from inference.training.crops import Crop
from inference.training.grader_models import Flags, Table
from inference.training.own_outlines import Outlining, outline_crops
from inference.training.plan import Progress

POINTS: Final = 4
"""Points near each nodule; each gives an outline."""
MALIGNANT, MARKED, SOLID, NON_SOLID, ABSENT = 3.0, 3.0, 4.0, 2.0, 6.0


@dataclass(frozen=True, eq=False)
class Measured:
    """Crops and what was measured on them: `own` (points, crops, features), `readers` (crops, features); a row of nan where
    there is no outline or none that says anything. `dice` (points, crops): 0 without an outline."""

    crops: Sequence[Crop]
    own: Numbers
    readers: Numbers
    dice: Numbers

    @property
    def folds(self) -> Numbers:
        """Of each crop."""
        return np.array([crop.fold for crop in self.crops])

    @property
    def diameters_mm(self) -> Numbers:
        """Of the ball of each readers' mask."""
        return np.array([sphere_diameter_mm(c.mask, c.spacing_mm) for c in self.crops])

    def table(self, target: str, crops: Flags) -> Table:
        """Rows of the own outlines of some crops, for a target; crops without a label and rows without features are left out."""
        labels = labels_of(self.crops, target)
        used = np.flatnonzero(crops & np.isfinite(labels)).tolist()
        rows = [(at, point) for at in used for point in range(len(self.own)) if np.isfinite(self.own[point, at, 0])]
        return Table(
            np.array([self.own[point, at] for at, point in rows]).reshape(-1, len(NAMES)),
            np.array([labels[at] > 0 for at, _ in rows], bool),
            [self.crops[at].key for at, _ in rows],
            [self.crops[at].patient for at, _ in rows],
        )

    def readers_table(self, target: str, crops: Flags) -> Table:
        """The same on the readers' masks; for comparison alone."""
        labels = labels_of(self.crops, target)
        used = np.flatnonzero(crops & np.isfinite(labels) & np.isfinite(self.readers[:, 0])).tolist()
        return Table(
            self.readers[used],
            labels[used] > 0,
            [self.crops[at].key for at in used],
            [self.crops[at].patient for at in used],
        )


def labels_of(crops: Sequence[Crop], target: str) -> Numbers:
    """1 or 0 by the readers, nan where they are undecided."""
    return np.array([_label(crop.ratings, target) for crop in crops])


def _label(ratings: Mapping[str, float], target: str) -> float:
    if target == "malignancy":
        mean = ratings["malignancy"]
        return float("nan") if mean == MALIGNANT else float(mean > MALIGNANT)
    if target == "calcified":
        return float(ratings["calcification"] < ABSENT)
    if target == "not_solid":
        return float(ratings["texture"] < SOLID)
    if target == "non_solid":
        return float(ratings["texture"] <= NON_SOLID)
    return float(ratings[target] >= MARKED)


def measure_crops(crops: Sequence[Crop], outlining: Outlining, folder: Path, say: Progress) -> Measured:
    """Outline and measure; kept in `folder`, so the next time is quick, and nothing is said of what was kept."""
    code = hashlib.sha256(Path(measure_features.__code__.co_filename).read_bytes()).hexdigest()[:8]
    who = hashlib.sha256("".join(crop.key for crop in crops).encode()).hexdigest()[:8]
    stamp = f"{code}-{who}"
    points = []
    for point in range(POINTS):
        kept = folder / f"point{point}-{outlining.stamp}-{stamp}.npz"
        points.append(_once(kept, partial(_own, crops, outlining, folder / "outlines", point, say), say))
    readers = _once(folder / f"readers-{stamp}.npz", partial(_readers, crops), say)
    return Measured(
        crops,
        np.stack([one["features"] for one in points]),
        readers["features"],
        np.stack([one["dice"] for one in points]),
    )


def _once(kept: Path, make: Callable[[], Mapping[str, Numbers]], say: Progress) -> Mapping[str, Numbers]:
    """Arrays from a file, made (and only then said) where there is none; a file of the name is whole."""
    if kept.exists():
        with np.load(kept) as arrays:
            return dict(arrays)
    made = make()
    beside = kept.with_name(f".{kept.name}")
    stored: dict[str, Any] = dict(made)
    np.savez_compressed(beside, **stored)
    beside.replace(kept)
    say(
        f"{kept.stem.split('-')[0]}: {int(np.isfinite(made['features'][:, 0]).sum())} of {len(made['features'])} nodules measured"
    )
    return made


def _own(crops: Sequence[Crop], outlining: Outlining, folder: Path, point: int, say: Progress) -> Mapping[str, Numbers]:
    outlined = outline_crops(crops, outlining, folder, point, say)
    features = np.full((len(crops), len(NAMES)), np.nan)
    for at, crop in enumerate(crops):
        one = outlined[crop.key]
        said = None if one.own is None else measure_features(one.hu, one.own, crop.spacing_mm)
        if said is not None:
            features[at] = said
    return {"features": features, "dice": np.array([outlined[crop.key].dice for crop in crops])}


def _readers(crops: Sequence[Crop]) -> Mapping[str, Numbers]:
    features = np.full((len(crops), len(NAMES)), np.nan)
    for at, crop in enumerate(crops):
        said = measure_features(crop.hu, readers_mask(crop), crop.spacing_mm)
        if said is not None:
            features[at] = said
    return {"features": features}


def readers_mask(crop: Crop) -> MaskCrop:
    """A crop's mask, cropped to itself."""
    places = np.argwhere(crop.mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    k, j, i = (int(at) for at in low)
    return MaskCrop((k, j, i), crop.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
