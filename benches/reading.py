"""Seconds that reading a CT of 300 slices takes, by stage, on the CPU and on a GPU where there is one; and what precision,
layout and window do to the network of a MONAI bundle.

    python -m benches.reading [--entry NAME] [--rounds 5] [--threads 2] [--output bench.json]

The stages are those of `Reading.seconds`, on the phantom chest (512 x 512 x 300, 0.75 x 0.75 x 1 mm), after the reader's
own warming, without decoding and delivery; beside a GPU the CPU has the threads of the resident reader. The variants of
the network take turns within a round, and ratios are taken within a round; on the CPU their seconds are CPU time of one
thread, so that other work on the machine counts little. Weights are random: they change no speed. Rows are added to what
the file holds of other benches.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.networks.nets.resnet import resnet50

from benches.receive import _cell, _interval
from config.settings import Settings
from inference.bundle_gaps import fill_gaps
from inference.chain import build_chain
from inference.device import choose_device, half_precision, make_repeatable
from inference.errors import NoDevice
from inference.phantom import chest_phantom
from inference.reader import ReadLimits, read
from inference.resident import GPU_THREADS_MAX, warm
from inference.volume import Volume

_THREADS: Final = torch.get_num_threads()  # as torch finds them
NO_GPU: Final = "not measured: no GPU"
DEVICES: Final = ("cpu", "cuda")
PRECISION_WINDOW: Final = (64, 64, 48)
WINDOWS: Final = ((64, 64, 32), (96, 96, 48), (128, 128, 64))

Row = dict[str, Any]


def main() -> None:
    """Measure, print tables, write JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    make_repeatable()
    volume = _volume()
    stages = [_stages(volume, options.entry, name, options.rounds) for name in DEVICES]
    variants = [row for name in DEVICES for row in _variants(name, options.rounds)]
    kept = Path(options.output)
    report = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": sys.version.split()[0]}
    report["reading"] = {
        "entry": options.entry,
        "shape": list(volume.hu.shape),
        "rounds": options.rounds,
        "threads": options.threads,
        "stages": stages,
        "network": variants,
        "machine": {**machine, "torch": torch.__version__},
    }
    kept.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report["reading"])


def _options() -> argparse.Namespace:
    default = Settings.model_validate({"site": {"timezone": "UTC"}}).read.detector
    parser = argparse.ArgumentParser(prog="python -m benches.reading", description="Seconds of a reading, by stage.")
    parser.add_argument("--entry", default=default, help=f"of the catalogue; by default {default}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", default="bench.json")
    return parser.parse_args()


def _volume() -> Volume:
    chest = chest_phantom(spacing_mm=(1.0, 0.75, 0.75), shape=(300, 512, 512))
    uids = tuple(f"1.2.3.{k + 1}" for k in range(len(chest.hu)))
    return Volume(chest.hu, chest.affine, "1.2.3", "CT", uids, thickness_mm=1.0)


def _there(name: str) -> torch.device | None:
    try:
        return choose_device(name)
    except NoDevice:
        return None


def _stages(volume: Volume, entry: str, name: str, rounds: int) -> Row:
    """Seconds of each stage on one device."""
    if _there(name) is None:
        return {"device": name, "text": NO_GPU}
    chain = build_chain(entry, name)
    warm(chain)
    before = torch.get_num_threads()
    if name == "cuda":  # as the resident reader does
        torch.set_num_threads(min(_THREADS, GPU_THREADS_MAX))
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        reading = read(volume, chain, ReadLimits(), timer=time.monotonic)
        for stage, seconds in {**reading.seconds, "all": sum(reading.seconds.values())}.items():
            taken.setdefault(stage, []).append(seconds)
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    named = torch.cuda.get_device_name() if name == "cuda" else "CPU"
    return {
        "device": name,
        "name": named,
        "threads": threads,
        "seconds": {stage: _interval(values) for stage, values in taken.items()},
    }


