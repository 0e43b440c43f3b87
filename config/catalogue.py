"""Which methods and models there are, by whom, under which licence, and with which digest. Typed, frozen, read-only.

The entries stand in `catalogue.toml` beside this file. A method without weights is identified by the digest of its
parameters, a model by that of its weights file. `kind` is the method; `inference/chain.py` knows the code of each.
`validation` says what is known of an entry: `measured` (figures in its model card) or `demonstration` (nothing; results
say so, and leave the node only with `site.allow_unvalidated`).
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.errors import ConfigurationError

CATALOGUE_FILE: Final = Path(__file__).with_name("catalogue.toml")

Number = int | float
Parameter = Number | tuple[Number, ...]


class Entry(BaseModel):
    """One method or model. `lungs`, `outliner` and `grader` name the entries that a detector's chain is completed with (no
    grader: nothing is graded). `weights` is a file name, empty for a method without any; `source_url` where it comes from,
    `training` what it learned from, `measured` what was measured of it, in a sentence each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    version: str = Field(min_length=1, max_length=16)
    task: Literal["lungs", "detector", "outliner", "grader", "radiograph"]
    kind: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    licence: str = Field(min_length=1)
    validation: Literal["demonstration", "measured"]
    text: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    weights: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    size_bytes: int = Field(default=0, ge=0)
    source_url: str = ""
    training: str = ""
    measured: str = ""
    lungs: str = ""
    outliner: str = ""
    grader: str = ""

    def number(self, name: str) -> float:
        """A parameter that is one number.

        Raises:
            ConfigurationError: the entry has no such parameter.
        """
        value = self.parameters.get(name)
        if not isinstance(value, int | float):
            raise ConfigurationError(f"no parameter {name} that is a number", self.name, "put the catalogue right")
        return float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A parameter that is a list of numbers.

        Raises:
            ConfigurationError: the entry has no such parameter.
        """
        values = self.parameters.get(name)
        if not isinstance(values, tuple):
            raise ConfigurationError(
                f"no parameter {name} that is a list of numbers", self.name, "put the catalogue right"
            )
        return tuple(float(value) for value in values)


def parameters_digest(parameters: Mapping[str, Parameter]) -> str:
    """SHA-256 (hex) of the parameters as JSON with sorted keys and no spaces."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_catalogue(path: Path) -> Mapping[str, Entry]:
    """The entries of a catalogue file by name.

    Raises:
        ConfigurationError: a field is wrong, a name stands twice, an entry that another one names is missing or of
            another task, or a digest is not that of the parameters.
    """
    entries: dict[str, Entry] = {}
    for table in tomllib.loads(path.read_text(encoding="utf-8")).get("entry", []):
        entry = _entry_of(table, path)
        if entry.name in entries:
            raise ConfigurationError("two entries of this name", f"{path.name}: {entry.name}", "keep one")
        entries[entry.name] = entry
    for entry in entries.values():
        which = f"{path.name}: {entry.name}"
        for task, other in (("lungs", entry.lungs), ("outliner", entry.outliner), ("grader", entry.grader)):
            if entry.task != "detector" or (task == "grader" and not other):
                continue
            if other not in entries or entries[other].task != task:
                raise ConfigurationError(f"{task} = '{other}' names no entry of that task", which)
    return entries


def _entry_of(table: Mapping[str, object], path: Path) -> Entry:
    which = f"{path.name}: {table.get('name', 'an entry without a name')}"
    try:
        entry = Entry.model_validate(table)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigurationError(faults, which, "put the entry right") from error
    if not entry.weights and entry.sha256 != parameters_digest(entry.parameters):
        raise ConfigurationError(
            f"sha256 is not that of its parameters ({parameters_digest(entry.parameters)})",
            which,
            "raise its version and write the new digest",
        )
    return entry


@cache
def catalogue() -> Mapping[str, Entry]:
    """The entries that this software came with, by name."""
    return read_catalogue(CATALOGUE_FILE)


def find_entry(name: str, task: str) -> Entry:
    """The entry of this name and task.

    Raises:
        ConfigurationError: there is none; names the nearest.
    """
    entry = catalogue().get(name)
    if entry is None or entry.task != task:
        names = [e.name for e in catalogue().values() if e.task == task]
        nearest = get_close_matches(name, names, n=1, cutoff=0.0)
        do = f"the nearest is {nearest[0]}" if nearest else ""
        raise ConfigurationError(f"no {task} of this name in the catalogue", name, do)
    return entry
