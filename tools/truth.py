"""Hits by the rule of the project: a centre in the truth's mask dilated by 2 mm, or within max(diameter / 2, 3 mm) of its centre."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from inference.training.scans import DILATE_MM, NEAR_MM_MIN, READERS_MIN

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Truth:
    """One nodule of truth.json; `mask` is None where none was drawn."""

    number: int
    centre_lps_mm: Point
    diameter_mm: float
    mask: Path | None

    def hit_by(self, centres: Sequence[Point]) -> int:
        """Index of the first centre that hits, or -1."""
        for n, centre in enumerate(centres):
            if math.dist(centre, self.centre_lps_mm) <= max(self.diameter_mm / 2, NEAR_MM_MIN):
                return n
        if self.mask is None:
            return -1
        image = nibabel.load(self.mask)  # type: ignore[attr-defined]
        mask = np.asarray(image.dataobj) > 0  # type: ignore[attr-defined]
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # type: ignore[attr-defined]
        near = ndimage.distance_transform_edt(~mask, sampling=np.linalg.norm(affine[:3, :3], axis=0)) <= DILATE_MM
        inverse = np.linalg.inv(affine)
        for n, centre in enumerate(centres):
            voxel = np.rint(inverse @ [*centre, 1.0])[:3].astype(int)
            if all(0 <= v < s for v, s in zip(voxel, near.shape, strict=True)) and near[tuple(voxel)]:
                return n
        return -1


def truths(folder: Path) -> list[Truth]:
    """The nodules of one series that count: three readers or more, or the target tumour where no readers are named."""
    found = []
    for nodule in json.loads((folder / "truth.json").read_text())["nodules"]:
        readers = nodule.get("n_readers")
        if readers is not None and readers < READERS_MIN:
            continue
        mask = folder / nodule["mask"] if nodule.get("mask") else None
        diameter = nodule.get("equiv_sphere_diameter_mm") or nodule["diameter_mm"]
        found.append(Truth(nodule["id"], tuple(nodule["centre_lps_mm"]), diameter, mask))
    return found
