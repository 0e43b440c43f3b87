"""The end of the demonstration, as text: what was found beside the truth, the message, the picture; and its progress.

Text only: nothing is computed here but which nodule of the result belongs to which of the truth.
"""

import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import dist
from pathlib import Path
from typing import Any, Final, TextIO

from hl7.readable import readable
from inference.phantom import PhantomNodule

NEAR_MM_MIN: Final = 3.0
"""A nodule hits the truth within the truth's radius of its centre, and within this at least."""

_WHY_WIDTH: Final = 72
_CLEAR: Final = "\r\033[K"  # a terminal's line again from its start

Series = Mapping[str, Any]
"""An entry of summary.json."""


@dataclass(frozen=True)
class Compared:
    """One line of the table: a nodule of the result, of the truth, or both."""

    found: Mapping[str, Any] | None
    truth: PhantomNodule | None


class Progress:
    """Lines with the seconds since the start, on standard error; on a terminal a running clock while nothing happens."""

    def __init__(self, stream: TextIO | None = None, seconds: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._seconds = seconds
        self._start = seconds()
        self._last = ""
        self._tenths: dict[str, int] = {}

    def step(self, text: str, at: float | None = None) -> None:
        """Something happened; `at` seconds after what is counted from, when it is not now since the start."""
        self._last = text
        self._write(f"{_CLEAR if self._live else ''}[{self._since() if at is None else at:6.1f} s] {text}\n")

    def count(self, what: str, done: int, total: int) -> None:
        """Work that counts: each tenth of it, and the end."""
        tenth = done * 10 // max(total, 1)
        if self._tenths.get(what) != tenth or done == total:
            self._tenths[what] = tenth
            self.step(f"{what}: {done} of {total}")

    def wait(self) -> None:
        """Nothing new: let the clock of the last step run on."""
        if self._live:
            self._write(f"{_CLEAR}[{self._since():6.1f} s] {self._last} ...")

    def _since(self) -> float:
        return self._seconds() - self._start

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def compare(nodules: Sequence[Mapping[str, Any]], truth: Sequence[PhantomNodule]) -> tuple[Compared, ...]:
    """Give each nodule of the truth the nearest nodule that hits it; one finding hits one nodule.

    Returns:
        the nodules of the result by number, then what of the truth was missed.
    """
    pairs = sorted(
        (dist(nodule["centre_lps_mm"], real.centre_lps_mm), n, t)
        for n, nodule in enumerate(nodules)
        for t, real in enumerate(truth)
    )
    hit: dict[int, int] = {}
    for away_mm, n, t in pairs:
        if away_mm <= max(truth[t].diameter_mm / 2, NEAR_MM_MIN) and n not in hit and t not in hit.values():
            hit[n] = t
    order = sorted(range(len(nodules)), key=lambda n: int(nodules[n]["number"]))
    lines = [Compared(nodules[n], truth[hit[n]] if n in hit else None) for n in order]
    missed = [Compared(None, real) for t, real in enumerate(truth) if t not in hit.values()]
    return (*lines, *missed)


def series_table(series: Sequence[Series]) -> str:
    """One entry a series: modality, status, images, nodules, and why; long reasons go on below."""
    rows = [("series", "modality", "status", "images", "nodules", "why")]
    for number, entry in enumerate(series, 1):
        nodules = entry["nodules"]
        why = textwrap.wrap(entry["reason"]["text"], _WHY_WIDTH) if entry["reason"] else [""]
        images, found = str(entry["slices_read"] or "-"), "-" if nodules is None else str(len(nodules))
        rows.append((str(number), str(entry["modality"]), str(entry["status"]), images, found, why[0]))
        rows += [("", "", "", "", "", more) for more in why[1:]]
    return _aligned(rows)


def nodule_table(compared: Sequence[Compared], *, with_truth: bool) -> str:
    """One line a nodule: place, size, score, and the truth where there is one (phantoms)."""
    heading = ("nodule", "place", "centre LPS mm", "size mm", "volume mm3", "mean HU", "score")
    rows = [(*heading, "truth") if with_truth else heading]
    for line in compared:
        found, real = line.found, line.truth
        cells = ("-", "not marked", "", "", "", "", "")
        if found is not None:
            x, y, z = found["centre_lps_mm"]
            confidence = found["confidence"]
            cells = (
                str(found["number"]),
                found["site"] or "lung",
                f"{x:.1f}, {y:.1f}, {z:.1f}",
                f"{found['long_axis_mm']:.1f} x {found['short_axis_mm']:.1f}",
                str(found["volume_mm3"]),
                str(found["mean_hu"]),
                "no model" if confidence is None else f"{confidence:.2f}",
            )
        rows.append((*cells, _truth_cell(real)) if with_truth else cells)
    return _aligned(rows)


def _truth_cell(real: PhantomNodule | None) -> str:
    if real is None:
        return "none here"
    x, y, z = real.centre_lps_mm
    return f"{real.kind}, {real.diameter_mm:.1f} mm at {x:.1f}, {y:.1f}, {z:.1f}"


def found_of(series: Sequence[Series], truth: Sequence[PhantomNodule]) -> int:
    """How many nodules of the truth the results have."""
    return sum(line.found is not None and line.truth is not None for line in compare(_nodules(series), truth))


def oru(answers: Sequence[str], no_message: str) -> str:
    """`oru=AA` (of several answers the first that is no acceptance), or `oru=none (reason)`."""
    if not answers:
        return f"oru=none ({no_message or 'no message was sent'})"
    bad = [answer for answer in answers if answer not in ("AA", "CA")]
    return f"oru={bad[0] if bad else answers[0]}"


def ending(
    series: Sequence[Series],
    truth: Sequence[PhantomNodule] | None,
    messages: Sequence[bytes],
    answers: Sequence[str],
    no_message: str,
    pictures: Sequence[Path],
) -> str:
    """The end of a demonstration; the last lines are those that a script looks for: truth, oru, pictures.

    Args:
        series: entries of summary.json.
        truth: None for files that are no phantoms of ours.
        answers: what the EHR said to each message (MSA-1).
        no_message: why there is none.
    """
    parts = [series_table(series)]
    compared = compare(_nodules(series), truth or ())
    if compared:
        parts.append(nodule_table(compared, with_truth=truth is not None))
    parts += [readable(message) for message in messages]
    closing = [oru(answers, no_message), *map(str, pictures)]
    if truth is not None:
        closing.insert(0, f"truth={len(truth)} found={found_of(series, truth)}")
    return "\n\n".join([*parts, "\n".join(closing)])


def show(
    series: Sequence[Series],
    truth: Sequence[PhantomNodule] | None,
    messages: Sequence[Path],
    no_message: str,
    pictures: Sequence[Path],
    output: Path,
    answer: str = "AA",
) -> None:
    """Print the end of a demonstration. `answer` is what the embedded EHR gave to each message."""
    contents = [path.read_bytes() for path in messages]
    text = ending(series, truth, contents, [answer] * len(contents), no_message, pictures)
    sys.stdout.write(f"\neverything lies in {output}\n\n{text}\n")
    sys.stdout.flush()


def _nodules(series: Sequence[Series]) -> list[Mapping[str, Any]]:
    return [nodule for entry in series for nodule in entry["nodules"] or ()]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; the first row is their heading."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
