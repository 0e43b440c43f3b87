"""Which series of a study is read, in which order, and why each other one is not. Pure, from headers and earlier findings.

What each series is and what stands against it is `fitness.py`'s; here they are ranked, each gets its verdict, and the study
its answer: what to read, whether a report goes out. The same study gives the same choice in any order of arrival.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Final

from config.settings import Select
from inference import geometry
from inference.errors import Unfit
from inference.findings import LeftOut, Reason
from inference.fitness import (
    RADIOGRAPHS,
    READ_CLASSES,
    Found,
    Judged,
    Kind,
    Outcome,
    SeriesView,
    judge,
    phantom_of,
    place_in_study,
)
from inference.geometry import Gap, number
from inference.headers import Header
from inference.kernels import softness

__all__ = ["READ_CLASSES", "Choice", "Found", "SeriesView", "Verdict", "choose", "find_gaps", "geometry_complete"]

NO_REPORT: Final = frozenset({"prior", "no_model"})  # declined, and no report by default
PHANTOM_READ: Final = "A phantom was read, no patient: the images call it one, and select.phantoms is on"
AUXILIARY: Final = frozenset(
    {"localizer", "reformat"}
)  # come with another series; tell nothing where that is not for us


@dataclass(frozen=True)
class Verdict:
    """What becomes of one series. `rank` (from 1) for all that can be read; of them the first is `chosen`, and of radiographs all.

    `left_out` are images of a chosen series that are not read (lateral views, localizers, repeats).
    """

    series_instance_uid: str
    outcome: Outcome
    reason: Reason | None
    rank: int | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The answer for a study. `to_read`: ranked, the first is read (of radiographs all are), the next where that is turned away.

    `report`: whether a result goes out. `reason`: why nothing is read. `best`: the series whose story the report tells.
    `notes`: what a reader of the result must know of the patient that was read (a phantom, an age that nobody knows).
    """

    verdicts: tuple[Verdict, ...]
    to_read: tuple[str, ...]
    kind: Kind
    report: bool
    reason: Reason | None
    best: str = ""
    notes: tuple[str, ...] = ()


def choose(
    series: Sequence[SeriesView],
    rules: Select,
    *,
    models: frozenset[str] = frozenset({"nodule"}),
    study_words: str = "",
    zone: tzinfo = UTC,
) -> Choice:
    """Choose what is read of one study.

    Args:
        series: all series of the study, with the instances that take part.
        rules: the site's settings.
        models: what is installed: `nodule` reads CT, `radiograph` X-rays.
        study_words: what order or worklist call the study, beside the headers' own study words.
        zone: of acquisition times that name no offset.
    Returns:
        a verdict for each series, by Series Number.
    """
    judged = [judge(view, rules, models, study_words, zone) for view in sorted(series, key=place_in_study)]
    ranked = sorted((j for j in judged if j.kind == "ct" and j.reason is None), key=_rank_of)
    kind: Kind = "ct" if ranked else "radiograph"
    ranked = ranked or [j for j in judged if j.kind == "radiograph" and j.reason is None]
    if not ranked:
        return _nothing(judged)
    verdicts = tuple(_verdict(j, ranked, kind) for j in judged)
    to_read = tuple(j.view.series_instance_uid for j in ranked)
    notes = _notes(ranked[:1] if kind == "ct" else ranked, rules)
    return Choice(verdicts, to_read, kind, report=True, reason=None, best=to_read[0], notes=notes)


def _notes(read: Sequence[Judged], rules: Select) -> tuple[str, ...]:
    """What does not keep a series from being read, but stands in its result."""
    headers = [h for judged in read for h in judged.view.headers]
    said = [PHANTOM_READ] if phantom_of(headers, rules) else []
    if rules.age_years_min and not said and all(h.age_years is None for h in headers):
        said.append(
            f"The images do not tell the patient's age; only patients from {rules.age_years_min} years are read"
        )
    return tuple(said)


# ---------------------------------------------------------------- ranking and words for each


def _first(judged: Judged) -> Header:
    """The first image, of a multi-frame object its first frame."""
    return judged.view.headers[0].as_frames()[0]


def _thickness(judged: Judged) -> float:
    stack = judged.stack
    if stack is None:
        return 0.0
    return max((h.slice_thickness or 0.0 for h in stack.headers), default=0.0) or stack.step_mm


def _derived(judged: Judged) -> int:
    """An axial MPR (it says so in a later value of Image Type) comes after acquired slices."""
    return int(any("MPR" in value.upper().split() for value in _first(judged).image_type[3:]))


def _coverage(judged: Judged) -> float:
    return judged.stack.length_mm if judged.stack else 0.0


def _contrast(judged: Judged) -> int:
    """Without contrast first: enhanced vessels look like nodules."""
    return int(any(h.contrast_agent for h in judged.view.headers))


