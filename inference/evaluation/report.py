"""What every evaluation ends with: metrics.json, report.html, and the lines that a person is told."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.evaluation.intervals import CLASS_MIN, COUNT_MIN, PATIENTS_MIN
from inference.evaluation.page import heading, page, paragraph, shown, table
from inference.evaluation.request import Request

SCHEMA_VERSION: Final = 1
RULE: Final = (
    f"Intervals are 95 %: exact for counts, else by bootstrap over patients. A share needs {COUNT_MIN} cases, an AUC {CLASS_MIN} of "
    f"either class, a mean {CLASS_MIN} cases, and what is bootstrapped {PATIENTS_MIN} patients; with fewer a figure is not given."
)
_MODES: Final = {
    "shipped": "The weights of the catalogue.",
    "cross_fit": "Each fold read by weights that never saw its patients.",
    "results": "Results that came as a table.",
}
_WORDS: Final = {
    "size_mm": "diameter, mm",
    "texture": "texture",
    "slice_mm": "slice thickness, mm",
    "maker": "scanner maker",
    "kernel": "kernel",
    "sex": "sex",
    "age": "age",
}


@dataclass(frozen=True)
class Written:
    """The two files, and what was found in a few lines."""

    metrics: Path
    report: Path
    said: tuple[str, ...]


def write(
    request: Request,
    figures: Mapping[str, Any],
    entries: Sequence[Mapping[str, str]],
    seen: int,
    stamp: str,
    body: Callable[[], Sequence[str]],
    mode: str = "",
) -> Written:
    """Write both files.

    Args:
        figures: of interfaces.md.
        entries: who was measured.
        seen: patients that the weights were trained on (allowed).
        body: the parts of the report.
        mode: in place of the request's.
    """
    request.output.mkdir(parents=True, exist_ok=True)
    mode = mode or request.mode
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "task": request.task,
        "mode": mode,
        "folds": request.folds or None,
        "in_sample_patients": seen,
        "entries": list(entries),
        "rule_for_n": RULE,
        **figures,
    }
    file = request.output / "metrics.json"
    file.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    names = ", ".join(f"{entry['name']} {entry['version']}" for entry in entries)
    head = [
        paragraph(f"{names}. {_MODES[mode]}" if names else _MODES[mode]),
        paragraph(RULE),
    ]
    if entries:
        head.append(
            table(
                ["task", "name", "version", "SHA-256"],
                [[e["task"], e["name"], e["version"], e["sha256"][:16]] for e in entries],
            )
        )
    report = request.output / "report.html"
    report.write_text(page(f"Evaluation: {request.task}", stamp, [*head, *body()]), encoding="utf-8")
    said = ((stamp,) if stamp else ()) + tuple(summary(request.task, figures))
    return Written(file, report, said)


def summary(task: str, figures: Mapping[str, Any]) -> list[str]:
    """The main figures in lines."""
    if task == "grader":
        one = figures["malignancy"]
        many = f"n = {one['n']} ({one['n_malignant']} malignant, {one['n_patients']} patients)"
        return [
            f"malignancy AUC {shown(one['auc'], one['auc_ci'])}, {many}",
            f"within 5-15 mm {shown(one['auc_5_15mm'], one['auc_5_15mm_ci'])}, n = {one['auc_5_15mm_n']}",
            f"of {one['auc_size_matched_pairs']} pairs of one size {shown(one['auc_size_matched'], one['auc_size_matched_ci'])}",
        ]
    if task == "outliner":
        parts = {"native crops": figures["dice"], "cubes": figures["cubes"]["dice"]}
        scans = figures["scans"]
        return [
            *(
                f"Dice on {name} {shown(d['mean'], d['ci'])}, n = {d['n']} ({d['n_patients']} patients)"
                for name, d in parts.items()
            ),
            f"median Dice in whole scans {shown(scans['median'])}, n = {scans['n']}; {scans['n_not_spotted']} without a spot",
        ]
    return [
        f"sensitivity {shown(figures['sensitivity'], figures['sensitivity_ci'])}, {figures['hits']} of {figures['n']} nodules",
        f"false positives a scan {shown(figures['fp_per_scan'], figures['fp_per_scan_ci'])}, {figures['fp_scans']} scans",
        f"CPM {shown(figures['cpm'], figures['cpm_ci'])}, {figures['cpm_scans']} scans",
    ]


def strata_tables(
    strata: Mapping[str, Mapping[str, Mapping[str, Any]]], figure: str, interval: str, words: str
) -> list[str]:
    """One table for each stratum: group, n, and the figure with its interval."""
    parts = [heading("By group", 3)] if strata else []
    for stratum, groups in strata.items():
        rows = [(word, found["n"], shown(found[figure], found[interval])) for word, found in groups.items()]
        parts.append(table([_WORDS[stratum], "n", f"{words} [95 %]"], rows))
    return parts
