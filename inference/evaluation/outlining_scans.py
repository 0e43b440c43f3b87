"""Outlines of the nodules of whole scans, at the spots that the chain's detector gives: a row a nodule.

Outliner and detector are weights that never saw the scan's patient, or the scan is left out and the reason is told; nothing is
trained for it but the outliner's own folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from config.catalogue import Entry
from inference.chain import build_part
from inference.device import choose_device
from inference.errors import InSample, NoSuchData, ReadingError
from inference.evaluation.request import Request, fold_entry, in_sample
from inference.reader import Chain
from inference.training.crops import Crop, patient_key
from inference.training.outliner_scans import SpottedRow, judge_scan
from inference.training.plan import Progress
from inference.training.scans import load_scan, scan_facts, scan_folders

SLICE_MM_MAX = 5.0  # thicker slices are not read


@dataclass(frozen=True)
class OutlinedScans:
    """Rows of all nodules that count, the scans that could not be read with their reasons, and the patients of those that were
    read by weights that had seen them (`--allow-in-sample`)."""

    rows: tuple[SpottedRow, ...]
    left_out: tuple[tuple[str, str], ...]
    seen: frozenset[str] = frozenset()

    @property
    def figures(self) -> Mapping[str, Any]:
        """As metrics.json has them. So few nodules have no mean; the median is of those that have a Dice."""
        dice = [row.dice for row in self.rows if row.dice is not None]
        return {
            "n": len(dice),
            "n_not_spotted": sum(not row.spotted for row in self.rows),
            "median": round(median(dice), 3) if dice else None,
            "nodules": [asdict(row) for row in self.rows],
            "left_out": [{"scan": name, "why": why} for name, why in self.left_out],
        }


def outlined_scans(
    request: Request, entries: Mapping[str, Entry], crops: Sequence[Crop], say: Progress
) -> OutlinedScans:
    """Read all scans of the data folder that have marked nodules, with parts of the chain that may read them.

    Args:
        crops: they name the folds of the patients; who has none is of a fold of their own.
    """
    folders = [folder for folder in scan_folders(request.data) if scan_facts(folder).get("nodules")]
    folds = {patient_key(crop.patient): crop.fold for crop in crops}
    others = max(folds.values(), default=-1) + 1
    rows: list[SpottedRow] = []
    seen: set[str] = set()
    left_out: list[tuple[str, str]] = []
    for place, folder in enumerate(folders, start=1):
        say(f"scan {place} of {len(folders)}: {folder.name}")
        patient = str(scan_facts(folder)["patient_id"])
        try:
            chain, known = _chain(request, entries, folds.get(patient_key(patient), others), patient, say)
            rows += _rows(folder, chain)
            seen |= {patient_key(patient)} if known else set()
        except (InSample, NoSuchData, ReadingError) as refused:
            left_out.append((folder.name, refused.what))
    return OutlinedScans(tuple(rows), tuple(left_out), frozenset(seen))


def _rows(folder: Path, chain: Chain) -> list[SpottedRow]:
    scan = load_scan(folder)
    if scan.volume.spacing_mm[0] > SLICE_MM_MAX:
        raise NoSuchData(f"its slices lie {scan.volume.spacing_mm[0]:g} mm apart", folder.name)
    return judge_scan(scan, chain)


def _chain(
    request: Request, entries: Mapping[str, Entry], fold: int, patient: str, say: Progress
) -> tuple[Chain, bool]:
    """Lungs, detector and outliner that may read a patient, and whether they have seen him all the same. Raises InSample,
    NoSuchData: there are none."""
    mine = dict(entries)
    known = 0
    if request.folds:
        mine["outliner"] = fold_entry(request, entries["outliner"], fold, {patient}, say)
        mine["detector"] = fold_entry(request, entries["detector"], fold, {patient}, say, may_train=False)
    else:
        known = in_sample(request, [mine["detector"], mine["outliner"]], {patient})
    where = choose_device(request.device)
    return Chain(*(build_part(mine[task], where) for task in ("lungs", "detector", "outliner"))), known > 0