def _kernel(judged: Judged) -> float:
    first = _first(judged)
    return softness(first.kernel, first.manufacturer)


def _rank_of(judged: Judged) -> tuple[float, float, float, float, float, tuple[int, str]]:
    return (
        round(_thickness(judged), 1),
        _kernel(judged),
        _derived(judged),
        -round(_coverage(judged), 0),
        _contrast(judged),
        place_in_study(judged.view),
    )


def _verdict(judged: Judged, ranked: Sequence[Judged], kind: Kind) -> Verdict:
    uid = judged.view.series_instance_uid
    best = ranked[0]
    read = f"{_name(best)} is read instead"
    if judged in ranked:
        rank = ranked.index(judged) + 1
        if rank == 1 or kind == "radiograph":
            return Verdict(uid, "chosen", None, rank, judged.left_out)
        return Verdict(uid, "passed_over", Reason("instead", f"{read}: {_better(best, judged)}"), rank)
    if judged.reason is None:
        return Verdict(uid, "passed_over", Reason("instead", read))
    if judged.outcome == "declined":
        return Verdict(uid, "passed_over", Reason(judged.reason.code, f"{judged.reason.text}; {read}"))
    return Verdict(uid, judged.outcome, judged.reason)


def _name(judged: Judged) -> str:
    text = judged.view.headers[0].series_number
    return f"{'CT ' if judged.kind == 'ct' else ''}series {text}" if text else "another series"


def _better(best: Judged, other: Judged) -> str:
    thin, thick = round(_thickness(best), 1), round(_thickness(other), 1)
    if thin != thick:
        return f"its slices are thinner ({number(thin)} mm against {number(thick)} mm)"
    if _kernel(best) != _kernel(other):
        return f"its kernel is softer ({_first(best).kernel or '?'} against {_first(other).kernel or '?'})"
    if _derived(best) != _derived(other):
        return "its slices were acquired, not reformatted"
    if round(_coverage(best), 0) != round(_coverage(other), 0):
        return f"it covers more ({number(_coverage(best))} mm against {number(_coverage(other))} mm)"
    return "it is without contrast" if _contrast(best) != _contrast(other) else "it comes first"


def _nothing(judged: Sequence[Judged]) -> Choice:
    """Nothing can be read: is that worth a report, and which series tells why."""
    verdicts = tuple(Verdict(j.view.series_instance_uid, j.outcome, j.reason) for j in judged)
    ours = [j for j in judged if j.outcome in ("declined", "failed") and j.reason is not None]
    turned_away = any(j.outcome == "passed_over" and j.view.found is not None for j in judged)
    telling = [
        j
        for j in ours
        if j.reason and j.reason.code not in NO_REPORT and not (turned_away and j.reason.code in AUXILIARY)
    ]
    known = telling or ours or [j for j in judged if j.outcome == "passed_over"] or list(judged)
    best = min(known, key=_telling, default=None)
    return Choice(
        verdicts,
        (),
        "none",
        report=bool(telling),
        reason=best.reason if best else Reason("no_images", "no image"),
        best=best.view.series_instance_uid if best else "",
    )


def _telling(judged: Judged) -> tuple[bool, bool, bool, int, tuple[int, str]]:
    """Failures first, then CT stacks by size; localizers and the like last."""
    code = judged.reason.code if judged.reason else ""
    return (
        judged.outcome != "failed",
        code in AUXILIARY,
        judged.kind != "ct",
        -len(judged.view.headers),
        place_in_study(judged.view),
    )


# ---------------------------------------------------------------- evidence for the assembler


def find_gaps(headers: Sequence[Header]) -> tuple[Gap, ...]:
    """The gaps in position of one series; () also where there is no stack to look at."""
    try:
        return geometry.stack_headers([h for h in headers if h.sop_class_uid in READ_CLASSES]).gaps
    except Unfit:
        return ()


def geometry_complete(headers: Sequence[Header]) -> str:
    """Evidence in words that no instance of a series is missing, by position and numbering; "" where there is none.

    A stack is whole when its slices lie evenly and Instance Numbers run from 1 (or 0) without a gap, each once. That proves nothing
    about the end of the stack, so it counts only beside closed associations.
    """
    numbers = sorted(h.instance_number for h in headers if h.instance_number is not None)
    if (
        len(numbers) < len(headers)
        or not numbers
        or numbers[0] not in (0, 1)
        or numbers != list(range(numbers[0], numbers[0] + len(numbers)))
    ):
        return ""
    run = f"instance numbers {numbers[0]} to {numbers[-1]} without a gap"
    if all(h.sop_class_uid in RADIOGRAPHS for h in headers):
        return run
    try:
        stack = geometry.stack_headers(headers)
        geometry.need_whole(stack)
        geometry.need_even(stack)
    except Unfit:
        return ""
    return "" if stack.repeats else f"{len(stack.headers)} slices {number(stack.step_mm)} mm apart, {run}"
