"""Train the detector's second stage: from a data folder to weights.

Binary cross-entropy with softened labels, AdamW with weight decay, a cosine schedule after a short rise that starts
anew, lower, after each cycle (Loshchilov and Hutter 2017, arXiv:1608.03983); batches of a fixed
mix of nodules and of what is none (`patch_sampler.py`), where places that the network takes for nodules come back more often:
hard negatives are mined anew at every step. The same plan goes on from its checkpoint.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from config.catalogue import Entry, shipped
from inference.nodule_net import FIRST_STAGE, NoduleNet, channels_last, normalised
from inference.training.crops import load_candidates, load_cubes, load_native, patient_key
from inference.training.patch_sampler import Sampler, load_sampler
from inference.training.patients import patients_file, write_patients
from inference.training.plan import Plan, Progress, Trained
from inference.training.scans import scan_facts, scan_folders

RECIPE: Final[Mapping[str, Any]] = {
    "steps": 3200,
    "cycle": 2000,
    "again": 600,
    "restart": 0.4,
    "rate": 3e-3,
    "decay": 0.02,
    "soft": 0.02,
    "checkpoint_s": 60.0,
    "entry": "nodule-net",
}
_RISE: Final = 40  # steps
_CLOSING: Final = 60  # the last steps whose losses are reported


def train(plan: Plan, say: Progress) -> Trained:
    """Train on all but the patients of `plan.held_out`; see `Plan`. Recipe: `RECIPE`, `cache`, a folder of the places of
    scans that several plans share, and parameters of the first stage (`FIRST_STAGE`) in place of those of the catalogue.

    Raises:
        NoSuchData: the data folder lacks what it takes.
        ConfigurationError: a parameter of the first stage is wrong.
    """
    recipe = {**RECIPE, **plan.recipe}
    plan.output.mkdir(parents=True, exist_ok=True)
    cache = Path(recipe.get("cache", plan.output / "places"))
    held_out = plan.held_out | fold_patients(plan)
    sampler = load_sampler(plan.data, held_out, cache, looking_entry(recipe), plan.seed, say)
    file = plan.output / f"checkpoint-{_name_of(plan, held_out)}.pt"
    run = _Run(sampler, recipe, plan.seed, file, _made_of(recipe, sampler))
    run.resume(say)
    started = saved = time.monotonic()
    while run.step < recipe["steps"]:
        now = time.monotonic()
        if plan.minutes_max is not None and now - started > 60 * plan.minutes_max:
            run.save()
            say(
                f"stopped after {plan.minutes_max:g} minutes at step {run.step} of {recipe['steps']}; the same plan goes on"
            )
            return Trained(False, None, None, {"steps": run.step})
        if now - saved > recipe["checkpoint_s"]:
            run.save()
            saved = now
        loss = run.advance()
        if run.step % 50 == 0:
            say(f"step {run.step} of {recipe['steps']}: loss {loss:.3f}, {(time.monotonic() - started):.0f} s")
    run.save()
    stem = recipe["entry"] if plan.fold is None else f"{recipe['entry']}.{plan.fold}"
    weights = plan.output / f"{stem}.safetensors"
    save_file(half_precision(run.net), weights)
    write_patients(patients_file(weights), sampler.patients)
    metrics = {"steps": run.step, "loss": float(np.mean(run.losses[-_CLOSING:])), "patients": len(sampler.patients)}
    (plan.output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    card = plan.output / f"{stem}.md"
    card.write_text(_CARD.format(stem=stem, seed=plan.seed, held_out=len(held_out), **metrics), encoding="utf-8")
    return Trained(True, weights, card, metrics)


_CARD: Final = """# {stem}

Second stage of a nodule detector (`inference/nodule_net.py`), trained by `dicom-node train detector`, seed {seed}.

- Data: crops and whole scans of {patients} patients; {held_out} patients held out, of whom nothing was opened.
- {steps} steps; mean training loss of the last ones {loss:.3f} (on hard, changed and planted places; no measure of quality).
- Not measured here: `python -m tools.scan_out` and `python -m tools.planted` measure it on what it has not seen.
"""


def looking_entry(recipe: Mapping[str, Any]) -> Entry:
    """The entry whose first stage names the places that a training looks at: the recipe's, `nodule-net` where that is a name
    of the site's own; with the recipe's parameters in place of the entry's."""
    entry = shipped().get(recipe["entry"], shipped()[RECIPE["entry"]])
    given = {name: tuple(v) if isinstance(v := recipe[name], list) else v for name in FIRST_STAGE if name in recipe}
    return entry.model_copy(update={"parameters": {**entry.parameters, **given}})


