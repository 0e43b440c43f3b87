"""Outlines on whole scans, at the spots that the detector gives: Dice beside each nodule of the truth.

Unlike crops these have everything around the nodule, lungs that were found and not given, and a point and a size as they come.
Few, so there is no mean: a line for each nodule.
"""

from dataclasses import dataclass

import numpy as np

from inference.findings import MaskCrop
from inference.measure import to_lps_mm
from inference.reader import Chain, outlined
from inference.training.scans import Scan


@dataclass(frozen=True)
class SpottedRow:
    """One nodule of a scan, named as the scan's folder and its number there. `spotted`: the detector gave a spot on it.
    `dice` None: it gave none, or the nodule has no mask to compare with; 0: a spot without an outline, or one beside it.
    `volume_error`: (found - true) / true, None where there is no Dice."""

    scan: str
    number: int
    size_mm: float
    spotted: bool
    dice: float | None
    volume_error: float | None


def judge_scan(scan: Scan, chain: Chain) -> list[SpottedRow]:
    """A row for each nodule that counts (3 readers and more, or a target tumour).

    Outlined are all spots that the detector would have in a result, together and in its order; a nodule has the first outline
    whose spot hits it.
    """
    lungs = chain.lungs.segment(scan.volume)
    found = tuple(chain.detector.detect(scan.volume, lungs, _silent))
    spots, strong, masks = outlined(scan.volume, lungs, chain, found, _silent)
    places = [to_lps_mm(scan.volume.affine, spots[place].centre) for place in strong]
    rows = []
    for truth in scan.truth:
        if not truth.counts:
            continue
        own = [mask for mask, place in zip(masks, places, strict=True) if scan.hits(truth, place)]
        dice = error = None
        if own and truth.mask is not None:
            mask = next((mask for mask in own if mask is not None), None)
            dice = 0.0 if mask is None else round(dice_of(mask, truth.mask), 3)
            ours = 0 if mask is None else int(np.count_nonzero(mask.voxels))
            error = round(ours / int(np.count_nonzero(truth.mask.voxels)) - 1, 3)
        rows.append(SpottedRow(scan.name, truth.number, round(truth.diameter_mm, 1), bool(own), dice, error))
    return rows


def dice_of(one: MaskCrop, other: MaskCrop) -> float:
    """Dice of two masks of one grid."""
    shared = len(_voxels(one) & _voxels(other))
    return 2 * shared / (int(np.count_nonzero(one.voxels)) + int(np.count_nonzero(other.voxels)))


def _voxels(mask: MaskCrop) -> set[tuple[int, int, int]]:
    return {(int(k), int(j), int(i)) for k, j, i in np.argwhere(mask.voxels) + np.array(mask.start)}


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""
