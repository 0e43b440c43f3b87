"""The configuration file and the environment in; one Settings out, or one report of all faults.

Also the door to what is said of settings that are right (`review.py`).
"""

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.catalogue import chain_entries, models_folder
from config.environment import apply_environment
from config.errors import ConfigurationError
from config.faults import Place, Tree, fault_lines, key_at
from config.keys import repeated_sections, sections
from config.review import digest, doubts, loosened
from config.settings import Settings, contradictions

__all__ = ["digest", "doubts", "load", "loosened", "read_toml"]


def load(path: Path | None, environ: Mapping[str, str], *, detector: bool = True) -> Settings:
    """The settings of a file, with the environment before it.

    Args:
        path: the TOML file; None: the environment alone.
        environ: as os.environ; names that do not begin with DICOM_NODE are none of ours.
        detector: whether `read.detector` must be here already; the commands that install it ask before it is.
    Raises:
        ConfigurationError: the file is not there or is no TOML; or some settings are wrong, each on a line of its own.
    """
    tree: Tree = {name: {} for name, field in Settings.model_fields.items() if field.is_required()}
    tree |= read_toml(path) if path is not None else {}
    variables, faults = apply_environment(tree, environ)
    try:
        # As JSON, for only there a strict check takes a list for a tuple and a table for a section.
        settings = Settings.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        faults += [line for detail in details for line in fault_lines(detail, tree, variables)]
        part = _readable_part(tree, details)
        if any(detail["loc"] for detail in details):  # else the check across sections has spoken already
            faults += contradictions(part)
        faults += _catalogue_faults(part) if detector else []
    else:
        faults += _catalogue_faults(settings) if detector else []
        if not faults:
            return settings
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise ConfigurationError("\n  ".join([count, *faults]), str(path) if path is not None else "environment")


def read_toml(path: Path) -> Tree:
    """The tables of a file.

    Raises:
        ConfigurationError: the file is not there, can't be read, or is no TOML (with the line).
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(
            "there is no such configuration file", str(path), "`dicom-node init` writes one with comments"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"can't be read ({error.strerror})", str(path)) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"line {line} is not UTF-8, and TOML is", str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"no TOML: {error}", str(path), _toml_hint(str(error))) from error


def _toml_hint(message: str) -> str:
    twice = next((name for name in sections() if message.startswith(f"Cannot declare ('{name}',) twice")), "")
    if twice in repeated_sections():
        return f"each destination begins with [[{twice}]]"
    return f"[{twice}] may stand once" if twice else ""


def _catalogue_faults(settings: Settings) -> list[str]:
    models = models_folder(settings.paths.state)
    try:
        chain_entries(settings.read.detector, models)
    except ConfigurationError as error:
        if (models / settings.read.detector).is_dir():  # damaged, not misspelt: reading alone stops, and says so
            return []
        return [f"read.detector = '{settings.read.detector}': {error.what}; {error.do}"]
    return []


def _readable_part(tree: Tree, details: list[ErrorDetails]) -> Settings:
    """Settings of what had no fault, unchecked: the check across sections then speaks in the same report."""
    sound = copy.deepcopy(tree)
    for detail in details:
        if detail["loc"]:
            _drop(sound, detail["loc"])
    built: dict[str, Any] = {}
    for name, model in sections().items():
        blank: dict[str, Any] = {field: "" for field, info in model.model_fields.items() if info.is_required()}
        value = sound.get(name)
        if name in repeated_sections():
            entries = value if isinstance(value, list) else []
            built[name] = tuple(model.model_construct(**blank | entry) for entry in entries if isinstance(entry, dict))
        else:
            built[name] = model.model_construct(**blank | (value if isinstance(value, dict) else {}))
    return Settings.model_construct(**built)


def _drop(tree: Any, place: Place) -> None:
    """Take the key of a fault out (of a wrong element of a list: the whole list)."""
    words = place[:-1] if len(place) > 1 and isinstance(place[-1], int) and key_at(place) else place
    for step in words[:-1]:
        tree = tree[step] if not isinstance(tree, dict) or step in tree else {}
    if isinstance(tree, dict):
        tree.pop(words[-1], None)
    else:
        tree[words[-1]] = None
