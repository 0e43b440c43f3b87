"""How good the lung mask is: what it keeps of marked nodules and of tumours laid on the pleura, and what changes it.

`python -m tools.lungs [--data DIR] [--tumours 2] [--seed 0] [--output FILE]`. Needs the public data folder (DICOM_NODE_SHARED, or
`shared/data` beside the repository). No weights, no network; about five minutes of one core.

The mask confines everything: what it loses is never found, what it holds too much may be reported. There is no truth of lungs in
the data folder, so this measures what can be known without any, in every whole chest CT there:

- volume of each lung, seconds of the processor, and the share of the mask that is bright (above -300 HU: vessels, nodules, and what the closing
  bridges); a mask that grows into the wall or the heart shows here;
- of each nodule that 3 or more readers marked, and each target tumour: the share of its mask in the lungs, the share that the
  detector sees (it fills up what is beyond a hull of its own), and whether its middle lies in the lungs, without which no place is
  named;
- tumours of soft tissue, 20 to 60 mm, laid on the costal pleura, on the mediastinum, on the diaphragm and in the apex, one at a
  time, at places drawn by the seed (`tools/lung_tumours.py`): how much of the lung that they took stays in the mask, and how much the
  mask grows elsewhere;
- the same scan in slices of 0.8 mm (where it has thinner than 1.5 mm) and of 3 mm, by a sharp noisy kernel, and with patches of
  consolidation and ground glass (`tools/lung_variants.py`): Dice of the mask against that of the scan as it is, on one grid.

The same seed gives the same figures. Choose a method with other seeds than the one whose figures are written down.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from config.catalogue import find_entry
from inference.detect import without_walls
from inference.device import CPU
from inference.errors import ReadingError
from inference.evaluation.intervals import bootstrap, clopper_pearson, mean_of
from inference.findings import MaskCrop
from inference.grids import on, resampled
from inference.lungs import LEFT, RIGHT, AirLungs, Lungs, judge_wholeness
from inference.training.scans import Scan, load_scan, scan_folders
from inference.volume import Volume
from tests.conftest import shared_folder
from tools.lung_tumours import KINDS, ground_of, paste
from tools.lung_variants import (
    THICK_MM,
    THIN_MM,
    dice,
    labels_at,
    sharp_and_noisy,
    slice_places,
    with_patches,
    with_slices,
)

SLICE_MM_MAX: Final = 5.0
THIN_ENOUGH_MM: Final = 1.5  # thinner slices are made from such ones alone
BRIGHT_HU: Final = -300.0
LARGE_MM: Final = 40.0
MARGIN_MM: Final = 30.0  # around a nodule, so that lung is most of what is looked at


@dataclass(frozen=True)
class ScanLine:
    """The mask of a scan as it is."""

    scan: str
    slices: int
    slice_mm: float
    right_l: float
    left_l: float
    bright: float
    seconds: float


@dataclass(frozen=True)
class Kept:
    """What the mask keeps of one body: a marked nodule (`kind` nodule), a pasted tumour, or all patches of a scan (`kind` patches).

    `kept`: share of its voxels in the mask. `seen`: what is left of its contrast where the detector looks; None if not worked out.
    `middle`: its centre of mass lies in the mask. `grown_ml`: mask that the unchanged scan's mask has not.
    """

    scan: str
    kind: str
    number: int
    diameter_mm: float
    ml: float
    kept: float
    middle: bool
    seen: float | None = None
    grown_ml: float = 0.0


@dataclass(frozen=True)
class Changed:
    """Dice of a changed scan's mask against that of the scan as it is."""

    scan: str
    variant: str
    dice: float
    seconds: float


def whole_scans(data: Path, part: AirLungs) -> Iterator[tuple[Scan, Lungs, float]]:
    """Each scan whose lungs are whole, its lungs, and the seconds of the processor that they took; says why of the others."""
    for folder in scan_folders(data):
        try:
            scan = load_scan(folder)
            if scan.volume.spacing_mm[0] > SLICE_MM_MAX:
                print(f"{folder.name}: left out, slices of {scan.volume.spacing_mm[0]:g} mm")
                continue
            started = time.process_time()
            lungs = part.segment(scan.volume)
            seconds = time.process_time() - started
            judge_wholeness(lungs, may_wait=False)
        except ReadingError as turned:
            print(f"{folder.name}: left out, {turned.what}", flush=True)
            continue
        yield scan, lungs, seconds


