"""Training of the outliner: a small network learns balls, goes on where it stopped, and never sees who is held out."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inference.errors import NoSuchData
from inference.training import outliner
from inference.training.crops import Crop, load_cubes, load_native
from inference.training.outliner import recipe_of, train, weights_of
from inference.training.outliner_dice import MOVED_MM, Row, figures, judge
from inference.training.outliner_samples import Samples
from inference.training.patients import patients_file, read_patients
from inference.training.plan import Plan, Trained

TINY: dict[str, Any] = {
    "widths": [4, 8],
    "batch": 8,
    "steps": 80,
    "rate": 1e-2,
    "rate_warm_steps": 5,
    "watch_every": 40,
    "mirrored": 1,
}
COLUMNS = ("id", "patient", "fold")


def ball(rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Any:
    """HU and mask of a ball in lung, in the middle."""
    grid = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    mask = z**2 + y**2 + x**2 < rng.uniform(4, 7) ** 2
    return np.where(mask, 30, -850) + rng.normal(0, 30, shape), mask


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of balls in the files' own form: 20 native ones of 20 patients, 5 cubes of five of them; five folds."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("data")
    (folder / "nodules").mkdir()
    native = [ball(rng, (9, 36, 36), (1.5, 0.8, 0.8)) for _ in range(20)]
    sizes = [hu.size for hu, _ in native]
    names = [f"P-{n}" for n in range(20)]
    hu8 = np.concatenate([hu.ravel() for hu, _ in native]) // 8
    np.savez(
        folder / "nodules/lidc_native_dev.npz",
        id=np.array(names),
        shape=np.array([hu.shape for hu, _ in native], np.int16),
        offset=np.cumsum([0, *sizes]),
        hu8=hu8.astype(np.int16),
        mask50=np.packbits(np.concatenate([mask.ravel() for _, mask in native])),
        readers=np.concatenate([mask.ravel() for _, mask in native]).astype(np.uint8),
        spacing=np.array([(1.5, 0.8, 0.8)] * 20, np.float32),
    )
    cubes = [ball(rng, (51, 51, 51), (1.0, 1.0, 1.0)) for _ in range(5)]
    np.savez(
        folder / "nodules/lidc_cube51_dev.npz",
        hu8=np.stack([hu // 8 for hu, _ in cubes]).astype(np.int16),
        mask=np.packbits(np.stack([mask for _, mask in cubes])),
    )
    for name, patients in (("lidc_native_dev", names), ("lidc_cube51_dev", names[:5])):
        with (folder / f"nodules/{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((f"{p}" if name == "lidc_native_dev" else f"{p}_C", p, int(p[2:]) % 5) for p in patients)
    return folder


def plan(data: Path, output: Path, **changes: Any) -> Plan:
    asked = {"minutes_max": None, "seed": 3, "recipe": TINY, **changes}
    return Plan(task="outliner", data=data, output=output, **asked)


def quiet(line: str) -> None: ...


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Plan]:
    """Fold 0 left out."""
    asked = plan(data, tmp_path_factory.mktemp("out"), fold=0, folds="fold")
    return train(asked, quiet), asked


def test_a_small_network_learns_to_outline_a_ball(trained: tuple[Trained, Plan]) -> None:
    result, asked = trained
    assert result.finished
    assert result.metrics["native"]["dice"]["n"] == 4
    assert result.metrics["native"]["dice"]["mean"] > 0.8
    assert result.weights == weights_of(asked, recipe_of(asked))
    assert all(t.dtype == torch.float16 for t in load_file(result.weights).values() if t.is_floating_point())


def test_monais_3d_network_learns_it_by_the_same_trainer(data: Path, tmp_path: Path) -> None:
    recipe = {**TINY, "dimensions": 3, "widths": [8, 16], "slices": 8, "batch": 4, "steps": 60}
    result = train(plan(data, tmp_path, fold=0, recipe=recipe), quiet)
    assert result.metrics["native"]["dice"]["mean"] > 0.5


def test_the_card_says_what_was_measured_and_on_how_many(trained: tuple[Trained, Plan]) -> None:
    result, asked = trained
    assert result.card is not None
    text = result.card.read_text()
    metrics = json.loads((asked.output / "outline-unet.metrics.json").read_text())
    assert metrics["folds"] == [0]
    assert f"{metrics['native']['dice']['mean']:.3f}" in text
    assert "| 4 (4) |" in text
    assert "P-" not in text  # no patient


def test_who_is_held_out_reaches_neither_samples_nor_watch_nor_hashes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the fold and those that the plan names, in all sets."""
    seen: list[Crop] = []

    class Watching(Samples):
        def __init__(self, native: Any, cubes: Any, sizes: Any) -> None:
            seen.extend((*native, *cubes))
            super().__init__(native, cubes, sizes)

    monkeypatch.setattr(outliner, "Samples", Watching)
    asked = plan(data, tmp_path, fold=1, held_out=frozenset({"p-2 ", "P-3"}), recipe={**TINY, "steps": 2})
    result = train(asked, quiet)
    out = {"P-1", "P-6", "P-11", "P-16", "P-2", "P-3"}
    assert seen
    assert not out & {crop.patient for crop in seen}
    assert result.weights is not None
    known = read_patients(patients_file(result.weights))
    assert not any(patient in known for patient in out)
    assert "P-4" in known
    assert len(known) == 14


