"""The pages of a detector's report: figures, FROC, what was missed and the false alarms with pictures, every scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.evaluation.detection import ScanCase, curve_of, judged_reports
from inference.evaluation.hits import Verdict
from inference.evaluation.page import figure, gallery, heading, paragraph, shown, table
from inference.evaluation.pictures import FOUND, TRUTH, Colour, disc, patch
from inference.evaluation.report import strata_tables
from inference.findings import MaskCrop, Nodule
from inference.training.scans import Scan
from inference.volume import Volume

ROWS_SHOWN: Final = 200


@dataclass(frozen=True, eq=False)
class ReadScan:
    """One case with its pictures: captions and PNG of what was missed and of the false alarms."""

    case: ScanCase
    missed: list[tuple[bytes, str]] = field(default_factory=list)
    alarms: list[tuple[bytes, str]] = field(default_factory=list)
    outlines: list[tuple[str, float]] = field(default_factory=list)


def pictured(case: ScanCase, scan: Scan, nodules: Sequence[Nodule]) -> ReadScan:
    """What was missed and the false alarms, a picture each, and Dice of the outlines of what was found."""
    judged = judged_reports(case)
    hit = {j.target: n for j, n in zip(judged, nodules, strict=True) if j.verdict is Verdict.HIT}
    one = ReadScan(case)
    for place, truth in enumerate(scan.truth):
        name = f"{case.name} nodule {truth.number}"
        if place in hit and truth.mask is not None:
            one.outlines.append((name, _dice(truth.mask, hit[place].mask)))
        elif truth.counts and place not in hit:
            one.missed.append((_picture(scan, truth.centre_lps_mm, nodules), f"{name}, {truth.diameter_mm:.1f} mm"))
    for verdict, nodule, found in zip(judged, nodules, case.reported, strict=True):
        if case.complete and verdict.false_positive:
            again = ", again on a nodule" if verdict.verdict is Verdict.REPEAT else ""
            caption = f"{case.name}, {nodule.mean_diameter_mm:.1f} mm, score {found.score:.3g}{again}"
            one.alarms.append((_picture(scan, nodule.centre_lps_mm, nodules), caption))
    return one


def _dice(one: MaskCrop, other: MaskCrop) -> float:
    """Of two crops on one grid."""
    low = np.maximum(one.start, other.start)
    high = np.minimum(np.add(one.start, one.voxels.shape), np.add(other.start, other.voxels.shape))
    common = 0
    if (high > low).all():
        parts = [
            m.voxels[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, m.start, strict=True))]
            for m in (one, other)
        ]
        common = int(np.count_nonzero(parts[0] & parts[1]))
    return 2 * common / (int(np.count_nonzero(one.voxels)) + int(np.count_nonzero(other.voxels)))


def _picture(scan: Scan, centre_lps_mm: tuple[float, float, float], nodules: Sequence[Nodule]) -> bytes:
    """The slice through a place with all truth (blue) and all that was reported (orange) on it."""
    volume = scan.volume
    k, j, i = np.linalg.solve(volume.affine, [*centre_lps_mm, 1.0])[:3]
    slice_index = int(np.clip(round(float(k)), 0, len(volume.hu) - 1))
    outlines: list[tuple[npt.NDArray[np.bool_], Colour]] = []
    for truth in scan.truth:
        if truth.mask is not None:
            outlines.append((_plane(truth.mask, slice_index, volume), TRUTH))
        else:
            at = np.linalg.solve(volume.affine, [*truth.centre_lps_mm, 1.0])[:3]
            if abs(at[0] - slice_index) * volume.spacing_mm[0] <= truth.diameter_mm / 2:
                area = disc(
                    volume.hu.shape[1:], volume.spacing_mm[1:], (float(at[1]), float(at[2])), truth.diameter_mm / 2
                )
                outlines.append((area, TRUTH))
    outlines += [(_plane(nodule.mask, slice_index, volume), FOUND) for nodule in nodules]
    return patch(volume.hu[slice_index], volume.spacing_mm[1:], (float(j), float(i)), outlines)


def _plane(mask: MaskCrop, slice_index: int, volume: Volume) -> npt.NDArray[np.bool_]:
    plane = np.zeros(volume.hu.shape[1:], bool)
    inside = slice_index - mask.start[0]
    if 0 <= inside < len(mask.voxels):
        rows, columns = mask.voxels.shape[1:]
        plane[mask.start[1] : mask.start[1] + rows, mask.start[2] : mask.start[2] + columns] = mask.voxels[inside]
    return plane


def body_of(figures: Mapping[str, Any], done: Sequence[ReadScan], stamp: str) -> list[str]:
    """The parts of the report."""
    from inference.evaluation.plots import froc_plot

    rows = [
        ("sensitivity (nodules)", figures["n"], shown(figures["sensitivity"], figures["sensitivity_ci"])),
        ("false positives a scan", figures["fp_scans"], shown(figures["fp_per_scan"], figures["fp_per_scan_ci"])),
        ("false positives, most in a scan", figures["fp_scans"], shown(figures["fp_max"])),
        ("CPM", figures["cpm_scans"], shown(figures["cpm"], figures["cpm_ci"])),
    ]
    body = [heading("Figures"), table(["figure", "n", "value [95 %]"], rows)]
    curve = curve_of([one.case for one in done])
    if curve is not None:
        point = None
        if figures["fp_per_scan"] is not None and figures["sensitivity"] is not None:
            complete = [scan for scan in figures["scans"] if scan["complete"] and not scan["not_read"]]
            n = sum(scan["truth"] for scan in complete)
            point = (figures["fp_per_scan"], sum(scan["hits"] for scan in complete) / n) if n else None
        caption = f"FROC, {figures['cpm_scans']} completely labelled scans"
        body.append(figure(froc_plot(curve, point, stamp), caption))
        body.append(
            table(
                ["false positives a scan", "sensitivity"],
                [(f["fp_per_scan"], f["sensitivity"]) for f in figures["froc"]],
            )
        )
    body += strata_tables(figures["strata"], "sensitivity", "sensitivity_ci", "sensitivity")
    if figures.get("outlines"):
        body += [
            heading("Outlines of what was found"),
            table(["nodule", "Dice"], [(o["name"], o["dice"]) for o in figures["outlines"]]),
        ]
    legend = "Blue: the truth, ignore zones too. Orange: what was reported. 50 mm wide."
    body += [heading("Missed"), paragraph(legend), gallery(p for one in done for p in one.missed)]
    body.append(_listed([row for one in done for row in _missed(one.case)], ["scan", "centre, LPS mm", "diameter, mm"]))
    body += [heading("False alarms"), gallery(p for one in done for p in one.alarms)]
    body.append(_listed([row for one in done for row in _alarms(one.case)], ["scan", "centre, LPS mm", "score"]))
    columns = ("name", "hits", "truth", "false_positives", "repeats", "ignored", "seconds", "not_read")
    body += [
        heading("Scans"),
        table([c.replace("_", " ") for c in columns], [[s[c] for c in columns] for s in figures["scans"]]),
    ]
    return body


def _listed(rows: Sequence[tuple[str, str, float]], head: Sequence[str]) -> str:
    """The rows, as many as a page bears."""
    words = paragraph(f"The first {ROWS_SHOWN} of {len(rows)}.") if len(rows) > ROWS_SHOWN else ""
    return table(head, rows[:ROWS_SHOWN]) + words if rows else ""


def _missed(case: ScanCase) -> list[tuple[str, str, float]]:
    hit = {judged.target for judged in judged_reports(case)}
    return [
        (case.name, _place(case.targets[n].centre_lps_mm), float(case.targets[n].facts.get("diameter_mm", 0.0)))
        for n in case.nodules
        if n not in hit and not case.not_read
    ]


def _alarms(case: ScanCase) -> list[tuple[str, str, float]]:
    rows = [
        (case.name, _place(found.centre_lps_mm), found.score)
        for judged, found in zip(judged_reports(case), case.reported, strict=True)
        if case.complete and judged.false_positive and (case.repeats_false or judged.verdict is Verdict.FALSE)
    ]
    return sorted(rows, key=lambda row: -row[2])


def _place(centre_lps_mm: Sequence[float]) -> str:
    return " ".join(f"{at:.1f}" for at in centre_lps_mm)