def scan_line(scan: Scan, lungs: Lungs, seconds: float) -> ScanLine:
    """Volumes, and how bright the mask is."""
    litre = float(np.prod(scan.volume.spacing_mm)) / 1e6
    right, left = (round(np.count_nonzero(lungs.labels == side) * litre, 3) for side in (RIGHT, LEFT))
    bright = np.count_nonzero(scan.volume.hu[lungs.labels > 0] > BRIGHT_HU) / np.count_nonzero(lungs.labels)
    shape, slice_mm = scan.volume.hu.shape, scan.volume.spacing_mm[0]
    return ScanLine(scan.name, shape[0], round(slice_mm, 3), right, left, round(bright, 4), round(seconds, 2))


def kept_of(lungs: Lungs, body: MaskCrop) -> tuple[float, bool]:
    """The share of a body's voxels in the mask, and whether its middle is there."""
    box = tuple(slice(a, a + n) for a, n in zip(body.start, body.voxels.shape, strict=True))
    middle = np.rint((np.argwhere(body.voxels) + body.start).mean(axis=0)).astype(int)
    return float((lungs.labels[box] > 0)[body.voxels].mean()), bool(lungs.labels[tuple(middle)] > 0)


def seen_of(volume: Volume, lungs: Lungs, body: MaskCrop) -> float:
    """How much of a body's contrast is left once the detector has filled up what lies beyond its hull, 0 to 1."""
    margin = np.ceil(MARGIN_MM / np.array(volume.spacing_mm)).astype(int)
    low = np.maximum(0, np.array(body.start) - margin)
    high = np.minimum(volume.hu.shape, np.array(body.start) + body.voxels.shape + margin)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    alone = np.zeros(tuple(high - low), bool)
    place = tuple(slice(a, a + n) for a, n in zip(body.start - low, body.voxels.shape, strict=True))
    alone[place] = body.voxels
    contrast = resampled(on(CPU, alone), volume.spacing_mm, 1.0)  # 1 in the body, 0 in all lung around it
    inside = resampled(on(CPU, lungs.labels[box] > 0), volume.spacing_mm, 1.0)
    if not (inside >= 0.5).any():
        return 0.0
    left = without_walls(contrast, inside)
    return float((left * contrast).sum() / (contrast**2).sum())


def nodules_of(scan: Scan, lungs: Lungs) -> list[Kept]:
    """What the mask keeps of the nodules that count."""
    found = []
    for truth in scan.truth:
        if truth.counts and truth.mask is not None:
            share, middle = kept_of(lungs, truth.mask)
            seen = seen_of(scan.volume, lungs, truth.mask)
            ml = _ml(scan.volume, truth.mask.voxels)
            found.append(
                Kept(scan.name, "nodule", truth.number, truth.diameter_mm, ml, round(share, 4), middle, round(seen, 4))
            )
    return found


def tumours_of(scan: Scan, lungs: Lungs, part: AirLungs, count: int, seed: int) -> list[Kept]:
    """`count` tumours of each kind, one at a time."""
    ground = ground_of(scan.volume, lungs)
    found = []
    for number in range(count):
        for place, kind in enumerate(KINDS):
            rng = np.random.default_rng([seed, number, place, *scan.name.encode()])
            pasted = paste(ground, kind, rng)
            if pasted is None:
                continue
            there = part.segment(pasted.volume)
            share, middle = kept_of(there, pasted.body)
            grown = _ml(scan.volume, (there.labels > 0) & (lungs.labels == 0))
            ml = _ml(scan.volume, pasted.body.voxels)
            diameter_mm = round(pasted.diameter_mm, 1)
            found.append(Kept(scan.name, kind, number, diameter_mm, ml, round(share, 4), middle, None, grown))
    return found


def variants_of(scan: Scan, lungs: Lungs, part: AirLungs, seed: int) -> tuple[list[Changed], Kept]:
    """The mask in changed copies of the scan, and what it keeps of patches."""
    volume, rng = scan.volume, np.random.default_rng([seed, 77, *scan.name.encode()])
    changed: list[Changed] = []

    def measure(variant: str, other: Volume, before: np.ndarray) -> Lungs:
        started = time.process_time()
        there = part.segment(other)
        seconds = time.process_time() - started
        changed.append(Changed(scan.name, variant, round(dice(there.labels, before), 4), round(seconds, 2)))
        return there

    for name, slice_mm, usable in (
        (f"slices of {THIN_MM:g} mm", THIN_MM, volume.spacing_mm[0] < THIN_ENOUGH_MM),
        (f"slices of {THICK_MM:g} mm", THICK_MM, volume.spacing_mm[0] < THICK_MM - 0.1),
    ):
        if usable:
            before = labels_at(lungs.labels, slice_places(volume, slice_mm))
            measure(name, with_slices(volume, slice_mm), before)
    measure("sharp noisy kernel", sharp_and_noisy(volume, rng), lungs.labels)
    ill, patches = with_patches(volume, lungs, rng)
    there = measure("consolidation and ground glass", ill, lungs.labels)
    share = float((there.labels > 0)[patches].mean())
    return changed, Kept(scan.name, "patches", 0, 0.0, _ml(volume, patches), round(share, 4), True)


