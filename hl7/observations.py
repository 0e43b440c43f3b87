"""What a report says as a list of observations: the content of OBX segments, before any message is made of it.

Sub-ID (OBX-4) 0 is the exam; a nodule has its stable number, so that a revision replaces its lines and no other's;
findings of radiographs count on after the nodules. Every number is rendered as it stands in the findings, in the digits
that `inference.findings` promises. Names and codes are those of the Structured Report (`config.codes`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from config.codes import PRIVATE_SCHEME, Code, Codes
from hl7.text import components, escape, escape_lines, repetitions
from inference.findings import LUNG_RADS, Algorithm, Finding, Nodule, Report, Status, sentences

EXAM: Final = "0"
TEXT_MAX: Final = 20000

# Names that no site remaps: DICOM's own, and ours where no standard has the concept.
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
ALGORITHMS: Final = Code("AIALGORITHMS", PRIVATE_SCHEME, "Algorithms of the AI result")
SIZE_ERROR: Final = Code("AISIZEERROR", PRIVATE_SCHEME, "Error of lengths from the voxel size")
VOLUME_ERROR: Final = Code("AIVOLUMEERROR", PRIVATE_SCHEME, "Error of the volume from the voxel size")
MASS_ERROR: Final = Code("AIMASSERROR", PRIVATE_SCHEME, "Error of the mass from the voxel size")
IMAGE_REFERENCE: Final = Code("AIIMAGE", PRIVATE_SCHEME, "SOP Instance UID of the image")


@dataclass(frozen=True)
class Observation:
    """OBX-2 to OBX-6: `value` and `unit` are fields, already escaped. `note` becomes an NTE behind it (plain text)."""

    value_type: str
    name: Code
    sub_id: str
    value: str
    unit: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What a receiver knows it by, within its order: OBX-3 and OBX-4."""
        return self.name.value, self.sub_id


def observations(report: Report, codes: Codes, *, sr_uid: str = "") -> tuple[Observation, ...]:
    """All that the report says: the exam first, then each nodule, then findings of radiographs."""
    said = list(_exam(report, codes, sr_uid))
    for nodule in report.nodules:
        said += of_nodule(nodule, codes)
    findings = [f for r in report.readings for f in r.findings or () if f.reported]
    first = max((n.number for n in report.nodules), default=0) + 1
    for number, finding in enumerate(sorted(findings, key=lambda f: (f.sop_instance_uid, f.label)), first):
        said += _of_finding(finding, str(number), codes)
    return tuple(said)


def coded(code: Code) -> str:
    """A code as a field of type CE or CWE."""
    return components(code.value, code.meaning, code.hl7_scheme)


def _exam(report: Report, codes: Codes, sr_uid: str) -> Iterator[Observation]:
    # The UID stands in the first component, as IHE's radiology messages have it and receivers read it.
    yield Observation("HD", codes.study_reference, EXAM, escape(report.study_instance_uid))
    if sr_uid:
        yield Observation("HD", codes.report_reference, EXAM, escape(sr_uid))
    yield Observation("TX", codes.summary, EXAM, escape_lines(_bounded(" ".join(sentences(report)))))
    yield Observation("CWE", codes.summary_of_analyses, EXAM, coded(_status(report, codes)))
    if _looked_and_none(report):
        yield Observation("CWE", codes.nodule, EXAM, coded(codes.not_detected))
    if report.assessment is not None and report.assessment.guideline == LUNG_RADS and report.assessment.category:
        category = codes.lung_rads_value(report.assessment.category)
        yield Observation("CWE", codes.lung_rads, EXAM, coded(category))
    algorithms = dict.fromkeys(a for r in report.readings for a in r.algorithms)
    if algorithms:
        yield Observation("ST", ALGORITHMS, EXAM, repetitions([_algorithm(a) for a in algorithms]))


def _bounded(text: str) -> str:
    """A TX holds 65536 characters (2.A.79), escapes among them; a study of many odd series can have much to say."""
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + " ... (cut; the report has all of it)"


def _status(report: Report, codes: Codes) -> Code:
    if report.status is Status.COMPLETED:
        return codes.succeeded
    if report.status is Status.PARTIAL:
        return codes.partially_succeeded
    tried = [r.status for r in report.readings] + [n.outcome for n in report.not_read]
    return codes.failed if Status.FAILED in tried else codes.not_attempted


