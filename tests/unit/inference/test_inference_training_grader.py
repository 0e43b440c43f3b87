"""The grader's training on a folder of made nodules: nothing of who is left out, the same twice, going on where it stopped."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.catalogue import Entry, find_entry
from inference.errors import InSample, ModelRefused, NoSuchData
from inference.features import NAMES
from inference.findings import Algorithm, MaskCrop
from inference.lungs import Lungs
from inference.reader import Spot
from inference.scoring import TARGETS, from_arrays
from inference.training import grader, grader_models, own_outlines
from inference.training.crops import load_native
from inference.training.grader import CrossFitted, cross_fit, read_cross_fit, train
from inference.training.grader_models import (
    Candidate,
    Table,
    best_threshold,
    fit,
    linear,
    macro_f1,
    patient_folds,
    platt,
    texture_thresholds,
)
from inference.training.own_outlines import (
    PROMPT_MM_MAX,
    FoldsOutlining,
    ShippedOutlining,
    fold_entries,
    outline_crops,
    prompt_of,
)
from inference.training.patients import patients_file, read_patients, write_patients
from inference.training.plan import Plan, Trained
from inference.volume import Volume
from tests.made_data import write_nodules

FEW = (
    linear("two", ("diameter", "hu_median"), 0.3),
    Candidate(
        "trees", ("diameter", "hu_median"), {"max_iter": 5, "max_leaf_nodes": 3, "min_samples_leaf": 5}, "few trees"
    ),
)
HELD_OUT = "P-7"


def plan(data: Path, output: Path, minutes_max: float | None = None) -> Plan:
    return Plan("grader", data, output, minutes_max, seed=3, held_out=frozenset({HELD_OUT.lower()}), folds="fold")


@dataclasses.dataclass(frozen=True)
class Run:
    data: Path
    output: Path
    trained: Trained
    rows: Sequence[CrossFitted]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    data, output = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("output")
    write_nodules(data, patients=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grader, "CANDIDATES", FEW)
        trained = train(plan(data, output), lambda line: None)
        yield Run(data, output, trained, read_cross_fit(output / "cross_fit.json"))


def test_it_ends_with_weights_that_a_reading_takes(run: Run) -> None:
    assert run.trained.finished
    assert run.trained.weights is not None
    scores = from_arrays(load_file(run.trained.weights), "grade-made")
    assert set(scores) == set(TARGETS)
    assert run.trained.metrics["n"] == 29
    assert run.trained.weights.stat().st_size < 1_000_000


def test_who_is_held_out_is_in_no_row_and_in_no_list(run: Run) -> None:
    assert run.trained.weights is not None
    assert len(run.rows) == 29
    assert HELD_OUT not in {row.patient for row in run.rows}
    known = read_patients(patients_file(run.trained.weights))
    assert HELD_OUT not in known
    assert "P-6" in known
    assert not list((run.output / "outlines").glob(f"{HELD_OUT}*"))  # nothing of it was ever opened


def test_the_same_plan_again_uses_what_is_there_and_gives_the_same_bytes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.trained.weights is not None
    before = run.trained.weights.read_bytes()

    def never(*args: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(grader_models, "fit", never)
    again = train(plan(run.data, run.output), lambda line: None)
    assert again.weights is not None
    assert again.weights.read_bytes() == before
    assert read_cross_fit(run.output / "cross_fit.json") == run.rows


def test_the_labels_of_a_fold_have_no_part_in_its_own_scores(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choice, fit, calibration and threshold: the fold's patients could be labelled upside down and nobody would notice."""

    def upside_down(data: Path, held_out: object) -> Sequence[object]:
        crops = load_native(data, held_out)  # type: ignore[arg-type]
        return [
            dataclasses.replace(crop, ratings={**crop.ratings, "malignancy": 6 - crop.ratings["malignancy"]})
            if crop.fold == 0
            else crop
            for crop in crops
        ]

    monkeypatch.setattr(grader, "load_native", upside_down)
    (tmp_path / "outlines").symlink_to(run.output / "outlines")
    rows = {row.key: row for row in cross_fit(plan(run.data, tmp_path), lambda line: None)}
    same = [row for row in run.rows if row.fold == 0]
    assert same
    for row in same:
        assert rows[row.key].scores["malignancy"] == row.scores["malignancy"]
        assert rows[row.key].thresholds["malignancy"] == row.thresholds["malignancy"]
        assert rows[row.key].readers == row.readers
    assert any(
        rows[row.key].scores["malignancy"] != row.scores["malignancy"] for row in run.rows if row.fold != 0
    )  # the others learned from them


def test_it_stops_when_its_minutes_are_over_and_goes_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "outlines").symlink_to(run.output / "outlines")
    rounds = 0
    trained = train(plan(run.data, tmp_path, minutes_max=1e-9), lambda line: None)
    while not trained.finished:
        rounds += 1
        assert rounds < 100, "no round gets farther than the one before"
        trained = train(plan(run.data, tmp_path, minutes_max=1e-9), lambda line: None)
    assert rounds > 5
    assert trained.finished
    assert trained.weights is not None
    assert run.trained.weights is not None
    assert trained.weights.read_bytes() == run.trained.weights.read_bytes()


