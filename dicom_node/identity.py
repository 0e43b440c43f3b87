"""Whose images these are: comparing people, orders and copies of an instance (promise 4).

An empty value is no difference: an accession, order number or issuer that one copy lacks is filled in. Anything else that differs is a doubt.
"""

from dataclasses import replace
from typing import Final

from inference.headers import Header
from storage.rows import Identity

ORDER: Final = ("accession", "placer_order", "filler_order")
GEOMETRY: Final = (
    "series_instance_uid",
    "sop_class_uid",
    "position",
    "orientation",
    "pixel_spacing",
    "rows",
    "columns",
    "frames",
    "planes",
    "frame_of_reference_uid",
)


def identity_of(header: Header) -> Identity:
    """The patient as this instance names them."""
    return Identity(
        patient_id=header.patient_id.strip(),
        issuer=header.issuer.strip(),
        name=header.patient_name.strip(),
        birth_date=header.birth_date.strip(),
        sex=header.sex.strip(),
    )


def _name(text: str) -> str:
    """The alphabetic name group without case, trailing carets and repeated blanks: what two senders may write differently."""
    parts = [" ".join(part.split()).casefold() for part in text.split("=")[0].split("^")]
    return "^".join(parts).rstrip("^")


def _differ(a: str, b: str) -> bool:
    return bool(a) and bool(b) and a != b


def doubts(known: Identity, arrived: Identity) -> tuple[str, ...]:
    """What keeps these two from being one person; empty when nothing does."""
    pairs = {
        "patient ID": (known.patient_id, arrived.patient_id),
        "issuer of patient ID": (known.issuer, arrived.issuer),
        "patient name": (_name(known.name), _name(arrived.name)),
        "birth date": (known.birth_date, arrived.birth_date),
        "sex": (known.sex, arrived.sex),
    }
    return tuple(what for what, (a, b) in pairs.items() if _differ(a, b))


def filled(known: Identity, arrived: Identity) -> Identity:
    """The known identity with what it lacked."""
    values = {name: value or getattr(arrived, name) for name, value in vars(known).items()}
    return replace(known, **values)


def differences(first: Header, copy: Header) -> tuple[str, ...]:
    """What makes a second copy of an instance another object; empty for a duplicate.

    Pixel bytes are compared in the same transfer syntax only: another syntax of the same headers is taken for the same image.
    """
    found = list(doubts(identity_of(first), identity_of(copy)))
    found += [what.replace("_", " ") for what in ORDER if _differ(getattr(first, what), getattr(copy, what))]
    found += [what.replace("_", " ") for what in GEOMETRY if getattr(first, what) != getattr(copy, what)]
    if first.transfer_syntax_uid == copy.transfer_syntax_uid and first.pixel_sha256 != copy.pixel_sha256:
        found.append("pixels")
    return tuple(found)
