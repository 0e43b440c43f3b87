"""A reader for tests that speaks as `inference.resident` does, with a device that a file says works or not.

`STATE/device` holds `works`, `lost` (each operation fails from now on), `kills` (the process dies, as a driver may do to it,
and the device is lost), `poison` (the process dies, and the device works) or `sticky` (a job's fault that looks like a lost
device, which works in the next process). The device is there under the name of cuda.
"""

import json
import os
import signal
import sys
from argparse import ArgumentParser
from pathlib import Path

from config.catalogue import chain_digests
from inference.findings import Reading, Status
from inference.kept import save_reading
from tests.result_sources import CHAIN


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = ArgumentParser()
    parser.add_argument("--entry")
    parser.add_argument("--device")
    parser.add_argument("--models", type=Path)
    told = parser.parse_args()
    device = told.models.parent / "device"
    name = "cuda" if told.device == "auto" and device.read_text() in ("works", "poison", "sticky") else told.device
    name = "cpu" if name == "auto" else name
    if name == "cuda" and device.read_text() == "lost":
        say(event="error", code="NoDevice", text="read.device = cuda: CUDA does not compute: no device")
        return 1
    say(event="ready", entry=told.entry, device=name, chain=chain_digests(told.entry, told.models))
    for line in sys.stdin:
        job = json.loads(line)
        state = device.read_text()
        if name == "cuda" and state in ("lost", "sticky"):
            say(event="error", code="DeviceLost", text="cuda computes no more: an illegal memory access")
            return 1
        if state in ("kills", "poison"):
            if state == "kills":
                device.write_text("lost")
            os.kill(os.getpid(), signal.SIGKILL)
        uid, sops = json.loads((Path(job["volume"]) / "series.json").read_text())
        save_reading(
            Reading(
                series_instance_uid=uid,
                modality="CT",
                status=Status.COMPLETED,
                reason=None,
                nodules=(),
                findings=None,
                algorithms=CHAIN,
                slices_read=tuple(sops),
                slices_left_out=(),
            ),
            Path(job["out"]),
        )
        say(event="done", seconds={})
    return 0


if __name__ == "__main__":
    sys.exit(main())
