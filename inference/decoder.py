"""One series from files to a memory-mapped volume, in a process of its own: `python -m inference.decoder JOB.json`.

JOB.json: {"files": [paths], "out": folder, "mib": address space, "cpu_s": CPU time, "gap": "refuse" | "partial"}. Writes
out/volume.npy (int16 [k, j, i]), then out/volume.json, which is there only when all is. Standard output, a JSON object a line:
{"event": "progress", "stage": "decode", "done", "total"}, at the end {"event": "done"} (exit 0); {"outcome", "code", "text"} when the
series is refused (exit 3); {"event": "error", "code", "text"} when it is worth another attempt (exit 1).
"""

import itertools
import json
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from inference.errors import CannotDecode, NotDicom, NotOneVolume, ReadingError, TooLarge
from inference.findings import LeftOut
from inference.frames import FrameFile
from inference.headers import Header, read_header
from inference.pixels import read_hu
from inference.volume import GapRule, Oddity, Plan, Volume, check_hu, from_json, plan_volume, to_json, volume_of

VOXELS: Final = "volume.npy"
FACTS: Final = "volume.json"
FORMAT: Final = 2
PROGRESS_LINES: Final = 20  # in a series
VOLUME_SHARE_MAX: Final = 0.5  # of the memory limit; the rest is for the libraries and for one slice

Progress = Callable[[int, int], None]
_Hu = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Job:
    """What to decode, whereto, and within which limits."""

    files: tuple[Path, ...]
    out: Path
    mib: int
    cpu_s: int
    gap: GapRule = "refuse"

    @classmethod
    def load(cls, path: Path) -> "Job":
        """A job file; see the module."""
        plain = json.loads(path.read_text())
        return cls(
            tuple(Path(f) for f in plain["files"]),
            Path(plain["out"]),
            int(plain["mib"]),
            int(plain["cpu_s"]),
            "partial" if plain.get("gap") == "partial" else "refuse",
        )


def decode_series(
    files: Sequence[Path],
    out: Path,
    gap: GapRule = "refuse",
    *,
    bytes_max: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Volume:
    """Decode the files of one series into `out`; each slice is written as it comes, so memory holds one at a time.

    Args:
        bytes_max: largest volume; None: no limit.
        progress: called with slices done and their number.
    Returns:
        the volume, memory-mapped from `out`.
    Raises:
        ReadingError: the series is refused; nothing but a part of `volume.npy` may be left in `out`.
        OSError: a file can't be read or written.
    """
    headers, paths, twice = _headers_of(files)
    plan = plan_volume(headers, gap)
    size = int(np.prod(plan.shape, dtype=np.int64)) * 2
    if bytes_max is not None and size > bytes_max:
        raise TooLarge(f"a volume of {size // 2**20} MiB, the limit is {bytes_max // 2**20} MiB")
    with (out / VOXELS).open("wb") as file:
        odd = [*plan.odd, *_write_slices(file, plan, paths, progress)]
    hu = _map(out)
    odd += check_hu(hu)
    volume = volume_of(replace(plan, stack=replace(plan.stack, left_out=(*plan.stack.left_out, *twice))), hu, odd)
    (out / FACTS).write_text(json.dumps({"format": FORMAT, **to_json(volume)}))
    return volume


def _headers_of(files: Sequence[Path]) -> tuple[list[Header], dict[str, Path], list[LeftOut]]:
    """Headers by file; a second file of the same instance is left out."""
    headers: list[Header] = []
    paths: dict[str, Path] = {}
    twice: list[LeftOut] = []
    for path in files:
        try:
            header = read_header(path)
        except NotDicom as error:
            raise CannotDecode(error.what) from error
        if header.sop_instance_uid in paths:
            twice.append(LeftOut(header.sop_instance_uid, "a second file of the same instance"))
            continue
        paths[header.sop_instance_uid] = path
        headers.append(header)
    series = {h.series_instance_uid for h in headers}
    if len(series) > 1:
        raise NotOneVolume(f"files of {len(series)} series")
    return headers, paths, twice


def _write_slices(file: BinaryIO, plan: Plan, paths: dict[str, Path], progress: Progress) -> Iterator[Oddity]:
    """The slices in the plan's order behind a .npy header; yields what was odd."""
    shape = plan.shape
    np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
    beyond: dict[str, int] = {}
    for k, (header, (hu, saturated)) in enumerate(_decoded(plan.stack.headers, paths)):
        if hu.shape != shape[1:]:
            raise CannotDecode(f"a slice decodes to another size than {shape[1]} x {shape[2]}", header.sop_instance_uid)
        if saturated:
            beyond[header.sop_instance_uid] = beyond.get(header.sop_instance_uid, 0) + saturated
        file.write(np.ascontiguousarray(hu, "<i2").data)
        progress(k + 1, shape[0])
    if beyond:
        text = f"{sum(beyond.values())} voxels lie beyond 16-bit HU and stand at the ends of the range"
        yield Oddity("saturated", text, None, tuple(beyond))


def _decoded(headers: Sequence[Header], paths: dict[str, Path]) -> Iterator[tuple[Header, tuple[_Hu, int]]]:
    """Each slice in HU, in the order given; a multi-frame object stays open while its frames follow each other."""
    for uid, group in itertools.groupby(headers, lambda h: h.sop_instance_uid):
        together = list(group)
        if together[0].frame is None:
            yield together[0], read_hu(paths[uid])
            continue
        with FrameFile(paths[uid]) as file:
            for h in together:
                slope = 1.0 if h.rescale_slope is None else h.rescale_slope
                yield h, file.hu(h.frame or 0, slope, h.rescale_intercept or 0.0)


def open_volume(folder: Path) -> Volume:
    """The volume that `decode_series` left in a folder, memory-mapped and read-only.

    Raises:
        OSError, ValueError: there is none, or one of another format.
    """
    plain = json.loads((folder / FACTS).read_text())
    if plain.pop("format") != FORMAT:
        raise ValueError(f"{FACTS} has another format than {FORMAT}")
    return from_json(plain, _map(folder))


def _map(folder: Path) -> npt.NDArray[np.int16]:
    mapped: npt.NDArray[np.int16] = np.load(folder / VOXELS, mmap_mode="r")
    return mapped


# ---------------------------------------------------------------- the process


def say(line: dict[str, Any]) -> None:
    """A JSON line for the keeper."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _report(done: int, total: int) -> None:
    """A progress line for each twentieth of the slices."""
    if done * PROGRESS_LINES // total > (done - 1) * PROGRESS_LINES // total:
        say({"event": "progress", "stage": "decode", "done": done, "total": total})


def main(arguments: Sequence[str]) -> int:
    """Run one job within its limits; exit codes and lines as the module says."""
    job = Job.load(Path(arguments[0]))
    resource.setrlimit(resource.RLIMIT_AS, (job.mib * 2**20, job.mib * 2**20))
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_s, job.cpu_s + 5))
    try:
        decode_series(job.files, job.out, job.gap, bytes_max=int(job.mib * 2**20 * VOLUME_SHARE_MAX), progress=_report)
    except ReadingError as error:
        say({"outcome": error.outcome, "code": error.code, "text": error.what})
        return 3
    except MemoryError:
        say({"outcome": TooLarge.outcome, "code": TooLarge.code, "text": f"decoding needs more than {job.mib} MiB"})
        return 3
    except OSError as error:
        say({"event": "error", "code": "io", "text": error.strerror or type(error).__name__})
        return 1
    say({"event": "done"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
