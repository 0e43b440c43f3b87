"""Which methods and models there are, by whom, under which licence, and with which digest. Typed, frozen, read-only.

What this software came with stands in `catalogue.toml` beside this file; what a site installed (`dicom-node models
install`) in `entry.json` of a folder of its own below `models/` of the state folder, which every look-up is given. A
name stands once: what came with the software goes first. A method without weights is identified by the digest of its
parameters, a model by that of its weights. `kind` is the method; `inference/chain.py` knows the code of each.
`validation` says what is known of an entry: `measured` (figures in its model card) or `demonstration` (nothing; results
say so, and leave the node only with `site.allow_unvalidated`). An installed entry is a demonstration, whatever it says of
itself, until an evaluation of the same digest lies beside it (`evaluation.json`).
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.errors import ConfigurationError

CATALOGUE_FILE: Final = Path(__file__).with_name("catalogue.toml")
ENTRY_FILE: Final = "entry.json"
EVALUATION_FILE: Final = "evaluation.json"
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}$"

Number = int | float
Parameter = Number | tuple[Number, ...]


class Entry(BaseModel):
    """One method or model. `lungs`, `outliner` and `grader` name the entries that a detector's chain is completed with (no
    grader: nothing is graded). `weights` is the name of a file (of a folder for a bundle), empty for a method without any;
    `source_url` where it comes from, `training` what it learned from, `measured` what was measured of it, in a sentence
    each. `folder` is where it was installed (None: it came with this software) and stands in no file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
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
    folder: Path | None = Field(default=None, exclude=True)

    def digest(self) -> str:
        """SHA-256 (hex) of all that it computes with: method, version, weights and parameters (the operating point too)."""
        parts = (self.task, self.kind, self.version, self.sha256, parameters_digest(self.parameters))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def number(self, name: str, otherwise: float | None = None) -> float:
        """A parameter that is one number; `otherwise` where the entry has none: for parameters that came later than entries.

        Raises:
            ConfigurationError: the entry has no such parameter, and it takes one; or it is no number.
        """
        value = self.parameters.get(name, otherwise)
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
        entry = entry_of(table, f"{path.name}: {table.get('name', 'an entry without a name')}")
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


def entry_of(table: Mapping[str, object], which: str) -> Entry:
    """An entry from the fields of a file; `which` names it in errors.

    Raises:
        ConfigurationError: a field is wrong or unknown, or a digest is not that of the parameters.
    """
    try:
        if "folder" in table:
            raise ConfigurationError("folder: no such field", which, "put the entry right")
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


class Evaluation(BaseModel):
    """What `dicom-node evaluate` measured of an installed entry at this site: `digest` is the entry's when it was
    evaluated, `measured` a sentence made from the figures, `metrics_sha256` the digest of the file that they stand in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    measured: str = Field(min_length=1)
    metrics_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def models_folder(state: str) -> Path:
    """Where a site's own models lie; `state` is the setting `paths.state`."""
    return Path(state).absolute() / "models"


def installed_entry(folder: Path) -> Entry:
    """The entry that was installed in a folder; its name is the folder's.

    Raises:
        ConfigurationError: its files are missing, unreadable or wrong.
    """
    which, again = f"models/{folder.name}", "install the model again"
    try:
        table = json.loads((folder / ENTRY_FILE).read_bytes())
        evaluation_file = folder / EVALUATION_FILE
        evaluation = Evaluation.model_validate_json(evaluation_file.read_bytes()) if evaluation_file.exists() else None
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", which, again) from error
    except ValueError as error:
        raise ConfigurationError(f"its files are damaged: {str(error).splitlines()[0]}", which, again) from error
    entry = entry_of(table, which) if isinstance(table, dict) else None
    if entry is None or entry.name != folder.name or not entry.weights:
        raise ConfigurationError(f"{ENTRY_FILE} is not that of an installed model of this name", which, again)
    measured = evaluation is not None and evaluation.digest == entry.digest()
    return entry.model_copy(
        update={
            "folder": folder,
            "validation": "measured" if measured else "demonstration",
            "measured": evaluation.measured if evaluation is not None and measured else "",
        }
    )


def installed(models: Path) -> Mapping[str, Entry | ConfigurationError]:
    """What is installed below a folder, by name; an entry that can't be used is there as what is wrong with it."""
    found: dict[str, Entry | ConfigurationError] = {}
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        if re.fullmatch(NAME_PATTERN, folder.name) and folder.is_dir():
            try:
                found[folder.name] = installed_entry(folder)
            except ConfigurationError as fault:
                found[folder.name] = fault
    return found


@cache
def shipped() -> Mapping[str, Entry]:
    """The entries that this software came with, by name."""
    return read_catalogue(CATALOGUE_FILE)


def catalogue(models: Path | None = None) -> Mapping[str, Entry]:
    """The entries that this software came with and, given its folder, those that the site installed, by name."""
    if models is None:
        return shipped()
    mine = {name: entry for name, entry in installed(models).items() if isinstance(entry, Entry)}
    return {**mine, **shipped()}


def find_entry(name: str, task: str, models: Path | None = None) -> Entry:
    """The entry of this name and task; `models` is the folder of what the site installed (None: only what came along).

    Raises:
        ConfigurationError: there is none (names the nearest), or an installed one of this name is damaged.
    """
    entry = shipped().get(name)
    if entry is None and models is not None and re.fullmatch(NAME_PATTERN, name) and (models / name).is_dir():
        entry = installed_entry(models / name)
    if entry is None or entry.task != task:
        names = [e.name for e in catalogue(models).values() if e.task == task]
        nearest = get_close_matches(name, names, n=1, cutoff=0.0)
        do = f"the nearest is {nearest[0]}" if nearest else ""
        do += "; `dicom-node models install` adds others" if models is not None else ""
        raise ConfigurationError(f"no {task} of this name in the catalogue", name, do)
    return entry


def chain_entries(detector: str, models: Path | None = None) -> tuple[Entry, ...]:
    """The entries of a detector's whole chain, in the order of work: lungs, detector, outliner and, where it names one, grader.

    Raises:
        ConfigurationError: one of them is not there, or is damaged.
    """
    entry = find_entry(detector, "detector", models)
    others = (("lungs", entry.lungs), ("outliner", entry.outliner), ("grader", entry.grader))
    lungs, outliner, *grader = (find_entry(name, task, models) for task, name in others if name or task != "grader")
    return (lungs, entry, outliner, *grader)


def chain_digests(detector: str, models: Path | None = None) -> tuple[str, ...]:
    """A digest for each entry of a chain: of what it computes with, and of what results say of it. For the keys of results.

    Raises:
        ConfigurationError: one of them is not there, or is damaged.
    """
    entries = chain_entries(detector, models)
    return tuple(hashlib.sha256(f"{e.name} {e.digest()} {e.validation}".encode()).hexdigest() for e in entries)
