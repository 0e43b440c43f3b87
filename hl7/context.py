"""Whom and what a message is about: frozen strings, filled by `dicom_node` from DICOM headers and orders.

Text is Unicode, unescaped; dates are YYYYMMDD or empty; times are aware datetimes.
Escaping and field order belong to `oru.py`.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Patient:
    """PID-3, PID-5, PID-7, PID-8. `authority` is the assigning authority (DICOM Issuer of Patient ID, or the site's).

    The name is DICOM's alphabetic group; ideographic and phonetic groups do not go into messages.
    """

    patient_id: str
    authority: str
    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""
    birth_date: str = ""
    sex: str = ""  # HL7 table 0001: F, M, O, U or empty


@dataclass(frozen=True)
class Order:
    """Numbers of the order. `filler_number` is the AI result's own (OBR-3).

    `accession_number` goes where the site says (`accession_in`, by default OBR-18).
    """

    filler_number: str
    accession_number: str = ""
    placer_number: str = ""


@dataclass(frozen=True)
class StudyRef:
    """The study a message reports on."""

    study_instance_uid: str
    modality: str
    observed_at: datetime | None = None
    description: str = ""
