"""One series from files to a Reading, by two child processes: a decoder per job and the resident reader.

Watches time between their reports, wall time and memory, and kills what is silent, slow or too large (promise 5: poison stays alone).
What hinders every reading (models refused, a device lost) is told apart from what one series does to its reader: the first
is `NoReader`, the second costs the series an attempt. Used by the worker and by `analyse`. Knows no ledger.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from config.catalogue import chain_digests, models_folder
from config.settings import Settings
from dicom_node.errors import ChildDied, NoReader, ReaderFailed, TurnedAway
from dicom_node.processes import LineChild
from inference.findings import Reading
from inference.kept import load_reading

START_S_MAX: Final = 300.0  # a cold disk and a large library
TICK_S: Final = 1.0


def weights_of(settings: Settings) -> tuple[str, ...]:
    """Digests of all that the chain of `read.detector` computes with, as the catalogue and the installed models now say."""
    return chain_digests(settings.read.detector, models_folder(settings.paths.state))


class ReadingRoom:
    """Keeps the resident reader, starts a decoder for each job.

    The models are those of the moment when it was made, and so is the device: a GPU that `auto` has found is not silently
    exchanged for the CPU later, nor is a model for what was installed meanwhile.
    """

    def __init__(
        self,
        settings: Settings,
        scratch: Path,
        *,
        tick: Callable[[], None] = lambda: None,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        reader: str = "inference.resident",
    ) -> None:
        """`scratch`: folder for volumes, on a disk. `tick` is called about once a second while children work, and may raise.
        `reader` is the module of the resident reader."""
        self._settings = settings
        self._scratch = scratch
        self._tick = tick
        self._progress = progress
        self._module = reader
        self._weights = weights_of(settings)
        self._device = ""
        self._reader: LineChild | None = None
        self._jobs = 0
        self._remove_left_behind()

    def _remove_left_behind(self) -> None:
        """Volumes of workers that were killed: nobody else would ever remove them."""
        for folder in self._scratch.glob("volume-*"):
            owner = folder.name.removeprefix("volume-")
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def weights(self) -> tuple[str, ...]:
        """Digests of all that is read with."""
        return self._weights

    def warm(self) -> None:
        """Start the reader and wait until its models are loaded. Raises NoReader."""
        self._resident()

    def read(
        self,
        files: Sequence[Path],
        out: Path,
        *,
        may_wait: bool = False,
        on_volume: Callable[[Path, Reading], None] | None = None,
    ) -> Reading:
        """Read one series; `out` receives the Reading, synced, under its final name.

        `on_volume` is called with the folder of the decoded volume and the Reading before the folder goes (for pictures).

        Raises TurnedAway for what the pixels show, ReaderFailed for what is worth another attempt, NoReader where nothing
        can be read.
        """
        folder = self._scratch / f"volume-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        try:
            started = time.monotonic()
            self.decode(files, folder)
            decoded_s = time.monotonic() - started
            reading = self._read_volume(folder, out, decoded_s, may_wait=may_wait)
            if on_volume is not None:
                on_volume(folder, reading)
            return reading
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def decode(self, files: Sequence[Path], folder: Path) -> None:
        """Write the volume of these files into `folder`."""
        read = self._settings.read
        job = folder / "job.json"
        job.write_text(
            json.dumps(
                {
                    "files": [str(f) for f in files],
                    "out": str(folder),
                    "mib": read.decoder_mib_max,
                    "cpu_s": int(read.wall_s_max),
                    "gap": self._settings.select.gap,
                }
            )
        )
        with LineChild("inference.decoder", str(job)) as decoder:
            try:
                self._follow(decoder, read.decoder_mib_max)
            except ChildDied as died:
                if (folder / "volume.json").exists() and died.what == "ended with exit code 0":
                    return
                raise ReaderFailed(what=f"the decoder {died.what}", do=died.do or "it said nothing") from died

    def _read_volume(self, folder: Path, out: Path, decoded_s: float, *, may_wait: bool) -> Reading:
        reader = self._resident()
        out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            reader.send(
                json.dumps(
                    {
                        "volume": str(folder),
                        "out": str(out),
                        "nodules_max": self._settings.read.nodules_max,
                        "decode_s": decoded_s,
                        "may_wait": may_wait,
                    }
                )
            )
            self._follow(reader, self._settings.read.reader_mib_max)
        except ChildDied as died:
            self.close()
            self._require_device()
            raise ReaderFailed(what=f"the reader {died.what}", do=died.do or "it said nothing") from died
        except ReaderFailed:
            self.close()
            self._require_device()
            raise
        except TurnedAway:
            raise
        except NoReader as lost:
            self.close()
            self._resident()  # raises NoReader where the device is gone; else it was this series, and that counts
            raise ReaderFailed(what=lost.what, which=lost.which, do=lost.do) from lost
        except BaseException:
            self.close()
            raise
        self._jobs += 1
        if self._jobs >= self._settings.read.jobs_per_reader_max:
            self.close()
        return load_reading(out)

    def _require_device(self) -> None:
        """After a reader failed on a GPU: was it the series, or is the GPU gone? A new reader knows. Raises NoReader."""
        if self._device not in ("", "cpu"):
            self._resident()

    def _follow(self, child: LineChild, mib_max: int) -> None:
        """Wait for the end of one job, ticking. Returns at "done"; raises TurnedAway, ReaderFailed, NoReader, ChildDied."""
        read = self._settings.read
        begun = heard = time.monotonic()
        while True:
            line = child.receive(TICK_S)
            now = time.monotonic()
            self._tick()
            if line is not None:
                heard = now
                if self._ended(line):
                    return
            if now - begun > read.wall_s_max:
                child.kill()
                raise ReaderFailed(what=f"longer than read.wall_s_max ({read.wall_s_max:g} s)", which=child.what)
            if now - heard > read.silence_s_max:
                child.kill()
                raise ReaderFailed(what=f"silent for read.silence_s_max ({read.silence_s_max:g} s)", which=child.what)
            if child.rss_mib() > mib_max:
                child.kill()
                raise ReaderFailed(what=f"more than {mib_max} MiB of memory", which=child.what)

    def _ended(self, line: dict[str, Any]) -> bool:
        match line.get("event"):
            case "done":
                return True
            case "progress":
                self._progress(str(line.get("stage", "")), int(line.get("done", 0)), int(line.get("total", 0)))
            case "error" if line.get("code") == "DeviceLost":
                raise NoReader(str(line.get("text")), "read.device", "look at the driver and the device", "DeviceLost")
            case "error":
                raise ReaderFailed(
                    what=str(line.get("text", "an error without text")), which=str(line.get("code", "error"))
                )
            case "turned_away":
                raise TurnedAway(str(line["outcome"]), str(line["code"]), str(line["text"]))
            case None if "outcome" in line:
                raise TurnedAway(str(line["outcome"]), str(line["code"]), str(line["text"]))
        return False

    def _resident(self) -> LineChild:
        if self._reader is not None and self._reader.alive():
            return self._reader
        self.close()
        read, models = self._settings.read, models_folder(self._settings.paths.state)
        device = self._device or read.device
        child = LineChild(self._module, "--entry", read.detector, "--device", device, "--models", str(models))
        begun = time.monotonic()
        try:
            while (line := child.receive(TICK_S)) is None or line.get("event") != "ready":
                self._tick()
                if line is not None and line.get("event") == "error":
                    raise NoReader(str(line.get("text")), code=str(line.get("code", "error")))
                if time.monotonic() - begun > START_S_MAX:
                    raise NoReader(f"not ready after {START_S_MAX:g} s", self._module)
            if line.get("chain") != list(self._weights):
                raise NoReader(
                    "other models are installed than when this process started",
                    f"read.detector = {read.detector}",
                    "start it again, and studies are read with them",
                )
        except ChildDied as died:
            child.close()
            raise NoReader(
                f"the reader {died.what} while starting",
                self._module,
                died.do or f"run `python -m {self._module}` by hand to see why",
            ) from died
        except BaseException:
            child.close()
            raise
        self._device = str(line.get("device", device))
        self._reader = child
        self._jobs = 0
        return child

    def close(self) -> None:
        """End the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
