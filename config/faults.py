"""What is wrong with a setting: a line with key, value, fault and the nearest right name. Pydantic's words end here."""

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, Final

from pydantic_core import ErrorDetails

from config.keys import Key, Kind, key_of, keys, repeated_sections, sections

VALUE_CHARACTERS_MAX: Final = 60  # of a value in a fault report
LIKENESS_MIN: Final = 0.5  # below it a name is no help, and all names of the section are listed instead

Tree = dict[str, Any]
"""What TOML gives: tables by section, lists of tables for a `[[section]]`."""

Place = tuple[str | int, ...]
"""Where in a tree: ("receive", "port"), ("pacs", 0, "host")."""


def likeness(one: str, other: str) -> float:
    """How alike two names are, 0 to 1."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def fault_lines(detail: ErrorDetails, tree: Tree, variables: Mapping[Place, str]) -> list[str]:
    """One fault of pydantic in our words; the check across sections gives several at once."""
    place = detail["loc"]
    text = _sentence(detail)
    if not place:
        return text.splitlines()
    name = _name(place, tree)
    source = next((variables[place[:end]] for end in range(len(place), 0, -1) if place[:end] in variables), "")
    source = f" (from {source})" if source else ""
    if detail["type"] in ("missing", "extra_forbidden"):
        return [f"{name}{source}: {text}"]
    return [f"{name} = {_shown(detail['input'])}{source}: {text}"]


def _name(place: Place, tree: Tree) -> str:
    """`pacs.ae_title`; with its number where there are several: `pacs[2].ae_title`."""
    name = ""
    for depth, step in enumerate(place):
        if isinstance(step, str):
            name += f".{step}" if name else step
        elif depth > 1 or len(tree[str(place[0])]) > 1:
            name += f"[{step + 1}]"
    return name


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 4] + " ..."


def key_at(place: Place) -> Key | None:
    """The key that a place belongs to; None for a whole section."""
    words = [step for step in place if isinstance(step, str)]
    return key_of(words[0], words[1]) if len(words) > 1 else None


def _sentence(detail: ErrorDetails) -> str:
    """What is wrong, without any word of pydantic's."""
    place, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    key = key_at(place)
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"missing, and needed. {_example(key)}" if key else "missing"
    if kind == "extra_forbidden":
        return _nearest(place)
    if kind == "string_too_long" and isinstance(detail["input"], str):
        return f"{len(detail['input'])} characters, at most {context['max_length']} are possible"
    if key and kind == "literal_error":
        return _one_of(detail["input"], key.choices)
    if key:
        needed = Kind.TEXT if key.kind is Kind.TEXTS and isinstance(place[-1], int) else key.kind
        return f"it is {_kind_of(detail['input'])}, and {needed} is needed"
    section = str(place[0])
    if section in repeated_sections():
        return f"each destination begins with [[{section}]], also a single one; its settings below it"
    return f"a table is needed: [{section}] once, its settings below it"


def _example(key: Key) -> str:
    return f"{key.description} As in {key.name} = {_shown(key.example)}" if key.example is not None else key.description


def _one_of(value: Any, choices: tuple[str, ...]) -> str:
    nearest = max(choices, key=lambda choice: likeness(str(value).lower(), choice.lower()))
    hint = f"; the nearest is {nearest}" if likeness(str(value).lower(), nearest.lower()) >= LIKENESS_MIN else ""
    return f"one of {', '.join(choices)} is needed{hint}"


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "a table" if isinstance(value, dict) else "nothing")


def _nearest(place: Place) -> str:
    """The right name for a wrong one: of its own section where one is like it, else of all."""
    words = [step for step in place if isinstance(step, str)]
    if len(words) == 1:
        section = max(sections(), key=lambda name: likeness(words[0], name))
        strays = [key for key in keys().values() if key.name == words[0]]
        if strays and likeness(words[0], section) < 1:
            return f"no such section; {' or '.join(key.label for key in strays)} stands below its [section]"
        return f"no such section; the nearest is {section}"
    siblings = [key for key in keys().values() if key.section == words[0]]
    near = max(siblings, key=lambda key: likeness(words[1], key.name))
    stray = max(keys().values(), key=lambda key: likeness(words[1], key.name))
    if likeness(words[1], near.name) < LIKENESS_MIN or stray.name == words[1]:
        near = stray
    if likeness(words[1], near.name) < LIKENESS_MIN:
        return f"no such setting; those of {words[0]} are {', '.join(sections()[words[0]].model_fields)}"
    return f"no such setting; the nearest is {near.label}"
