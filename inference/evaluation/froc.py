"""FROC: the sensitivity that a number of false alarms a scan buys, and CPM, its mean at seven rates.

As LUNA16 defines it (Setio et al., Med Image Anal 2017;42:1; Niemeijer et al., IEEE TMI 2011;30:215): thresholds over all
scans at once, linear between the points, flat beyond the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CPM_SCANS_MIN: Final = 8  # with fewer scans a rate of 1/8 is no alarm at all


@dataclass(frozen=True)
class Scored:
    """One finding that counts: `scan` is the place of its scan, `nodule` the place of the nodule that it hits (counted over
    all scans), None for a false alarm."""

    scan: int
    score: float
    nodule: int | None


@dataclass(frozen=True, eq=False)
class Froc:
    """Points by falling threshold, the first at infinity with nothing found."""

    fp_per_scan: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]

    def at(self, rate: float) -> float:
        """The sensitivity at a rate of false alarms a scan."""
        return float(np.interp(rate, self.fp_per_scan, self.sensitivity))

    def cpm(self) -> float:
        """Mean sensitivity at RATES."""
        return float(np.mean([self.at(rate) for rate in RATES]))


def froc(findings: Sequence[Scored], n_nodules: int, n_scans: int) -> Froc:
    """The curve. A nodule is found at the highest score that hits it.

    Raises:
        ValueError: no nodule, or no scan.
    """
    if n_nodules < 1 or n_scans < 1:
        raise ValueError("a FROC curve needs a nodule and a scan")
    order = sorted(findings, key=lambda finding: -finding.score)
    alarms: list[float] = [0.0]
    found: list[float] = [0.0]
    thresholds: list[float] = [np.inf]
    hit: set[int] = set()
    false = 0
    for place, finding in enumerate(order):
        if finding.nodule is None:
            false += 1
        else:
            hit.add(finding.nodule)
        if place + 1 == len(order) or order[place + 1].score != finding.score:
            alarms.append(false / n_scans)
            found.append(len(hit) / n_nodules)
            thresholds.append(finding.score)
    return Froc(np.array(alarms), np.array(found), np.array(thresholds))
