"""Patient, order and study of a message, from the headers of the instances that were read.

An accession, order number or issuer that one instance lacks is taken from another of the same study. The filler number is the AI
result's own: stable for a study and a patient, never the accession (design: words that results may use).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from dicom_node.identity import filled, identity_of
from hl7.context import Order, Patient, StudyRef
from inference.headers import Header
from storage.rows import Identity

_SEX = {"M": "M", "F": "F", "O": "O"}


@dataclass(frozen=True)
class Parties:
    """Whom and what a result is about, from the headers of the instances that it is made from."""

    person: Identity
    patient: Patient
    order: Order
    study: StudyRef


def parties_in(headers: Sequence[Header], default_authority: str, zone: ZoneInfo) -> Parties:
    """Those of these headers; where values differ the first counts."""
    person = person_of(headers)
    return Parties(person, patient_of(person, default_authority), order_of(headers, person), study_of(headers, zone))


def person_of(headers: Sequence[Header]) -> Identity:
    """The patient of these instances, each value from the first that has it."""
    person = identity_of(headers[0])
    for header in headers[1:]:
        person = filled(person, identity_of(header))
    return person


def patient_of(person: Identity, default_authority: str) -> Patient:
    """PID from the identity; the name's alphabetic group (PS3.5 6.2.1.1: family, given, middle, prefix, suffix)."""
    parts = [*person.name.split("=")[0].split("^"), "", "", "", "", ""]
    return Patient(
        patient_id=person.patient_id,
        authority=person.issuer or default_authority,
        family=parts[0],
        given=parts[1],
        middle=parts[2],
        prefix=parts[3],
        suffix=parts[4],
        birth_date=person.birth_date if len(person.birth_date) == 8 else "",
        sex=_SEX.get(person.sex, "U"),
    )


def order_of(headers: Sequence[Header], person: Identity) -> Order:
    """Order numbers, each from the first instance that has it, and a filler number of our own."""
    key = "\n".join((headers[0].study_instance_uid, person.patient_id, person.issuer))
    return Order(
        filler_number="AI" + hashlib.sha256(key.encode()).hexdigest()[:16].upper(),
        accession_number=_first(headers, "accession"),
        placer_number=_first(headers, "placer_order"),
    )


def study_of(headers: Sequence[Header], zone: ZoneInfo) -> StudyRef:
    """The study; its time in the source's offset, else the site's zone, None when the header has no usable one."""
    return StudyRef(
        study_instance_uid=headers[0].study_instance_uid,
        modality=headers[0].modality,
        observed_at=acquired_at(headers[0], zone),
        description=_first(headers, "study_description"),
    )


def acquired_at(header: Header, zone: ZoneInfo) -> datetime | None:
    """When the instance was acquired, aware."""
    try:
        at = datetime.fromisoformat(header.acquired_at)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=zone)


def _first(headers: Sequence[Header], name: str) -> str:
    return next((value for header in headers if (value := str(getattr(header, name)).strip())), "")
