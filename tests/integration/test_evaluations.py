"""Training and evaluation as a person runs them, on a made data folder: files, exit codes, what is refused, what goes on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import save_file

import dicom_node
from config.catalogue import Entry, find_entry
from inference.errors import InSample, ModelRefused, NoSuchData
from inference.evaluation import detector, grader, outliner
from inference.evaluation.request import Request, fold_entry, in_sample
from inference.outline_body import Use
from inference.phantom import NoduleWish
from inference.training import grader as training
from inference.training.detector import looking_entry
from inference.training.grader_models import linear
from inference.training.outliner import Recipe
from inference.training.patients import patients_file, write_patients
from inference.training.plan import Plan, Trained
from tests.installed import put_model
from tests.made_data import write_nodules, write_scan

SCHEMA = json.loads((Path(dicom_node.__file__).parent / "schemas/metrics.schema.json").read_text(encoding="utf-8"))
USE = Use(2, (4, 8), 26.0, 0.7, 3.2, 1, 0.5)
PARAMETERS = {**Recipe().parameters, **vars(USE), "widths": [4, 8]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_nodules(folder, 20)
    return folder


def said(text: str) -> None:
    """Nobody listens."""


def metrics_in(folder: Path) -> dict[str, Any]:
    """metrics.json, which has the shape of its schema."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(found)] == []
    return found


def alone(report: Path) -> str:
    """The text of a report that needs nothing but itself."""
    text = report.read_text(encoding="utf-8")
    assert "RESEARCH - NOT FOR DIAGNOSIS" in text
    assert "<script" not in text
    assert re.findall(r"(?:src|href)=\"(?!data:image/png;base64,)", text) == []
    assert "url(" not in text
    return text


def net(models: Path) -> Entry:
    """An installed outliner with weights that nobody trained."""
    entry = put_model(models, "tiny", "outline-seeded", kind="unet", parameters=PARAMETERS)
    assert entry.folder is not None
    return entry


def fold_weights(folder: Path, name: str, seen: dict[int, list[str]]) -> None:
    """Weights for each fold, of a network that sees nothing anywhere, beside the list of whom they saw."""
    (folder / name).mkdir(parents=True)
    for fold, patients in seen.items():
        state = {key: torch.zeros_like(value).half() for key, value in USE.network().state_dict().items()}
        state[list(state)[-1]].fill_(-10.0)  # the bias of what comes out
        file = folder / name / f"{name}.{fold}.safetensors"
        save_file(state, file)
        write_patients(patients_file(file), patients)


def request(data: Path, output: Path, **changes: Any) -> Request:
    return Request(
        **{"task": "outliner", "data": data, "output": output, "detector": "hessian-dot", "device": "cpu", **changes}
    )


def test_an_outliner_without_weights_is_measured_on_any_patient(data: Path, tmp_path: Path) -> None:
    written = outliner.evaluate(request(data, tmp_path, entry="outline-seeded"), said)
    found = metrics_in(tmp_path)
    assert (found["mode"], found["in_sample_patients"], found["dice"]["n"]) == ("shipped", 0, 20)
    assert found["dice"]["mean"] > 0.3
    assert found["cubes"]["dice"]["mean"] is None  # five cubes are too few
    text = alone(written.report)
    assert "P-0_R_1" in text
    assert "IN SAMPLE" not in text