def _looked_and_none(report: Report) -> bool:
    """Whether "not detected" may be said: no reading is partial, nodules were looked for, none was marked."""
    looked = any(r.nodules is not None for r in report.readings)
    return report.status is Status.COMPLETED and looked and not report.nodules


def _algorithm(algorithm: Algorithm) -> str:
    return f"{algorithm.task}: {algorithm.name} {algorithm.version} ({algorithm.validation}, sha256 {algorithm.sha256})"


def of_nodule(nodule: Nodule, codes: Codes) -> tuple[Observation, ...]:
    """All lines of one nodule; what no model said (None) has no line."""
    sub_id = str(nodule.number)

    def number(name: Code, value: str, unit: Code) -> Observation:
        return Observation("NM", name, sub_id, value, coded(unit))

    def code(name: Code, value: Code) -> Observation:
        return Observation("CWE", name, sub_id, coded(value))

    said = [code(codes.finding, codes.nodule)]
    if nodule.tracking_uid:
        said.append(Observation("ST", TRACKING_UID, sub_id, escape(nodule.tracking_uid)))
    site = nodule.site or ""
    if "right" in site or "left" in site:
        said.append(code(codes.finding_site, codes.right_lung if "right" in site else codes.left_lung))
    said += [
        number(codes.long_axis, f"{nodule.long_axis_mm:.1f}", codes.unit_mm),
        number(codes.short_axis, f"{nodule.short_axis_mm:.1f}", codes.unit_mm),
        number(codes.mean_diameter, f"{nodule.mean_diameter_mm:.1f}", codes.unit_mm),
        number(codes.volume, f"{nodule.volume_mm3:d}", codes.unit_mm3),
        number(codes.mean_attenuation, f"{nodule.mean_hu:d}", codes.unit_hu),
    ]
    if nodule.size_error_mm is not None:
        said.append(number(SIZE_ERROR, f"{nodule.size_error_mm:.1f}", codes.unit_mm))
    for name, whole, unit in (
        (VOLUME_ERROR, nodule.volume_error_mm3, codes.unit_mm3),
        (codes.mass, nodule.mass_mg, codes.unit_mg),
        (MASS_ERROR, nodule.mass_error_mg, codes.unit_mg),
    ):
        if whole is not None:
            said.append(number(name, f"{whole:d}", unit))
    if nodule.confidence is not None:
        said.append(number(codes.detection_score, f"{nodule.confidence:.3f}", codes.unit_one))
    if nodule.malignancy is not None:
        said.append(number(codes.suspicion_score, f"{nodule.malignancy:.3f}", codes.unit_one))
    if nodule.texture is not None:
        said.append(Observation("CWE", codes.texture, sub_id, _texture(nodule.texture, codes)))
    if nodule.spiculation is not None:
        said.append(number(codes.spiculation, f"{nodule.spiculation:.3f}", codes.unit_one))
    if nodule.lobulation is not None:
        said.append(number(codes.lobulation, f"{nodule.lobulation:.3f}", codes.unit_one))
    if nodule.calcified is not None:
        said.append(code(codes.calcification, codes.present if nodule.calcified else codes.absent))
    return tuple(said)


def _texture(texture: str, codes: Codes) -> str:
    """The code as in the Structured Report; a texture that has none goes as text, so that it does not get lost."""
    known = {"solid": codes.solid, "part-solid": codes.part_solid, "non-solid": codes.non_solid,
             "ground-glass": codes.non_solid}
    found = known.get(texture.lower().replace("_", "-").replace(" ", "-"))
    return coded(found) if found else components("", texture)


def _of_finding(finding: Finding, sub_id: str, codes: Codes) -> Sequence[Observation]:
    """One label of one radiograph: its name, its score, the image. A demonstration says so."""
    note = "Technical demonstration, unvalidated." if finding.demonstration else ""
    value = "AIX" + "".join(c for c in finding.label.upper() if c.isascii() and c.isalnum())[:13]  # as in the SR
    label = components(value, finding.label.replace("_", " "), PRIVATE_SCHEME)
    return (
        Observation("CWE", codes.finding, sub_id, label, note=note),
        Observation("NM", codes.radiograph_score, sub_id, f"{finding.score:.3f}", coded(codes.unit_one)),
        Observation("ST", IMAGE_REFERENCE, sub_id, escape(finding.sop_instance_uid)),
    )
