"""Sensitivity on planted nodules: crops that no training saw, in scans that the weights never saw.

`python -m tools.planted [--count 300] [--data DIR] [--entry NAME] [--weights DIR] [--output FILE]`. Each scan is read again
and again with other nodules in it, by the weights of its fold (`tools/scan_out.py`) and the whole chain but the grader, at the
operating point of the catalogue. One line a group with n and an exact interval; places of one crop are not independent.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from config.catalogue import Entry, find_entry
from inference.chain import build_part
from inference.device import choose_device
from inference.evaluation.hits import Verdict, judge, targets_of
from inference.evaluation.intervals import clopper_pearson
from inference.nodule_net import NoduleNetDetector
from inference.reader import Chain, LungSegmenter, ReadLimits, read
from inference.training.patch_sampler import TEST_FOLD
from inference.training.planted_scans import Planted, plant_scan, shapes_to_plant
from inference.training.planting import Shape
from inference.training.scans import Scan, load_scans
from tests.conftest import shared_folder
from tools.scan_out import ENTRY, ROOT, outliner_of, weights_for

A_SCAN = 14
SIZES_MM = ((3.0, 5.0), (5.0, 8.0), (8.0, 15.0), (15.0, 80.0))
_ROUNDS_MAX = 20


@dataclass(frozen=True)
class Result:
    """One planted nodule and whether it was reported."""

    scan: str
    planted: Planted
    found: bool


def by_size(shapes: Sequence[Shape], rng: np.random.Generator) -> list[Shape]:
    """As many of each size, as far as there are any."""
    groups = [[s for s in shapes if low <= s.diameter_mm < high] for low, high in SIZES_MM]
    return [group[int(rng.integers(len(group)))] for _ in range(A_SCAN) for group in groups if group]


def read_planted(scan: Scan, chain: Chain, shapes: Sequence[Shape], seed: int) -> list[Result]:
    """Plant, read, and say what was found."""
    rng = np.random.default_rng([seed, 99])
    there, planted = plant_scan(scan, chain.lungs.segment(scan.volume), by_size(shapes, rng), A_SCAN, rng)
    nodules = read(there.volume, chain, ReadLimits(nodules_max=100)).nodules or ()
    judged = judge([n.centre_lps_mm for n in nodules], [n.confidence or 0.0 for n in nodules], targets_of(there))
    hit = {there.truth[j.target].number for j in judged if j.verdict is Verdict.HIT and j.target is not None}
    return [Result(scan.name, one, one.number in hit) for one in planted]


def chain_for(entry: Entry, weights: Path) -> Chain:
    """The entry's chain with other weights, without a grader; a result may hold all that is found. The outliner's are those
    that never saw the fold of the planted nodules."""
    device = choose_device("cpu")
    lungs: LungSegmenter = build_part(find_entry(entry.lungs, "lungs"), device)
    outliner = outliner_of(entry, lambda folder: folder / f"{folder.name}.{TEST_FOLD}.safetensors")
    return Chain(lungs, NoduleNetDetector(entry, device, load_file(weights)), outliner, None, 100)


def groups() -> dict[str, Callable[[Result], bool]]:
    """What the results are counted by."""
    found: dict[str, Callable[[Result], bool]] = {"all": lambda r: True}
    for low, high in SIZES_MM:
        found[f"{low:g} to {high:g} mm"] = lambda r, low=low, high=high: low <= r.planted.diameter_mm < high  # type: ignore[misc]
    for texture in ("solid", "part-solid", "non-solid"):
        found[texture] = lambda r, texture=texture: r.planted.texture == texture  # type: ignore[misc]
    for place in ("anywhere", "pleura", "vessel"):
        found[f"at {place}"] = lambda r, place=place: r.planted.place == place  # type: ignore[misc]
    return found


def main() -> int:
    """Plant, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared_folder())
    parser.add_argument("--entry", default=ENTRY)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    entry = find_entry(arguments.entry, "detector")
    folder = arguments.weights or ROOT / "models" / "folds" / entry.name
    scans = [s for s in load_scans(arguments.data) if s.complete or not any(t.readers for t in s.truth)]
    shapes = shapes_to_plant(arguments.data, [scan.patient for scan in scans])
    chains = {scan.name: chain_for(entry, weights_for(scan.patient, folder)) for scan in scans}
    results: list[Result] = []
    for seed in range(_ROUNDS_MAX):
        for scan in scans:
            if len(results) < arguments.count:
                results += read_planted(scan, chains[scan.name], shapes, seed)
                print(f"{scan.name}: {len(results)} of {arguments.count} planted", file=sys.stderr, flush=True)
    for name, belongs in groups().items():
        mine = [r.found for r in results if belongs(r)]
        low, high = clopper_pearson(sum(mine), len(mine)) if mine else (0.0, 1.0)
        crops = len({r.planted.key for r in results if belongs(r)})
        share = f"{sum(mine) / len(mine):.2f} ({low:.2f} to {high:.2f})" if mine else "none planted"
        print(f"{name}: {sum(mine)} of {len(mine)} found, {share}; {crops} crops")
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
