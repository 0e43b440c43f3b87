"""How well a detector finds: whole series with their truth, read by the chain as a node reads them; or LUNA16's tables.

Reported is what a node would report at the operating point (outlined, at most so many). FROC is of all that the detector
ranks and the outliner outlines. Cross-fit: a scan is read by weights that never saw its patient, nor the patients of the same
fold; patients that the folds don't name are a fold of their own.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from config.catalogue import Entry
from config.settings import Select
from inference.chain import build_part
from inference.device import choose_device
from inference.errors import NoSuchData, ReadingError
from inference.evaluation.detection import Found, ScanCase, detection_metrics
from inference.evaluation.detector_pages import ReadScan, body_of, pictured
from inference.evaluation.hits import targets_of
from inference.evaluation.luna16 import is_luna16, load_luna16
from inference.evaluation.report import Written, write
from inference.evaluation.request import IN_SAMPLE, Request, described, fold_entry, in_sample, need_column
from inference.evaluation.strata import scanner_groups
from inference.findings import Algorithm, MaskCrop
from inference.headers import read_header
from inference.lungs import Lungs
from inference.measure import to_lps_mm
from inference.reader import Chain, Detector, LungSegmenter, ReadLimits, Spot, outlined, read
from inference.reader import Progress as Stages
from inference.selection import SeriesView, choose
from inference.training.crops import load_candidates, load_cubes, load_native, patient_key
from inference.training.plan import Progress
from inference.training.scans import load_scan, scan_facts, scan_folders
from inference.volume import Volume


@dataclass
class RememberedLungs:
    """A lung segmenter that remembers its last answer."""

    method: LungSegmenter
    last: Lungs | None = None

    @property
    def algorithm(self) -> Algorithm:
        return self.method.algorithm

    def segment(self, volume: Volume) -> Lungs:
        self.last = self.method.segment(volume)
        return self.last


@dataclass
class _Spots:
    """A detector that remembers its last places."""

    method: Detector
    last: tuple[Spot, ...] = ()

    @property
    def algorithm(self) -> Algorithm:
        return self.method.algorithm

    def detect(self, volume: Volume, lungs: Lungs, progress: Stages) -> Sequence[Spot]:
        self.last = tuple(self.method.detect(volume, lungs, progress))
        return self.last

    def is_strong(self, spot: Spot) -> bool:
        return self.method.is_strong(spot)


def evaluate(request: Request, say: Progress) -> Written:
    """Measure a detector on the series of a data folder, or score LUNA16's tables; writes metrics.json and report.html.

    Raises:
        NoSuchData: no series with truth, no such column of folds, or tables that are not LUNA16's.
        InSample, ModelRefused: see `request`.
    """
    if is_luna16(request.data):
        cases = load_luna16(request.data)
        say(f"{len(cases)} scans in LUNA16's tables")
        figures = detection_metrics(cases)
        return write(
            request, figures, [], 0, "", lambda: body_of(figures, [ReadScan(c) for c in cases], ""), mode="results"
        )
    need_column(request)
    entries = request.entries()
    folders = [folder for folder in scan_folders(request.data) if _is_scored(folder)]
    if not folders:
        raise NoSuchData("no series with truth", str(request.data), "name a folder with ct/*/truth.json")
    patients = {folder: str(scan_facts(folder)["patient_id"]) for folder in folders}
    used = [entries[task] for task in ("lungs", "detector", "outliner")]
    seen = 0 if request.folds else in_sample(request, used, patients.values())
    chain_of = _chains(request, entries, say)
    done = []
    for place, folder in enumerate(folders, start=1):
        say(f"{place} of {len(folders)}: {folder.name}")
        done.append(_read(folder, patients[folder], chain_of, request))
    figures = detection_metrics([one.case for one in done])
    figures["outlines"] = [{"name": name, "dice": round(dice, 4)} for one in done for name, dice in one.outlines]
    stamp = IN_SAMPLE if seen else ""
    return write(request, figures, described(used), seen, stamp, lambda: body_of(figures, done, stamp))


def _is_scored(folder: Path) -> bool:
    """With a nodule, or known to have none."""
    facts = scan_facts(folder)
    return bool(facts.get("nodules")) or bool(facts.get("complete_labelling"))


def _chains(request: Request, entries: Mapping[str, Entry], say: Progress) -> Callable[[str], Chain]:
    """The chain that may read a patient; each is built once."""
    where = choose_device(request.device)
    crops = [crop for load in (load_native, load_cubes, load_candidates) for crop in _crops(load, request)]
    folds = {patient_key(crop.patient): crop.fold for crop in crops}
    others = max(folds.values(), default=-1) + 1
    built: dict[tuple[str, ...], Chain] = {}

    def chain_of(patient: str) -> Chain:
        mine = dict(entries)
        for task in ("detector", "outliner") if request.folds else ():
            mine[task] = fold_entry(request, entries[task], folds.get(patient_key(patient), others), {patient}, say)
        key = tuple(mine[task].digest() for task in ("lungs", "detector", "outliner"))
        if key not in built:
            built[key] = Chain(*(build_part(mine[task], where) for task in ("lungs", "detector", "outliner")))
        return built[key]

    return chain_of


def _crops(load: Callable[..., Sequence[Any]], request: Request) -> Sequence[Any]:
    """The crops name the folds of patients; a folder without crops has none."""
    try:
        return load(request.data) if request.folds else ()
    except NoSuchData:
        return ()


def _read(folder: Path, patient: str, chain_of: Callable[[str], Chain], request: Request) -> ReadScan:
    """Read one series as a node would, and keep what FROC and the pictures need."""
    files = sorted((folder / "dicom").glob("*.dcm"))
    headers = [read_header(file) for file in files]
    groups = scanner_groups(headers[0])
    choice = choose([SeriesView(headers[0].series_instance_uid, headers)], Select())
    why = "" if choice.to_read else (choice.reason.text if choice.reason else "not chosen")
    scan = load_scan(folder)
    case = ScanCase(
        name=folder.name,
        patient=patient,
        series_instance_uid=scan.volume.series_instance_uid,
        targets=targets_of(scan),
        reported=(),
        ranked=(),
        complete=scan.complete,
        not_read=why,
        groups=groups,
    )
    if why:
        return ReadScan(case)
    chain = chain_of(patient)
    lungs, spots = RememberedLungs(chain.lungs), _Spots(chain.detector)
    try:
        reading = read(
            scan.volume,
            replace(chain, lungs=lungs, detector=spots, grader=None),
            ReadLimits(nodules_max=request.nodules_max),
            timer=time.monotonic,
        )
    except ReadingError as turned:
        return ReadScan(replace(case, not_read=str(turned.what)))
    assert lungs.last is not None
    places, strong, given = outlined(scan.volume, lungs.last, chain, tuple(spots.last), _silent)
    scores = [_score(places[place]) for place, mask in zip(strong, given, strict=True) if mask is not None]
    nodules = reading.nodules or ()
    masks = chain.outliner.outline(scan.volume, lungs.last, places, _silent)
    case = replace(
        case,
        reported=tuple(Found(n.centre_lps_mm, score) for n, score in zip(nodules, scores, strict=False)),
        ranked=tuple(
            Found(_centre(scan.volume, mask), _score(spot))
            for spot, mask in zip(places, masks, strict=True)
            if mask is not None
        ),
        seconds=sum(reading.seconds.values()),
    )
    return pictured(case, scan, nodules)


def _score(spot: Spot) -> float:
    """What the detector ranks by."""
    return spot.response if spot.confidence is None else spot.confidence


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def _centre(volume: Volume, mask: MaskCrop) -> tuple[float, float, float]:
    k, j, i = (float(at) for at in np.argwhere(mask.voxels).mean(axis=0) + mask.start)
    return to_lps_mm(volume.affine, (k, j, i))
