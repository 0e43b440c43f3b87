"""How the outline network is made: from crops of nodules to weights, the Dice of the fold that was left out, and a card.

`train` without a fold uses every patient that may be used and makes the weights that ship; with one it leaves that fold
out, and measures on it. All randomness comes from (seed, step), so a training that was interrupted ends as one that was
not. A twelfth of the patients watches: the weights that do best on them are kept, and a training that no longer gets better ends.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from config.catalogue import parameters_digest
from inference.device import choose_device, half_precision
from inference.errors import NoSuchData
from inference.outline_body import BodyFinder, Use
from inference.outline_unet import grid_inputs, stacked, without_neighbours
from inference.training.crops import Crop, load_cubes, load_native, patient_key
from inference.training.outliner_card import write_card
from inference.training.outliner_dice import Row, figures, is_cube, judge
from inference.training.outliner_samples import Sample, Samples
from inference.training.patients import patients_file, write_patients
from inference.training.plan import Plan, Progress, Trained

Tensor = torch.Tensor
State = dict[str, Tensor]


DIAMETER_MM_MIN: Final = 3.0
"""What is smaller has no outline in a reading; nothing that small was learned from."""
PEAKS: Final[Mapping[str, float]] = {"peak_min": 0.82, "peak_min_large": 0.925, "large_mm": 12.0}
"""What the likeliest voxel of a body must reach in a reading: of the crops that were left out at most one in 200 of either size
does not (see the model card)."""


@dataclass(frozen=True)
class Recipe:
    """The values of a training; those of `Plan.recipe` replace them by name. `batch` samples of `slices` slices a step;
    `rate` falls along a cosine to 0 over `steps`; `patience` looks of the watching patients without a gain end it."""

    entry: str = "outline-unet"
    version: str = "1.0"
    dimensions: int = 2
    widths: tuple[int, ...] = (16, 32, 64, 96)
    slices: int = 1
    batch: int = 24
    steps: int = 2400
    rate: float = 2e-3
    rate_warm_steps: int = 100
    weight_decay: float = 1e-3
    watch_every: int = 400
    patience: int = 6
    checkpoint_s: float = 120.0
    half: bool = True  # bfloat16 in training, where the device has a 16-bit type
    steps_per_diameter: float = 26.0
    step_mm_min: float = 0.7
    step_mm_max: float = 3.2
    mirrored: int = 4
    threshold: float = 0.5

    @property
    def use(self) -> Use:
        """How the network is used in reading."""
        return Use(**{f.name: getattr(self, f.name) for f in fields(Use)})

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of `use` and of the outliner, as the catalogue has them."""
        told = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.use).items()}
        return {**told, "diameter_mm_min": DIAMETER_MM_MIN, **PEAKS}


THREE_D: Final[Mapping[str, Any]] = {
    "entry": "outline-unet3d",
    "dimensions": 3,
    "widths": (16, 32, 64, 128),
    "slices": 16,
    "batch": 8,
    "half": False,  # in bfloat16 its weights became NaN within 400 steps
}
"""The values of MONAI's 3-D U-Net in place of the recipe's."""


def recipe_of(plan: Plan) -> Recipe:
    """The recipe of a plan. `dimensions = 3` alone takes the values of THREE_D with it.

    Raises:
        NoSuchData: a name that is no value of a recipe.
    """
    asked = dict(plan.recipe)
    if asked.get("dimensions") == 3:
        asked = {**THREE_D, **asked}
    known = {f.name for f in fields(Recipe)}
    wrong = sorted(set(asked) - known)
    if wrong:
        raise NoSuchData("no such value of a recipe", ", ".join(wrong), f"known are {', '.join(sorted(known))}")
    taken: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in asked.items()}
    return replace(Recipe(), **taken)


def weights_of(plan: Plan, recipe: Recipe) -> Path:
    """Where a training leaves its weights: those that ship in the output folder, a fold's in the entry's folder there."""
    if plan.fold is None:
        return plan.output / f"{recipe.entry}.safetensors"
    return plan.output / recipe.entry / f"{recipe.entry}.{plan.fold}.safetensors"