def test_made_nodules_are_graded_as_they_were_made(run: Run) -> None:
    """Large is malignant, faint is not solid, dense is calcified: anything else is a bug of ours."""
    graded = [row for row in run.rows if row.scores["malignancy"][0] is not None]
    assert len(graded) > 20
    for target, positive in (
        ("malignancy", [row.ratings["malignancy"] > 3 for row in graded]),
        ("not_solid", [row.ratings["texture"] < 4 for row in graded]),
        ("calcified", [row.ratings["calcification"] < 6 for row in graded]),
    ):
        scores = np.array([row.scores[target][0] for row in graded], float)
        flags = np.array(positive)
        pairs = scores[flags][:, None] - scores[~flags][None, :]
        assert np.mean((pairs > 0) + 0.5 * (pairs == 0)) > 0.9, target


def test_points_lie_within_3_mm_and_are_the_same_each_time(run: Run) -> None:
    crops = load_native(run.data)
    for crop in crops[:10]:
        middle = np.argwhere(crop.mask).mean(axis=0)
        points = [prompt_of(crop, seed) for seed in range(4)]
        assert points == [prompt_of(crop, seed) for seed in range(4)]
        away = [np.linalg.norm((np.array(point) - middle) * crop.spacing_mm) for point in points]
        assert max(away) <= PROMPT_MM_MAX
        assert len(set(points)) == 4


def test_an_own_outline_owes_nothing_to_where_the_crop_ends(run: Run, tmp_path: Path) -> None:
    """A crop that was cut closer along k has the same outline on the slices that are left."""
    crop = load_native(run.data)[0]
    shorter = dataclasses.replace(
        crop, key="shorter", hu=crop.hu[1:-1], mask=crop.mask[1:-1], readers=crop.readers[1:-1]
    )
    outlining = ShippedOutlining(find_entry("outline-seeded", "outliner"))
    whole = outline_crops([crop], outlining, tmp_path, 0, lambda line: None)[crop.key]
    assert whole.own is not None
    assert whole.dice > 0.6
    assert shorter.hu.shape[0] == crop.hu.shape[0] - 2
    cut = outlining.mask(
        shorter, np.pad(shorter.hu, ((11, 11), (0, 0), (0, 0)), mode="edge"), tuple(whole.prompt)
    )  # padded by one more: the same place
    assert cut is not None
    assert abs(int(cut.voxels.sum()) - int(whole.own.voxels.sum())) < 0.2 * whole.own.voxels.sum()


def test_rows_of_one_nodule_weigh_as_one_and_stay_in_one_fold() -> None:
    table = Table(np.zeros((5, 26)), np.array([True, True, False, False, False]), list("aabcc"), list("ppqrr"))
    assert table.weights.tolist() == [0.5, 0.5, 1, 0.5, 0.5]
    folds = patient_folds(list("ppqrr"), 1)
    assert folds[0] == folds[1]
    assert folds[3] == folds[4]


def test_calibration_brings_scores_to_what_happened() -> None:
    draw = np.random.default_rng(2)
    truth = draw.normal(size=4000)
    positive = draw.random(4000) < 1 / (1 + np.exp(-truth))
    slope, offset = platt(3 * truth + 1, positive, np.ones(4000))  # overconfident and shifted
    assert slope == pytest.approx(1 / 3, abs=0.05)
    assert offset == pytest.approx(-1 / 3, abs=0.15)


def test_the_threshold_is_where_f1_is_largest() -> None:
    scores, positive = np.array([0.9, 0.8, 0.4, 0.3, 0.1]), np.array([True, True, False, True, False])
    assert 0.1 < best_threshold(scores, positive, np.ones(5)) < 0.3
    assert 0.4 < best_threshold(scores, np.array([True, True, False, False, False]), np.ones(5)) < 0.8


def test_of_both_learners_the_mean_counts() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(120, len(NAMES)))
    table = Table(x, x[:, 0] + draw.normal(0, 1, 120) > 0, list(map(str, range(120))), list(map(str, range(120))))
    trees = {"max_iter": 6, "max_leaf_nodes": 3}
    flat = fit(linear("some", NAMES[:4], 0.3), table, 1)
    wooded = fit(Candidate("trees", NAMES[:4], trees, "trees"), table, 1)
    both = fit(Candidate("both", NAMES[:4], {**trees, "C": 0.3}, "both"), table, 1)
    assert both.raw(x) == pytest.approx((flat.raw(x) + wooded.raw(x)) / 2)


