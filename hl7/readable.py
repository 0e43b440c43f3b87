"""A message for people: segments named, fields labelled and aligned. For screens and demonstrations.

It shows all that the message says, the patient too: never for a log.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from hl7.ack import decode
from hl7.text import Parsed, parse, unescape

_WIDTH: Final = 110
_INDENT: Final = "  "

_FIELDS: Final[Mapping[str, tuple[str, Mapping[int, str]]]] = {
    "MSH": ("Message", {3: "from application", 4: "from facility", 5: "to application", 6: "to facility", 7: "at",
                        9: "type", 10: "control ID", 11: "processing ID", 12: "version", 18: "character set"}),
    "PID": ("Patient", {3: "ID", 5: "name", 7: "born", 8: "sex"}),
    "PV1": ("Visit", {2: "class"}),
    "ORC": ("Order", {1: "control", 2: "placer number", 3: "filler number"}),
    "OBR": ("Result", {2: "placer number", 3: "filler number", 4: "service", 7: "observed", 18: "placer field 1",
                       19: "placer field 2", 22: "reported", 24: "section", 25: "status"}),
    "NTE": ("Note", {3: "text"}),
    "MSA": ("Acknowledgement", {1: "code", 2: "of control ID", 3: "text"}),
    "ERR": ("Error", {3: "code", 4: "severity", 7: "diagnostics", 8: "text"}),
}
_STATUS: Final = {"P": "preliminary", "D": "deleted", "W": "withdrawn, wrong patient", "F": "final", "C": "corrected"}
_CODED: Final = {"CE", "CWE", "CNE"}


def readable(message: bytes) -> str:
    """The message as lines of at most about 110 characters; what is no HL7 message is shown as it came."""
    text = decode(message)
    segments = parse(text)
    if not segments:
        return textwrap.indent(textwrap.fill(f"no HL7 message: {text!r}", _WIDTH), _INDENT)
    lines: list[str] = []
    heading = ""
    for segment in segments:
        title, rows = _observation(segment) if segment.name == "OBX" else _plain(segment)
        if title != heading:
            lines.append(title)
        heading = title
        lines += _aligned(rows)
    return "\n".join(lines)


def _plain(segment: Parsed) -> tuple[str, list[tuple[str, str]]]:
    title, labels = _FIELDS.get(segment.name, (segment.name, {}))
    rows = [(labels.get(n, f"field {n}"), _said(segment, n)) for n in range(1, len(segment.fields) + 2)
            if _shown(segment, labels, n)]
    return title, rows


def _shown(segment: Parsed, labels: Mapping[int, str], number: int) -> bool:
    """Known fields that say something; of unknown segments all of them; never a set ID or the delimiters."""
    if segment.name in _FIELDS:
        return number in labels and bool(segment.field(number))
    return bool(segment.field(number))


def _observation(obx: Parsed) -> tuple[str, list[tuple[str, str]]]:
    sub_id = obx.value(4)
    title = f"Finding {sub_id}" if sub_id not in ("", "0") else "Exam"
    name = _meaning(obx.components(3))
    value = _value(obx)
    unit = obx.value(6)
    shown = value if unit in ("", "1") else f"{value} {unit}"
    status = obx.value(11)
    return title, [(name, shown if status == "P" else f"{shown} [{_STATUS.get(status, status)}]")]


def _value(obx: Parsed) -> str:
    d = obx.delimiters
    repetitions = obx.field(5).split(d.repetition)
    parts = [[unescape(c, d) for c in r.split(d.component)] for r in repetitions]
    return "; ".join(_meaning(p) if obx.value(2) in _CODED else " ".join(filter(None, p)) for p in parts)


def _meaning(parts: Sequence[str]) -> str:
    """The text of a coded field, else its code."""
    return parts[1] if len(parts) > 1 and parts[1] else parts[0]


def _said(segment: Parsed, number: int) -> str:
    parts = segment.components(number)
    if (segment.name, number) == ("OBR", 4):
        return _meaning(parts)
    if (segment.name, number) == ("OBR", 25):
        return _STATUS.get(parts[0], parts[0])
    if (segment.name, number) == ("PID", 5):
        return " ".join(filter(None, parts[:6]))
    return ", ".join(part.strip("&").replace("&", " ") for part in parts if part)


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    lines = []
    for label, said in rows:
        start = f"{_INDENT}{label:<46} "
        for line in said.split("\n"):
            blank = " " * len(start)
            lines += textwrap.wrap(line, _WIDTH, initial_indent=start, subsequent_indent=blank) or [start.rstrip()]
            start = blank
    return lines
