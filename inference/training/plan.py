"""What one training is asked to do, and what came of it: the same three words for detector, outliner and grader.

A trainer is a module with `train(plan: Plan, say: Progress) -> Trained`. It keeps checkpoints in `plan.output`, so that the
same plan goes on where it stopped; it never opens what belongs to a patient in `plan.held_out`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Progress = Callable[[str], None]
"""Called with a line for people: epoch, step, losses."""

TASKS: Final = ("detector", "outliner", "grader")


@dataclass(frozen=True)
class Plan:
    """One training.

    `task` is one of TASKS. `data` is a data folder (crops in `nodules/`, whole series in `ct/`), `output` the folder of
    checkpoints, weights, card and metrics. `minutes_max` ends the work early, None lets it end by itself; what was
    done stays and the same plan goes on. `held_out` are patients of whom nothing may be seen. `fold`: leave out the patients
    of this fold of the column `folds` ("" = the fold column is not used). `recipe` holds values that replace those of the
    trainer's own recipe, by name.
    """

    task: str
    data: Path
    output: Path
    minutes_max: float | None
    seed: int
    held_out: frozenset[str] = frozenset()
    fold: int | None = None
    folds: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What came of it: `finished` is False where `minutes_max` ended it. `weights` and `card` are files in the plan's output,
    None where there is none yet; `metrics` holds what was measured on the way."""

    finished: bool
    weights: Path | None
    card: Path | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
