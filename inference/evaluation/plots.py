"""The plots of a report, as PNG. A `stamp` (an evaluation in sample) is printed across each of them."""

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inference.evaluation.calibration import Bin
from inference.evaluation.froc import RATES, Froc
from inference.evaluation.ranking import Roc

_SIZE: Final = (4.8, 4.2)
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def _drawn(figure: Figure, stamp: str) -> bytes:
    if stamp:
        figure.text(0.5, 0.5, stamp, color="#b00000", alpha=0.45, rotation=30, ha="center", va="center", fontsize=20)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _axes(xlabel: str, ylabel: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def roc_plot(curves: Sequence[tuple[str, Roc]], point: tuple[float, float] | None, stamp: str) -> bytes:
    """ROC curves by name; `point` (false positive rate, sensitivity) is the threshold in use."""
    figure, axes = _axes("1 - specificity", "sensitivity")
    for (name, curve), colour in zip(curves, _COLOURS, strict=False):
        axes.plot(curve.fpr, curve.tpr, label=name, color=colour)
    if point is not None:
        axes.plot(*point, "o", color="black", label="at the threshold")
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=8)
    return _drawn(figure, stamp)


def calibration_plot(bins: Sequence[Bin], stamp: str) -> bytes:
    """Share of positives against the mean score, a dot for each bin, as large as its n."""
    figure, axes = _axes("mean score", "share that is positive")
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.plot([b.mean_score for b in bins], [b.share_positive for b in bins], color=_COLOURS[0], lw=1)
    axes.scatter(
        [b.mean_score for b in bins], [b.share_positive for b in bins], [10 + 2 * b.n for b in bins], color=_COLOURS[0]
    )
    for b in bins:
        axes.annotate(f"{b.n}", (b.mean_score, b.share_positive), (6, -10), textcoords="offset points", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    return _drawn(figure, stamp)


def confusion_plot(table: Sequence[Sequence[int]], names: Sequence[str], stamp: str) -> bytes:
    """Rows: what it is; columns: what it was called."""
    figure, axes = _axes("called", "is")
    counts = np.array(table)
    of_row = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(of_row, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names, rotation=90, va="center")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if of_row[row, column] > 0.6 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour)
    return _drawn(figure, stamp)


def froc_plot(curve: Froc, point: tuple[float, float] | None, stamp: str) -> bytes:
    """Sensitivity against false positives a scan; `point` is the operating point."""
    figure, axes = _axes("false positives a scan", "sensitivity")
    end = max(RATES[-1], float(curve.fp_per_scan[-1]))
    axes.plot(np.r_[curve.fp_per_scan, end], np.r_[curve.sensitivity, curve.sensitivity[-1]], color=_COLOURS[0])
    axes.plot(RATES, [curve.at(rate) for rate in RATES], ".", color=_COLOURS[0], label="the seven rates of CPM")
    if point is not None:
        axes.plot(*point, "o", color="black", label="operating point")
    axes.set_xscale("symlog", base=2, linthresh=RATES[0])
    axes.set_xticks([0, *RATES], ["0", "1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.set_xlim(0, RATES[-1])
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right", fontsize=8)
    return _drawn(figure, stamp)


def histogram_plot(values: Sequence[float], label: str, stamp: str, ends: tuple[float, float]) -> bytes:
    """How often which value, with mean and median of all; what lies beyond the `ends` stands in the last bin on its side."""
    figure, axes = _axes(label, "nodules")
    axes.hist(np.clip(values, *ends), bins=25, range=ends, color=_COLOURS[0])
    if len(values):
        for value, name, style in ((np.mean(values), "mean", "-"), (np.median(values), "median", "--")):
            axes.axvline(float(np.clip(value, *ends)), color="black", ls=style, label=f"{name} {value:.3f}")
        axes.legend(fontsize=8)
    return _drawn(figure, stamp)
