"""How sure a figure is: exact intervals for counts, the bootstrap over patients for all else, and when n is too small.

The rule for n, one for all figures:
- a count (sensitivity, precision, accuracy, ...) needs COUNT_MIN cases in its denominator; its interval is exact
  (Clopper and Pearson, Biometrika 1934;26:404), so a small n shows itself;
- a false-positive rate needs one scan; its interval is exact for a Poisson count (Garwood, Biometrika 1936;28:437);
- an AUC needs CLASS_MIN cases of either class, a mean or median CLASS_MIN cases, and both cases of PATIENTS_MIN patients.
What has less is None: too few to say.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

COUNT_MIN: Final = 5
CLASS_MIN: Final = 15
PATIENTS_MIN: Final = 10
LEVEL: Final = 0.95
ROUNDS: Final = 2000
SEED: Final = 20261125

Interval = tuple[float, float]
Numbers = npt.NDArray[np.float64]
Statistic = Callable[[Numbers], Numbers]
"""From weights (draws, cases), how often each case counts, to the figure of each draw (draws,); nan where it has none."""


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """The exact interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return (0.0, 1.0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return (low, high)


def poisson_interval(count: int, level: float = LEVEL) -> Interval:
    """The exact interval of the mean of a Poisson count (Garwood 1936)."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(stats.chi2.ppf(tail, 2 * count) / 2)
    return (low, float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2))


def bootstrap(
    statistic: Statistic,
    patients: Sequence[str],
    *,
    rounds: int = ROUNDS,
    seed: int = SEED,
    level: float = LEVEL,
) -> Interval | None:
    """The percentile interval of a figure when patients (with all their cases) are drawn again with replacement.

    Args:
        statistic: see `Statistic`.
        patients: of each case.
    Returns:
        None with fewer than PATIENTS_MIN patients, or where more than a tenth of the draws has no such figure.
    """
    names, of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    count = len(names)
    if count < PATIENTS_MIN:
        return None
    drawn = np.random.default_rng(seed).integers(0, count, (rounds, count))
    places = (drawn + count * np.arange(rounds)[:, None]).ravel()
    times = np.bincount(places, minlength=rounds * count).reshape(rounds, count)
    values = statistic(times[:, of_case].astype(np.float64))
    values = values[np.isfinite(values)]
    if len(values) < 0.9 * rounds:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def mean_of(values: Numbers) -> Statistic:
    """The mean of the cases."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def median_of(values: Numbers) -> Statistic:
    """The median of the cases, as numpy has it."""
    order = np.argsort(values, kind="stable")
    rising = values[order]

    def medians(weights: Numbers) -> Numbers:
        upto = np.cumsum(weights[:, order], axis=1)
        half = upto[:, -1:] / 2
        both: Numbers = (rising[(upto >= half).argmax(axis=1)] + rising[(upto > half).argmax(axis=1)]) / 2
        return both

    return medians


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Part by whole, nan where the whole is 0."""
    quotient: Numbers = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return quotient


def rounded(value: float | None, digits: int = 4) -> float | None:
    """For a file: None stays None, and what is no number (nan) becomes None."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def rounded_ci(interval: Interval | None, digits: int = 4) -> list[float] | None:
    """An interval for a file."""
    return None if interval is None else [round(float(end), digits) for end in interval]


def share(successes: int, n: int) -> tuple[float | None, list[float] | None]:
    """A count's share and its exact interval for a file; (None, None) under COUNT_MIN."""
    if n < COUNT_MIN:
        return None, None
    return rounded(successes / n), rounded_ci(clopper_pearson(successes, n))
