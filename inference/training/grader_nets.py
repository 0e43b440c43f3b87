"""Networks that grade malignancy, to stand beside what ships: 3-D DenseNet121, 3-D ConvNeXt-Tiny and their mean, on the same folds.

Each sees a cube at 1 mm around the node's own outline (around the point where there is none) and nothing of the readers but the label.
`python -m inference.training.grader_nets DATA OUTPUT [RECIPE.toml]` trains them fold by fold, goes on where it stopped, and leaves
`grade-nets.json` in OUTPUT: the score of each nodule by weights that never saw its patient, with a picture of where each network
looked. No weights of it ship.
"""

import hashlib
import json
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets.densenet import DenseNet121
from PIL import Image
from torch import nn
from torch.nn import functional

from inference.grids import resampled_array
from inference.training.crops import Crop, load_native, patient_key
from inference.training.gradcam import grad_cam, sheet
from inference.training.grader import outlining_of
from inference.training.grader_table import labels_of
from inference.training.own_outlines import Outlined, outline_crops
from inference.training.plan import Plan, Progress, Trained

ENSEMBLE: Final = "mean of the networks"
_HU: Final = (-1000.0, 400.0)
_FILL_HU: Final = -850.0
_FOURIER_SIDE_MIN: Final = 8
_LOOKED_AT: Final = 4
FILE: Final = "grade-nets.json"

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; values of the plan's recipe replace these by name. `side`: of the cube, 1 mm a voxel (64 on
    a GPU); `steps` of `batch` cubes, per network of `networks`; `rate` falls to zero along a cosine."""

    side: int = 32
    networks: tuple[str, ...] = ("densenet121", "convnext-tiny")
    steps: tuple[int, ...] = (200, 200)
    batch: int = 16
    rate: float = 3e-4
    weight_decay: float = 0.05
    checkpoint_steps: int = 25

    def steps_of(self, name: str) -> int:
        """Of one network."""
        return self.steps[self.networks.index(name)]


class _Block(nn.Module):
    """A block of ConvNeXt (Liu et al., CVPR 2022) in three dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv3d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, width, k, j, i) to the same."""
        y = self.norm(_depthwise(x, self.depthwise).movedim(1, -1))
        y = self.scale * self.narrow(functional.gelu(self.widen(y)))
        added: torch.Tensor = x + y.movedim(-1, 1)
        return added


def _depthwise(x: torch.Tensor, conv: nn.Conv3d) -> torch.Tensor:
    """A depthwise convolution without what of its kernel only meets padding; large ones on a CPU by Fourier transform (1.7
    times faster at 8 voxels a side, by one thread of a Zen 4)."""
    shape, radius = x.shape[2:], conv.weight.shape[-1] // 2
    reach = [min(radius, side - 1) for side in shape]
    a, b, c = (slice(radius - r, radius + r + 1) for r in reach)
    kernel = conv.weight[..., a, b, c]
    if x.device.type != "cpu" or min(shape) < _FOURIER_SIDE_MIN:
        return functional.conv3d(x, kernel, conv.bias, padding=reach, groups=x.shape[1])
    full, axes = [side + 2 * r for side, r in zip(shape, reach, strict=True)], (2, 3, 4)
    waves = torch.fft.rfftn(x.float(), s=full, dim=axes)
    waves = waves * torch.fft.rfftn(kernel.float().flip(axes), s=full, dim=axes).squeeze(1)
    whole = torch.fft.irfftn(waves, s=full, dim=axes)
    a, b, c = (slice(r, r + side) for side, r in zip(shape, reach, strict=True))
    assert conv.bias is not None
    made: torch.Tensor = whole[..., a, b, c] + conv.bias[:, None, None, None]
    return made


class _Norm(nn.Module):
    """LayerNorm over the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, width, k, j, i) to the same."""
        normed: torch.Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return normed


class ConvNeXt(nn.Module):
    """ConvNeXt in three dimensions; Tiny is depths 3, 3, 9, 3 and widths 96 to 768, its stem divides by 4."""

    def __init__(self, depths: Sequence[int] = (3, 3, 9, 3), widths: Sequence[int] = (96, 192, 384, 768)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(1, widths[0], 4, stride=4), _Norm(widths[0])]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                layers += [_Norm(widths[stage - 1]), nn.Conv3d(widths[stage - 1], width, 2, stride=2)]
            layers += [_Block(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1, side, side, side) to logits (n, 1)."""
        logits: torch.Tensor = self.head(self.norm(self.features(x).mean(dim=(2, 3, 4))))
        return logits


NETWORKS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "densenet121": lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=1),
    "convnext-tiny": ConvNeXt,
}

