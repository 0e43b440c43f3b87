"""How well a score tells two classes apart: ROC, AUC, and what a threshold makes of it.

Scores are (n,) floats, higher is more likely positive; `positive` is (n,) bool. All definitions are scikit-learn's, and the
tests compare them case by case; they are ours because the bootstrap asks for them thousands of times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.sparse import csgraph

from inference.evaluation.intervals import Statistic, ratio

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def auc(positive: Flags, score: Scores) -> float:
    """Area under the ROC curve: the share of pairs (positive, negative) that the score puts in order, ties count half (Mann
    and Whitney 1947). nan without both classes."""
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = stats.rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auc_of(positive: Flags, score: Scores) -> Statistic:
    """The AUC of weighted cases, for the bootstrap."""
    ahead = score[positive][:, None] - score[~positive][None, :]
    in_order = (ahead > 0) + 0.5 * (ahead == 0)

    def aucs(weights: Scores) -> Scores:
        yes, no = weights[:, positive], weights[:, ~positive]
        return ratio(((yes @ in_order) * no).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1))

    return aucs


@dataclass(frozen=True, eq=False)
class Roc:
    """Points of the curve by falling threshold, from (0, 0) at infinity to (1, 1); a case is positive at or above it."""

    fpr: Scores
    tpr: Scores
    thresholds: Scores


def roc(positive: Flags, score: Scores) -> Roc:
    """The ROC curve, one point a distinct score.

    Raises:
        ValueError: without both classes there is none.
    """
    if positive.all() or not positive.any():
        raise ValueError("a ROC curve needs both classes")
    order = np.argsort(-score, kind="stable")
    flags, falling = positive[order], score[order]
    last = np.r_[np.flatnonzero(np.diff(falling)), len(falling) - 1]
    hits = np.cumsum(flags)[last]
    alarms = last + 1 - hits
    return Roc(
        np.r_[0.0, alarms / alarms[-1]], np.r_[0.0, hits / hits[-1]], np.r_[np.inf, falling[last].astype(np.float64)]
    )


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold. A rate is nan where its denominator is 0."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def sensitivity(self) -> float:
        """Share of the positives that were called so (recall)."""
        return _over(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the negatives that were called so."""
        return _over(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """Share of those called positive that are."""
        return _over(self.true_positive, self.true_positive + self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and sensitivity."""
        return _over(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def accuracy(self) -> float:
        """Share of all that were called right."""
        return _over(self.true_positive + self.true_negative, self.n)

    @property
    def n(self) -> int:
        """All cases."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative


def _over(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def confusion(positive: Flags, called: Flags) -> Confusion:
    """What calling `called` positive makes of cases of which `positive` are."""
    return Confusion(
        int(np.count_nonzero(positive & called)),
        int(np.count_nonzero(~positive & called)),
        int(np.count_nonzero(positive & ~called)),
        int(np.count_nonzero(~positive & ~called)),
    )


def f1_of(positive: Flags, called: Flags) -> Statistic:
    """F1 of weighted cases, for the bootstrap."""
    both, either = (positive & called).astype(np.float64), positive.astype(np.float64) + called
    return lambda weights: ratio(2 * (weights @ both), weights @ either)


def matched_pairs(positive: Flags, diameter_mm: Scores, apart_mm_max: float) -> npt.NDArray[np.intp]:
    """Pairs (positive, negative) of one size: the closest diameters first, each case in one pair at most, no pair farther
    apart than `apart_mm_max`. (m, 2) indices; ties go by index, so the pairs are the same every time."""
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(yes) or not len(no):
        return np.empty((0, 2), np.intp)
    apart = np.abs(diameter_mm[yes][:, None] - diameter_mm[no][None, :])
    order = np.argsort(apart, axis=None, kind="stable")
    free_yes, free_no = np.ones(len(yes), bool), np.ones(len(no), bool)
    pairs = []
    for place in order:
        a, b = divmod(int(place), len(no))
        if apart[a, b] > apart_mm_max:
            break
        if free_yes[a] and free_no[b]:
            free_yes[a] = free_no[b] = False
            pairs.append((yes[a], no[b]))
    return np.array(pairs, np.intp).reshape(-1, 2)


def in_order(score: Scores, pairs: npt.NDArray[np.intp]) -> Scores:
    """For each pair 1 where its positive has the higher score, 0.5 where they tie."""
    ahead = score[pairs[:, 0]] - score[pairs[:, 1]]
    ordered: Scores = (ahead > 0) + 0.5 * (ahead == 0)
    return ordered


def paired_auc(score: Scores, pairs: npt.NDArray[np.intp]) -> float:
    """Share of the pairs whose positive has the higher score, ties count half; nan without pairs."""
    return float(np.mean(in_order(score, pairs))) if len(pairs) else float("nan")


def drawn_together(patients: Sequence[str], pairs: npt.NDArray[np.intp]) -> list[str]:
    """A name for each pair, the same for pairs that share a patient, also through others: these are drawn together."""
    names, of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    one, other = of_case[pairs[:, 0]], of_case[pairs[:, 1]]
    graph = sparse.coo_matrix((np.ones(len(pairs)), (one, other)), shape=(len(names), len(names)))
    _, group = csgraph.connected_components(graph, directed=False)
    return [str(group[patient]) for patient in one]