def test_nodules_of_whole_scans_are_outlined_at_the_detectors_spots(data: Path, tmp_path: Path) -> None:
    """A phantom beside the crops; where the detector knows its patient, and no other weights are there, it is left out."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "nodules").symlink_to(data / "nodules")
    write_scan(folder, "made-1", "Q-1", [NoduleWish("solid", 14.0), NoduleWish("solid", 11.0)])
    written = outliner.evaluate(request(folder, tmp_path / "out", entry="outline-seeded"), said)
    scans = metrics_in(tmp_path / "out")["scans"]
    assert [(one["scan"], one["number"], one["spotted"]) for one in scans["nodules"]] == [
        ("made-1", 1, True),
        ("made-1", 2, True),
    ]
    assert min(one["dice"] for one in scans["nodules"]) > 0.5
    assert (scans["n"], scans["n_not_spotted"], scans["left_out"]) == (2, 0, [])
    assert "made-1 nodule 2" in alone(written.report)
    knows = put_model(tmp_path / "models", "knows", "nodule-net")
    assert knows.folder is not None
    write_patients(patients_file(knows.folder / knows.weights), ["Q-1"])
    asked = {"folds": "fold", "fold_weights": tmp_path, "detector": "knows", "models": tmp_path / "models"}
    outliner.evaluate(request(folder, tmp_path / "out", entry="outline-seeded", **asked), said)
    scans = metrics_in(tmp_path / "out")["scans"]
    assert (scans["n"], scans["nodules"]) == (0, [])
    assert scans["left_out"] == [{"scan": "made-1", "why": "no weights of knows without this patient"}]


def test_each_fold_is_outlined_by_weights_that_never_saw_it(data: Path, tmp_path: Path) -> None:
    net(tmp_path / "models")
    everyone = [f"P-{n}" for n in range(20)]
    seen = {fold: [p for n, p in enumerate(everyone) if n % 5 != fold] for fold in range(5)}
    fold_weights(tmp_path / "folds", "tiny", seen)
    asked = request(
        data, tmp_path / "out", entry="tiny", folds="fold", fold_weights=tmp_path / "folds", models=tmp_path / "models"
    )
    outliner.evaluate(asked, said)
    found = metrics_in(tmp_path / "out")
    assert (found["mode"], found["folds"], found["dice"]["n"]) == ("cross_fit", "fold", 20)
    assert (found["dice"]["mean"], found["outlined"]["share"]) == (0.0, 0.0)
    write_patients(patients_file(tmp_path / "folds/tiny/tiny.3.safetensors"), ["p-8 ".strip().upper()])
    with pytest.raises(InSample, match="fold 3"):
        outliner.evaluate(asked, said)
    patients_file(tmp_path / "folds/tiny/tiny.3.safetensors").unlink()
    with pytest.raises(ModelRefused):
        outliner.evaluate(asked, said)
    with pytest.raises(NoSuchData, match="luna_subset"):
        outliner.evaluate(request(data, tmp_path / "out", folds="luna_subset"), said)


def test_own_weights_read_a_fold_that_they_never_saw(tmp_path: Path) -> None:
    entry = net(tmp_path / "models")
    assert entry.folder is not None
    write_patients(patients_file(entry.folder / entry.weights), ["P-1", "P-2"])
    asked = request(tmp_path, tmp_path, folds="fold", fold_weights=tmp_path / "folds")
    assert fold_entry(asked, entry, 7, {"P-8", "P-9"}, said) is entry
    fold_weights(tmp_path / "folds", "tiny", {1: ["P-1"]})
    other = fold_entry(asked, entry, 1, {"P-2"}, said)
    assert (other.weights, other.folder) == ("tiny.1.safetensors", tmp_path / "folds/tiny")
    (tmp_path / "folds/tiny/tiny.1.safetensors").rename(tmp_path / "folds/tiny/without-two.safetensors")
    (tmp_path / "folds/tiny/tiny.1.patients.json").rename(tmp_path / "folds/tiny/without-two.patients.json")
    assert fold_entry(asked, entry, 4, {"p-2"}, said).weights == "without-two.safetensors"


def test_a_detector_of_the_site_is_trained_without_a_fold_on_the_places_that_it_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def train(plan: Plan, say: object) -> Trained:
        plans.append(plan)
        return Trained(False, None, None)

    monkeypatch.setattr("inference.training.detector.train", train)
    parameters = {**find_entry("nodule-net", "detector").parameters, "places_max": 77, "confidence_min": 0.1}
    entry = put_model(tmp_path / "models", "knows", "nodule-net", parameters=parameters)
    assert entry.folder is not None
    write_patients(patients_file(entry.folder / entry.weights), ["Q-1"])
    asked = request(tmp_path, tmp_path, task="detector", folds="fold", fold_weights=tmp_path / "folds")
    with pytest.raises(NoSuchData, match="left no weights"):
        fold_entry(asked, entry, 1, {"Q-1"}, said)
    assert (plans[0].recipe["entry"], plans[0].recipe["places_max"]) == ("knows", 77)
    assert "confidence_min" not in plans[0].recipe  # the operating point is found afterwards
    assert looking_entry(plans[0].recipe).number("places_max") == 77


def test_patients_of_the_training_are_refused_whatever_the_case_of_their_id(tmp_path: Path) -> None:
    entry = net(tmp_path / "models")
    assert entry.folder is not None
    write_patients(patients_file(entry.folder / entry.weights), ["P-1", "P-2"])
    asked = request(tmp_path, tmp_path)
    assert in_sample(asked, [entry], ["P-3"]) == 0
    with pytest.raises(InSample, match="1 of 2 patients"):
        in_sample(asked, [entry], ["P-3", " p-2"])
    assert in_sample(request(tmp_path, tmp_path, allow_in_sample=True), [entry], ["P-2", "P-1", "P-3"]) == 2
    ours = entry.model_copy(update={"folder": None, "weights": "nowhere.safetensors"})
    with pytest.raises(ModelRefused):
        in_sample(asked, [ours], ["P-3"])


def test_a_series_is_read_as_a_node_reads_it_and_its_nodules_are_found(tmp_path: Path) -> None:
    """A phantom that is labelled whole, and a stack that is too thick to read."""
    write_scan(tmp_path / "data", "made-1", "Q-1", [NoduleWish("solid", 14.0), NoduleWish("solid", 11.0)])
    (tmp_path / "data/ct/none").mkdir()  # a folder without truth is none of ours
    written = detector.evaluate(request(tmp_path / "data", tmp_path / "out", task="detector"), said)
    found = metrics_in(tmp_path / "out")
    (scan,) = found["scans"]
    assert (scan["name"], scan["truth"], scan["hits"], scan["not_read"]) == ("made-1", 2, 2, None)
    assert found["strata"]["maker"]["GE"]["n"] == 2
    assert found["strata"]["sex"] == {"F": {"sensitivity": None, "sensitivity_ci": None, "hits": 2, "n": 2}}
    assert {outline["name"] for outline in found["outlines"]} == {"made-1 nodule 1", "made-1 nodule 2"}
    assert min(outline["dice"] for outline in found["outlines"]) > 0.5
    text = alone(written.report)
    assert "Q-1" not in text


def test_a_grader_is_measured_on_the_outlines_of_an_outliner_that_the_site_installed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipped and cross-fit; nobody's fold has weights of its own, for the installed ones saw none of the patients."""
    monkeypatch.setattr(training, "CANDIDATES", (linear("two", ("diameter", "hu_median"), 0.3),))
    models = tmp_path / "models"
    outlines = put_model(models, "site-outlines", "outline-seeded")
    put_model(models, "site", "hessian-dot", outliner=outlines.name, grader="grade-features")
    assert outlines.folder is not None
    write_patients(patients_file(outlines.folder / outlines.weights), ["Q-1"])
    for folds in ("", "fold"):
        asked = {"detector": "site", "models": models, "folds": folds, "fold_weights": tmp_path / "nowhere"}
        grader.evaluate(request(data, tmp_path / "out", task="grader", **asked), said)
        found = metrics_in(tmp_path / "out")
        assert found["mode"] == ("cross_fit" if folds else "shipped")
        assert found["malignancy"]["n"] > 15
        assert [each["name"] for each in found["entries"]] == ["site-outlines", "grade-features"]


