"""The resident reader: models are loaded and warmed once, then it reads job after job.

`python -m inference.resident --entry NAME --device auto --models FOLDER` says {"event": "ready", "entry", "device", "chain"}
when it is warm: the device that computes, and the digests of the chain. A job is a line on standard input: {"volume":
folder of the decoder, "out": file for the Reading, "nodules_max", "decode_s", "may_wait"}. Each answers with lines of
{"event": "progress", "stage", "done", "total"} and ends with one of {"event": "done", "seconds"}, {"event": "turned_away",
"outcome", "code", "text"} for what the pixels show, and {"event": "error", "code", "text"} for what is worth another
attempt. Code `DeviceLost` says that the device computes no more, which is no job's fault; the process then ends, for it
can't have the device back. It ends at the end of its input too.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from config.catalogue import chain_digests
from config.errors import NodeError
from inference.chain import build_chain
from inference.decoder import open_volume
from inference.device import choose_device, device_fault, make_repeatable
from inference.errors import ReadingError
from inference.kept import save_reading
from inference.reader import Chain, ReadLimits, read
from inference.volume import Volume

GPU_THREADS_MAX: Final = 8
"""Beside a GPU: of 16 the start took more time than the work (`make bench`)."""


def _say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _progress(stage: str, done: int, total: int) -> None:
    _say(event="progress", stage=stage, done=done, total=total)


def warm(chain: Chain) -> None:
    """Run the whole chain once on a small ball of lung with a nodule in it, so that no job pays for loading.

    Just large enough to be a lung: on a CPU a large network needs seconds for every cubic centimetre.
    """
    hu = np.full((40, 40, 40), 40, np.int16)
    k, j, i = np.ogrid[:40, :40, :40]
    distance_mm = 3 * np.sqrt((k - 20) ** 2 + (j - 20) ** 2 + (i - 20) ** 2)
    hu[distance_mm < 42] = -850
    hu[distance_mm < 6] = 40
    volume = Volume(
        hu=hu,
        affine=np.array([[0.0, 0, 3, 0], [0, 3, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]]),
        series_instance_uid="",
        modality="CT",
        sop_instance_uids=("",) * len(hu),
    )
    with contextlib.suppress(ReadingError):  # another chain may find no lung in it; it is loaded all the same
        read(volume, chain, ReadLimits())


def do(job: dict[str, Any], chain: Chain, device: torch.device) -> bool:
    """Read one volume; every way it can end is a line. Returns whether another can be read: the device still computes."""
    limits = ReadLimits(nodules_max=int(job.get("nodules_max", ReadLimits.nodules_max)), cut_may_wait=bool(job.get("may_wait", False)))
    try:
        reading = read(open_volume(Path(job["volume"])), chain, limits, _progress, timer=time.monotonic)
        seconds = {"decode": round(float(job.get("decode_s", 0.0)), 3), **reading.seconds}
        save_reading(dataclasses.replace(reading, seconds=seconds), Path(job["out"]))
    except ReadingError as turned:
        _say(event="turned_away", outcome=turned.outcome, code=turned.code, text=str(turned.what))
    except Exception as fault:  # noqa: BLE001 - whatever it was, it is this job's end and not the reader's
        if lost := device_fault(device):
            _say(event="error", code="DeviceLost", text=f"{device.type} computes no more: {lost}"[:500])
            return False
        _say(event="error", code=type(fault).__name__, text=str(fault)[:500])
    else:
        _say(event="done", seconds=seconds)
    return True


def main() -> int:
    """Serve jobs until the end of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", type=Path, default=None)
    arguments = parser.parse_args()
    sys.dont_write_bytecode = True  # a bundle's code lies in a folder of which every file counts
    make_repeatable()
    try:
        digests = chain_digests(arguments.entry, arguments.models)
        device = choose_device(arguments.device)
        if device.type == "cuda":
            torch.set_num_threads(min(torch.get_num_threads(), GPU_THREADS_MAX))
        chain = build_chain(arguments.entry, device.type, arguments.models)
        warm(chain)
    except NodeError as fault:
        _say(event="error", code=type(fault).__name__, text=str(fault))
        return 1
    _say(event="ready", entry=arguments.entry, device=device.type, chain=digests)
    for line in sys.stdin:
        if not do(json.loads(line), chain, device):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
