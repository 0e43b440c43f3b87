"""Text of HL7 messages: clean, escaped, joined to fields, and back (HL7 2.5.1 chapter 2.7). Strings only; no bytes.

hl7apy keeps `^` and `&` of a value as separators and turns `\\.br\\` into `\\E\\.br\\E\\`; so every value of ours goes
through here, and hl7apy only checks the structure of what came out. Delimiters of what we write are always `|^~\\&`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_TO_ESCAPES: Final = str.maketrans(_ESCAPES)
# What some parser takes for the end of a line or frame: C0, DEL, C1 (NEL ends a line too), Unicode's two separators.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LINE_ENDS: Final = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


def clean(value: str) -> str:
    """One line without control characters (each run of them becomes a space), without blanks at its ends.

    A value of two quotation marks would mean "delete what you have" in HL7 and becomes empty.
    """
    line = _CONTROLS.sub(" ", value).strip()
    return "" if line == '""' else line


def escape(value: str) -> str:
    """A cleaned value with its delimiters escaped: safe as a component of any field."""
    return clean(value).translate(_TO_ESCAPES)


def escape_lines(value: str) -> str:
    """The same for TX, FT and NTE-3, where a line end becomes `\\.br\\`."""
    lines = [escape(line) for line in _LINE_ENDS.split(value)]
    return "\\.br\\".join(lines).removesuffix("\\.br\\")


def components(*values: str) -> str:
    """A field of escaped components; empty ones at the end are left out."""
    return "^".join(escape(value) for value in values).rstrip("^")


def segment(name: str, fields: dict[int, str]) -> str:
    """A segment from field numbers (HL7 counts from 1) and fields that are already escaped; no line end.

    MSH-1 is the separator itself, so MSH takes its fields from 2 on.
    """
    first = 2 if name == "MSH" else 1
    last = max((number for number, field in fields.items() if field), default=first - 1)
    return "|".join([name, *(fields.get(number, "") for number in range(first, last + 1))])


@dataclass(frozen=True)
class Delimiters:
    """What MSH-1 and MSH-2 of a message name."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True)
class Parsed:
    """One segment of a message that came from somewhere: name, raw fields, the message's delimiters."""

    name: str
    fields: tuple[str, ...]
    delimiters: Delimiters

    def field(self, number: int) -> str:
        """The raw field by HL7's number, empty when it is not there; MSH-1 is the separator."""
        index = number - 2 if self.name == "MSH" else number - 1
        if self.name == "MSH" and number == 1:
            return self.delimiters.field
        return self.fields[index] if 0 <= index < len(self.fields) else ""

    def components(self, number: int) -> tuple[str, ...]:
        """The unescaped components of the first repetition of a field."""
        first = self.field(number).split(self.delimiters.repetition)[0]
        return tuple(unescape(c, self.delimiters) for c in first.split(self.delimiters.component))

    def value(self, number: int) -> str:
        """The unescaped first component of a field."""
        return self.components(number)[0]


def parse(text: str) -> tuple[Parsed, ...]:
    """The segments of a message, tolerant of LF and CR LF as segment ends. () when it does not begin with MSH."""
    lines = [line for line in re.split("[\r\n]+", text.strip("\x0b\x1c\r\n \ufeff")) if line]
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 8:
        return ()
    separator = lines[0][3]
    marks = lines[0][4:].split(separator)[0]
    delimiters = Delimiters(separator, *marks[:4]) if len(marks) >= 4 else Delimiters(separator)
    split = (line.split(separator) for line in lines)
    return tuple(Parsed(name, tuple(fields), delimiters) for name, *fields in split)


def find(segments: Iterable[Parsed], name: str) -> Parsed | None:
    """The first segment of that name."""
    return next((s for s in segments if s.name == name), None)


def unescape(value: str, delimiters: Delimiters | None = None) -> str:
    """A component as people read it: `\\.br\\` and `\\X0D\\` are line ends, highlighting goes, the unknown stays."""
    d = delimiters or Delimiters()
    if d.escape not in value:
        return value
    marks = {"F": d.field, "S": d.component, "T": d.subcomponent, "R": d.repetition, "E": d.escape,
             ".br": "\n", "H": "", "N": ""}
    sign = re.escape(d.escape)

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        if code in marks:
            return marks[code]
        if re.fullmatch("X([0-9A-Fa-f]{2})+", code):
            return bytes.fromhex(code[1:]).decode("latin-1").replace("\r", "\n")
        return match[0]

    return re.sub(f"{sign}([^{sign}]*){sign}", plain, value)


def repetitions(values: Sequence[str]) -> str:
    """A field with repetitions of single escaped values."""
    return "~".join(escape(value) for value in values)