LAYERS: Final[Mapping[str, Callable[[nn.Module], nn.Module]]] = {
    "densenet121": lambda network: network.get_submodule("features.denseblock2"),
    "convnext-tiny": lambda network: network.get_submodule("features.9"),
}
"""What Grad-CAM looks at: the deepest layer that still has a grid, 4 cells a side for a cube of 32."""


def cube(crop: Crop, outlined: Outlined, side: int) -> Array:
    """The cube around the own outline's middle (the point where there is none), 0 to 1; beyond the crop, lung."""
    at = outlined.prompt
    if outlined.own is not None:
        at = tuple(np.argwhere(outlined.own.voxels).mean(axis=0) + outlined.own.start)
    fine = resampled_array(np.clip(outlined.hu, *_HU), crop.spacing_mm, 1.0)
    shift = (np.array(at) - (np.array(outlined.hu.shape) - 1) / 2) * np.array(crop.spacing_mm)
    middle = np.round((np.array(fine.shape) - 1) / 2 + shift).astype(int)
    padded = np.pad(fine, side, constant_values=_FILL_HU)
    start = middle + side - side // 2
    taken = padded[tuple(slice(max(0, a), max(0, a) + side) for a in start)]
    return np.asarray((taken - _HU[0]) / (_HU[1] - _HU[0]), np.float32)


