"""From catalogue entries to the parts that read; which code is which method stands in `methods.py`.

A part is made as `Class(entry)`, one that computes with torch as `Class(entry, device)`. What a method needs is loaded
when it is asked for and not before, and not before the digest of its weights was found to be that of the catalogue
(`inference/weights.py`, which loads them, looks once more at what it has read).
"""

import importlib
from pathlib import Path
from typing import Any

from config.catalogue import Entry, find_entry
from inference.device import choose_device
from inference.methods import method_of
from inference.reader import Chain
from inference.stored import verify_weights


def build_chain(entry_name: str, device: str = "auto", models: Path | None = None) -> Chain:
    """The chain of a detector's catalogue entry, with the lungs, the outliner and the grader that it names.

    Args:
        entry_name: of a detector.
        device: `auto`, `cpu` or `cuda`.
        models: the folder of what the site installed; None: only what came with this software.
    Raises:
        ConfigurationError: no such entry, or an entry whose method this software lacks.
        ModelRefused: weights are missing, or are not those of the catalogue.
        NoDevice: `cuda` was asked for and does not work.
    """
    entry = find_entry(entry_name, "detector", models)
    where = choose_device(device)
    return Chain(
        lungs=build_part(find_entry(entry.lungs, "lungs", models), where),
        detector=build_part(entry, where),
        outliner=build_part(find_entry(entry.outliner, "outliner", models), where),
        grader=build_part(find_entry(entry.grader, "grader", models), where) if entry.grader else None,
        findings_max=int(entry.number("findings_max")) if "findings_max" in entry.parameters else Chain.findings_max,
    )


def build_part(entry: Entry, device: Any) -> Any:
    """The part of one entry.

    Raises:
        ConfigurationError, ModelRefused: as `build_chain`.
    """
    method = method_of(entry)
    verify_weights(entry)
    part = getattr(importlib.import_module(method.module), method.part)
    return part(entry, device) if method.on_device else part(entry)
