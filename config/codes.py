"""Concept codes that a site may remap: what a nodule, a side, a length is called in SEG, SR and HL7.

One table for all outputs, so that a number has the same name in the report and in the message. Codes of DICOM's own
structure (document titles, content item names of TID 1500) are no site's choice and stay with `dicom_node/results/`.
Sources: SNOMED CT, DICOM PS3.16, NCI Thesaurus, RadLex, LOINC, UCUM; `PRIVATE_SCHEME` where none has the concept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Final

from config.errors import ConfigurationError

PRIVATE_SCHEME: Final = "99DICOMNODE"
PRIVATE_SCHEME_NAME: Final = "dicom-node local codes"

# HL7 table 0396 where it differs from DICOM's Coding Scheme Designator (PS3.16 section 8).
_HL7_SCHEMES: Final[Mapping[str, str]] = {"NCIt": "NCIT"}


@dataclass(frozen=True)
class Code:
    """One concept: value, DICOM Coding Scheme Designator, meaning (64 characters at most, ASCII)."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.value and self.scheme and self.meaning):
            raise ConfigurationError("a code has a value, a scheme and a meaning, none of them empty", str(self.value))
        if len(self.meaning) > 64 or len(self.scheme) > 16:
            raise ConfigurationError("a meaning has at most 64 characters, a scheme 16 (PS3.3 8)", self.value)
        text = self.value + self.scheme + self.meaning
        if not text.isascii() or "\\" in text:
            raise ConfigurationError("a code is ASCII without backslash: it must fit any character set", self.value)

    @property
    def hl7_scheme(self) -> str:
        """The coding system as HL7 writes it in CWE.3 (table 0396)."""
        return _HL7_SCHEMES.get(self.scheme, self.scheme)


@dataclass(frozen=True)
class Codes:
    """Every concept by the name that our code uses. `remapped` gives a site its own."""

    # What is found
    finding: Code = Code("121071", "DCM", "Finding")
    nodule: Code = Code("27925004", "SCT", "Nodule")
    abnormal_structure: Code = Code("49755003", "SCT", "Morphologically Abnormal Structure")
    not_detected: Code = Code("260415000", "SCT", "Not detected")
    present: Code = Code("52101004", "SCT", "Present")
    absent: Code = Code("272519000", "SCT", "Absent")  # CID 241; only ever of an attribute of a marked nodule

    # Where
    finding_site: Code = Code("363698007", "SCT", "Finding Site")
    lung: Code = Code("39607008", "SCT", "Lung")
    laterality: Code = Code("272741003", "SCT", "Laterality")
    right: Code = Code("24028007", "SCT", "Right")
    left: Code = Code("7771000", "SCT", "Left")
    right_lung: Code = Code("3341006", "SCT", "Right lung")  # for HL7, which has no modifier for the side
    left_lung: Code = Code("44029006", "SCT", "Left lung")

    # How large, how dense
    long_axis: Code = Code("103339001", "SCT", "Long Axis")
    short_axis: Code = Code("103340004", "SCT", "Short Axis")
    diameter: Code = Code("81827009", "SCT", "Diameter")
    mean: Code = Code("373098007", "SCT", "Mean")
    mean_diameter: Code = Code("AIMEANDIAM", PRIVATE_SCHEME, "Mean diameter")  # for HL7: no modifier there
    volume: Code = Code("118565006", "SCT", "Volume")
    mass: Code = Code("118538004", "SCT", "Mass")
    attenuation: Code = Code("112031", "DCM", "Attenuation Coefficient")
    mean_attenuation: Code = Code("112181", "DCM", "Mean Attenuation Coefficient")

    # How sure, how suspicious: never "probability of cancer", which would claim a calibration that nobody made
    # 111012 DCM "Certainty of Finding" would be a calibrated one; a detector's output is a score
    detection_score: Code = Code("AIDETECTION", PRIVATE_SCHEME, "Detection score")
    suspicion_score: Code = Code("AISUSP", PRIVATE_SCHEME, "Suspicion score, trained on readers' opinion")

    # C28749 NCIt "Spiculation" is a finding, present or absent; a score is neither
    spiculation: Code = Code("AISPICULATION", PRIVATE_SCHEME, "Spiculation score, trained on readers' opinion")
    lobulation: Code = Code("AILOBULATION", PRIVATE_SCHEME, "Lobulation score, trained on readers' opinion")

    # Attributes of a nodule, as in the public conversion of LIDC to DICOM
    texture: Code = Code("C41144", "NCIt", "Texture")
    solid: Code = Code("RID50151", "RADLEX", "Solid pulmonary nodule")
    part_solid: Code = Code("RID50152", "RADLEX", "Part-solid pulmonary nodule")
    non_solid: Code = Code("RID50153", "RADLEX", "Non-solid pulmonary nodule")
    calcification: Code = Code("C3672", "NCIt", "Calcification")

    # The report
    procedure_ct: Code = Code("25045-6", "LN", "CT unspecified body region")  # CID 100
    procedure_radiograph: Code = Code("363679005", "SCT", "Imaging procedure")  # CID 100
    conclusion: Code = Code("121077", "DCM", "Conclusion")
    summary: Code = Code("AISUMMARY", PRIVATE_SCHEME, "AI summary")  # OBX-3 of the sentences in HL7
    summary_of_analyses: Code = Code("111065", "DCM", "Summary of Analyses")
    succeeded: Code = Code("111222", "DCM", "Succeeded")
    partially_succeeded: Code = Code("111223", "DCM", "Partially Succeeded")
    failed: Code = Code("111224", "DCM", "Failed")
    not_attempted: Code = Code("111225", "DCM", "Not Attempted")
    lung_rads: Code = Code("AILUNGRADS", PRIVATE_SCHEME, "Lung-RADS v2022 category by software, research")
    radiograph_score: Code = Code("AISCORE", PRIVATE_SCHEME, "Score of a radiograph finding")
    study_reference: Code = Code("113014", "DCM", "DICOM Study")  # OBX-3 of the Study Instance UID (IHE)
    report_reference: Code = Code("AISRUID", PRIVATE_SCHEME, "SOP Instance UID of the AI report")

    # Units (UCUM)
    unit_mm: Code = Code("mm", "UCUM", "millimeter")
    unit_mm3: Code = Code("mm3", "UCUM", "cubic millimeter")
    unit_mg: Code = Code("mg", "UCUM", "milligram")
    unit_hu: Code = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
    unit_one: Code = Code("1", "UCUM", "no units")

    def lung_rads_value(self, category: str) -> Code:
        """A category as a value, for no standard has codes for them."""
        return Code(f"LR{category}", PRIVATE_SCHEME, f"Lung-RADS {category}")

    def remapped(self, own: Mapping[str, Code]) -> "Codes":
        """A copy with a site's own codes; ConfigurationError names an unknown concept and the nearest known one."""
        known = {f.name for f in fields(self)}
        for name in own:
            if name not in known:
                nearest = get_close_matches(name, known, n=1)
                do = f"the nearest is codes.{nearest[0]}" if nearest else ""
                raise ConfigurationError("no such concept", f"codes.{name}", do)
        return replace(self, **own)


DEFAULT: Final = Codes()