# ---------------------------------------------------------------- the commands


def command(tmp_path: Path, *words: object) -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        "DICOM_NODE__SITE__TIMEZONE": "UTC",
        "DICOM_NODE__PATHS__STATE": str(tmp_path / "state"),
        "OMP_NUM_THREADS": "1",
    }
    line = [sys.executable, "-m", "dicom_node", *map(str, words)]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, cwd=tmp_path)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text("widths = [4, 8]\nbatch = 4\nsteps = 24\nwatch_every = 8\nmirrored = 1\nrate_warm_steps = 2\n")
    return file


def test_the_tables_of_luna16_are_scored_by_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "luna"
    folder.mkdir()
    (folder / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\ns1,0,0,0,10\n")
    (folder / "results.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\ns1,1,0,0,0.5\ns2,9,0,0,0.2\n")
    code, out, err = ended(
        command(tmp_path, "evaluate", "detector", "--data", folder, "--output", tmp_path / "out", "--json")
    )
    assert code == 0, err
    found = json.loads(out)
    assert found == metrics_in(tmp_path / "out")
    assert (found["mode"], found["hits"], found["fp_per_scan"]) == ("results", 1, 0.5)
    alone(tmp_path / "out/report.html")


def test_weights_are_not_measured_on_whom_they_know_unless_every_plot_says_so(data: Path, tmp_path: Path) -> None:
    entry = net(tmp_path / "state/models")
    assert entry.folder is not None
    write_patients(patients_file(entry.folder / entry.weights), ["P-1"])
    words = ("evaluate", "outliner", "--data", data, "--output", tmp_path / "out", "--entry", "tiny")
    code, _, err = ended(command(tmp_path, *words))
    assert (code, (tmp_path / "out").exists()) == (3, False)
    assert "1 of 20 patients" in err
    assert "--folds fold" in err


def test_a_data_folder_without_crops_is_a_fault_of_the_command_line(tmp_path: Path) -> None:
    code, _, err = ended(command(tmp_path, "evaluate", "outliner", "--data", tmp_path, "--output", tmp_path / "out"))
    assert code == 2
    assert "Traceback" not in err


def test_a_training_that_was_cut_short_goes_on_by_the_same_command(data: Path, tmp_path: Path, recipe: Path) -> None:
    words = ("train", "outliner", "--data", data, "--output", tmp_path / "out", "--config", recipe, "--hold-out", "P-3")
    code, out, err = ended(command(tmp_path, *words, "--max-minutes", "0.0001"))
    assert code == 0, err
    assert "not finished" in out
    assert not json.loads((tmp_path / "out/training.json").read_text())["finished"]
    code, out, err = ended(command(tmp_path, *words))
    assert code == 0, err
    assert "loss" in err
    facts = json.loads((tmp_path / "out/training.json").read_text())
    assert facts["finished"]
    assert Path(facts["weights"]).is_file()
    assert Path(facts["card"]).read_text().startswith("# ")


def test_an_interrupted_training_ends_with_130(data: Path, tmp_path: Path, recipe: Path) -> None:
    long = tmp_path / "long.toml"
    long.write_text(
        recipe.read_text().replace("steps = 24", "steps = 1000000").replace("watch_every = 8", "watch_every = 1")
    )
    long.write_text(long.read_text() + "patience = 1000000\n")
    # what a suite in the background ignores, its children would ignore
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = command(tmp_path, "train", "outliner", "--data", data, "--output", tmp_path / "out", "--config", long)
    signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    for line in process.stderr:
        if "step" in line:
            break
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert "the same command goes on" in err
