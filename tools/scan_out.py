"""Scan-out: every whole scan of the data folder read by weights that never saw its patient, one line a scan.

`python -m tools.scan_out [--data DIR] [--entry NAME] [--weights DIR] [--otherwise KIND]`. The weights of the folds lie in
`models/folds/<entry>/*.safetensors`, each with the hashes of its patients; a scan is read by those that don't have its
patient, outlines alike. The operating point is one rule (`inference/training/operating.py`), for each scan from the other patients' completely
labelled scans; the last line says what the rule gives on all of them, which is what ships.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from config.catalogue import Entry, find_entry
from inference.chain import build_part
from inference.device import choose_device
from inference.errors import ReadingError
from inference.evaluation.hits import Verdict, judge, targets_of
from inference.evaluation.intervals import clopper_pearson, poisson_interval
from inference.findings import Algorithm
from inference.lungs import Lungs
from inference.measure import to_lps_mm
from inference.nodule_net import NoduleNetDetector, without_parts
from inference.reader import Chain, Outliner, Progress, ReadLimits, Spot, read
from inference.stored import with_weights
from inference.training.operating import (
    FALSE_PER_ILL_SCAN_LARGE,
    FALSE_PER_SCAN,
    FALSE_PER_SCAN_LARGE,
    LARGE_MM,
    threshold_of,
)
from inference.training.patients import weights_without
from inference.training.planted_scans import ill_scan
from inference.training.scans import Scan, load_scans
from inference.volume import Volume
from tests.conftest import shared_folder
from tools.lung_variants import sharp_and_noisy, with_patches

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "nodule-net"
ILL_SEED = 21
OTHERWISE_SEED = 22
KINDS = ("sharp", "ill")
FEW_READERS_MM = 6.0  # a place nearer to any mark says nothing about false alarms


@dataclass(frozen=True, eq=False)
class Scored:
    """A scan, its lungs, all its places with the confidence of weights that never saw its patient, and the time it took.
    `ill`: the same of the scan with patches of disease in it, where all its nodules are marked."""

    scan: Scan
    lungs: Lungs
    spots: tuple[Spot, ...]
    fold: str
    seconds: float
    ill: "Scored | None" = None

    def false_scores(self, large: bool, each_body: bool = False) -> list[float]:
        """Logits of the large or the small places that lie on no mark and beside none; with `each_body` one for each."""
        spots = without_parts(self.scan.volume, self.spots, _is_likely) if each_body else self.spots
        return [
            logit(spot.confidence or 0.0)
            for spot in spots
            if (spot.scale_mm >= LARGE_MM) == large
            and not self.scan.marks_within(to_lps_mm(self.scan.volume.affine, spot.centre), FEW_READERS_MM)
        ]


def _is_likely(spot: Spot) -> bool:
    return (spot.confidence or 0.0) >= 0.5


@dataclass(frozen=True)
class Line:
    """What came of one scan."""

    name: str
    complete: bool
    truth: int
    hits: int
    false: int
    findings: int
    words: str


@dataclass(frozen=True, eq=False)
class _Given:
    """What was found before: lungs, and places at an operating point."""

    scored: Scored
    least: tuple[float, float]
    algorithm: Algorithm

    def segment(self, volume: Volume) -> Lungs:
        return self.scored.lungs

    def is_strong(self, spot: Spot) -> bool:
        return (spot.confidence or 0.0) >= self.least[spot.scale_mm >= LARGE_MM]

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        return without_parts(volume, self.scored.spots, self.is_strong)


def logit(confidence: float) -> float:
    """The score of a confidence."""
    kept = min(max(confidence, 1e-12), 1 - 1e-12)
    return math.log(kept / (1 - kept))


def confidence_of(score: float) -> float:
    """The confidence of a score."""
    return 1 / (1 + math.exp(-score))


def weights_for(patient: str, folder: Path) -> Path:
    """The fold's weights that never saw a patient.

    Raises:
        SystemExit: there are none.
    """
    file = weights_without(folder, {patient})
    if file is None:
        raise SystemExit(f"no weights in {folder} without the patient of a scan: train them (docs/models)")
    return file


def outliner_of(detector: Entry, weights: Callable[[Path], Path]) -> Outliner:
    """The outliner of a detector's chain, with other weights where it has any: `weights` chooses from the folder of its folds."""
    entry = find_entry(detector.outliner, "outliner")
    if entry.weights:
        entry = with_weights(entry, weights(ROOT / "models" / "folds" / entry.name))
    outliner: Outliner = build_part(entry, choose_device("cpu"))
    return outliner


def score_scans(data: Path, entry: Entry, folder: Path) -> list[Scored]:
    """All scans with marked nodules, each scored by weights that never saw its patient."""
    scored = []
    for scan in load_scans(data):
        one = score(scan, entry, folder)
        if scan.complete:
            ill = ill_scan(scan, one.lungs, np.random.default_rng([ILL_SEED, len(scored)]))
            one = replace(one, ill=score(ill, entry, folder))
        scored.append(one)
    return scored


def score(scan: Scan, entry: Entry, folder: Path) -> Scored:
    """One scan, by weights that never saw its patient."""
    device = choose_device("cpu")
    file = weights_for(scan.patient, folder)
    detector = NoduleNetDetector(entry, device, load_file(file))
    started = time.monotonic()
    lungs = build_part(find_entry(entry.lungs, "lungs"), device).segment(scan.volume)
    spots = detector.score(scan.volume, lungs, lambda stage, done, total: None)
    return Scored(scan, lungs, tuple(spots), file.stem, time.monotonic() - started)


