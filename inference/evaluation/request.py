"""What one evaluation is asked to do, and which weights may read which patient.

`shipped` measures the weights of the catalogue and refuses patients that they were trained on; `cross_fit` reads each fold
with weights that never saw it: committed ones (`<entry>/<entry>.<fold>.safetensors` below a folder), else trained here.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from config.catalogue import Entry, find_entry
from inference.errors import InSample, ModelRefused, NoSuchData
from inference.stored import weights_file, with_weights
from inference.training.patients import need_unseen, patients_file, seen_among, weights_without
from inference.training.plan import Plan, Progress, Trained

COLUMN: Final = "fold"
IN_SAMPLE: Final = "IN SAMPLE: the weights were trained on these patients"


@dataclass(frozen=True)
class Request:
    """One evaluation. `entry`: a catalogue entry of the task ("" = what `detector` uses). `folds`: a column of folds for
    `cross_fit`, "" for `shipped`. `fold_weights`: where committed weights of folds lie. `models`: what the site installed."""

    task: str
    data: Path
    output: Path
    detector: str
    entry: str = ""
    folds: str = ""
    fold_weights: Path = Path("models/folds")
    allow_in_sample: bool = False
    device: str = "auto"
    models: Path | None = None
    nodules_max: int = 30
    seed: int = 1

    @property
    def mode(self) -> str:
        """`shipped` or `cross_fit`."""
        return "cross_fit" if self.folds else "shipped"

    def entries(self) -> Mapping[str, Entry]:
        """The entries of the chain by task, `entry` in place of the detector's own.

        Raises:
            ConfigurationError: one is not there.
            NoSuchData: the chain has no entry of the task, and `shipped` weights are to be measured.
        """
        detector = find_entry(
            self.entry if self.task == "detector" and self.entry else self.detector, "detector", self.models
        )
        names = {"lungs": detector.lungs, "outliner": detector.outliner, "grader": detector.grader}
        if self.entry and self.task != "detector":
            names[self.task] = self.entry
        found = {task: find_entry(name, task, self.models) for task, name in names.items() if name}
        found["detector"] = detector
        if self.task not in found and not self.folds:
            raise NoSuchData(f"the chain of {detector.name} has no {self.task}", "", "name one with --entry")
        return found


def known_among(entry: Entry, patients: Iterable[str]) -> frozenset[str]:
    """Those of the patients that an entry's weights were trained on; none for a method without weights, and none for weights
    that a site installed without such a list.

    Raises:
        ModelRefused: weights of ours whose list is missing.
    """
    if not entry.weights:
        return frozenset()
    file = weights_file(entry)
    if entry.folder is not None and not patients_file(file).exists():
        return frozenset()
    return seen_among(file, patients)


def in_sample(request: Request, entries: Sequence[Entry], patients: Iterable[str]) -> int:
    """How many of the patients any of the entries was trained on.

    Raises:
        InSample: there are some, and it was not allowed.
        ModelRefused: nobody knows, and it was not allowed.
    """
    everyone = frozenset(patients)
    seen: set[str] = set()
    for entry in entries:
        try:
            seen |= known_among(entry, everyone)
        except ModelRefused:
            if not request.allow_in_sample:
                raise
            seen |= everyone
    if seen and not request.allow_in_sample:
        raise InSample(
            f"{len(seen)} of {len(everyone)} patients are among those that the weights were trained on",
            ", ".join(entry.name for entry in entries if entry.weights),
            f"measure with --folds {COLUMN}, on other patients, or say --allow-in-sample",
        )
    return len(seen)


def need_column(request: Request) -> None:
    """That the data has the folds that were asked for. Raises NoSuchData."""
    if request.folds and request.folds != COLUMN:
        raise NoSuchData(
            f"no column of folds '{request.folds}'", str(request.data), f"the data has the column {COLUMN}"
        )


def fold_entry(
    request: Request, base: Entry, fold: int, patients: Iterable[str], say: Progress, *, may_train: bool = True
) -> Entry:
    """An entry whose weights never saw the patients of a fold: its own where that is so, committed ones, else trained here
    (that resumes).

    Args:
        patients: who is to be read; weights of the fold whose list holds one of them are refused.
        may_train: False: weights that are not there are not trained.
    Raises:
        InSample: such weights.
        NoSuchData: there are none, and none may be trained.
        ModelRefused: weights without a list of their patients.
    """
    patients = frozenset(patients)
    if not base.weights or _never_saw(base, patients):
        return base
    file = _committed(request, base, fold, patients)
    parameters: Mapping[str, Any] = base.parameters
    if file is None and not may_train:
        raise NoSuchData(f"no weights of {base.name} without this patient", request.fold_weights.name)
    if file is None:
        say(f"{base.name}: no weights without fold {fold} in {request.fold_weights.name}; they are trained now")
        trained = _train(request, base, fold, say)
        assert trained.weights is not None
        file = trained.weights
        parameters = {**parameters, **trained.metrics.get("parameters", {})}
    need_unseen(file, patients, fold)
    return with_weights(base, file, parameters)


def _committed(request: Request, base: Entry, fold: int, patients: frozenset[str]) -> Path | None:
    """The weights of this fold by their name, else any of this entry whose list holds none of the patients."""
    own = request.fold_weights / base.name
    named = (place / f"{base.name}.{fold}.safetensors" for place in (own, request.fold_weights))
    return next((file for file in named if file.is_file()), None) or weights_without(own, patients)


def _never_saw(base: Entry, patients: frozenset[str]) -> bool:
    """Whether the list of its patients says that an entry's own weights saw none of these."""
    return patients_file(weights_file(base)).exists() and not known_among(base, patients)


def _train(request: Request, base: Entry, fold: int, say: Progress) -> Trained:
    plan = Plan(
        task=base.task,
        data=request.data,
        output=request.output / "folds" / base.name,
        minutes_max=None,
        seed=request.seed,
        fold=fold,
        folds=request.folds,
        recipe={"entry": base.name, **_asked_of(base)},
    )
    plan.output.mkdir(parents=True, exist_ok=True)
    trained: Trained = importlib.import_module(f"inference.training.{base.task}").train(plan, say)
    if trained.weights is None:
        raise NoSuchData("the training left no weights", str(plan.output), "look at its last lines")
    return trained


def _asked_of(base: Entry) -> Mapping[str, Any]:
    """The parameters of an entry that its training asks for too: of an outliner, the same network on the same grid; of a
    detector, the same places."""
    names: frozenset[str] = frozenset()
    if base.task == "outliner":
        names = frozenset(field.name for field in fields(importlib.import_module("inference.outline_body").Use))
    if base.task == "detector":
        names = frozenset(importlib.import_module("inference.nodule_net").FIRST_STAGE)
    return {name: value for name, value in base.parameters.items() if name in names}


def described(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Who was measured: name, version, digest of the weights, and digest of all that each computes with."""
    return [
        {"task": e.task, "name": e.name, "version": e.version, "sha256": e.sha256, "digest": e.digest()}
        for e in entries
    ]