def train(plan: Plan, say: Progress) -> Trained:
    """Train, or go on, until the recipe's end or `minutes_max`.

    Raises:
        NoSuchData: the crops are missing, nobody is left to learn from, or the recipe has a name that is none.
    """
    recipe = recipe_of(plan)
    if plan.fold is not None and plan.folds not in ("", "fold"):
        raise NoSuchData("no such column of folds", plan.folds, "the crops have one, named fold")
    native, cubes = load_native(plan.data, plan.held_out), load_cubes(plan.data, plan.held_out)
    learned = [crop for crop in (*native, *cubes) if plan.fold is None or crop.fold != plan.fold]
    if not any(crop.mask.any() for crop in learned):
        raise NoSuchData("no nodule is left to learn from", str(plan.data), "hold fewer patients out")
    run = _Run(plan, recipe, learned, say)
    if not run.go():
        return Trained(False, None, None, {"step": run.step, "watched": run.best_dice})
    weights = run.write()
    metrics: dict[str, Any] = {"step": run.step, "watched": run.best_dice, "parameters": recipe.parameters}
    if plan.fold is not None:
        metrics |= _measure_fold(plan, recipe, weights, (native, cubes), say)
    card = write_card(plan.output, recipe.entry, asdict(recipe))
    return Trained(True, weights, card, metrics)


def load_finder(recipe: Recipe, weights: Path, device: str = "cpu") -> BodyFinder:
    """The network of a training's own weights file (the reading loads by the catalogue's digest only)."""
    return BodyFinder(recipe.use, load_file(weights), choose_device(device))


class _Run:
    """One training: its state on disk is one file, replaced whole."""

    def __init__(self, plan: Plan, recipe: Recipe, crops: Sequence[Crop], say: Progress) -> None:
        self.step, self.best_dice, self._since = 0, -1.0, 0
        self._plan, self._recipe, self._say = plan, recipe, say
        self.weights = weights_of(plan, recipe)
        self.weights.parent.mkdir(parents=True, exist_ok=True)
        self._name = recipe.entry if plan.fold is None else f"{recipe.entry} fold {plan.fold}"
        self.patients = sorted({patient_key(crop.patient) for crop in crops})
        watching = {patient for patient in self.patients if _is_watching(patient)}
        taught = [crop for crop in crops if patient_key(crop.patient) not in watching] or list(crops)
        cubes = [crop for crop in taught if is_cube(crop)]
        self._samples = Samples([crop for crop in taught if not is_cube(crop)], cubes, recipe.use.sizes)
        self._watched = [crop for crop in crops if patient_key(crop.patient) in watching and not is_cube(crop)]
        self._device = choose_device("auto")
        torch.manual_seed(plan.seed)
        self._network = recipe.use.network().to(self._device)
        self._optimiser = torch.optim.AdamW(self._network.parameters(), weight_decay=recipe.weight_decay)
        self._best: State = self._state()
        self._resume()

    @property
    def _checkpoint(self) -> Path:
        return self.weights.with_suffix(".checkpoint.pt")

    @property
    def _fingerprint(self) -> str:
        """Of all that makes this training what it is: a checkpoint of another one is not gone on with."""
        told = json.dumps([asdict(self._recipe), self._plan.seed, self._plan.fold, self.patients], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def go(self) -> bool:
        """Whether it came to its end."""
        begun = saved = time.monotonic()
        recipe, limit = self._recipe, self._plan.minutes_max
        losses: list[float] = []
        while self.step < recipe.steps and self._since < recipe.patience:
            losses.append(self._learn())
            self.step += 1
            if self.step % recipe.watch_every == 0 or self.step == recipe.steps:
                self._watch(float(np.mean(losses)))
                losses = []
            ended = self.step >= recipe.steps or self._since >= recipe.patience
            if limit is not None and not ended and time.monotonic() - begun > 60 * limit:
                self._save()
                return False
            if time.monotonic() - saved > recipe.checkpoint_s:
                self._save()
                saved = time.monotonic()
        self._save()
        return True

    def write(self) -> Path:
        """The best weights in half precision, and the hashes of the patients."""
        file = self.weights
        save_file({name: t.half() if t.is_floating_point() else t for name, t in self._best.items()}, file)
        write_patients(patients_file(file), self.patients)
        self._say(f"{file.name}: sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}, {file.stat().st_size} bytes")
        return file

    def _learn(self) -> float:
        """One step; its loss."""
        recipe = self._recipe
        rng = np.random.default_rng((self._plan.seed, self.step))
        batch = [self._samples.draw(rng, recipe.slices) for _ in range(recipe.batch)]
        warm = min(1.0, (self.step + 1) / recipe.rate_warm_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * self.step / recipe.steps))
        self._network.train()
        half = recipe.half and half_precision(self._device) is not None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            logits = self._network(network_inputs(batch, recipe.dimensions, self._device))
        loss = outline_loss(logits.float(), *targets(batch, recipe.dimensions, self._device))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.detach())

    def _watch(self, loss: float) -> None:
        """The Dice of the watching patients; the best weights are kept."""
        state = self._state()
        rows = judge(
            BodyFinder(replace(self._recipe.use, mirrored=1), state, self._device), self._watched, self._plan.seed
        )
        dice = float(np.mean([row.dice for row in rows])) if rows else -loss
        better = dice > self.best_dice or not rows
        self._best, self.best_dice = (state, dice) if better else (self._best, self.best_dice)
        self._since = 0 if better else self._since + 1
        self._say(
            f"{self._name} step {self.step}/{self._recipe.steps} loss {loss:.4f} watched Dice {dice:.4f} n {len(rows)}"
        )

    def _state(self) -> State:
        return {name: t.detach().cpu().clone().contiguous() for name, t in self._network.state_dict().items()}

    def _save(self) -> None:
        state = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "best_dice": self.best_dice,
            "since": self._since,
            "best": self._best,
            "network": self._state(),
            "optimiser": self._optimiser.state_dict(),
        }
        part = self._checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._checkpoint)

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self._fingerprint:
            self._say(f"{self._checkpoint.name} is of another recipe, seed or choice of patients: begun anew")
            return
        self.step, self.best_dice, self._since = state["step"], state["best_dice"], state["since"]
        self._best = state["best"]
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._say(f"{self._name}: goes on at step {self.step}")


