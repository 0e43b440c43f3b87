"""One evaluation in a process of its own: `python -m inference.evaluation`, the job a JSON line on standard input.

{"task", "data", "output", "entry", "detector", "device", "models", "nodules_max", "folds", "fold_weights",
"allow_in_sample"}; see `Request`. Ends with the paths of metrics.json and report.html and some lines for people.
"""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.evaluation.request import Request
from inference.training.lines import serve
from inference.training.plan import TASKS, Progress


def work(job: Mapping[str, Any], say: Progress) -> Mapping[str, Any]:
    """Measure."""
    if job["task"] not in TASKS:
        raise KeyError(job["task"])
    request = Request(
        task=job["task"],
        data=Path(job["data"]),
        output=Path(job["output"]),
        detector=job["detector"],
        entry=job.get("entry", ""),
        folds=job.get("folds", ""),
        fold_weights=Path(job.get("fold_weights", "models/folds")),
        allow_in_sample=bool(job.get("allow_in_sample", False)),
        device=job.get("device", "auto"),
        models=Path(job["models"]) if job.get("models") else None,
        nodules_max=int(job.get("nodules_max", 30)),
        seed=int(job.get("seed", 1)),
    )
    written = importlib.import_module(f"inference.evaluation.{request.task}").evaluate(request, say)
    return {"metrics": str(written.metrics), "report": str(written.report), "said": list(written.said)}


if __name__ == "__main__":
    sys.exit(serve(work))
