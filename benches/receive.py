"""Images a second that the receiver takes, beside DCMTK's storescp, as it is and made durable.

    python -m benches.receive [--rounds 20] [--images 40] [--folder DIR] [--output bench.json]

In each round every server takes the same images from storescu, with one association and with four at once, in turn; the
ratios are taken within a round. Synthetic CT, 512 x 512 x 16 bit, 0.53 MB. `storescp` acknowledges what is not on the
disk; `storescp, synced` syncs file and folder when it closes a file (a small preloaded library; left out where there is
no C compiler), which is what we do before we answer. TCP_NODELAY on both ends.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

ASSOCIATIONS: Final = (1, 4)
SAMPLES: Final = 2000
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
SYSTEM_FOLDERS: Final = "/usr/bin:/usr/local/bin:/bin"


class Server:
    """A receiver on a port of its own, and the folder that its images land in."""

    def __init__(self, name: str, folder: Path, command: Callable[[Path, int], list[str]], **environment: str) -> None:
        self.name, self.folder, self.port = name, folder, _free_port()
        folder.mkdir()
        self._process = subprocess.Popen(
            command(folder, self.port), env={**os.environ, "TCP_NODELAY": "1", **environment}, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while not self._listens():
            if time.monotonic() > end or self._process.poll() is not None:
                raise SystemExit(f"bench: {name} did not start")
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def empty(self, expected: int) -> None:
        """Remove what came; SystemExit when it was not all."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size > 500_000]
        if len(files) != expected:
            raise SystemExit(f"bench: {self.name} has {len(files)} of {expected} images")
        for path in files:
            path.unlink()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def main() -> None:
    """Measure, print a table, write JSON."""
    options = _options()
    if options.serve:
        _serve(Path(options.serve), options.port)
        return
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as work:
        rates = _measure(Path(work), options.rounds, options.images)
    report = _report(rates, options.rounds, options.images)
    Path(options.output).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.receive", description="Images a second, beside storescp.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=40, help="of each association")
    parser.add_argument("--folder", default=".", help="on the disk to measure on")
    parser.add_argument("--output", default="bench.json")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(work: Path, rounds: int, images: int) -> dict[tuple[str, int], list[float]]:
    """Images a second of each server and number of associations, one value a round."""
    folders = [_images(work / f"images{sender}", images, sender) for sender in range(max(ASSOCIATIONS))]
    servers = _servers(work)
    rates: dict[tuple[str, int], list[float]] = {(s.name, n): [] for s in servers for n in ASSOCIATIONS}
    try:
        for turn in range(-1, rounds):  # the first is for caches and does not count
            order = servers[turn % len(servers) :] + servers[: turn % len(servers)]
            for associations in ASSOCIATIONS:
                for server in order:
                    seconds = _send(server.port, folders[:associations])
                    server.empty(associations * images)
                    if turn >= 0:
                        rates[server.name, associations].append(associations * images / seconds)
    finally:
        for server in servers:
            server.stop()
    return rates


