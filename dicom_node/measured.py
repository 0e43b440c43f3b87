"""What an evaluation at this site says of an installed model: a sentence with n and intervals, or why it says nothing."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from config.catalogue import Entry
from dicom_node.errors import Precondition


def measured_text(entry: Entry, metrics: Mapping[str, Any]) -> str:
    """What an evaluation says of an entry, in a sentence with n and intervals.

    Raises:
        Precondition: it is of another entry, not of the weights as they are, in-sample, or without the figures of the task.
    """
    of = metrics.get("entry")
    if not isinstance(of, dict) or (of.get("name"), of.get("sha256")) != (entry.name, entry.sha256):
        raise Precondition(
            "it measured another model", entry.name, "evaluate this one: `dicom-node evaluate ... --entry NAME`"
        )
    if of.get("digest") != entry.digest():
        raise Precondition("it was measured with other parameters", entry.name, "evaluate it as it is now")
    if metrics.get("mode") != "shipped" or metrics.get("in_sample"):
        raise Precondition("not measured with these weights on patients that they never saw", entry.name)
    text = _FIGURES[entry.task](metrics) if entry.task in _FIGURES else ""
    if not text:
        raise Precondition(f"no figure of a {entry.task} that n is large enough for", entry.name)
    return f"Evaluated at this site: {text}."


def _detector_figures(metrics: Mapping[str, Any]) -> str:
    sensitivity, false = metrics.get("sensitivity"), metrics.get("fp_per_scan")
    if not isinstance(sensitivity, dict) or not isinstance(false, dict):
        return ""
    return (
        f"sensitivity {_figure(sensitivity)} of {sensitivity.get('n')} nodules, "
        f"{_figure(false)} false positives a scan on {false.get('n')} scans"
    )


def _outliner_figures(metrics: Mapping[str, Any]) -> str:
    dice = metrics.get("dice")
    return f"mean Dice {_figure(dice, 'mean')} on {dice.get('n')} nodules" if isinstance(dice, dict) else ""


def _grader_figures(metrics: Mapping[str, Any]) -> str:
    one = metrics.get("malignancy")
    if not isinstance(one, dict) or one.get("auc") is None:
        return ""
    interval = one.get("auc_ci")
    return f"AUC of malignancy {one['auc']} {_interval(interval)} on {one.get('n')} nodules of {one.get('n_patients')} patients"


_FIGURES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "detector": _detector_figures,
    "outliner": _outliner_figures,
    "grader": _grader_figures,
}


def _figure(fields: Mapping[str, Any], name: str = "value") -> str:
    return f"{fields.get(name)} {_interval(fields.get('ci'))}"


def _interval(ci: Any) -> str:
    return f"[{ci[0]}-{ci[1]}]" if isinstance(ci, list) and len(ci) == 2 else "(no interval)"