def otherwise(scored: Scored, kind: str) -> Scan:
    """The scan as a sharp noisy kernel would have given it (`sharp`), or with patches of consolidation and ground glass (`ill`), of
    another make than those of the training and of the rule (`tools/lung_variants.py`)."""
    drawn = np.random.default_rng([OTHERWISE_SEED, KINDS.index(kind)])
    volume = scored.scan.volume
    volume = sharp_and_noisy(volume, drawn) if kind == "sharp" else with_patches(volume, scored.lungs, drawn)[0]
    return replace(scored.scan, volume=volume)


def rule(complete: Sequence[Scored]) -> tuple[float, float]:
    """The confidences that small and large places must reach, from completely labelled scans."""
    small = threshold_of([s.false_scores(False) for s in complete], FALSE_PER_SCAN)
    large = threshold_of([s.false_scores(True) for s in complete], FALSE_PER_SCAN_LARGE)
    ill = threshold_of([s.ill.false_scores(True, each_body=True) for s in complete if s.ill], FALSE_PER_ILL_SCAN_LARGE)
    return confidence_of(small), confidence_of(max(large, ill))


def line_of(scored: Scored, entry: Entry, least: tuple[float, float]) -> Line:
    """Read a scan at an operating point, by the whole chain but the grader, and judge what it reports."""
    given = _Given(scored, least, Algorithm(entry.task, entry.name, "scan-out", "", "demonstration"))
    outliner = outliner_of(entry, lambda folder: weights_for(scored.scan.patient, folder))
    targets = targets_of(scored.scan)
    try:
        reading = read(scored.scan.volume, Chain(lungs=given, detector=given, outliner=outliner), ReadLimits())
    except ReadingError as turned:
        return _not_read(scored.scan, turned)
    nodules = reading.nodules or ()
    judged = judge([n.centre_lps_mm for n in nodules], [n.confidence or 0.0 for n in nodules], targets)
    truth = sum(target.counts for target in targets)
    hits = sum(j.verdict is Verdict.HIT for j in judged)
    false = sum(j.false_positive for j in judged)
    words = " ".join(
        f"{n.confidence:.3f}:{n.long_axis_mm:g}mm:{j.verdict}" for n, j in zip(nodules, judged, strict=True)
    )
    return Line(scored.scan.name, scored.scan.complete, truth, hits, false, len(nodules), words)


def _not_read(scan: Scan, turned: ReadingError) -> Line:
    truth = sum(target.counts for target in targets_of(scan))
    return Line(scan.name, scan.complete, truth, 0, 0, 0, f"not read: {turned.what}")


def scan_out(
    data: Path, entry: Entry, folder: Path, kinds: Sequence[str] = ()
) -> tuple[list[Line], tuple[float, float]]:
    """The lines of all scans, and the threshold of the rule on all complete ones (what ships). With `kinds` each scan is read
    once more in each of these ways, at the operating point of the scan as it is; a line is printed and a sum of each."""
    scored = score_scans(data, entry, folder)
    complete = [s for s in scored if s.scan.complete]
    least = {s.scan.name: rule([c for c in complete if c.scan.patient != s.scan.patient]) for s in scored}
    lines = [_told(one, line_of(one, entry, least[one.scan.name]), least[one.scan.name]) for one in scored]
    for kind in kinds:
        others = []
        for one in scored:
            try:
                one = score(otherwise(one, kind), entry, folder)
                line = line_of(one, entry, least[one.scan.name])
            except ReadingError as turned:
                line = _not_read(one.scan, turned)
            others.append(_told(one, line, least[one.scan.name], kind))
        print(f"{kind}: {sums_of(others)}", flush=True)
    return lines, rule(complete)


def _told(one: Scored, line: Line, least: tuple[float, float], kind: str = "") -> Line:
    marked = f"{line.false} false" if line.complete else f"{line.findings - line.hits} others (not all are labelled)"
    print(
        f"{kind}{' ' if kind else ''}{line.name}: {line.hits} of {line.truth} nodules, {marked}; {line.findings} findings at "
        f"{least[0]:.3f} (large {least[1]:.3f}), weights {one.fold}, {one.seconds:.0f} s to the places [{line.words}]",
        flush=True,
    )
    return line


def sums_of(lines: Sequence[Line]) -> str:
    """Nodules, tumours and false positives of all scans, with n and exact intervals."""
    whole = [line for line in lines if line.complete]
    hits, truth, false = sum(w.hits for w in whole), sum(w.truth for w in whole), [w.false for w in whole]
    tumours = tumours_of(lines)
    low, high = clopper_pearson(hits, truth)
    fewest, most = (bound / len(whole) for bound in poisson_interval(sum(false)))
    return (
        f"{hits} of {truth} nodules ({low:.2f} to {high:.2f}), {sum(t.hits for t in tumours)} of {len(tumours)} tumours, "
        f"{sum(false) / len(whole):.2f} false positives a scan ({fewest:.2f} to {most:.2f}), at most {max(false)}, n = {len(whole)} scans"
    )


def tumours_of(lines: Sequence[Line]) -> list[Line]:
    """Those of scans with one target tumour."""
    return [line for line in lines if line.name.startswith("qin-")]


def main() -> int:
    """Print the lines and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared_folder())
    parser.add_argument("--entry", default=ENTRY)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument(
        "--otherwise",
        action="append",
        choices=KINDS,
        default=[],
        help="also with a sharp noisy kernel, or with disease drawn in",
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    entry = find_entry(arguments.entry, "detector")
    folder = arguments.weights or ROOT / "models" / "folds" / entry.name
    lines, least = scan_out(arguments.data, entry, folder, arguments.otherwise)
    print(sums_of(lines))
    print(f"the rule on all complete scans: confidence_min {least[0]:.3f}, confidence_min_large {least[1]:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