def _servers(work: Path) -> list[Server]:
    storescp = _program("storescp")

    def dcmtk(folder: Path, port: int) -> list[str]:
        return [storescp, "--fork", "+B", "+xa", "-aet", "BENCH", "-od", str(folder), str(port)]

    def node(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-m", "benches.receive", "--serve", str(folder), "--port", str(port)]

    servers = [Server("dicom-node", work / "node", node), Server("storescp", work / "storescp", dcmtk)]
    library = _library(work)
    if library:
        servers.append(Server("storescp, synced", work / "synced", dcmtk, LD_PRELOAD=str(library)))
    return servers


def _library(work: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = Path(__file__).with_name("durable_storescp.c"), work / "durable_storescp.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _send(port: int, folders: Sequence[Path]) -> float:
    """Seconds that one storescu for each folder takes, all at once."""
    command = [_program("storescu"), "-aet", "BENCH", "-aec", "BENCH", "+sd", "127.0.0.1", str(port)]
    began = time.monotonic()
    senders = [
        subprocess.Popen([*command, str(folder)], env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL)
        for folder in folders
    ]
    failed = [sender.wait() for sender in senders]
    seconds = time.monotonic() - began
    if any(failed):
        raise SystemExit(f"bench: storescu ended with {failed}")
    return seconds


def _images(folder: Path, count: int, sender: int) -> Path:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    folder.mkdir()
    generator = np.random.default_rng(sender)
    for number in range(count):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = UID(CT), UID(f"2.25.{sender + 1}{number:06d}")
        image.StudyInstanceUID, image.SeriesInstanceUID = UID(f"2.25.9{sender}"), UID(f"2.25.8{sender}")
        image.Modality, image.PatientID, image.PatientName, image.InstanceNumber = "CT", "BENCH", "Bench", number + 1
        image.Rows = image.Columns = 512
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelData = generator.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return folder


def _report(rates: dict[tuple[str, int], list[float]], rounds: int, images: int) -> dict[str, Any]:
    """Medians with 95 % intervals: of the rate, and of its ratio to each storescp within a round."""
    names = list(dict.fromkeys(name for name, _ in rates))
    rows = []
    for associations in ASSOCIATIONS:
        for name in names:
            row: dict[str, Any] = {"server": name, "associations": associations}
            row["images_per_s"] = _interval(rates[name, associations])
            for peer in names[1:]:
                pairs = zip(rates[name, associations], rates[peer, associations], strict=True)
                row[f"ratio to {peer}"] = _interval([ours / theirs for ours, theirs in pairs])
            rows.append(row)
    peers = {"dcmtk": subprocess.run([_program("storescp"), "--version"], capture_output=True, text=True).stdout.split()[2]}
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": sys.version.split()[0]}
    return {"receive": rows, "rounds": rounds, "images": images, "peers": peers, "machine": machine}


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Median, and the middle 95 % of the medians of samples drawn from the values (bootstrap)."""
    generator = random.Random(1)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(SAMPLES))
    low, high = medians[int(0.025 * SAMPLES)], medians[int(0.975 * SAMPLES)]
    return {"median": round(statistics.median(values), 3), "low": round(low, 3), "high": round(high, 3)}


def _print(report: dict[str, Any]) -> None:
    ratios = [key for key in report["receive"][0] if key.startswith("ratio")]
    print(f"{'associations':>12}  {'server':18}{'images/s':>22}" + "".join(f"{name:>28}" for name in ratios))
    for row in report["receive"]:
        cells = [f"{_cell(row['images_per_s'], 0):>22}", *(f"{_cell(row[name], 2):>28}" for name in ratios)]
        print(f"{row['associations']:>12}  {row['server']:18}{''.join(cells)}")
    machine = report["machine"]
    print(f"median (95 % interval) of {report['rounds']} rounds, {machine['cpus']} CPUs, load {machine['load']:.1f}")


def _cell(value: dict[str, float], digits: int) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def _serve(folder: Path, port: int) -> None:
    """The receiver alone, as the role runs it."""
    from config.settings import Disk, Receive, Settings, Site
    from dicom_node import logs
    from dicom_node.receiver import serve_receiver
    from storage.spool import Spool

    logs.configure("warning", "receiver")
    receive = Receive(ae_title="BENCH", host="127.0.0.1", port=port, calling_ae_titles=("BENCH",))
    settings = Settings(site=Site(timezone="UTC"), receive=receive)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    spool = Spool(folder, Disk(free_mib_min=1, used_max=1.0))
    serve_receiver(settings, spool, stop=stop, ready=lambda: None, heartbeat=lambda: None)


def _program(name: str) -> str:
    """DCMTK's: pynetdicom puts programs of the same names into our environment."""
    path = shutil.which(name, path=SYSTEM_FOLDERS)
    if path is None:
        raise SystemExit(f"bench: the program {name} (DCMTK) is not installed")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
