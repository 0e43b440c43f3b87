"""Fits of the grader that are kept, so that a training goes on where it stopped.

A fit is found by the digest of all that it was made from: rows, labels, patients, candidates, seed. Nothing stale is ever used.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.scoring import score_of, to_arrays
from inference.training.grader_models import Candidate, Chosen, Table, choose
from inference.training.plan import Progress


def chosen(
    target: str, table: Table, seed: int, folder: Path, candidates: Sequence[Candidate], say: Progress
) -> Chosen:
    """`choose`, made once, and only then said."""
    kept = folder / f"{target}-{_digest(table, seed, candidates)}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            said = json.loads(bytes(arrays["said"]))
            score, crossed = score_of(arrays, target), arrays["crossed"]
        (candidate,) = (one for one in candidates if one.name == said["candidate"])
        return Chosen(score, candidate, said["losses"], crossed)
    fresh = choose(table, seed, candidates)
    said = json.dumps({"candidate": fresh.candidate.name, "losses": fresh.losses})
    folder.mkdir(parents=True, exist_ok=True)
    beside = kept.with_name(f".{kept.name}")
    stored: dict[str, Any] = {
        "said": np.frombuffer(said.encode(), np.uint8),
        "crossed": fresh.crossed,
        **to_arrays({target: fresh.score}),
    }
    np.savez(beside, **stored)
    beside.replace(kept)
    say(f"{target}: {fresh.candidate.name}, log loss {min(fresh.losses.values()):.3f}")
    return fresh


def _digest(table: Table, seed: int, candidates: Sequence[Candidate]) -> str:
    digest = hashlib.sha256(table.x.tobytes() + table.positive.tobytes())
    digest.update(json.dumps([list(table.nodule), list(table.patient), seed]).encode())
    digest.update(repr([(c.kind, c.features, sorted(c.settings.items()), c.name) for c in candidates]).encode())
    return digest.hexdigest()[:16]