def _is_watching(patient: str) -> bool:
    """One in twelve, by the id alone."""
    return int(hashlib.sha256(f"outliner-watch:{patient}".encode()).hexdigest(), 16) % 12 == 0


def network_inputs(batch: Sequence[Sample], dimensions: int, device: torch.device) -> Tensor:
    """A batch as the network of so many dimensions takes it."""
    hu = torch.from_numpy(np.stack([one.hu for one in batch])).to(device)
    offset = torch.from_numpy(np.stack([one.offset for one in batch])).to(device)
    step = torch.tensor([one.step for one in batch], dtype=torch.float32, device=device)
    inputs = grid_inputs(hu, offset, step)
    if dimensions == 2:
        return stacked(inputs).contiguous(memory_format=torch.channels_last)
    return without_neighbours(inputs).contiguous(memory_format=torch.channels_last_3d)


def targets(batch: Sequence[Sample], dimensions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Target and weight in the shape of the network's logits."""
    target = torch.from_numpy(np.stack([one.target for one in batch])).to(device)
    weight = torch.from_numpy(np.stack([one.weight for one in batch])).to(device)
    if dimensions == 3:
        return target[:, None], weight[:, None]
    return target.flatten(0, 1)[:, None], weight.flatten(0, 1)[:, None]


def outline_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy in units of the nodule's area, and soft Dice (Milletari, Navab, Ahmadi, 3DV 2016) where there is one."""
    axes = tuple(range(1, logits.ndim))
    area = (target * weight).sum(axes)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="none").sum(axes)
    likely = logits.sigmoid() * weight
    shared = (likely * target).sum(axes)
    dice = 1 - (2 * shared + 1) / ((likely**2).sum(axes) + (target**2 * weight).sum(axes) + 1)
    there = (area > 2).float()
    return (entropy / (area + 64)).mean() + (dice * there).sum() / there.sum().clamp(min=1)


def _measure_fold(
    plan: Plan, recipe: Recipe, weights: Path, sets: tuple[Sequence[Crop], Sequence[Crop]], say: Progress
) -> dict[str, Any]:
    """The Dice of the fold that was left out, with the weights as they are stored; kept for the card."""
    finder = load_finder(recipe, weights)
    found: dict[str, Any] = {}
    rows: dict[str, list[Row]] = {}
    for name, crops in zip(("native", "cubes"), sets, strict=True):
        rows[name] = judge(finder, [crop for crop in crops if crop.fold == plan.fold], plan.seed)
        found[name] = figures(rows[name])
        say(f"fold {plan.fold} {name}: {json.dumps(found[name])}")
    kept = {name: [asdict(row) for row in part] for name, part in rows.items()}
    digest = parameters_digest(recipe.parameters)
    weights.with_suffix(".dice.json").write_text(
        json.dumps({"fold": plan.fold, "parameters": digest, **kept}, indent=1) + "\n", encoding="utf-8"
    )
    return found
