"""`make accept-b`: what the trained reading must show on public data, one line a fact, each with n and its interval.

Ends with `accept-b: ok`, or with the facts that are not so and exit 1; all are looked at. Needs the folder of public data (DICOM_NODE_SHARED,
or ../shared/data beside the repository). Nothing is trained here but the grader's folds, whose fits are small: weights of folds
are read from `models/folds`. Twenty to forty minutes on two cores.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from config.catalogue import find_entry
from config.settings import Read
from inference.evaluation.grader import READERS_14
from tests.conftest import shared_folder
from tools.scan_out import scan_out, sums_of, tumours_of

ROOT = Path(__file__).resolve().parents[1]
NODULES_MIN, TUMOURS, COMPLETE, FALSE_A_SCAN, FALSE_MAX = 9, 3, 4, 1.0, 2
PLANTED_MIN = 300
DICE_MIN = 0.82
AUC_BELOW_MAX = 0.015


class NotSo(Exception):
    """A fact that is not so."""


def need(condition: object, what: str) -> None:
    """Raise NotSo unless the condition holds."""
    if not condition:
        raise NotSo(what)


def run(*command: str) -> str:
    """What a command says; NotSo with its end when it fails."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    need(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def scans(folder: Path) -> str:
    """Each whole scan, read by weights that never saw its patient."""
    entry = find_entry(Read().detector, "detector")
    torch.manual_seed(0)
    lines, _ = scan_out(shared_folder(), entry, ROOT / "models" / "folds" / entry.name)
    whole = [line for line in lines if line.complete]
    hits, false = sum(w.hits for w in whole), [w.false for w in whole]
    tumours = sum(line.hits for line in tumours_of(lines))
    said = sums_of(lines)
    need(len(whole) == COMPLETE, said)
    need(hits >= NODULES_MIN and tumours == TUMOURS, said)
    need(sum(false) / len(whole) <= FALSE_A_SCAN and max(false) <= FALSE_MAX, said)
    return said


def planted(folder: Path) -> str:
    """Nodules that no weights saw, in scans that the weights did not see."""
    said = run("tools.planted", "--count", str(PLANTED_MIN), "--output", str(folder / "planted.json"))
    count = len(json.loads((folder / "planted.json").read_text()))
    need(count >= PLANTED_MIN, f"{count} planted")
    return " | ".join(said.strip().splitlines())


def evaluated(task: str, folder: Path, *more: str) -> dict[str, Any]:
    """The metrics of a cross-fit evaluation."""
    output = folder / task
    run(
        "dicom_node",
        "evaluate",
        task,
        "--data",
        str(shared_folder()),
        "--output",
        str(output),
        "--folds",
        "fold",
        *more,
    )
    metrics: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return metrics


def grades(folder: Path) -> str:
    """Malignancy from the node's own outlines, beside the diameter, the 14 features of the readers' masks and the networks."""
    all_ = evaluated("grader", folder)["malignancy"]["all_nodules"]
    model, features = all_["auc"], all_["beside"][READERS_14]["auc"]
    said = f"malignancy, {_aucs('own outlines', all_)}"
    said += "".join(f" | {_aucs(name, one)}" for name, one in all_["beside"].items())
    need(features - model <= AUC_BELOW_MAX, said)
    return said


def _aucs(name: str, one: dict[str, Any]) -> str:
    """AUC of all nodules, of 5 to 15 mm and of pairs of one size, each with its interval and n."""
    parts = [
        f"{what} {one[f'auc{key}']:.3f} ({one[f'auc{key}_ci'][0]:.3f} to {one[f'auc{key}_ci'][1]:.3f}), n = {one[n]}"
        for what, key, n in (
            ("AUC", "", "auc_n"),
            ("5-15 mm", "_5_15mm", "auc_5_15mm_n"),
            ("pairs of one size", "_size_matched", "auc_size_matched_pairs"),
        )
        if one[f"auc{key}"] is not None
    ]
    return f"{name}: {', '.join(parts)}"


def outlines(folder: Path) -> str:
    """Outlines from a point moved by up to 3 mm; beside them the nodules of whole scans from the detector's."""
    found = evaluated("outliner", folder)
    dice, scans = found["dice"], found["scans"]
    said = " | ".join(
        f"{name}: mean Dice {one['mean']:.3f} ({one['ci'][0]:.3f} to {one['ci'][1]:.3f}), median {one['median']:.3f}, n = {one['n']}"
        for name, one in (("crops", dice), ("cubes", found["cubes"]["dice"]))
    )
    each = ", ".join(
        f"{one['scan']} {one['number']} ({one['size_mm']:g} mm): {'no spot' if not one['spotted'] else one['dice']}"
        for one in scans["nodules"]
    )
    said += f" | nodules of whole scans: median Dice {scans['median']}, n = {scans['n']} [{each}]"
    need(dice["mean"] >= DICE_MIN, said)
    return said


def demonstration(folder: Path) -> str:
    """The phantom's nodules of 5 mm and more, and nothing else, by the shipped models."""
    said = run("dicom_node", "demo", "--output", str(folder / "demo"))
    counted = re.search(r"truth=(\d+) found=(\d+)", said)
    need(counted, f"no count in what the demonstration says:\n{said[-2000:]}")
    assert counted is not None
    entry = next(
        s for s in json.loads((folder / "demo" / "summary.json").read_text())["series"] if s["nodules"] is not None
    )
    told = f"{counted[0]}, {len(entry['nodules'])} in the result, by {', '.join(a['name'] for a in entry['algorithm'])}"
    need(counted[1] == counted[2] and len(entry["nodules"]) == int(counted[1]), told)
    return told


def gpu(folder: Path) -> str:
    """How long 300 slices take on a GPU."""
    if not torch.cuda.is_available():
        return "not measured: no GPU here"
    output = folder / "bench.json"
    return run("benches.reading", "--output", str(output)).strip().replace("\n", " | ")


def suite(*selection: str) -> Callable[[Path], str]:
    """Tests that show a fact."""

    def tests(folder: Path) -> str:
        last = run("pytest", "-q", "-p", "no:cacheprovider", *selection).strip().splitlines()[-1]
        need("skipped" not in last, f"{' '.join(selection)}: {last}")
        return last

    return tests


FACTS: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("scan-out", scans),
    ("planted", planted),
    ("demonstration", demonstration),
    ("properties of readings", suite("tests/property/test_inference_reading_properties.py")),
    ("held-out patients reach no loader", suite("tests/unit/inference", "-k", "held_out")),
    ("what the wheel holds", suite("tests/contract/test_distribution.py", "tests/contract/test_wheel_is_blind.py")),
    ("bundles as published", suite("tests/unit/inference/test_inference_bundle.py")),
    ("GPU", gpu),
    ("grades", grades),
    ("outlines", outlines),
)


def main() -> int:
    """Print the facts; 1 when one is not so."""
    if not (shared_folder() / "ct").is_dir():
        print(f"accept-b: the folder of public data is missing ({shared_folder()}); set DICOM_NODE_SHARED")
        return 1
    with tempfile.TemporaryDirectory(prefix="accept-b-") as folder:
        failed = []
        for name, fact in FACTS:
            try:
                print(f"{name}: {fact(Path(folder))}", flush=True)
            except (NotSo, AssertionError, SystemExit) as not_so:
                print(f"{name}: NOT SO: {not_so}", flush=True)
                failed.append(name)
    print(f"accept-b: not so: {', '.join(failed)}" if failed else "accept-b: ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