def _ml(volume: Volume, mask: np.ndarray) -> float:
    return round(float(np.count_nonzero(mask) * np.prod(volume.spacing_mm) / 1000), 2)


def summary(kept: Sequence[Kept]) -> str:
    """Mean with its interval, median and worst of what is kept, and how many middles are inside."""
    if not kept:
        return "none"
    values = np.array([k.kept for k in kept])
    interval = bootstrap(mean_of(values), [str(n) for n in range(len(values))])
    within = f" [{interval[0]:.2f}-{interval[1]:.2f}]" if interval else ""
    inside = sum(k.middle for k in kept)
    low, high = clopper_pearson(inside, len(kept))
    return (
        f"n {len(kept)} in {len({k.scan for k in kept})} scans: mean {values.mean():.2f}{within}, median "
        f"{np.median(values):.2f}, worst {values.min():.2f}; middle inside {inside} of {len(kept)} ({low:.2f} to {high:.2f})"
    )


def print_sums(kept: Sequence[Kept], changed: Sequence[Changed]) -> None:
    """The last lines: each kind, and each variant."""
    print(f"\nnodules: {summary([k for k in kept if k.kind == 'nodule'])}")
    for kind in KINDS:
        mine = [k for k in kept if k.kind == kind]
        print(
            f"{kind}: {summary(mine)}; mask grown elsewhere by {max((k.grown_ml for k in mine), default=0):.1f} ml at most"
        )
        groups: Mapping[str, list[Kept]] = {
            f"below {LARGE_MM:g} mm": [k for k in mine if k.diameter_mm < LARGE_MM],
            f"{LARGE_MM:g} mm and more": [k for k in mine if k.diameter_mm >= LARGE_MM],
        }
        for name, group in groups.items():
            print(f"  {name}: {summary(group)}")
    for variant in dict.fromkeys(c.variant for c in changed):
        dices = [c.dice for c in changed if c.variant == variant]
        print(f"{variant}: n {len(dices)}, Dice mean {np.mean(dices):.3f}, worst {min(dices):.3f}")
    patches = [k.kept for k in kept if k.kind == "patches"]
    if patches:
        print(f"patches: n {len(patches)} scans, kept mean {np.mean(patches):.2f}, worst {min(patches):.2f}")


def main() -> int:
    """A line a scan, then the sums."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.lungs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=shared_folder(), help="the public data folder")
    parser.add_argument("--tumours", type=int, default=2, metavar="N", help="of each kind, in each scan (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of places, sizes, noise and patches (default 0)")
    parser.add_argument("--no-variants", action="store_true", help="leave the changed copies of the scans out")
    parser.add_argument(
        "--output", type=Path, default=None, metavar="FILE", help="write every figure to this file (JSON)"
    )
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"no data folder at {arguments.data}: set DICOM_NODE_SHARED or give --data")
    torch.set_num_threads(1)
    part = AirLungs(find_entry("lungs-air", "lungs"))
    lines: list[ScanLine] = []
    kept: list[Kept] = []
    changed: list[Changed] = []
    for scan, lungs, seconds in whole_scans(arguments.data, part):
        line, nodules = scan_line(scan, lungs, seconds), nodules_of(scan, lungs)
        print(
            f"{line.scan}: {line.slices} slices of {line.slice_mm:g} mm, right {line.right_l:.2f} l, left {line.left_l:.2f} l, "
            f"{line.bright:.1%} bright, {line.seconds:.1f} s",
            flush=True,
        )
        for nodule in nodules:
            print(
                f"  nodule {nodule.number}, {nodule.diameter_mm:.1f} mm: {nodule.kept:.2f} in the lungs, {nodule.seen:.2f} seen, "
                f"middle {'inside' if nodule.middle else 'OUTSIDE'}"
            )
        lines.append(line)
        tumours = tumours_of(scan, lungs, part, arguments.tumours, arguments.seed)
        kept += [*nodules, *tumours]
        words = " ".join(f"{t.kind[0]}{t.diameter_mm:.0f}:{t.kept:.2f}" for t in tumours)
        print(f"  tumours (kind, mm, kept): {words}", flush=True)
        if not arguments.no_variants:
            variants, patches = variants_of(scan, lungs, part, arguments.seed)
            changed += variants
            kept.append(patches)
            print("  " + ", ".join(f"{c.variant} {c.dice:.3f}" for c in variants), flush=True)
    print_sums(kept, changed)
    if arguments.output:
        figures: Mapping[str, Sequence[ScanLine | Kept | Changed]] = {"scans": lines, "kept": kept, "changed": changed}
        text = json.dumps({name: [asdict(row) for row in rows] for name, rows in figures.items()}, indent=1)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