def _variants(name: str, rounds: int) -> Iterator[Row]:
    """The network in other precisions and layouts against float32, and by other windows against the smallest."""
    device = _there(name)
    if device is None:
        yield {"device": name, "text": NO_GPU}
        return
    fill_gaps()
    torch.manual_seed(1)
    backbone = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    features = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = RetinaNet(3, 1, 3, features, [16, 16, 8]).eval().to(device)
    half = half_precision(device)
    kinds = [(None, torch.contiguous_format), (None, torch.channels_last_3d)]
    kinds += [(half, layout) for layout in (torch.contiguous_format, torch.channels_last_3d) if half is not None]
    runs = {_name(*kind): _pass(network, device, PRECISION_WINDOW, *kind) for kind in kinds}
    yield from _rows(name, "precision", runs, rounds, dict.fromkeys(runs, math.prod(PRECISION_WINDOW)))
    voxels = {"x".join(map(str, window)): math.prod(window) for window in WINDOWS}
    runs = {
        said: _pass(network, device, window, half, torch.contiguous_format)
        for said, window in zip(voxels, WINDOWS, strict=True)
    }
    yield from _rows(name, "window", runs, rounds, voxels)


def _name(half: torch.dtype | None, layout: torch.memory_format) -> str:
    last = ", channels last" if layout is torch.channels_last_3d else ""
    return str(half or torch.float32).removeprefix("torch.") + last


def _pass(
    network: torch.nn.Module,
    device: torch.device,
    window: Sequence[int],
    half: torch.dtype | None,
    layout: torch.memory_format,
) -> Callable[[], float]:
    """Seconds that one window takes: of the clock on a GPU, of one CPU thread else."""
    image = torch.rand(1, 1, *window, device=device).to(memory_format=layout)
    clock = time.monotonic if device.type == "cuda" else time.process_time

    def run() -> float:
        network.to(memory_format=layout)  # type: ignore[call-overload]
        with _one_thread(device), torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
            _finish(device)
            began = clock()
            network(image)
            _finish(device)
            return clock() - began

    return run


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _rows(
    device: str, what: str, runs: Mapping[str, Callable[[], float]], rounds: int, voxels: Mapping[str, int]
) -> Iterator[Row]:
    """Seconds a million voxels of each variant, and their ratio to the first one's."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-1, rounds):  # the first is for caches and does not count
        for name, run in runs.items():
            seconds = run() * 1e6 / voxels[name]
            if turn >= 0:
                taken[name].append(seconds)
    first = next(iter(runs))
    for name, values in taken.items():
        ratios = [one / other for one, other in zip(values, taken[first], strict=True)]
        yield {
            "device": device,
            "what": what,
            "variant": name,
            "seconds_per_megavoxel": _interval(values),
            f"ratio to {first}": _interval(ratios),
        }


def _print(report: Row) -> None:
    size = " x ".join(map(str, report["shape"]))
    print(f"reading {size} by {report['entry']}")
    for row in report["stages"]:
        if "text" in row:
            print(f"  {row['device']:5} {row['text']}")
            continue
        said = ", ".join(f"{stage} {_cell(s, 2)} s" for stage, s in row["seconds"].items())
        print(f"  {row['device']:5} {said} ({row['name']}, {row['threads']} threads)")
    print("network of a bundle, seconds a million voxels")
    for row in report["network"]:
        if "text" in row:
            print(f"  {row['device']:5} {row['text']}")
            continue
        ratio = next(name for name in row if name.startswith("ratio"))
        said = f"{_cell(row['seconds_per_megavoxel'], 2)}, {ratio}: {_cell(row[ratio], 2)}"
        print(f"  {row['device']:5} {row['what']:10} {row['variant']:24} {said}")
    machine = report["machine"]
    print(f"median (95 % interval) of {report['rounds']} rounds, {machine['cpus']} CPUs, load {machine['load']:.1f}")


if __name__ == "__main__":
    main()