def train_fold(
    name: str,
    cubes: Array,
    positive: npt.NDArray[np.bool_],
    recipe: Recipe,
    seed: int,
    checkpoint: Path,
    say: Progress,
    ends: float | None = None,
) -> nn.Module | None:
    """A network trained on all of these cubes; None when the time is over before it was done. It goes on from its checkpoint,
    unless that was made from anything else.

    Args:
        cubes: (n, side, side, side).
        ends: on the clock of time.monotonic.
    """
    torch.manual_seed(seed)
    steps = recipe.steps_of(name)
    network = NETWORKS[name]()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    first, digest = 0, _digest(name, recipe, seed, cubes, positive)
    kept: dict[str, Any] = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {}
    if kept and kept.get("digest") != digest:
        say(f"{checkpoint.stem}: the checkpoint is of another recipe, seed or data; it starts anew")
    elif kept:
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        first = int(kept["step"])
    network.train()
    for step in range(first, steps):
        values, labels = _batch(cubes, positive, recipe.batch, np.random.default_rng((seed, step)))
        # Not in bfloat16: on a Zen 4 the weights' gradients of 3-D convolutions on small grids are then nan, and nothing is gained.
        loss = functional.binary_cross_entropy_with_logits(network(values)[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        over = ends is not None and time.monotonic() > ends
        if (step + 1) % recipe.checkpoint_steps == 0 or over or step + 1 == steps:
            say(f"{checkpoint.stem}: step {step + 1} of {steps}, loss {float(loss.detach()):.3f}")
            _save(network, optimiser, schedule, {"step": step + 1, "digest": digest}, checkpoint)
        if over and step + 1 < steps:
            return None
    return network.eval()


def _batch(
    cubes: Array, positive: npt.NDArray[np.bool_], count: int, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """As many of either class; flipped, slices turned, shifted by up to 2 mm, a little noise."""
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    rows = np.concatenate([draw.choice(yes, count // 2), draw.choice(no, count - count // 2)])
    values = []
    for row in rows:
        one = np.roll(cubes[row], tuple(int(s) for s in draw.integers(-2, 3, 3)), axis=(0, 1, 2))
        one = one[tuple(slice(None, None, int(s)) for s in draw.choice((-1, 1), 3))]
        one = one.swapaxes(1, 2) if draw.random() < 0.5 else one
        values.append(one + draw.normal(0, 0.02, one.shape).astype(np.float32))
    return torch.from_numpy(np.stack(values)[:, None]), torch.from_numpy(positive[rows].astype(np.float32))


def _digest(name: str, recipe: Recipe, seed: int, *arrays: npt.NDArray[Any]) -> str:
    """Of all that a network is made from; how often a checkpoint is written changes nothing."""
    how = (name, recipe.steps_of(name), recipe.batch, recipe.rate, recipe.weight_decay, seed)
    digest = hashlib.sha256(json.dumps(how).encode())
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _save(network: nn.Module, optimiser: Any, schedule: Any, facts: Mapping[str, Any], file: Path) -> None:
    beside = file.with_name(f".{file.name}")
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
    torch.save({**state, **facts}, beside)
    beside.replace(file)


def scores_of(network: nn.Module, cubes: Array) -> npt.NDArray[np.float64]:
    """Mean of the cube and its three mirror images, 0 to 1."""
    said = []
    with torch.no_grad():
        for one in cubes:
            views = np.stack([one, one[::-1], one[:, ::-1], one[:, :, ::-1]])[:, None]
            said.append(float(torch.sigmoid(network(torch.from_numpy(views.copy()))).mean()))
    return np.array(said)


def train(plan: Plan, say: Progress) -> Trained:
    """The recipe's networks, fold by fold (or the plan's fold alone); `grade-nets.json` of the output is written after each."""
    ends = None if plan.minutes_max is None else time.monotonic() + 60 * plan.minutes_max
    recipe = recipe_of(plan)
    plan.output.mkdir(parents=True, exist_ok=True)
    crops = load_native(plan.data, {patient_key(patient) for patient in plan.held_out})
    labels = labels_of(crops, "malignancy")
    crops = [crop for crop, label in zip(crops, labels, strict=True) if np.isfinite(label)]
    positive = labels[np.isfinite(labels)] > 0
    outlined = outline_crops(crops, outlining_of(plan, crops), plan.output / "outlines", 0, say)
    cubes = np.stack([cube(crop, outlined[crop.key], recipe.side) for crop in crops])
    folds = np.array([crop.fold for crop in crops])
    file = plan.output / FILE
    said = read_scores(file)
    for name in recipe.networks:
        digest = _digest(name, recipe, plan.seed, cubes, positive, folds)
        made = {"steps": recipe.steps_of(name), "batch": recipe.batch, "side_mm": recipe.side, "digest": digest}
        if name in said and said[name]["made"] != made:
            say(f"{name}: the scores that are there are of another recipe, seed or data; they are made anew")
            del said[name]
        for fold in sorted(set(folds.tolist())) if plan.fold is None else [plan.fold]:
            out = np.flatnonzero(folds == fold).tolist()
            keys = [hash_of(crops[at].key) for at in out]
            if name in said and all(key in said[name]["scores"] for key in keys):
                continue
            inside = folds != fold
            network = train_fold(
                name, cubes[inside], positive[inside], recipe, plan.seed, plan.output / f"{name}-{fold}.pt", say, ends
            )
            if network is None:
                return Trained(finished=False, weights=None, card=None, metrics={"networks": said})
            scores = scores_of(network, cubes[out])
            one = said.setdefault(name, {"made": made, "scores": {}})
            one["scores"] |= {key: round(float(score), 6) for key, score in zip(keys, scores, strict=True)}
            file.write_text(json.dumps(said, indent=0, sort_keys=True) + "\n", encoding="utf-8")
            looked(name, network, cubes[out], scores, positive[out]).save(plan.output / f"gradcam-{name}-{fold}.png")
    return Trained(finished=True, weights=None, card=None, metrics={"networks": said})


def looked(
    name: str, network: nn.Module, cubes: Array, scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> Image.Image:
    """Where a network looked (Grad-CAM): a row of the malignant nodules with the highest scores, then of the benign ones."""
    layer = LAYERS[name](network)
    rows = [
        [cubes[at] for at in sorted(np.flatnonzero(kind).tolist(), key=lambda at: -scores[at])[:_LOOKED_AT]]
        for kind in (positive, ~positive)
    ]
    rows = [row for row in rows if row]
    heats = [[grad_cam(network, layer, torch.from_numpy(one[None, None].copy())) for one in row] for row in rows]
    return sheet(rows, heats)


def recipe_of(plan: Plan) -> Recipe:
    """The recipe of a plan; other names of it are the outlines' own."""
    known = {f.name for f in fields(Recipe)}
    taken: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in plan.recipe.items() if name in known
    }
    return Recipe(**taken)


def hash_of(key: str) -> str:
    """What stands for a nodule in the file: no one is named there."""
    return hashlib.sha256(f"grade-nets:{key}".encode()).hexdigest()[:16]


def read_scores(file: Path) -> dict[str, dict[str, Any]]:
    """By network how it was `made` and its `scores`, by the hash of a nodule's key; empty without the file."""
    said: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return said


def with_mean(said: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """The networks' scores and their mean, of the nodules that all have graded."""
    common = set.intersection(*(set(each) for each in said.values())) if said else set()
    means = {key: float(np.mean([each[key] for each in said.values()])) for key in sorted(common)}
    return {**said, ENSEMBLE: means} if len(said) > 1 else dict(said)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    data, output, *recipe_file = map(Path, sys.argv[1:4])
    values = tomllib.loads(recipe_file[0].read_text(encoding="utf-8")) if recipe_file else {}
    train(Plan("grader", data, output, None, seed=1, recipe=values), _say)
