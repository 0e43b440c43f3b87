"""LUNA16's CSV form: annotations and results as tables, scored as the challenge does (Setio et al., Med Image Anal 2017;42:1).

A folder with `annotations.csv` (seriesuid, coordX, coordY, coordZ, diameter_mm), one table of results (the same with
`probability`), and, where there are, `annotations_excluded.csv` (findings near those count as neither) and `seriesuids.csv`
(all scans, also those without nodule). A result hits within half the diameter of a nodule; a second one on the same
nodule is passed over.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from inference.errors import NoSuchData
from inference.evaluation.detection import Found, ScanCase
from inference.evaluation.hits import Target
from inference.findings import Point

ANNOTATIONS: Final = ("annotations.csv", "luna16_annotations.csv")
EXCLUDED: Final = "annotations_excluded.csv"
SERIES: Final = "seriesuids.csv"
_COLUMNS: Final = ("seriesuid", "coordX", "coordY", "coordZ")
_EXCLUDED_MM_USUAL: Final = 10.0  # where the table says -1: the size was not measured


def is_luna16(data: Path) -> bool:
    """Whether a folder is of this form."""
    return any((data / name).is_file() for name in ANNOTATIONS)


def load_luna16(data: Path) -> Sequence[ScanCase]:
    """One case a scan: `ranked` and `reported` are all results of it.

    Raises:
        NoSuchData: a table is missing, or lacks a column; there is not exactly one table of results.
    """
    annotations = next(data / name for name in ANNOTATIONS if (data / name).is_file())
    nodules = _by_series(annotations, "diameter_mm")
    zones = _by_series(data / EXCLUDED, "diameter_mm") if (data / EXCLUDED).is_file() else {}
    results = _by_series(_results(data), "probability")
    if (data / SERIES).is_file():
        names = [line.split(",")[0].strip() for line in (data / SERIES).read_text().splitlines()]
        names = [name for name in names if name and name != "seriesuid"]
    else:
        names = sorted({*nodules, *results})
    return [
        ScanCase(
            name=name,
            patient=name,
            series_instance_uid=name,
            targets=tuple(
                [_target(centre, mm, counts=True) for centre, mm in nodules.get(name, ())]
                + [_target(centre, mm, counts=False) for centre, mm in zones.get(name, ())]
            ),
            reported=(found := tuple(Found(centre, score) for centre, score in results.get(name, ()))),
            ranked=found,
            complete=True,
            repeats_false=False,
        )
        for name in names
    ]


def _target(centre: Point, diameter_mm: float, *, counts: bool) -> Target:
    diameter_mm = diameter_mm if diameter_mm > 0 else _EXCLUDED_MM_USUAL
    return Target(centre, partial(_within, centre, diameter_mm / 2), counts, {"diameter_mm": diameter_mm})


def _within(centre: Point, radius_mm: float, place: Point) -> bool:
    return math.dist(centre, place) < radius_mm


def _results(data: Path) -> Path:
    known = {*ANNOTATIONS, EXCLUDED, SERIES}
    tables = [file for file in sorted(data.glob("*.csv")) if file.name not in known and "probability" in _head(file)]
    if len(tables) != 1:
        names = ", ".join(table.name for table in tables) or "none"
        raise NoSuchData(
            f"not exactly one table of results: {names}",
            str(data),
            f"put one CSV with the columns {', '.join(_COLUMNS)}, probability beside annotations.csv",
        )
    return tables[0]


def _head(file: Path) -> Sequence[str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines), [])


def _by_series(file: Path, last: str) -> Mapping[str, Sequence[tuple[Point, float]]]:
    """(centre, value of the column `last`) of each row, by series."""
    found: dict[str, list[tuple[Point, float]]] = defaultdict(list)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        lacking = [name for name in (*_COLUMNS, last) if name not in (reader.fieldnames or ())]
        if lacking:
            raise NoSuchData(f"no column {', '.join(lacking)}", file.name, "write the table again")
        for number, row in enumerate(reader, start=2):
            try:
                centre = (float(row["coordX"]), float(row["coordY"]), float(row["coordZ"]))
                found[row["seriesuid"].strip()].append((centre, float(row[last])))
            except (ValueError, TypeError) as error:  # TypeError: the line has fewer cells than the head
                raise NoSuchData(f"line {number}: {error}", file.name, "write the table again") from error
    return found
