"""FROC: the sensitivity that a number of false alarms a scan buys, and CPM, its mean at seven rates.

As LUNA16 defines it (Setio et al., Med Image Anal 2017;42:1; Niemeijer et al., IEEE TMI 2011;30:215): thresholds over all
scans at once, linear between the points, flat beyond the last one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CPM_SCANS_MIN: Final = 8  # with fewer scans a rate of 1/8 is no alarm at all


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


def froc(score: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_], n_nodules: int, n_scans: int) -> Froc:
    """The curve of the findings of all scans.

    Args:
        score: (n,), higher is more likely a nodule.
        hit: (n,), True for the finding that hits a nodule (one a nodule), False for a false alarm.
    Raises:
        ValueError: no nodule, or no scan.
    """
    if n_nodules < 1 or n_scans < 1:
        raise ValueError("a FROC curve needs a nodule and a scan")
    order = np.argsort(-score, kind="stable")
    falling, hits = score[order], np.cumsum(hit[order])
    last = np.r_[np.flatnonzero(np.diff(falling)), len(falling) - 1] if len(falling) else np.empty(0, np.intp)
    return Froc(
        np.r_[0.0, (last + 1 - hits[last]) / n_scans], np.r_[0.0, hits[last] / n_nodules], np.r_[np.inf, falling[last]]
    )
