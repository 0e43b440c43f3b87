"""The types of a setting: each with its check, and its sentence when the check fails.

A sentence speaks of the value alone ("17 characters, an AE title has 1 to 16"); `load.py` puts the key and the value
before it. Types of TOML (text, whole number, ...) are checked before these and are named by `load.py` too.
"""

import ipaddress
import math
import zoneinfo
from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import AfterValidator

AE_TITLE_CHARACTERS_MAX: Final = 16  # PS3.5 6.2, value representation AE
NAME_CHARACTERS_MAX: Final = 32
HOST_CHARACTERS_MAX: Final = 253  # RFC 1035 2.3.4, as text
HOST_LABEL_CHARACTERS_MAX: Final = 63
PORT_MAX: Final = 65535
NUMBER_MAX: Final = 1_000_000  # hours of that are a century; beyond it sums of times leave the calendar
DAYS_MAX: Final = 100_000
COUNT_MAX: Final = 1_000_000_000

_LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_DIGITS: Final = frozenset("0123456789")
_HL7_DELIMITERS: Final = "|^~\\&"

_UNITS: Final = {
    "s": "seconds",
    "h": "hours",
    "d": "days",
    "mm": "mm",
    "mib": "MiB",
    "bytes": "bytes",
    "years": "years",
}


def unit_of(key: str) -> str:
    """The unit that a key's name ends in, before its bound: "seconds" of `quiet_s` and `wait_s_max`; "" if none."""
    words = key.split("_")
    if words[-1] in ("max", "min"):
        words.pop()
    return _UNITS.get(words[-1], "") if len(words) > 1 else ""


def _is_control(character: str) -> bool:
    return ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F


def _quoted(characters: set[str]) -> str:
    return ", ".join(map(repr, sorted(characters)))


def _line(text: str) -> str:
    if any(_is_control(character) for character in text):
        raise ValueError("holds a control character (a tab, a line end), one plain line is needed")
    return text.strip()


def _ae_title(text: str) -> str:
    title = text.strip(" ")  # PS3.5 6.2: leading and trailing spaces are not significant
    if not title:
        raise ValueError(f"empty, an AE title has 1 to {AE_TITLE_CHARACTERS_MAX} characters (PS3.5 6.2)")
    if len(title) > AE_TITLE_CHARACTERS_MAX:
        raise ValueError(f"{len(title)} characters, an AE title has 1 to {AE_TITLE_CHARACTERS_MAX} (PS3.5 6.2)")
    bad = {character for character in title if not " " <= character <= "~" or character == "\\"}
    if bad:
        raise ValueError(f"holds {_quoted(bad)}, an AE title is printable ASCII without backslash (PS3.5 6.2)")
    return title


def _host(text: str) -> str:
    host = text.strip()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return host
    if not host:
        raise ValueError("empty, a host name or an address is needed")
    if "/" in host:
        raise ValueError("only the host name or address, without scheme and path")
    if ":" in host or "[" in host:
        raise ValueError("only the host name or address, the port has a setting of its own; IPv6 without brackets")
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > HOST_CHARACTERS_MAX or any(not 1 <= len(label) <= HOST_LABEL_CHARACTERS_MAX for label in labels):
        raise ValueError(
            f"the parts of a host name have 1 to {HOST_LABEL_CHARACTERS_MAX} characters, together {HOST_CHARACTERS_MAX}"
        )
    if all(set(label) <= _DIGITS for label in labels):
        raise ValueError("looks like an address, but is none (four numbers of 0 to 255)")
    # The underscore is no part of a host name by RFC 1123; container networks use it all the same.
    bad = set(name.lower()) - _LOWER - _DIGITS - set(".-_")
    if bad:
        raise ValueError(f"holds {_quoted(bad)}, a host name is letters, digits, hyphens and points")
    return host


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= PORT_MAX:
        raise ValueError(f"an address and a port of 1 to {PORT_MAX} are needed, as in 127.0.0.1:8042")
    return f"{_host(host.removeprefix('[').removesuffix(']'))}:{int(port)}"


def _name(text: str) -> str:
    if not 1 <= len(text) <= NAME_CHARACTERS_MAX:
        raise ValueError(f"{len(text)} characters, a name has 1 to {NAME_CHARACTERS_MAX}")
    if text[0] not in _LOWER or not set(text) <= _LOWER | _DIGITS | {"-", "_"}:
        raise ValueError("a name is lower-case letters, digits, hyphens and underscores, and starts with a letter")
    return text


