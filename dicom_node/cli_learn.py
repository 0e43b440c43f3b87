"""Commands that make models and measure them: `train`, `evaluate`. The work is done by a process of its own, which loads
torch; this one shows its lines and gives on its exit code."""

import json
import os
import signal
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from config.catalogue import models_folder
from config.load import load
from config.settings import Settings
from dicom_node.cli_context import json_option
from dicom_node.errors import ChildDied, UsageFault
from dicom_node.processes import LineChild

TASKS: Final = ("detector", "outliner", "grader")
GRACE_S: Final = 60.0  # an interrupted training writes its checkpoint
FAILED, INTERRUPTED = 1, 130

task_argument = click.argument("task", type=click.Choice(TASKS))
data_option = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Data folder: crops in nodules/, whole series in ct/.",
)
output_option = click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for all that comes of it; the same folder goes on.",
)


@click.command()
@task_argument
@data_option
@output_option
@click.option(
    "--config",
    "recipe_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with values that replace those of the recipe (steps, rate, widths, ...).",
)
@click.option(
    "--max-minutes", type=click.FloatRange(min=0, min_open=True), help="End after this time and keep what was done."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is drawn.")
@click.option(
    "--hold-out", "held_out", multiple=True, metavar="PATIENT", help="Nothing of this patient is opened; repeat it."
)
@click.option("--folds", default="fold", show_default=True, metavar="COLUMN", help="Column of the folds, for --fold.")
@click.option("--fold", type=click.IntRange(min=0), help="Leave out the patients of this fold, and measure on them.")
@click.option(
    "--mlflow",
    metavar="URI",
    default="",
    help="Also record it with MLflow, for example in file:./mlruns (extra mlflow).",
)
def train(
    task: str,
    data: Path,
    output: Path,
    recipe_file: Path | None,
    max_minutes: float | None,
    seed: int,
    held_out: tuple[str, ...],
    folds: str,
    fold: int | None,
    mlflow: str,
) -> int:
    """Train a detector, an outliner or a grader from a data folder: weights, model card and metrics in OUTPUT.

    It may be interrupted (Ctrl-C, --max-minutes, a crash) at any time: checkpoints lie in OUTPUT, and the same command goes
    on where it stopped. The same data, recipe and seed give the same training.

    \b
      dicom-node train outliner --data DATA --output work --max-minutes 60
      dicom-node train outliner --data DATA --output work --fold 0
      dicom-node evaluate outliner --data DATA --output report --folds fold --fold-weights work

    Needs the extra `learn` (pip install 'dicom-node[learn]'). Exit 2: the data folder or the recipe is wrong. 130: interrupted.
    """
    job = {
        "task": task,
        "data": str(data.absolute()),
        "output": str(output.absolute()),
        "minutes_max": max_minutes,
        "seed": seed,
        "held_out": list(held_out),
        "fold": fold,
        "folds": folds,
        "recipe": _recipe(recipe_file) if recipe_file else {},
        "mlflow": mlflow,
    }
    end = _run("inference.training", job, quiet=False)
    if end.get("event") != "done":
        return _failed(end)
    for name in ("weights", "card"):
        if end.get(name):
            click.echo(f"{name:8} {end[name]}")
    if not end.get("finished"):
        click.echo("not finished; the same command goes on where it stopped")
    return 0


@click.command()
@task_argument
@data_option
@output_option
@click.option(
    "--entry",
    default="",
    metavar="NAME",
    help="Catalogue entry to measure [default: the one that `read.detector` uses].",
)
@click.option(
    "--folds",
    default="",
    metavar="COLUMN",
    help="Cross-fit by this column of the data: each fold is read by weights that never saw its patients.",
)
@click.option(
    "--fold-weights",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models/folds"),
    show_default=True,
    help="Folder where weights of folds lie (ENTRY/ below it, or itself); what is missing is trained.",
)
@click.option(
    "--allow-in-sample", is_flag=True, help="Also measure on patients that the weights know; every plot then says so."
)
@json_option
def evaluate(
    task: str,
    data: Path,
    output: Path,
    entry: str,
    folds: str,
    fold_weights: Path,
    allow_in_sample: bool,
    as_json: bool,
) -> int:
    """Say how good a detector, an outliner or a grader is: metrics.json and report.html in OUTPUT.

    Without --folds the weights of the catalogue are measured, and refused (exit 3) on patients that they were trained on. Every
    figure has its n and its 95 % interval (bootstrap over patients, exact for counts), and is null where n is too small.

    A folder with LUNA16's tables (annotations.csv beside one table of results with a column `probability`) is scored as the
    challenge does: `evaluate detector --data FOLDER`.

    \b
      dicom-node evaluate grader --data DATA --output report --folds fold
      dicom-node evaluate detector --data OTHER --output report

    Needs the extra `learn`. Exit 2: the data folder is wrong. 3: refused. 130: interrupted; finished folds are kept.
    """
    settings = _settings()
    job = {
        "task": task,
        "data": str(data.absolute()),
        "output": str(output.absolute()),
        "entry": entry,
        "detector": settings.read.detector,
        "device": settings.read.device,
        "nodules_max": settings.read.nodules_max,
        "models": str(models_folder(settings.paths.state)),
        "folds": folds,
        "fold_weights": str(fold_weights.absolute()),
        "allow_in_sample": allow_in_sample,
    }
    end = _run("inference.evaluation", job, quiet=as_json)
    if end.get("event") != "done":
        return _failed(end)
    if as_json:
        click.echo(Path(end["metrics"]).read_text(encoding="utf-8"), nl=False)
        return 0
    for line in end.get("said", ()):
        click.echo(line)
    click.echo(end["metrics"])
    click.echo(end["report"])
    return 0


def _settings() -> Settings:
    """The settings of this command line; the defaults without a configuration."""
    obj: Any = click.get_current_context().find_root().obj
    return load(obj.path, os.environ if obj.path else {"DICOM_NODE__SITE__TIMEZONE": "UTC", **os.environ})


def _recipe(file: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(tomllib.loads(file.read_text(encoding="utf-8")), default=str))
        return plain
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise UsageFault(f"no TOML: {fault}", str(file), "write it as name = value, a line each") from fault


def _run(module: str, job: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Run a process with its job and show its lines; its last line. Ctrl-C is given on, so that it keeps what was done."""
    with LineChild(module) as child:
        child.send(job)
        try:
            return _heard(child, quiet)
        except KeyboardInterrupt:
            click.echo("interrupted; keeping what was done ...", err=True)
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGINT)
            last: dict[str, Any] = {}
            with suppress(ChildDied, KeyboardInterrupt):
                while last.get("event") not in ("done", "error"):
                    last = child.receive(GRACE_S) or {"event": "error"}
            return {"event": "error", "exit": INTERRUPTED, "text": "interrupted; the same command goes on"}


def _heard(child: LineChild, quiet: bool) -> dict[str, Any]:
    while True:
        line = child.receive(3600.0)
        if line is None:
            continue
        if line.get("event") == "progress" and not quiet:
            click.echo(line["text"], err=True)
        if line.get("event") in ("done", "error"):
            return line


def _failed(end: dict[str, Any]) -> int:
    click.echo(f"dicom-node: {end.get('text', 'failed')}", err=True)
    return int(end.get("exit", FAILED))
