"""What became of each series, in the form of `summary.json` and `status --why --json` (schemas/summary.schema.json).

The numbers are those of SEG, SR and ORU: nothing is computed or rounded here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inference.findings import Assessment, Candidate, Finding, LeftOut, Nodule, Reading, Reason, assessment_words

SCHEMA_VERSION: Final = 1
STAGES: Final = ("receive", "wait", "decode", "lungs", "detect", "outline", "grade", "write", "deliver")
_OUTCOMES: Final = {
    "declined": "not_analysed",
    "passed_over": "passed_over",
    "failed": "failed",
    "set_aside": "set_aside",
    "chosen": "waiting",
}


UNSAID: Final = {
    "waiting": "more may come, or its turn has not come",
    "set_aside": "an object of a class that is not read",
    "withdrawn": "its images were rejected or withdrawn",
    "partial": "not the whole lungs were read",
}


def status_of(outcome: str | None, reading: Reading | None, *, held: bool = False, withdrawn: bool = False) -> str:
    """The status that follows a series' outcome (interfaces: output of demo and analyse)."""
    if withdrawn:
        return "withdrawn"
    if outcome == "set_aside":
        return "set_aside"
    if held:
        return "held"
    if reading is not None and outcome in ("read", "chosen"):
        return str(reading.status)
    return _OUTCOMES.get(outcome or "", "waiting")


def series_entry(
    *,
    study_uid: str,
    series_uid: str,
    modality: str,
    status: str,
    reason: Reason | None,
    evidence: str,
    reading: Reading | None,
    results: Sequence[Mapping[str, str]] = (),
    seconds: Mapping[str, float | None] | None = None,
    assessment: Assessment | None = None,
) -> dict[str, Any]:
    """One entry. `reading` is None for a series that nobody looked at: then nodules and findings are null.

    `assessment`: of the study, stands with the series that was read; without one the entry has no such key.
    """
    looked = reading is not None and status in ("completed", "partial", "held")
    times = {**(dict(reading.seconds) if reading else {}), **(seconds or {})}
    return {
        "study_instance_uid": study_uid,
        "series_instance_uid": series_uid,
        "modality": modality,
        "status": status,
        "reason": None if status == "completed" else _reason(reason, status),
        "evidence": evidence,
        "slices_read": len(reading.slices_read) if looked and reading else 0,
        "slices_left_out": [_left_out_json(left) for left in reading.slices_left_out] if looked and reading else [],
        "nodules": [_nodule(n) for n in reading.nodules]
        if looked and reading and reading.nodules is not None
        else None,
        "findings": [_finding(f) for f in reading.findings]
        if looked and reading and reading.findings is not None
        else None,
        "algorithm": [{"name": a.name, "version": a.version, "sha256": a.sha256} for a in reading.algorithms]
        if looked and reading
        else [],
        "results": [dict(r) for r in results],
        "seconds": {stage: times.get(stage) for stage in STAGES},
        **({"guideline": _guideline(assessment)} if looked and assessment is not None else {}),
    }


def _reason(reason: Reason | None, status: str) -> dict[str, str]:
    """Every status but `completed` has one, also where nobody said more than the status does."""
    if reason is not None and reason.code:
        return {"code": reason.code, "text": reason.text}
    return {"code": status, "text": UNSAID.get(status, status.replace("_", " "))}


def _left_out_json(left: LeftOut) -> dict[str, Any]:
    """An instance that was left out; `frame` where it is only that frame of it."""
    plain: dict[str, Any] = {"sop_instance_uid": left.sop_instance_uid, "why": left.why}
    return plain if left.frame is None else {**plain, "frame": left.frame}


def candidates_json(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """The ranked candidates of one series, for debug/candidates.json."""
    return [{**vars(c), "centre_lps_mm": list(c.centre_lps_mm)} for c in candidates]


def grades_json(reading: Reading) -> list[dict[str, Any]]:
    """Why the grades of one series' nodules are what they are, for debug/grades.json; log odds add up to the score's."""
    return [
        {
            "number": nodule.number,
            "grades": [
                {
                    "grade": ground.grade,
                    "score": ground.score,
                    "base": ground.base,
                    "parts": [{"feature": f, "value": value, "part": part} for f, value, part in ground.parts],
                    "rest": ground.rest,
                }
                for ground in nodule.grounds
            ],
        }
        for nodule in reading.nodules or ()
        if nodule.grounds
    ]


def _nodule(nodule: Nodule) -> dict[str, Any]:
    names = (
        "tracking_uid",
        "number",
        "long_axis_mm",
        "short_axis_mm",
        "mean_diameter_mm",
        "volume_mm3",
        "mean_hu",
        "confidence",
        "malignancy",
        "texture",
        "spiculation",
        "lobulation",
        "calcified",
        "site",
        "size_error_mm",
        "volume_error_mm3",
        "mass_mg",
        "mass_error_mg",
    )
    return {"centre_lps_mm": list(nodule.centre_lps_mm), **{name: getattr(nodule, name) for name in names}}


def _guideline(assessment: Assessment) -> dict[str, Any]:
    """With the words that SR and ORU have."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(assessment).items()}
    return {**plain, "research": True, "text": assessment_words(assessment)}


def _finding(finding: Finding) -> dict[str, Any]:
    return dict(vars(finding))
