"""What an evaluation at this site says of an installed model: a sentence with n and intervals, or why it says nothing."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from config.catalogue import Entry
from dicom_node.errors import Precondition


def measured_text(entry: Entry, metrics: Mapping[str, Any]) -> str:
    """What an evaluation says of an entry, in a sentence with n and intervals.

    Args:
        metrics: metrics.json of `dicom-node evaluate`.
    Raises:
        Precondition: it is of another entry, or of another operating point, not of the weights as they are, on patients that
            they are known to have seen, or without the figures of the entry's task.
    """
    those = metrics.get("entries")
    named = [one for one in those if isinstance(one, dict)] if isinstance(those, list) else []
    of = next((one for one in named if (one.get("name"), one.get("sha256")) == (entry.name, entry.sha256)), None)
    if of is None or metrics.get("task") != entry.task:
        raise Precondition(
            "it measured another model",
            entry.name,
            f"measure this one: `dicom-node evaluate {entry.task} ... --entry {entry.name}`",
        )
    if of.get("digest") != entry.digest():
        raise Precondition("it was measured with other parameters", entry.name, "measure it as it is now")
    if metrics.get("mode") != "shipped" or metrics.get("in_sample_patients") != 0:
        raise Precondition(
            "not measured as it is, on patients that its weights never saw", entry.name, "measure it without --folds"
        )
    text = _FIGURES[entry.task](metrics) if entry.task in _FIGURES else ""
    if not text:
        raise Precondition(f"no figure of the {entry.task}: n is too small", entry.name, "measure it on more patients")
    return f"Evaluated at this site: {text}. Whether it was trained on any of these patients is its publisher's to say."


def _detector(metrics: Mapping[str, Any]) -> str:
    if metrics.get("sensitivity") is None or metrics.get("fp_per_scan") is None:
        return ""
    return (
        f"sensitivity {_figure(metrics, 'sensitivity')} of {metrics.get('n')} nodules of {metrics.get('n_patients')} patients, "
        f"{_figure(metrics, 'fp_per_scan')} false positives a scan on {metrics.get('fp_scans')} scans"
    )


def _outliner(metrics: Mapping[str, Any]) -> str:
    dice = metrics.get("dice")
    if not isinstance(dice, dict) or dice.get("mean") is None:
        return ""
    return f"mean Dice {dice['mean']} {_interval(dice.get('ci'))} on {dice.get('n')} nodules of {dice.get('n_patients')} patients"


def _grader(metrics: Mapping[str, Any]) -> str:
    one = metrics.get("malignancy")
    if not isinstance(one, dict) or one.get("auc") is None:
        return ""
    return f"AUC of malignancy {_figure(one, 'auc')} on {one.get('n')} nodules of {one.get('n_patients')} patients"


_FIGURES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "detector": _detector,
    "outliner": _outliner,
    "grader": _grader,
}


def _figure(fields: Mapping[str, Any], name: str) -> str:
    return f"{fields[name]} {_interval(fields.get(f'{name}_ci'))}"


def _interval(ci: Any) -> str:
    return f"[{ci[0]}-{ci[1]}]" if isinstance(ci, list) and len(ci) == 2 else "(no interval)"
