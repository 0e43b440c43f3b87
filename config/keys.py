"""Every key of the settings as a row: what a fault report, the environment, the template and docs/settings.md ask."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from config.settings import Section, Settings
from config.values import unit_of


class Kind(StrEnum):
    """What a key holds, in the words of a fault report."""

    TEXT = "a text"
    WHOLE_NUMBER = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    TEXTS = "a list of texts"


@dataclass(frozen=True)
class Key:
    """One setting: `section.name`; `repeated` ones stand in a `[[section]]`, once for each destination.

    `default` is a value of TOML (a list for a list), None where the key is required.
    """

    section: str
    name: str
    kind: Kind
    choices: tuple[str, ...]
    required: bool
    default: Any
    example: Any
    description: str
    repeated: bool

    @property
    def path(self) -> str:
        """`section.name`."""
        return f"{self.section}.{self.name}"

    @property
    def unit(self) -> str:
        """Of the number, from the key's name; "" when it has none."""
        return unit_of(self.name)

    @property
    def label(self) -> str:
        """`assembly.quiet_s (seconds)`."""
        return f"{self.path} ({self.unit})" if self.unit else self.path


@cache
def sections() -> dict[str, type[Section]]:
    """The tables of the file in their order, by name."""
    return {name: _section_of(field.annotation) for name, field in Settings.model_fields.items()}


@cache
def repeated_sections() -> frozenset[str]:
    """Those that stand any number of times, as `[[pacs]]`."""
    return frozenset(name for name, field in Settings.model_fields.items() if get_origin(field.annotation) is tuple)


@cache
def keys() -> dict[str, Key]:
    """Every key in its order, by path."""
    return {key.path: key for key in _keys()}


def key_of(section: str, name: str) -> Key | None:
    """The key, if there is one."""
    return keys().get(f"{section}.{name}")


def as_toml(value: Any) -> str:
    """A value as TOML writes it. JSON writes text, numbers, truth and lists of text in the same way."""
    return json.dumps(value, ensure_ascii=False)


def _section_of(annotation: Any) -> type[Section]:
    section = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    if not (isinstance(section, type) and issubclass(section, Section)):
        raise TypeError(f"{section!r} is no section of settings")
    return section


def _keys() -> Iterator[Key]:
    for section, model in sections().items():
        for name, field in model.model_fields.items():
            yield _key(section, name, field)


def _key(section: str, name: str, field: FieldInfo) -> Key:
    kind, choices = _kind(field.annotation)
    required = field.is_required()
    default = None if required else field.default
    return Key(
        section=section,
        name=name,
        kind=kind,
        choices=choices,
        required=required,
        default=list(default) if isinstance(default, tuple) else default,
        example=field.examples[0] if field.examples else None,
        description=field.description or "",
        repeated=section in repeated_sections(),
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """What a field's type holds, and from which words it may choose."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return Kind.TEXT, get_args(annotation)
    if get_origin(annotation) is tuple:
        return Kind.TEXTS, _kind(get_args(annotation)[0])[1]
    kinds = {str: Kind.TEXT, int: Kind.WHOLE_NUMBER, float: Kind.NUMBER, bool: Kind.SWITCH}
    return kinds[annotation], ()