def test_an_interrupted_training_ends_as_one_that_was_not(
    data: Path, tmp_path: Path, trained: tuple[Trained, Plan]
) -> None:
    def interrupting() -> Callable[[str], None]:
        def say(line: str) -> None:
            if "step 40/" in line:
                raise KeyboardInterrupt

        return say

    asked = plan(data, tmp_path, fold=0, folds="fold", recipe={**TINY, "checkpoint_s": 0.0})
    with pytest.raises(KeyboardInterrupt):
        train(asked, interrupting())
    said: list[str] = []
    result = train(asked, said.append)
    assert any("goes on at step 39" in line for line in said)
    assert result.weights is not None
    assert trained[0].weights is not None
    one, other = load_file(result.weights), load_file(trained[0].weights)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_time_limit_ends_it_unfinished_and_the_same_plan_goes_on(data: Path, tmp_path: Path) -> None:
    asked = plan(data, tmp_path, minutes_max=1e-9, recipe={**TINY, "steps": 3})
    first = train(asked, quiet)
    assert not first.finished
    assert first.weights is None
    result = first
    for _ in range(3):
        result = train(asked, quiet)
    assert result.finished
    assert result.weights == tmp_path / "outline-unet.safetensors"


def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    train(plan(data, tmp_path, recipe={**TINY, "steps": 2}), quiet)
    said: list[str] = []
    train(plan(data, tmp_path, recipe={**TINY, "steps": 3}), said.append)
    assert any("begun anew" in line for line in said)


def test_a_name_that_is_no_value_of_a_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchData, match="no such value"):
        train(plan(data, tmp_path, recipe={"stepps": 3}), quiet)
    with pytest.raises(NoSuchData, match="column of folds"):
        train(plan(data, tmp_path, fold=1, folds="luna_subset"), quiet)


def test_the_same_draw_is_the_same_sample_and_something_in_it_counts(data: Path) -> None:
    samples = Samples(load_native(data), load_cubes(data), recipe_of(plan(data, data)).use.sizes)
    for place in range(40):
        one, other = (samples.draw(np.random.default_rng(place), 4) for _ in range(2))
        assert np.array_equal(one.hu, other.hu)
        assert one.hu.shape[0] == len(one.target) + 4
        assert one.weight.any()
        assert one.weight.min() >= 0
        assert np.isfinite(one.hu).all()


def test_slices_beyond_a_native_crop_teach_nothing_unless_another_patients_lung_is_planted_there(data: Path) -> None:
    samples = Samples(load_native(data), (), recipe_of(plan(data, data)).use.sizes)
    for place in range(60):
        drawn = samples.draw(np.random.default_rng(place), 30)  # longer than the nodule
        assert not drawn.weight[[0, -1]].any()
        assert not drawn.target[drawn.weight == 0].any() or drawn.weight.any()


class Exact:
    """Finds the truth, and so many slices more at either end."""

    def __init__(self, crops: list[Crop], more: int) -> None:
        self._masks, self._more = iter([crop.mask for crop in crops]), more
        self.prompts: list[tuple[float, float, float]] = []

    def at(self, hu: Any, spacing_mm: Any, centre: tuple[float, float, float], size_mm: float) -> Any:
        mask = next(self._masks)
        pad = (len(hu) - len(mask)) // 2
        whole = np.pad(mask, ((pad, pad), (0, 0), (0, 0)))
        self.prompts.append((centre[0] - pad, centre[1], centre[2]))
        if self._more:
            whole[: pad + 1] = whole[len(hu) // 2]
        return (slice(None), slice(None), slice(None)), whole


def test_the_true_mask_has_dice_1_and_the_point_is_moved_by_up_to_3_mm(data: Path) -> None:
    crops = list(load_native(data))
    finder = Exact(crops, 0)
    rows = judge(finder, crops, seed=1)
    assert [row.dice for row in rows] == [1.0] * len(crops) == [row.dice_continued for row in rows]
    away = [
        float(np.linalg.norm((np.array(at) - np.argwhere(crop.mask).mean(axis=0)) * crop.spacing_mm))
        for at, crop in zip(finder.prompts, crops, strict=True)
    ]
    assert max(away) <= MOVED_MM
    assert max(away) > 2


def test_what_is_marked_where_a_crop_has_no_slices_counts_in_the_second_figure(data: Path) -> None:
    crops = list(load_native(data))[:1]
    (row,) = judge(Exact(crops, 1), crops, seed=1)
    assert row.dice_continued < row.dice


def test_what_was_not_found_has_dice_0(data: Path) -> None:
    class Nothing:
        def at(self, *args: Any) -> None:
            return None

    assert {row.dice for row in judge(Nothing(), load_native(data), seed=1)} == {0.0}


def test_figures_are_means_over_nodules_with_intervals_over_patients() -> None:
    rows = [Row("a", 0.8, 0.7, 0.1, 9.0), Row("a", 0.9, 0.8, -0.1, 9.0), Row("b", 0.7, 0.6, 0.3, 9.0)]
    found = figures(rows)
    assert found["dice"]["mean"] == 0.8
    assert found["dice"]["median"] == 0.8
    assert found["dice"]["mean_continued"] == 0.7
    assert found["dice"]["ci"] == [0.7, 0.85]  # patient b alone, patient a alone
    assert (found["dice"]["n"], found["n_patients"]) == (3, 2)
    assert found["volume_error"]["median_absolute"] == 0.1
    assert figures([])["dice"]["mean"] is None
