"""A Report as one HL7 v2.5.1 message ORU^R01 (structure ORU_R01, chapter 7.3.1): MSH PID PV1 ORC OBR NTE OBX...

Promises:
- Same input, same bytes; no clock is asked.
- What no person reviewed is preliminary: OBR-25 and OBX-11 are P, also in a revision. What vanished is D. A withdrawal
  is W (wrong patient) or D throughout. Final, corrected and order-cancelled states (F, C, X) are never set.
- The AI result has its own filler number and a local service code, so that it cannot overwrite a radiologist's report.
- No value changes the structure: delimiters are escaped, line ends and control characters taken out (`text.py`).
- Patient, order and study are whole and exact, or there is no message: what an identifier's field or the destination's
  character set cannot hold raises, for a cut or replaced name is another one. In NTE and OBX, which the software words,
  letters that the character set lacks lose their accent or become `?`.

Whether to send without an assigning authority, when, and how often belongs to the caller.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from config.codes import DEFAULT, PRIVATE_SCHEME, Codes
from config.settings import Ehr, Oru
from hl7.context import Order, Patient, StudyRef
from hl7.errors import FieldTooLong, NoPatientId, NotInCharset, NotOneMessage
from hl7.observations import Observation, coded, observations, of_nodule
from hl7.text import clean, components, escape, segment
from hl7.times import date, timestamp
from inference.findings import NOT_REVIEWED, RESEARCH, Nodule, Report, demonstration_words

Withdrawal = Literal["W", "D"]

_CODECS: Final[Mapping[str, str]] = {"UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "ASCII": "ascii"}
_SECTIONS: Final[Mapping[str, str]] = {"CT": "CT", "CR": "RX", "DX": "RX"}  # OBR-24, table 0074
_WITHDRAWN: Final[Mapping[Withdrawal, str]] = {
    "W": "WITHDRAWN: the earlier result was filed for the wrong patient. Disregard it.",
    "D": "WITHDRAWN: the earlier result no longer holds. Disregard it.",
}


def render_oru(
    report: Report, patient: Patient, order: Order, study: StudyRef, *, oru: Oru, ehr: Ehr, control_id: str,
    at: datetime, deleted: Sequence[Nodule] = (), previous: Report | None = None,
    withdrawal: Withdrawal | None = None, sr_uid: str = "", codes: Codes = DEFAULT,
) -> bytes:
    """The message, in the bytes of `ehr.charset`, segments ended by CR, without MLLP's bytes.

    Args:
        control_id: MSH-10, at most 20 characters; a resend has the same.
        at: when the result was made (MSH-7, OBR-22), aware; later in a revision than before.
        deleted: nodules of earlier revisions that are no more; all their lines come as D.
        previous: the report of the message that this one replaces: whatever it said and this one does not comes as D.
        withdrawal: the same content is taken back: W when it was filed for the wrong patient, D otherwise.
        sr_uid: SOP Instance UID of the Structured Report.
    Raises:
        NoPatientId, FieldTooLong, NotInCharset: see above; the message cannot be made for this destination.
        NotOneMessage: the result has not the structure of an ORU^R01 (a fault of ours).
        ValueError: a time without an offset.
    """
    said = observations(report, codes, sr_uid=sr_uid)
    lines = [
        _msh(oru, ehr, control_id, at), _pid(patient), segment("PV1", {1: "1", 2: "U"}),
        *_order(order, study, oru, ehr, at),
        *_notes(report, withdrawal),
        *_obx(said, _vanished(said, deleted, previous, codes, sr_uid), study, withdrawal, codes),
    ]
    _check("\r".join(lines) + "\r")
    return b"".join(_encoded(line, ehr) + b"\r" for line in lines)


def _msh(oru: Oru, ehr: Ehr, control_id: str, at: datetime) -> str:
    return segment("MSH", {
        2: "^~\\&", 3: escape(oru.sending_application), 4: escape(oru.sending_facility),
        5: escape(ehr.receiving_application), 6: escape(ehr.receiving_facility), 7: timestamp(at),
        9: components("ORU", "R01", "ORU_R01"), 10: _whole("MSH-10, the control ID", 20, control_id)[0],
        11: oru.processing_id, 12: "2.5.1", 18: ehr.charset,  # 15 and 16 empty: original mode, one acknowledgement
    })


def _pid(patient: Patient) -> str:
    patient_id, authority = _whole("PID-3, patient ID and authority", 240, patient.patient_id, patient.authority)
    if not patient_id:
        raise NoPatientId("the patient has no ID, and PID-3 is required", do="correct the Patient ID of the images")
    name = _whole("PID-5, the patient's name", 240,
                  patient.family, patient.given, patient.middle, patient.suffix, patient.prefix)
    # An OID is no namespace ID: it is the second subcomponent, and the third says so (HD, chapter 2.A.36).
    is_oid = bool(authority) and set(authority) <= set("0123456789.")
    return segment("PID", {
        1: "1",
        3: "^".join([patient_id, "", "", f"&{authority}&ISO" if is_oid else authority, "MR"]),
        5: "^".join([*name, "", "L" if any(name) else "U"]),  # U: unspecified; PID-5 is required (table 0200)
        7: date(clean(patient.birth_date)),
        8: patient.sex if patient.sex in ("F", "M", "O", "U", "A", "N") else "",
    })


def _order(order: Order, study: StudyRef, oru: Oru, ehr: Ehr, at: datetime) -> tuple[str, str]:
    """ORC and OBR. An accession number in OBR-2 takes the place of the placer's number, in ORC-2 too (4.5.1.2)."""
    accession, = _whole("the accession number", 60, order.accession_number)
    placer, = _whole("OBR-2, the placer's number", 199, order.placer_number)
    if ehr.accession_in == "OBR-2" and accession:
        placer = accession
    filler = "^".join([*_whole("OBR-3, the filler number", 199, order.filler_number), escape(oru.sending_application)])
    return segment("ORC", {1: "RE", 2: placer, 3: filler}), segment("OBR", {
        1: "1", 2: placer, 3: filler, 4: components(oru.service_code, oru.service_text, PRIVATE_SCHEME),
        7: timestamp(study.observed_at) if study.observed_at else "",
        18: accession if ehr.accession_in == "OBR-18" else "",
        19: accession if ehr.accession_in == "OBR-19" else "",
        22: timestamp(at), 24: _SECTIONS.get(study.modality, "RAD"), 25: "P",
    })


