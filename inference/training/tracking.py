"""MLflow tracking of a training, where it is asked for: local files by default, the optional extra `mlflow`."""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from inference.errors import LearnMissing
from inference.training.plan import Plan, Progress, Trained

_LOSS: Final = re.compile(r"\bstep (\d+)\D.*?\bloss ([0-9.]+(?:e-?\d+)?)")


def loss_in(text: str) -> tuple[int, float] | None:
    """(step, loss) of a line of progress that names both."""
    found = _LOSS.search(text)
    return (int(found[1]), float(found[2])) if found else None


def numbers_in(metrics: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested metrics, by dotted name."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from numbers_in(value, f"{before}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{before}{name}", float(value)


@contextmanager
def tracked(where: str, plan: Plan, say: Progress) -> Iterator[tuple[Progress, Callable[[Trained], None]]]:
    """Progress that is also recorded, and what to call with the outcome.

    Args:
        where: an MLflow tracking URI; "" records nothing.
    Raises:
        LearnMissing: tracking was asked for and MLflow is not installed.
    """
    if not where:
        yield say, lambda trained: None
        return
    if importlib.util.find_spec("mlflow") is None:
        raise LearnMissing(
            "not installed: mlflow", "--mlflow", "pip install 'dicom-node[mlflow]', or leave the option out"
        )
    import mlflow

    mlflow.set_tracking_uri(where)
    mlflow.set_experiment(f"dicom-node {plan.task}")
    name = plan.task if plan.fold is None else f"{plan.task} without fold {plan.fold}"
    with mlflow.start_run(run_name=name):
        mlflow.log_params({"seed": plan.seed, "fold": plan.fold, "held_out": len(plan.held_out), **plan.recipe})

        def told(text: str) -> None:
            say(text)
            loss = loss_in(text)
            if loss:
                mlflow.log_metric("loss", loss[1], step=loss[0])

        def end(trained: Trained) -> None:
            for metric, value in numbers_in(trained.metrics):
                mlflow.log_metric(re.sub(r"[^\w./ -]", "_", metric), value)
            for file in (trained.card, trained.weights):
                if file is not None:
                    mlflow.log_artifact(str(file))

        yield told, end
