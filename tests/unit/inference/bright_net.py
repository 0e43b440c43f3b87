"""A network of the real kind with weights set by hand: it marks what is brighter than -400 HU, and nothing 30 steps away."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from config.catalogue import Entry
from inference.outline_unet import NEIGHBOURS, SliceUNet

PARAMETERS: Mapping[str, int | float | tuple[int | float, ...]] = {
    "dimensions": 2,
    "widths": (2,),
    "steps_per_diameter": 26.0,
    "step_mm_min": 0.7,
    "step_mm_max": 3.2,
    "mirrored": 4,
    "threshold": 0.5,
    "diameter_mm_min": 4.0,
    "peak_min": 0.82,
    "peak_min_large": 0.925,
    "large_mm": 12.0,
}


def bright_tensors() -> dict[str, torch.Tensor]:
    """The middle slice goes through unchanged: relu(hu / 500 + 1.6), and a logit of 0 at -400 HU."""
    state = {name: torch.zeros_like(t) for name, t in SliceUNet((2,)).state_dict().items()}
    state["down.0.0.weight"][0, NEIGHBOURS, 1, 1] = 1.0
    state["down.0.3.weight"][0, 0, 1, 1] = 1.0
    for name in ("down.0.1", "down.0.4"):
        state[f"{name}.weight"][:] = 1.0
        state[f"{name}.running_var"][:] = 1.0
    state["down.0.1.bias"][0] = 0.6
    state["head.weight"][0, 0] = 20.0
    state["head.bias"][0] = -20.0 * (0.2 + 0.6)
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def bright_entry(folder: Path, **changes: int | float) -> Entry:
    """A catalogue entry of those weights, whose file lies in a folder."""
    file = folder / "bright.safetensors"
    save_file(bright_tensors(), file)
    return Entry(
        name="bright",
        version="1.0",
        task="outliner",
        kind="unet",
        licence="Apache-2.0",
        validation="demonstration",
        text="Marks what is brighter than -400 HU.",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        parameters={**PARAMETERS, **changes},
        weights=file.name,
    )
