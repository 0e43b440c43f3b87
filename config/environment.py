"""Settings from the environment: `DICOM_NODE__SECTION__KEY`, as in `DICOM_NODE__RECEIVE__PORT=11113`.

A list is JSON or parted by commas. An entry of a `[[section]]` has its place, counted from 1:
`DICOM_NODE__PACS__1__HOST=pacs`. A section may also be JSON as a whole. A variable that merely looks like one of ours
is a fault, for a mistyped one would change nothing and say nothing.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from config.faults import Place, Tree, likeness
from config.keys import Kind, key_of, keys, repeated_sections, sections

PREFIX: Final = "DICOM_NODE__"

OTHER_VARIABLES: Final = ("DICOM_NODE_CONFIG", "DICOM_NODE_SHARED", "DICOM_NODE_DIE_AT")
"""Variables that are no settings: the path of the file, the folder of test data, the crash point of a test."""

# Kubernetes puts these into every container beside a service whose name begins with dicom-node.
_SERVICE_LINK: Final = re.compile(
    r"DICOM_NODE(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")


def apply_environment(tree: Tree, environ: Mapping[str, str]) -> tuple[dict[Place, str], list[str]]:
    """Put what the environment sets into `tree`.

    Returns:
        Which variable set which place of the tree, and the faults of names.
    """
    variables: dict[Place, str] = {}
    faults: list[str] = []
    for variable in sorted(filter(_is_ours, environ), key=_in_order):
        place, value = _place_of(variable), environ[variable]
        if _SERVICE_LINK.fullmatch(variable) or (variable.endswith("_PORT") and _SERVICE_URL.match(value)):
            continue
        if place is None:
            faults.append(f"{variable}: no such variable; {_nearest_variable(variable)}")
        elif not _is_text(value):
            faults.append(f"{variable}: the value is not UTF-8")
        else:
            parsed = _value_of(place, value)
            fault = _put(tree, place, parsed)
            faults += [f"{variable}: {fault}"] if fault else []
            within = parsed if len(place) == 1 and isinstance(parsed, dict) else ()
            variables.update({(*place, name): variable for name in within} or {place: variable})
    return variables, faults


def _is_ours(variable: str) -> bool:
    return variable.upper().startswith(("DICOM_NODE", "DICOMNODE_")) and variable not in OTHER_VARIABLES


def _in_order(variable: str) -> list[tuple[int, str]]:
    """Whole sections before their keys, entry 2 before entry 10."""
    return [(int(word), "") if word.isascii() and word.isdigit() else (0, word) for word in variable.split("__")]


def _place_of(variable: str) -> Place | None:
    """("receive", "port") of DICOM_NODE__RECEIVE__PORT; None where nothing is called so."""
    if not variable.startswith(PREFIX):
        return None
    words = variable.removeprefix(PREFIX).lower().split("__")
    section, rest = words[0], words[1:]
    place: Place = (section,)
    if section not in sections():
        return None
    if section in repeated_sections() and rest and rest[0].isascii() and rest[0].isdigit():
        place, rest = (section, int(rest[0]) - 1), rest[1:]
    elif section in repeated_sections() and rest:
        return None
    if not rest:
        return place
    return (*place, rest[0]) if len(rest) == 1 and key_of(section, rest[0]) else None


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _value_of(place: Place, text: str) -> Any:
    """A variable's text as the key's kind; what does not fit stays text, and the check of types says so."""
    key = key_of(str(place[0]), str(place[-1]))
    if key is None:  # a whole section
        return _json_or_text(text)
    if key.kind is Kind.TEXT:
        return text
    if key.kind is Kind.TEXTS and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    if key.kind is Kind.TEXTS:
        return _json_or_text(text)
    return _json_or_text(text.strip().lower())


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _put(tree: Tree, place: Place, value: Any) -> str:
    """Set one place of the tree; "" or what is wrong with the place."""
    section = str(place[0])
    if len(place) == 1:
        whole = tree.get(section)
        tree[section] = {**whole, **value} if isinstance(whole, dict) and isinstance(value, dict) else value
        return ""
    table = tree.setdefault(section, [] if section in repeated_sections() else {})
    if isinstance(place[1], int):
        if not isinstance(table, list) or not 0 <= place[1] <= len(table):
            count = len(table) if isinstance(table, list) else 0
            return f"entries are counted from 1, without holes; [[{section}]] has {count}"
        if place[1] == len(table):
            table.append({})
        if len(place) == 2:
            table[place[1]] = value
            return ""
        table = table[place[1]]
    if not isinstance(table, dict):
        return f"[{section}] is no table in the file"
    table[str(place[-1])] = value
    return ""


def _nearest_variable(variable: str) -> str:
    names = [PREFIX + key.path.upper().replace(".", "__1__" if key.repeated else "__") for key in keys().values()]
    nearest = max([*names, *OTHER_VARIABLES], key=lambda name: likeness(variable.upper(), name))
    return f"the nearest is {nearest}"
