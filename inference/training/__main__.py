"""One training in a process of its own: `python -m inference.training`, the job a JSON line on standard input.

{"task", "data", "output", "minutes_max", "seed", "held_out", "fold", "folds", "recipe", "mlflow"}; see `Plan`. Leaves
`training.json` beside weights and card.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.training.lines import serve
from inference.training.plan import TASKS, Plan, Progress, Trained
from inference.training.tracking import tracked


def trainer(task: str) -> Any:
    """`train(plan, say)` of the module for a task. Raises KeyError for no task of ours."""
    if task not in TASKS:
        raise KeyError(task)
    return importlib.import_module(f"inference.training.{task}").train


def work(job: Mapping[str, Any], say: Progress) -> Mapping[str, Any]:
    """Train, and write down what came of it."""
    plan = Plan(
        task=job["task"],
        data=Path(job["data"]),
        output=Path(job["output"]),
        minutes_max=job.get("minutes_max"),
        seed=int(job.get("seed", 1)),
        held_out=frozenset(job.get("held_out", ())),
        fold=job.get("fold"),
        folds=job.get("folds", ""),
        recipe=job.get("recipe", {}),
    )
    plan.output.mkdir(parents=True, exist_ok=True)
    with tracked(job.get("mlflow", ""), plan, say) as (told, end):
        trained: Trained = trainer(plan.task)(plan, told)
        end(trained)
    facts = {
        "task": plan.task,
        "seed": plan.seed,
        "fold": plan.fold,
        "finished": trained.finished,
        "weights": str(trained.weights) if trained.weights else None,
        "card": str(trained.card) if trained.card else None,
        "metrics": trained.metrics,
    }
    (plan.output / "training.json").write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")
    return {name: facts[name] for name in ("finished", "weights", "card")}


if __name__ == "__main__":
    sys.exit(serve(work))
