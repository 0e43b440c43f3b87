"""Dates and times as HL7 writes them (data type TS, HL7 2.5.1 chapter 2.A.77)."""

import re
from datetime import datetime


def timestamp(at: datetime) -> str:
    """YYYYMMDDHHMMSS+ZZZZ. ValueError for a time without an offset: a receiver would take it for its own zone."""
    offset = at.utcoffset()
    if offset is None:
        raise ValueError("a time in a message needs its offset from UTC")
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return f"{at.year:04d}{at:%m%d%H%M%S}{sign}{hours:02d}{rest:02d}"


def date(value: str) -> str:
    """A date of YYYY, YYYYMM or YYYYMMDD as it is; anything else (a broken header) is left empty."""
    return value if re.fullmatch(r"\d{4}(\d\d(\d\d)?)?", value, re.ASCII) else ""
