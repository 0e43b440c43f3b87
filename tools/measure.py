"""Seconds from the last slice to the ORU's AA for a CT of 300 slices, and where they go: `python -m tools.measure`.

One node with its default waits, a PACS (DCMTK) and an EHR (python-hl7), a phantom of 300 x 512 x 512. Prints a table; nothing is asserted.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pydicom

from dicom_node.demo.phantom import write_ct_phantom
from dicom_node.net.send import Address, send_files
from inference.phantom import chest_phantom
from tests.peers import tools
from tests.running import QUICK, RunningNode
from tools.accept_a import Acceptance, read_entry

DEFAULT_WAITS = {
    "assembly": {"proof_quiet_s": 5, "quiet_s": 60, "aborted_quiet_s": 900, "wait_s_max": 5400, "sweep_s": 1},
    "study": {"quiet_s": 30},
}


def main() -> int:
    """Print where the time goes, with the default waits or with none worth naming."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="the short waits of the tests in place of the defaults")
    arguments = parser.parse_args()
    spacing = 300 / arguments.slices
    chest = chest_phantom(spacing_mm=(spacing, 0.7, 0.7), shape=(arguments.slices, 512, 512))
    waits = {name: QUICK[name] for name in DEFAULT_WAITS} if arguments.quick else DEFAULT_WAITS
    with tempfile.TemporaryDirectory(prefix="measure-") as name, ExitStack() as stack:
        folder = Path(name)
        files = write_ct_phantom(folder / "ct", datetime.now(UTC), chest, salt="measure", companions=False)
        pacs = stack.enter_context(tools.StoreScp(folder / "pacs", "-pm"))
        ehr = stack.enter_context(tools.MllpReceiver(folder / "ehr"))
        node = RunningNode(
            folder / "node",
            pacs=[{"name": "pacs", "ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}],
            ehr=[{"name": "ehr", "host": "127.0.0.1", "port": ehr.port}],
            oru={"after": ["pacs"]},
            **waits,
        )
        stack.enter_context(node)
        watch = Acceptance.__new__(Acceptance)
        watch.node, watch.peak_mib = node, {}
        time.sleep(15)  # the models are loaded before the first study, as in a node that runs
        started = time.monotonic()
        send_files(files, Address(node.ae_title, "127.0.0.1", node.port), calling_ae="MEASURE")
        sent = time.monotonic()
        uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)

        def ended() -> object:
            watch.watch()
            story = node.why(uid)
            return story if story and story["study"]["state"] == "done" else None

        node.until(ended, "the study to end", 900)
        story = node.why(uid)
        assert story is not None
        entry = read_entry(story)
        events = {e["what"]: datetime.fromisoformat(e["at"]) for e in story["study"]["events"]}
        print(
            json.dumps(
                {
                    "images": len(files),
                    "send_s": round(sent - started, 2),
                    "seconds": entry["seconds"],
                    "status": entry["status"],
                }
            )
        )
        for event in story["study"]["events"]:
            print(f"  {event['at']} {event['who']:10} {event['what']}")
        first, last = min(events.values()), max(events.values())
        print(
            f"from the first event to the last: {(last - first).total_seconds():.1f} s; from the last slice sent: "
            f"{last.timestamp() - (time.time() - (time.monotonic() - sent)):.1f} s"
        )
        print("peak memory, MiB: " + ", ".join(f"{role} {mib:.0f}" for role, mib in sorted(watch.peak_mib.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
