"""Whether a score means what it says: of all nodules scored 0.7, are 70 % positive?

Scores are (n,) floats from 0 to 1, `positive` is (n,) bool.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.evaluation.intervals import Statistic

BINS: Final = 10


@dataclass(frozen=True)
class Bin:
    """Cases whose score lies in (low, high], the first bin with its lower end."""

    low: float
    high: float
    n: int
    mean_score: float
    share_positive: float


def reliability(positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width; those without a case are left out."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = _places(score, bins)
    return tuple(
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            int(np.count_nonzero(place == b)),
            float(score[place == b].mean()),
            float(positive[place == b].mean()),
        )
        for b in range(bins)
        if (place == b).any()
    )


def _places(score: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.intp]:
    """The bin of each score."""
    return np.clip(np.searchsorted(np.linspace(0.0, 1.0, bins + 1), score, side="left") - 1, 0, bins - 1)


def expected_calibration_error(
    positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], bins: int = BINS
) -> float:
    """Mean distance of score and share of positives over the bins, weighted by their n (Naeini et al., AAAI 2015); nan
    without cases."""
    if not len(score):
        return float("nan")
    return sum(b.n * abs(b.mean_score - b.share_positive) for b in reliability(positive, score, bins)) / len(score)


def calibration_error_of(
    positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], bins: int = BINS
) -> Statistic:
    """The same of weighted cases, for the bootstrap."""
    inside = (_places(score, bins)[:, None] == np.arange(bins)).astype(np.float64)
    rise = inside * (score - positive)[:, None]
    return lambda weights: np.abs(weights @ rise).sum(axis=1) / weights.sum(axis=1)


def brier(positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> float:
    """Mean squared distance of score and truth (Brier 1950); nan without cases."""
    return float(np.mean((score - positive) ** 2)) if len(score) else float("nan")