def _notes(report: Report, withdrawal: Withdrawal | None) -> list[str]:
    """NTE under the OBR: what must be read before any number (source L: the filler wrote it)."""
    notes = [f"{RESEARCH}.", f"Software result of {report.software}, {NOT_REVIEWED}."]
    notes += filter(None, [demonstration_words(report)])
    if withdrawal:
        notes.insert(0, _WITHDRAWN[withdrawal])
    return [_note(number, text) for number, text in enumerate(notes, 1)]


def _note(number: int, text: str) -> str:
    return segment("NTE", {1: str(number), 2: "L", 3: escape(text)})


def _vanished(said: Sequence[Observation], deleted: Sequence[Nodule], previous: Report | None, codes: Codes,
              sr_uid: str) -> list[Observation]:
    """What an earlier message said and this one does not, each line once."""
    here = {o.key for o in said}
    before = list(observations(previous, codes, sr_uid=sr_uid)) if previous else []
    before += [o for nodule in deleted for o in of_nodule(nodule, codes)]
    return list({o.key: o for o in before if o.key not in here}.values())


def _obx(said: Sequence[Observation], vanished: Sequence[Observation], study: StudyRef, withdrawal: Withdrawal | None,
         codes: Codes) -> list[str]:
    observed = timestamp(study.observed_at) if study.observed_at else ""
    lines = []
    statuses = [(o, withdrawal or "P") for o in said] + [(o, withdrawal or "D") for o in vanished]
    for number, (o, status) in enumerate(statuses, 1):
        # Receivers that overlook OBX-11 must not show the old words again.
        value = escape(_WITHDRAWN[withdrawal]) if withdrawal and o.name == codes.summary else o.value
        lines.append(segment("OBX", {1: str(number), 2: o.value_type, 3: coded(o.name), 4: o.sub_id, 5: value,
                                     6: o.unit, 11: status, 14: observed}))
        if o.note:
            lines.append(_note(1, o.note))
    return lines


def _whole(what: str, characters_max: int, *values: str) -> list[str]:
    """The parts of one field that identifies something, escaped; never cut. Lengths are those of HL7 2.5.1."""
    length = sum(len(clean(value)) for value in values)
    if length > characters_max:
        raise FieldTooLong(f"{what}: {length} characters, the field holds {characters_max}",
                           do="an identifier is never cut; correct it at its source")
    return [escape(value) for value in values]


def _encoded(line: str, ehr: Ehr) -> bytes:
    codec = _CODECS[ehr.charset]
    try:
        return line.encode(codec)
    except UnicodeEncodeError as error:
        if line[:3] in ("NTE", "OBX"):
            return b"".join(_nearest(character, codec) for character in line)
        field = line[:error.start].count("|")
        name = f"{line[:3]}-{field + 1 if line[:3] == 'MSH' else field}"
        raise NotInCharset(
            f"{ehr.charset} cannot carry what stands in {name}", f"destination {ehr.name}",
            "set this destination's charset to 'UNICODE UTF-8' if it can read it; names are never replaced",
        ) from error


def _nearest(character: str, codec: str) -> bytes:
    """The character, without its accent where that helps, else `?` (NFKD would make delimiters of wide letters)."""
    try:
        return character.encode(codec)
    except UnicodeEncodeError:
        bare = "".join(c for c in unicodedata.normalize("NFD", character) if not unicodedata.combining(c))
        return bare.encode(codec, errors="replace")


def _check(text: str) -> None:
    """hl7apy's view of the structure: segments, groups, required fields, repetitions. Lengths and values are ours."""
    try:
        parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT).validate()
    except HL7apyException as error:
        raise NotOneMessage(f"the rendered message is no ORU^R01: {type(error).__name__}") from error