def test_part_solid_nodules_are_called_though_they_are_few_and_lie_between() -> None:
    """One by one the two thresholds find what is common; together they find all three classes."""
    draw = np.random.default_rng(5)
    classes = np.repeat([0, 1, 2], [30, 40, 500])
    faint = np.array([1.0, 0.35, 0.0])[classes] + draw.normal(0, 0.15, len(classes))
    less = np.array([1.0, 0.35, 0.0])[classes] + draw.normal(0, 0.2, len(classes))
    weights = np.ones(len(classes))

    def called(not_solid: float, non_solid: float) -> np.ndarray:
        return np.where(faint >= non_solid, 0, np.where(less >= not_solid, 1, 2))

    together = called(*texture_thresholds(less, faint, classes, weights))
    one_by_one = called(best_threshold(less, classes < 2, weights), best_threshold(faint, classes == 0, weights))
    assert macro_f1(classes, together, weights) >= macro_f1(classes, one_by_one, weights)
    assert np.mean(together[classes == 1] == 1) > 0.5
    assert macro_f1(classes, classes, weights) == 1


class _Marks:
    """An outliner that marks as many voxels as its number, and remembers what it was made with."""

    made: ClassVar[list[Entry]] = []

    def __init__(self, entry: Entry) -> None:
        self.made.append(entry)
        self.algorithm = Algorithm("outliner", entry.name, entry.version, entry.sha256, "demonstration")
        self._count = int(entry.weights.split(".")[1]) + 1

    def outline(self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: object) -> list[MaskCrop | None]:
        return [MaskCrop((0, 0, 0), np.ones((1, 1, self._count), bool)) for _ in spots]


@pytest.fixture
def folds(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights for five folds; what they are loaded into marks as many voxels as the fold's number and one."""
    for fold in range(5):
        weights = tmp_path / f"outline-unet.{fold}.safetensors"
        weights.write_bytes(bytes([fold]))
        write_patients(patients_file(weights), [crop.patient for crop in load_native(run.data) if crop.fold != fold])
    monkeypatch.setattr(_Marks, "made", [])
    monkeypatch.setattr(own_outlines, "build_part", lambda entry, device: _Marks(entry))
    return tmp_path


def test_each_crop_is_outlined_by_weights_that_never_saw_its_fold(run: Run, folds: Path) -> None:
    entry = find_entry("outline-unet", "outliner")
    entries = fold_entries(entry, folds, load_native(run.data))
    outlining = FoldsOutlining(entries)
    crops = load_native(run.data)[:12]
    outlined = outline_crops(crops, outlining, folds / "kept", 0, lambda line: None)
    assert len({crop.fold for crop in crops}) > 2
    for crop in crops:
        own = outlined[crop.key].own
        assert own is not None
        assert own.voxels.sum() == crop.fold + 1
    assert [made.parameters["threshold"] for made in _Marks.made] == [entry.parameters["threshold"]] * 5
    assert all(made.parameters.get("peak_min", 0) == 0 for made in _Marks.made)  # a crop is a nodule
    with pytest.raises(NoSuchData, match="fold 1"):
        outline_crops(crops, FoldsOutlining({0: entries[0]}), folds / "kept", 0, lambda line: None)


def test_kept_outlines_are_of_the_same_weights_with_the_same_parameters_in_every_fold(run: Run, folds: Path) -> None:
    entries = fold_entries(find_entry("outline-unet", "outliner"), folds, load_native(run.data))
    stamp = FoldsOutlining(entries).stamp
    assert FoldsOutlining(dict(reversed(entries.items()))).stamp == stamp

    def changed(*which: int, **parameters: float) -> str:
        others = {f: entries[f].model_copy(update={"parameters": entries[f].parameters | parameters}) for f in which}
        return FoldsOutlining({**entries, **others}).stamp

    assert changed(0, 1, 2, 3, 4, peak_min=0.9) == stamp  # whether it is a nodule is not asked here
    lower = [changed(0, threshold=0.4), changed(1, threshold=0.4), changed(0, 1, 2, 3, 4, threshold=0.4)]
    (folds / "outline-unet.2.safetensors").write_bytes(b"others")
    other = FoldsOutlining(fold_entries(find_entry("outline-unet", "outliner"), folds, load_native(run.data))).stamp
    assert len({stamp, other, *lower}) == 5


def test_a_fold_without_weights_is_told_before_anything_is_outlined(run: Run, folds: Path) -> None:
    recipe = {"outliner": "outline-unet", "outliner_folds": str(folds)}
    plan = Plan("grader", run.data, folds / "out", None, seed=3, folds="fold", recipe=recipe)
    crops = load_native(run.data)
    assert grader.outlining_of(plan, crops).mask(crops[0], crops[0].hu, (4, 20, 20)) is not None
    (folds / "outline-unet.3.safetensors").unlink()
    with pytest.raises(NoSuchData, match="fold 3") as raised:
        train(plan, lambda line: None)
    assert str(folds) in str(raised.value)
    assert not (folds / "out" / "outlines").exists()


def test_weights_that_saw_a_patient_of_their_fold_outline_nothing(run: Run, folds: Path) -> None:
    crops, entry = load_native(run.data), find_entry("outline-unet", "outliner")
    weights = folds / "outline-unet.2.safetensors"
    write_patients(patients_file(weights), [next(crop.patient for crop in crops if crop.fold == 2)])
    with pytest.raises(InSample, match="1 patients of fold 2"):
        fold_entries(entry, folds, crops)
    patients_file(weights).unlink()
    with pytest.raises(ModelRefused):
        fold_entries(entry, folds, crops)
