"""From judged findings of scans to the figures of a detector. Pure: knows scans as lists, no models and no files.

False positives are counted on completely labelled scans alone; so FROC and CPM are of these. CPM asks for 8 of them: with
fewer, an eighth of an alarm a scan is no alarm at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.evaluation.froc import CPM_SCANS_MIN, RATES, Froc, froc
from inference.evaluation.hits import Judged, Target, Verdict, judge
from inference.evaluation.intervals import bootstrap, poisson_interval, rounded, rounded_ci, share
from inference.evaluation.strata import by_group, size_group, texture_class
from inference.findings import Point


@dataclass(frozen=True)
class Found:
    """One finding: its centre in LPS mm and its score."""

    centre_lps_mm: Point
    score: float


@dataclass(frozen=True, eq=False)
class ScanCase:
    """One scan: what was `reported` at the operating point, and all `ranked` findings that FROC asks for. `complete`: every
    nodule in it is among the targets. `not_read`: why it was turned away ("" = read); its nodules then count as neither found
    nor missed.
    `groups`: of scanner and patient, see `strata`. `repeats_false`: whether a second finding on a nodule is a false
    positive (LUNA16 passes it over)."""

    name: str
    patient: str
    series_instance_uid: str
    targets: tuple[Target, ...]
    reported: tuple[Found, ...]
    ranked: tuple[Found, ...]
    complete: bool
    seconds: float | None = None
    not_read: str = ""
    groups: Mapping[str, str] | None = None
    repeats_false: bool = True

    @property
    def nodules(self) -> tuple[int, ...]:
        """Places of the targets that count."""
        return tuple(n for n, target in enumerate(self.targets) if target.counts)


def judged_reports(case: ScanCase) -> tuple[Judged, ...]:
    """The verdicts on what was reported."""
    return judge([f.centre_lps_mm for f in case.reported], [f.score for f in case.reported], case.targets)


def _false(case: ScanCase, judged: Judged) -> bool:
    return judged.verdict is Verdict.FALSE or (judged.verdict is Verdict.REPEAT and case.repeats_false)


def detection_metrics(cases: Sequence[ScanCase]) -> dict[str, Any]:
    """The figures of interfaces.md. Sensitivity has an exact interval over nodules, false positives a scan an exact one of a
    Poisson count, CPM one over patients."""
    scans: list[dict[str, Any]] = []
    nodules: list[tuple[bool, Mapping[str, str], Target]] = []
    for case in cases:
        judged = judged_reports(case)
        hit = {j.target for j in judged if j.verdict is Verdict.HIT}
        nodules += (
            []
            if case.not_read
            else [
                (n in hit, {**(case.groups or {}), **_nodule_groups(case.targets[n])}, case.targets[n])
                for n in case.nodules
            ]
        )
        scans.append(
            {
                "series_instance_uid": case.series_instance_uid,
                "name": case.name,
                "hits": len(hit),
                "truth": len(case.nodules),
                "false_positives": sum(_false(case, j) for j in judged)
                if case.complete and not case.not_read
                else None,
                "repeats": sum(j.verdict is Verdict.REPEAT for j in judged),
                "ignored": sum(j.verdict is Verdict.IGNORED for j in judged),
                "complete": case.complete,
                "seconds": rounded(case.seconds, 1),
                "not_read": case.not_read or None,
            }
        )
    n_hit = sum(found for found, _, _ in nodules)
    sensitivity, interval = share(n_hit, len(nodules))
    counted = [scan["false_positives"] for scan in scans if scan["false_positives"] is not None]
    return {
        "scans": scans,
        "n": len(nodules),
        "n_scans": len(scans),
        "n_patients": len({case.patient for case in cases}),
        "n_nodules_not_read": sum(len(case.nodules) for case in cases if case.not_read),
        "hits": n_hit,
        "sensitivity": sensitivity,
        "sensitivity_ci": interval,
        **_alarms(counted),
        **froc_metrics(cases),
        "strata": by_group(
            [groups for _, groups, _ in nodules],
            lambda places: _sensitivity([nodules[n][0] for n in places]),
        ),
    }


def _nodule_groups(target: Target) -> Mapping[str, str]:
    diameter = target.facts.get("diameter_mm")
    return {
        "size_mm": size_group(float(diameter)) if diameter is not None else "",
        "texture": texture_class(target.facts.get("texture")),
    }


def _sensitivity(found: Sequence[bool]) -> dict[str, Any]:
    value, interval = share(sum(found), len(found))
    return {"sensitivity": value, "sensitivity_ci": interval, "hits": sum(found), "n": len(found)}


def _alarms(counts: Sequence[int]) -> dict[str, Any]:
    if not counts:
        return {"fp_per_scan": None, "fp_per_scan_ci": None, "fp_scans": 0, "fp_max": None}
    low, high = poisson_interval(sum(counts))
    return {
        "fp_per_scan": rounded(sum(counts) / len(counts)),
        "fp_per_scan_ci": [round(low / len(counts), 4), round(high / len(counts), 4)],
        "fp_scans": len(counts),
        "fp_max": max(counts),
    }


@dataclass(frozen=True, eq=False)
class _Ranked:
    """One completely labelled scan as FROC needs it: scores, which of them hit, how many nodules."""

    score: npt.NDArray[np.float64]
    hit: npt.NDArray[np.bool_]
    n_nodules: int


def _ranked(case: ScanCase) -> _Ranked:
    verdicts = judge([f.centre_lps_mm for f in case.ranked], [f.score for f in case.ranked], case.targets)
    hit = np.array([j.verdict is Verdict.HIT for j in verdicts], bool)
    kept = hit | np.array([_false(case, j) for j in verdicts], bool)
    return _Ranked(np.array([f.score for f in case.ranked], np.float64)[kept], hit[kept], len(case.nodules))


def _curve(scans: Sequence[_Ranked]) -> Froc | None:
    n_nodules = sum(scan.n_nodules for scan in scans)
    if not n_nodules:
        return None
    return froc(
        np.concatenate([scan.score for scan in scans]),
        np.concatenate([scan.hit for scan in scans]),
        n_nodules,
        len(scans),
    )


def curve_of(cases: Sequence[ScanCase]) -> Froc | None:
    """FROC of the scans that are completely labelled and were read; None without a nodule in them."""
    return _curve([_ranked(case) for case in cases if case.complete and not case.not_read])


def froc_metrics(cases: Sequence[ScanCase]) -> dict[str, Any]:
    """Points of the curve at the seven rates, and CPM."""
    used = [case for case in cases if case.complete and not case.not_read]
    scans = [_ranked(case) for case in used]
    curve = _curve(scans)
    figures: dict[str, Any] = {"froc": [], "cpm": None, "cpm_ci": None, "cpm_scans": len(scans)}
    if curve is None:
        return figures
    figures["froc"] = [{"fp_per_scan": rate, "sensitivity": rounded(curve.at(rate))} for rate in RATES]
    if len(scans) < CPM_SCANS_MIN:
        return figures

    def drawn_cpm(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        curves = (_curve([scan for scan, n in zip(scans, row, strict=True) for _ in range(int(n))]) for row in weights)
        return np.array([np.nan if again is None else again.cpm() for again in curves])

    interval = bootstrap(drawn_cpm, [case.patient for case in used], rounds=1000)
    figures |= {"cpm": rounded(curve.cpm()) if interval else None, "cpm_ci": rounded_ci(interval)}
    return figures