def _hl7_text(text: str) -> str:
    bad = [delimiter for delimiter in _HL7_DELIMITERS if delimiter in text]
    if bad:
        raise ValueError(f"holds {' '.join(bad)}, the delimiters of HL7 (2.5.1 chapter 2.5.4) can't be part of it")
    return text


def _word(text: str) -> str:
    word = text.strip()
    if not word:
        raise ValueError("an empty word is found in every text")
    return word


def _absolute_folder(text: str) -> str:
    if not text or not PurePosixPath(text).is_absolute():
        raise ValueError("a path that starts with / is needed, else each command would use a folder of its own")
    return text


def _database_url(text: str) -> str:
    if text and not text.startswith(("sqlite:///", "sqlite+pysqlite:///")):
        raise ValueError("a URL of SQLite (sqlite:////folder/ledger.db) is needed, or nothing")
    return text


def _time_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone; names are those of IANA, as in Europe/Zurich") from None
    return text


def _port(number: int) -> int:
    if not 1 <= number <= PORT_MAX:
        raise ValueError(f"a port is 1 to {PORT_MAX}")
    return number


def _finite(number: float, most: float) -> None:
    if math.isnan(number):
        raise ValueError("no number")
    if number > most:
        raise ValueError(f"at most {most:,} is possible".replace(",", " "))


def _positive(number: float) -> float:
    _finite(number, NUMBER_MAX)
    if number <= 0:
        raise ValueError("more than 0 is needed")
    return number


def _not_negative(number: float) -> float:
    _finite(number, NUMBER_MAX)
    if number < 0:
        raise ValueError("0 or more is needed")
    return number


def _days(number: float) -> float:
    _finite(number, DAYS_MAX)
    return _positive(number)


def _positive_count(number: int) -> int:
    _finite(number, COUNT_MAX)
    if number < 1:
        raise ValueError("1 or more is needed")
    return number


def _count(number: int) -> int:
    _finite(number, COUNT_MAX)
    if number < 0:
        raise ValueError("0 or more is needed")
    return number


def _share(number: float) -> float:
    if not 0 < number <= 1:
        raise ValueError("a share is more than 0 and at most 1")
    return number


Line = Annotated[str, AfterValidator(_line)]
"""One line of text, without control characters; blanks around it are dropped. May be empty."""

AeTitle = Annotated[str, AfterValidator(_ae_title)]
"""An application entity title: 1 to 16 printable ASCII characters without backslash, trimmed (PS3.5 6.2)."""

Host = Annotated[str, AfterValidator(_host)]
"""A host name, or an IPv4 or IPv6 address; no port, no scheme."""

Listen = Annotated[str, AfterValidator(_listen)]
"""`address:port` to listen on."""

Name = Annotated[str, AfterValidator(_name)]
"""A name of ours: lower-case letters, digits, `-` and `_`, 1 to 32, starting with a letter."""

Hl7Text = Annotated[str, AfterValidator(_line), AfterValidator(_hl7_text)]
"""One line without the delimiters of HL7: receivers compare such fields as bytes, and seldom undo escapes in them."""

Word = Annotated[str, AfterValidator(_line), AfterValidator(_word)]
"""A word to look for; never empty."""

Folder = Annotated[str, AfterValidator(_line), AfterValidator(_absolute_folder)]
"""An absolute path of a folder; need not exist."""

DatabaseUrl = Annotated[str, AfterValidator(_line), AfterValidator(_database_url)]
"""A SQLAlchemy URL of SQLite, or empty."""

TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""An IANA time zone that this machine knows."""

Port = Annotated[int, AfterValidator(_port)]
"""A TCP port, 1 to 65535."""

PositiveFloat = Annotated[float, AfterValidator(_positive)]
"""More than 0, at most a million."""

NonNegativeFloat = Annotated[float, AfterValidator(_not_negative)]
"""0 or more, at most a million."""

Days = Annotated[float, AfterValidator(_days)]
"""More than 0 days, at most 100 000, so that dates stay in the calendar."""

PositiveInt = Annotated[int, AfterValidator(_positive_count)]
"""1 or more."""

NonNegativeInt = Annotated[int, AfterValidator(_count)]
"""0 or more."""

Share = Annotated[float, AfterValidator(_share)]
"""A share of a whole: more than 0, at most 1."""
