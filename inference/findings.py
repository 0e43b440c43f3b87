"""What a reading found: frozen data, numpy only. Every number is made and rounded once, by `inference.measure` and
`inference.reader`, and lands here; SEG, SR, PDF, ORU and every table only render it.

Lengths in mm to 0.1, volumes in mm3 to 1, masses in mg to 1, positions in LPS mm to 0.01, attenuation in HU to 1, scores 0 to 1
to 0.001.
Promises nothing about how a number was found; leaves words for a destination (codes, segments) to `results/` and `hl7/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

RESEARCH: Final = "RESEARCH - NOT FOR DIAGNOSIS"
NOT_REVIEWED: Final = "not reviewed by a radiologist"
LUNG_RADS: Final = "Lung-RADS v2022"  # the guideline whose categories are coded in results

Point = tuple[float, float, float]


class Status(StrEnum):
    """How the reading of one series ended."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    NOT_ANALYSED = "not_analysed"
    PASSED_OVER = "passed_over"
    FAILED = "failed"


@dataclass(frozen=True)
class Reason:
    """Why something was not read, or not wholly: `code` for machines (`gap`, `too_thick`, `no_lung`), `text` for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Algorithm:
    """One step of the chain as its catalogue entry names it. `sha256` is the digest of the weights, for a method without
    weights of its parameters. `validation` is `demonstration` or `measured`."""

    task: str
    name: str
    version: str
    sha256: str
    validation: str
    maker: str = "dicom-node"


@dataclass(frozen=True)
class LeftOut:
    """An instance that was not read, and why; with `frame` only that frame of it."""

    sop_instance_uid: str
    why: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """A mask on the source grid, cropped: `voxels` [k, j, i] bool, read-only; `start` is the (k, j, i) of its first voxel."""

    start: tuple[int, int, int]
    voxels: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeySlice:
    """The slice of largest area. `centre_px` is (column, row) counted from the outer corner of the first pixel, whose centre is
    (0.5, 0.5) (PS3.3 C.18.6.1.2); `radius_px` of the circle around the outline, in columns. `frame` counts from 1 in a
    multi-frame image; None for an image of one frame."""

    sop_instance_uid: str
    slice_index: int
    centre_px: tuple[float, float]
    radius_px: float
    frame: int | None = None


@dataclass(frozen=True)
class Ground:
    """Why a grade is what it is, in log odds of its score: `base`, the strongest `parts` (feature, its value, its part) and the
    `rest` of all others add up to them."""

    grade: str
    score: float
    base: float
    parts: tuple[tuple[str, float, float], ...]
    rest: float


@dataclass(frozen=True)
class Nodule:
    """One nodule. `number` stays with it over the revisions of a study and is never used again; `tracking_uid` likewise.

    `inference.reader` numbers from 1 in order of confidence and leaves `tracking_uid` empty; `dicom_node` fills both in.
    `centre_lps_mm` is the mask's centroid. Axes lie in the plane of the key slice. None: no model said anything about it.
    """

    number: int
    tracking_uid: str
    centre_lps_mm: Point
    mask: MaskCrop
    key_slice: KeySlice
    long_axis_mm: float
    short_axis_mm: float
    mean_diameter_mm: float
    volume_mm3: int
    mean_hu: int
    confidence: float | None
    malignancy: float | None = None
    texture: str | None = None
    spiculation: float | None = None
    lobulation: float | None = None
    calcified: bool | None = None
    site: str | None = None  # "right lung" or "left lung"
    size_error_mm: float | None = None  # what the voxel size alone can make of a length
    mass_mg: int | None = None  # volume x (mean HU + 1000) / 1000: water is 1 mg/mm3, air nothing
    volume_error_mm3: int | None = None  # what the voxel size alone can make of the volume ...
    mass_error_mg: int | None = None  # ... and of the mass
    grounds: tuple[Ground, ...] = ()  # of the grades


@dataclass(frozen=True)
class Candidate:
    """One ranked place where a nodule may be; most never reach a result. `scale_mm` is the diameter that answered best."""

    rank: int
    centre_lps_mm: Point
    response: float
    scale_mm: float
    reported: bool = False


@dataclass(frozen=True)
class Finding:
    """One label of a radiograph model on one image."""

    sop_instance_uid: str
    label: str
    score: float
    reported: bool
    demonstration: bool


@dataclass(frozen=True)
class Reading:
    """What came of reading one series.

    `nodules` and `findings`: () looked and none, None not looked. `slices_read` are SOP Instance UIDs in the order of the
    volume's k (of a multi-frame image once for each frame, whose numbers are `frames_read`; () where no image has several).
    `quality` holds sentences about what was odd; `limited`: lung was not looked through, or nodules are not shown.
    `smallest_mm` is the size below which nothing is marked.
    """

    series_instance_uid: str
    modality: str
    status: Status
    reason: Reason | None
    nodules: tuple[Nodule, ...] | None
    findings: tuple[Finding, ...] | None
    algorithms: tuple[Algorithm, ...]
    slices_read: tuple[str, ...]
    slices_left_out: tuple[LeftOut, ...]
    quality: tuple[str, ...] = ()
    smallest_mm: float | None = None
    candidates: tuple[Candidate, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    series_number: str = ""
    series_description: str = ""
    frames_read: tuple[int | None, ...] = ()
    limited: bool = False


@dataclass(frozen=True)
class NotRead:
    """A series of the study that was not read, with its outcome (`passed_over`, `declined`, `failed`) and reason."""

    series_instance_uid: str
    modality: str
    outcome: str
    reason: Reason
    series_number: str = ""


@dataclass(frozen=True)
class Assessment:
    """What a guideline makes of a study's nodules, for research: a category (for Fleischner the row of its table) with what
    follows from it, or None, and then `missing` inputs or why the study is `excluded`.

    `nodule` is the number that decided. `inputs` are all that was known, `not_assessed` what could lower or raise the category
    and nobody looked at, each in words. `next_ct_months`: from, to.
    """

    guideline: str
    category: str | None
    advice: str
    nodule: int | None
    inputs: tuple[str, ...]
    missing: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    not_assessed: tuple[str, ...] = ()
    next_ct_months: tuple[int, int] | None = None


@dataclass(frozen=True)
class Report:
    """All that one result of a study says. `readings` may be empty: then the study was not analysed and `reason` says why.

    `software` is name and version. `demonstration`: a step of the chain was never measured ("technical demonstration,
    unvalidated detector"). `notes` hold what a reader must know besides (a phantom was read, age not judged).
    `assessment`: what a guideline says, where the site asked for one.
    """

    study_instance_uid: str
    software: str
    readings: tuple[Reading, ...]
    not_read: tuple[NotRead, ...]
    reason: Reason | None = None
    demonstration: bool = False
    notes: tuple[str, ...] = ()
    assessment: Assessment | None = None

    @property
    def status(self) -> Status:
        """The study's status: not analysed without a reading, partial when any reading is, else completed."""
        done = [r for r in self.readings if r.status in (Status.COMPLETED, Status.PARTIAL)]
        if not done:
            return Status.NOT_ANALYSED
        return Status.PARTIAL if any(r.status is Status.PARTIAL for r in done) else Status.COMPLETED

    @property
    def nodules(self) -> tuple[Nodule, ...]:
        """The nodules of all readings, by number."""
        return tuple(sorted((n for r in self.readings for n in r.nodules or ()), key=lambda n: n.number))


def _series_name(reading: Reading) -> str:
    number = f"series {reading.series_number}" if reading.series_number else "the series"
    return f"{number} ({reading.modality}, {len(reading.slices_read)} images)"


def _sentence_of(reading: Reading, software: str) -> str:
    series = _series_name(reading)
    if reading.status not in (Status.COMPLETED, Status.PARTIAL):
        return f"Not analysed: {series}: {reading.reason.text if reading.reason else 'no reason recorded'}."
    partly = "" if reading.status is Status.COMPLETED else f" The reading is PARTIAL: {_why_partial(reading)}."
    if reading.nodules:
        largest = max(n.long_axis_mm for n in reading.nodules)
        many = f"{len(reading.nodules)} nodule{'s' if len(reading.nodules) > 1 else ''}"
        return f"{many} marked by {software} on {series}, largest long axis {largest:.1f} mm.{partly}"
    if reading.status is Status.PARTIAL or reading.nodules is None:
        looked = "was read in part" if partly else "was read"
        return f"{series[0].upper()}{series[1:]} {looked} by {software}; no statement about nodules is made.{partly}"
    size = f"at least {reading.smallest_mm:.1f} mm" if reading.smallest_mm else "any size"
    return f"No nodule of {size} was marked by {software} on {series}; this does not exclude nodules; {NOT_REVIEWED}."


def _why_partial(reading: Reading) -> str:
    return reading.reason.text.rstrip(".") if reading.reason else "not the whole lungs were read"


def assessment_words(said: Assessment) -> str:
    """What a guideline says, or why it says nothing, with all that went into it."""
    head = f"{said.guideline} by software, for research:"
    if said.category is not None:
        by = f" by nodule {said.nodule}" if said.nodule is not None else ""
        what = f"category {said.category}{by}: {said.advice}"
    elif said.excluded:
        what = f"not applied: {'; '.join(said.excluded)}"
    else:
        what = f"no category, for these are missing: {'; '.join(said.missing)}"
    words = f"{head} {what}."
    if said.inputs:
        words += f" From: {'; '.join(said.inputs)}."
    if said.category is not None and said.not_assessed:
        words += f" Not assessed: {'; '.join(said.not_assessed)}."
    return words


def demonstration_words(report: Report) -> str:
    """What was never measured, "" when nothing is so: the detector above all, else the steps beside it."""
    if not report.demonstration:
        return ""
    steps = dict.fromkeys(a.task for r in report.readings for a in r.algorithms if a.validation == "demonstration")
    if not steps or any(task.startswith("detect") for task in steps):
        return "Technical demonstration, unvalidated detector."
    return f"Technical demonstration, unvalidated {' and '.join(steps)}."


def _grade_words(report: Report) -> list[str]:
    """Whose grades they are, and what they are worth."""
    graded = [r for r in report.readings if any(_is_graded(n) for n in r.nodules or ())]
    graders = dict.fromkeys(
        f"{a.name} {a.version} ({a.validation})" for r in graded for a in r.algorithms if a.task == "grader"
    )
    if not graded:
        return []
    by = f" by {', '.join(graders)}" if graders else ""
    return [f"Grades of nodules{by}: scores trained on readers' opinion, not on pathology, and no probabilities."]


def _is_graded(nodule: Nodule) -> bool:
    grades = (nodule.malignancy, nodule.texture, nodule.spiculation, nodule.lobulation, nodule.calcified)
    return any(grade is not None for grade in grades)


def sentences(report: Report) -> tuple[str, ...]:
    """The words of a result, the same in SR, ORU and every table (design: words that results may use).

    Never absent, normal or negative. A partial reading may list findings but never says that no nodule was marked. Reasons, quality and
    notes are passed through as they are; SEG and SR make them ASCII.
    """
    said = [RESEARCH + "."]
    said += filter(None, [demonstration_words(report)])
    said += [_sentence_of(r, report.software) for r in report.readings]
    if not report.readings:
        said.append(f"Not analysed: {report.reason.text if report.reason else 'no reason recorded'}.")
    for reading in report.readings:
        said += [f"{q.rstrip('.')}." for q in reading.quality]
    said += [
        f"Not read: series {n.series_number or '?'} ({n.modality}): {n.reason.text.rstrip('.')}."
        for n in report.not_read
    ]
    said += [f"{n.rstrip('.')}." for n in report.notes]
    said += _grade_words(report)
    if report.assessment is not None:
        said.append(assessment_words(report.assessment))
    said.append(
        f"Software result of {report.software}, {NOT_REVIEWED}. Only lung nodules are looked for; everything else was not assessed."
    )
    return tuple(said)