def fold_patients(plan: Plan) -> frozenset[str]:
    """The patients of the plan's fold: of the crops' column of folds, or where no crop has it all whom no crop names."""
    if plan.fold is None:
        return frozenset()
    crops = [crop for load in (load_native, load_cubes, load_candidates) for crop in load(plan.data)]
    folds = {patient_key(crop.patient): crop.fold for crop in crops}
    members = {patient for patient, fold in folds.items() if fold == plan.fold}
    scanned = {patient_key(str(scan_facts(folder)["patient_id"])) for folder in scan_folders(plan.data)}
    return frozenset(members or scanned - set(folds))


def _name_of(plan: Plan, held_out: frozenset[str]) -> str:
    """Plans that leave out other patients have other checkpoints in one folder."""
    out = ",".join(sorted(patient_key(patient) for patient in held_out))
    return hashlib.sha256(f"{plan.seed}:{out}".encode()).hexdigest()[:8]


def half_precision(net: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a network as they are stored."""
    kept = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: value.to(torch.float16).contiguous() for name, value in kept.items()}


def _made_of(recipe: Mapping[str, Any], sampler: Sampler) -> str:
    """What a checkpoint may go on with: the recipe, but for where and how often things are kept, and for steps that are only more
    cycles; and the places that the hardness of each belongs to."""
    same = {name: value for name, value in recipe.items() if name not in ("checkpoint_s", "cache", "steps")}
    same["first"] = min(recipe["steps"], recipe["cycle"])
    digest = hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode())
    for places in sampler.places:
        digest.update(np.ascontiguousarray(places.negative[0]).data)
    return digest.hexdigest()


class _Run:
    """A training under way: network, optimiser, step, losses."""

    def __init__(self, sampler: Sampler, recipe: Mapping[str, Any], seed: int, file: Path, made: str) -> None:
        torch.manual_seed(seed)
        self.net = channels_last(NoduleNet())
        self.net.train()
        self.step = 0
        self.losses: list[float] = []
        self._sampler = sampler
        self._recipe = recipe
        self._file = file
        self._made = made
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe["decay"]}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=recipe["rate"])

    def advance(self) -> float:
        """One batch; its loss."""
        (near, wide), labels, which = self._sampler.batch(self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe["rate"] * self._schedule()
        target = torch.from_numpy(labels)
        soft = target * (1 - 2 * self._recipe["soft"]) + self._recipe["soft"]
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.net(normalised(near), normalised(wide))
        logits = logits.float()
        weights = torch.where(target > 0, len(target) / (2 * target.sum()), len(target) / (2 * (1 - target).sum()))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, soft, weights)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self._optimiser.step()
        self._sampler.learn_hardness(which, torch.sigmoid(logits.detach()).numpy())
        self.step += 1
        self.losses.append(float(loss.detach()))
        return float(np.mean(self.losses[-50:]))

    def _schedule(self) -> float:
        if self.step < _RISE:
            return (self.step + 1) / _RISE
        start, length, top = _RISE, self._recipe["cycle"] - _RISE, 1.0
        if self.step >= self._recipe["cycle"]:
            length, top = max(1, self._recipe["again"]), self._recipe["restart"]
            start = self.step - (self.step - self._recipe["cycle"]) % length
        share = (self.step - start) / max(1, min(length, self._recipe["steps"] - start))
        return float(top * 0.5 * (1 + math.cos(math.pi * share)) + 1e-3)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self._file.with_suffix(".part")
        torch.save(
            {
                "made": self._made,
                "net": self.net.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
                "losses": self.losses,
                "hardness": torch.from_numpy(self._sampler.hardness),
                "random": torch.get_rng_state(),
            },
            part,
        )
        part.replace(self._file)

    def resume(self, say: Progress) -> None:
        """Take up the checkpoint of an earlier run of the same plan, if there is one."""
        if not self._file.exists():
            return
        held = torch.load(self._file, weights_only=True)
        if held.get("made") != self._made:
            say(f"{self._file.name} was made by another recipe or of other places: starts anew")
            return
        self.net.load_state_dict(held["net"])
        self._optimiser.load_state_dict(held["optimiser"])
        self.step, self.losses = int(held["step"]), list(held["losses"])
        self._sampler.hardness = held["hardness"].numpy()
        torch.set_rng_state(held["random"])
        say(f"goes on at step {self.step}")
