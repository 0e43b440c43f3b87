"""Models as a site installs them, made by tests: small files in the place where the node looks for them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from config.catalogue import ENTRY_FILE, Entry, find_entry, installed_entry, shipped

WEIGHTS = "weights.safetensors"


def weights_bytes(seed: int = 0) -> bytes:
    """A safetensors file of a few numbers."""
    return bytes(save({"layer.weight": np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)}))


def entry_fields(name: str, weights: bytes, like: str = "hessian-dot", /, **changes: Any) -> dict[str, Any]:
    """Fields of an entry with weights: a shipped entry of another name."""
    fields = shipped()[like].model_dump(mode="json") | {
        "name": name,
        "weights": WEIGHTS,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "size_bytes": len(weights),
        "text": "A model of this test.",
    }
    return fields | changes


def put_model(models: Path, name: str, like: str = "hessian-dot", /, *, seed: int = 0, **changes: Any) -> Entry:
    """An installed model, as `dicom-node models install` leaves it."""
    folder, weights = models / name, weights_bytes(seed)
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / ENTRY_FILE).write_text(json.dumps(entry_fields(name, weights, like, **changes)))
    entry = installed_entry(folder)
    assert find_entry(name, entry.task, models) == entry
    return entry
