"""Networks that stand beside the shipped grader, and where they look."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from inference.training import grader_nets
from inference.training.crops import load_native
from inference.training.gradcam import grad_cam
from inference.training.grader_nets import (
    ENSEMBLE,
    FILE,
    ConvNeXt,
    Recipe,
    hash_of,
    read_scores,
    scores_of,
    train_fold,
    with_mean,
)
from inference.training.plan import Plan
from tests.made_data import write_nodules

SMALL = Recipe(side=8, networks=("small",), steps=(30,), batch=8, rate=1e-2, checkpoint_steps=10)


class Small(nn.Module):
    """The brightness of a cube."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).mean(dim=(2, 3, 4)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grader_nets, "NETWORKS", {"small": Small})
    monkeypatch.setattr(grader_nets, "LAYERS", {"small": lambda network: network.conv})


def cubes() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    positive = np.arange(40) % 2 == 0
    return (draw.random((40, 8, 8, 8)) * 0.2 + 0.6 * positive[:, None, None, None]).astype(np.float32), positive


def test_convnext_tiny_has_its_size_and_one_output() -> None:
    network = ConvNeXt()
    assert 25e6 < sum(p.numel() for p in network.parameters()) < 40e6
    narrow = ConvNeXt((1, 1, 1, 1), (4, 8, 8, 8))
    assert narrow(torch.zeros(2, 1, 32, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize("side", [1, 2, 4, 9])
def test_a_depthwise_convolution_is_that_of_torch_however_it_is_made(side: int) -> None:
    torch.manual_seed(1)
    conv, x = nn.Conv3d(3, 3, 7, padding=3, groups=3), torch.randn(2, 3, side, side, side)
    with torch.no_grad():
        assert torch.allclose(grader_nets._depthwise(x, conv), conv(x), atol=1e-5)


def test_a_network_learns_and_an_interrupted_training_ends_as_a_whole_one(small: None, tmp_path: Path) -> None:
    values, positive = cubes()
    whole = train_fold("small", values, positive, SMALL, 1, tmp_path / "whole.pt", lambda line: None)
    broken = train_fold("small", values, positive, SMALL, 1, tmp_path / "broken.pt", lambda line: None, ends=0.0)
    assert broken is None
    again = None
    for _ in range(40):
        again = train_fold("small", values, positive, SMALL, 1, tmp_path / "broken.pt", lambda line: None, ends=0.0)
        if again is not None:
            break
    assert whole is not None
    assert again is not None
    scores = scores_of(whole, values)
    assert scores[positive].min() > scores[~positive].max()
    assert scores_of(again, values) == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("changed", ["nothing", "rate", "seed", "cubes", "labels", "older"])
def test_a_training_goes_on_from_a_checkpoint_of_the_same_recipe_and_data_alone(
    small: None, tmp_path: Path, changed: str
) -> None:
    values, positive = cubes()
    recipe, seed, checkpoint, lines = SMALL, 1, tmp_path / "small-0.pt", []
    train_fold("small", values, positive, replace(SMALL, checkpoint_steps=5), seed, checkpoint, lines.append, ends=0.0)
    if changed == "rate":
        recipe = replace(SMALL, rate=2e-2)
    if changed == "seed":
        seed = 2
    if changed == "cubes":
        values = values + np.float32(1e-3)
    if changed == "labels":
        positive = np.roll(positive, 1)
    if changed == "older":
        kept = torch.load(checkpoint, weights_only=True)
        torch.save({name: value for name, value in kept.items() if name != "digest"}, checkpoint)
    again = train_fold("small", values, positive, recipe, seed, checkpoint, lines.append)
    fresh = train_fold("small", values, positive, recipe, seed, tmp_path / "fresh.pt", lambda line: None)
    assert again is not None
    assert fresh is not None
    assert scores_of(again, values) == pytest.approx(scores_of(fresh, values), abs=1e-5)
    assert any("starts anew" in line for line in lines) == (changed != "nothing")


def test_each_nodule_is_scored_by_a_network_of_other_folds_and_no_name_is_written(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nodules(tmp_path, patients=15)
    crops = {crop.key: crop for crop in load_native(tmp_path)}
    seen: list[set[int]] = []

    def fitted(name: str, cubes: np.ndarray, *rest: object) -> nn.Module:
        seen.append(set(np.round(cubes.reshape(len(cubes), -1).mean(axis=1) * 1e6).astype(int).tolist()))
        return Small()

    monkeypatch.setattr(grader_nets, "train_fold", fitted)
    recipe = {"side": 8, "networks": ["small"], "steps": [1]}
    plan = Plan("grader", tmp_path, tmp_path / "output", None, seed=1, recipe=recipe)
    grader_nets.train(plan, lambda line: None)
    said = read_scores(plan.output / FILE)["small"]
    rated = [key for key, crop in crops.items() if crop.ratings["malignancy"] != 3]
    assert set(said["scores"]) == {hash_of(key) for key in rated}
    assert {name: said["made"][name] for name in ("steps", "batch", "side_mm")} == {
        "steps": 1,
        "batch": 16,
        "side_mm": 8,
    }
    folds = sorted({crops[key].fold for key in rated})
    assert len(seen) == len(folds)
    assert not set.intersection(*seen)  # no cube is in the training of every fold
    with Image.open(plan.output / f"gradcam-small-{folds[0]}.png") as picture:
        assert picture.height == 2 * 8 * 6  # malignant ones, benign ones
    text = (plan.output / FILE).read_text()
    assert not any(crop.patient in text or key in text for key, crop in crops.items())
    grader_nets.train(plan, lambda line: None)
    assert len(seen) == len(folds)  # what is there is not made again
    lines: list[str] = []
    other = Plan("grader", tmp_path, plan.output, None, seed=1, recipe={**recipe, "rate": 1e-4})
    grader_nets.train(other, lines.append)
    assert len(seen) == 2 * len(folds)
    assert "made anew" in lines[-1]
    write_nodules(tmp_path / "others", patients=15, seed=6)
    grader_nets.train(Plan("grader", tmp_path / "others", plan.output, None, seed=1, recipe=recipe), lines.append)
    assert len(seen) == 3 * len(folds)


def test_the_mean_is_of_nodules_that_both_have_graded() -> None:
    both = with_mean({"a": {"x": 0.2, "y": 0.4}, "b": {"x": 0.6}})
    assert both[ENSEMBLE] == {"x": pytest.approx(0.4)}
    assert with_mean({}) == {}


@pytest.mark.parametrize("name", ["densenet121", "convnext-tiny"])
def test_the_layer_that_grad_cam_looks_at_has_a_grid(name: str) -> None:
    network = grader_nets.NETWORKS[name]()
    cells: list[tuple[int, ...]] = []
    grader_nets.LAYERS[name](network).register_forward_hook(lambda module, given, made: cells.append(made.shape[2:]))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, 32, 32, 32))
    assert [tuple(each) for each in cells] == [(4, 4, 4)]


def test_grad_cam_is_bright_where_the_output_comes_from() -> None:
    network = Small()
    with torch.no_grad():
        network.conv.weight.fill_(1 / 27)
        network.conv.bias.zero_()
        network.head.weight.fill_(1.0)
    x = torch.zeros(1, 1, 12, 12, 12)
    x[..., 2:5, 7:10, 3:6] = 1
    heat = grad_cam(network, network.conv, x)
    assert heat.shape == (12, 12, 12)
    assert heat.max() == pytest.approx(1)
    assert tuple(np.unravel_index(heat.argmax(), heat.shape)) == (3, 8, 4)
    assert heat[9:, :4, 8:].max() == 0
    with torch.no_grad():
        network.head.weight.fill_(-1.0)
    assert grad_cam(network, network.conv, x).max() == 0  # what lowers the output is not shown
