"""Lung-RADS v2022: the category of a screening CT from its lesions, or what is missing to give one.

Source: American College of Radiology, Lung-RADS v2022 (November 2022), assessment categories and notes; explained in
Christensen et al., CHEST 2024;165:738. Facts only, in our words:

| mm | 2 | 3 | 4A | 4B |
| --- | --- | --- | --- | --- |
| solid, first CT | < 6 | 6 to < 8 | 8 to < 15 | >= 15 |
| solid, new | < 4 | 4 to < 6 | 6 to < 8 | >= 8 |
| solid, growing | | | < 8 | >= 8, or slow growth |
| solid and juxtapleural, first or new | < 10 | | | |
| part-solid, first CT: total | < 6 | >= 6 | >= 6 | >= 6 |
| its solid part | | < 6 | 6 to < 8 | >= 8 |
| part-solid, new: total | | < 6 | | |
| its solid part, new or growing | | | < 4 | >= 4, or slow growth |
| non-solid | < 30; >= 30 stable or slow | >= 30 first or new | | |
| airway, subsegmental | first, new or stable | | | |
| airway, segmental or larger | | | first or new | stable or growing |
| cyst, thick wall | | cavity grows | else | wall or its nodule grows |
| cyst, multilocular | | | at first, or become so | grows, or more loculation or opacity |

1: no lesion, or fat, or complete, central, popcorn or ring calcification. 4X: 3 or 4 with features that raise the suspicion.
0: an earlier CT is awaited, lungs that cannot be judged, signs of an infection.
Steps down: 3 stable or smaller after 6 months is 2; 4A (no airway nodule) after 3 months is 3; 4B proven benign is 2.
Sizes are mean diameters in mm: the mean of long and short axis, to one decimal; thresholds are compared with that.
Growth: more than 1.5 mm within 12 months. A lesion that reaches a higher size class without such growth is classed by its
size. A part-solid nodule that grows while its solid part does not, and a non-solid one that grows to 30 mm, are classed by
size as well: the table has no row of its own for them.

Features that lower or raise a category (fat, benign calcification, the juxtapleural shape, signs of 4X) count only where
somebody saw them; where nobody looked they are named as not assessed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from inference.findings import LUNG_RADS, Assessment

NAME: Final = LUNG_RADS
ORDER: Final = ("0", "1", "2", "3", "4A", "4B", "4X")
ADVICE: Final[Mapping[str, tuple[str, tuple[int, int] | None]]] = {
    "0": ("the missing CT, comparison or, if an infection is suspected, low-dose CT in 1 to 3 months", (1, 3)),
    "1": ("screening low-dose CT in 12 months", (12, 12)),
    "2": ("screening low-dose CT in 12 months", (12, 12)),
    "3": ("low-dose CT in 6 months", (6, 6)),
    "4A": ("low-dose CT in 3 months; PET/CT may be considered from 8 mm of solid tissue", (3, 3)),
    "4B": ("clinical work-up: diagnostic CT, PET/CT from 8 mm of solid tissue, tissue sampling or referral", None),
    "4X": ("clinical work-up: diagnostic CT, PET/CT from 8 mm of solid tissue, tissue sampling or referral", None),
}
"""What follows from a category, and in how many months (from, to) the next CT is due."""
GROWTH_MM: Final = 1.5
TEXTURE: Final = "texture"
CHANGE: Final = "whether it is new or grows (no earlier CT compared)"
SOLID_SIZE: Final = "size of the solid part"
SOLID_CHANGE: Final = "whether the solid part is new or grows"
CALCIFICATION: Final = "pattern of the calcification"
EARLIER: Final = "category, size and date of the earlier CT"
WORK_UP: Final = "what the work-up of the earlier category 4B or 4X showed"
PLACE: Final = "whether the airway is segmental or larger"
WALL: Final = "wall of the cyst"
CHAMBERS: Final = "whether the cyst is multilocular"
CYST_CHANGE: Final = "what of the cyst has grown"
NO_ROW: Final = "a row of the table for a growing subsegmental airway nodule"


class Change(StrEnum):
    """What became of a lesion since the earlier CT. `BASELINE`: there is none. `SLOW`: over several CTs it grew, never by
    more than 1.5 mm within 12 months. `STABLE`: as before or smaller."""

    BASELINE = "first CT"
    NEW = "new"
    GROWING = "growing"
    SLOW = "slowly growing"
    STABLE = "stable or smaller"


@dataclass(frozen=True)
class Earlier:
    """The same lesion on the CT before: its category, mean diameter, solid part, and how many months ago. None: unknown."""

    category: str | None = None
    months: float | None = None
    mean_mm: float | None = None
    solid_mm: float | None = None
    proven_benign: bool | None = None


@dataclass(frozen=True)
class Parenchymal:
    """A nodule of the lung. None: unknown.

    `texture` is solid, part-solid or non-solid; `solid_mm` the mean diameter of the solid part of a part-solid one.
    `benign`: fat, or complete, central, popcorn or ring calcification. `juxtapleural`: at a pleura (fissures too), with a
    smooth margin and oval, lentiform or triangular. `suspicious`: spiculated, or whatever else makes a 4X.
    """

    mean_mm: float
    texture: str | None
    change: Change | None
    solid_mm: float | None = None
    solid_change: Change | None = None
    calcified: bool | None = None
    benign: bool | None = None
    juxtapleural: bool | None = None
    suspicious: bool | None = None
    earlier: Earlier = Earlier()


@dataclass(frozen=True)
class Airway:
    """A nodule in an airway; `segmental`: in a segmental one or nearer to the trachea."""

    segmental: bool | None
    change: Change | None
    suspicious: bool | None = None


@dataclass(frozen=True)
class Cyst:
    """An atypical cyst. `thick`: its wall is; `multilocular` today, `became_multilocular` since the earlier CT.

    On a follow-up: `wall_grows` (thickness or nodule of the wall), `cavity_grows` (mean diameter), `more_opacity` (more
    loculation, or opacity that is new or more).
    """

    thick: bool | None
    multilocular: bool | None
    change: Change | None
    became_multilocular: bool | None = None
    wall_grows: bool | None = None
    cavity_grows: bool | None = None
    more_opacity: bool | None = None
    suspicious: bool | None = None
    earlier: Earlier = Earlier()


Lesion = Parenchymal | Airway | Cyst


@dataclass(frozen=True)
class Verdict:
    """The category of one lesion; None: `missing` says for want of what. `not_covered`: Lung-RADS does not class it."""

    category: str | None
    missing: tuple[str, ...] = ()
    not_assessed: tuple[str, ...] = ()
    not_covered: str = ""


def change_of(earlier_mm: float, now_mm: float, months: float) -> Change:
    """Growth from two mean diameters and the months between them.

    More than 1.5 mm a year on average means more than 1.5 mm within some 12 months; more than 1.5 mm in all, but slower, is
    slow growth.
    """
    gain = round(_tenth(now_mm) - _tenth(earlier_mm), 1)
    if gain <= GROWTH_MM:
        return Change.STABLE
    return Change.GROWING if gain * 12 / max(months, 12.0) > GROWTH_MM else Change.SLOW


def classify(lesion: Lesion) -> Verdict:
    """The category of one lesion, 1 to 4X."""
    if isinstance(lesion, Airway):
        verdict = _airway(lesion)
    elif isinstance(lesion, Cyst):
        verdict = _cyst(lesion)
    else:
        verdict = _parenchymal(lesion)
    if verdict.category not in ("3", "4A", "4B"):
        return verdict
    if lesion.suspicious:
        return Verdict("4X", not_assessed=verdict.not_assessed)
    unseen = () if lesion.suspicious is False else ("signs that make a 4X",)
    return Verdict(verdict.category, not_assessed=(*verdict.not_assessed, *unseen))


def lung_rads(
    lesions: Mapping[int, Lesion],
    *,
    whole_lungs: bool | None,
    none_there: bool | None = None,
    earlier_ct_sought: bool | None = False,
    inflammation: bool | None = None,
    inputs: Sequence[str] = (),
) -> Assessment:
    """The category of the examination: that of the most suspicious lesion.

    Args:
        lesions: by the number that a reader knows them by.
        whole_lungs: both lungs could be judged; None: nobody says so.
        none_there: without lesions, that somebody vouches for it; software that marks nothing does not.
        earlier_ct_sought: an earlier CT exists and is awaited.
        inflammation: findings that suggest an infection.
        inputs: more to be shown beside what is known of the lesions.
    Returns:
        A category, or None with everything that is missing; a 4B or 4X stands whatever the others lack.
    """
    said = (*inputs, *(f"nodule {number}: {_shown(lesion)}" for number, lesion in lesions.items()))
    if earlier_ct_sought or inflammation or whole_lungs is False:
        return _assessment("0", None, said)
    missing = [] if whole_lungs else ["whether both lungs were read whole"]
    if not lesions and not none_there:
        missing.append("a reader's word that there is no nodule")
    if not lesions and not missing:
        return _assessment("1", None, said)
    verdicts = {number: classify(lesion) for number, lesion in lesions.items()}
    missing += [f"{what} of nodule {number}" for number, v in verdicts.items() for what in v.missing]
    known = {number: v.category for number, v in verdicts.items() if v.category}
    worst = max(known, key=lambda number: ORDER.index(known[number]), default=None)
    unseen = tuple(dict.fromkeys(what for v in verdicts.values() for what in v.not_assessed))
    if inflammation is None:
        unseen = (*unseen, "signs of an infection")
    if worst is not None and (not missing or known[worst] in ("4B", "4X")):
        return _assessment(known[worst], worst, said, unseen)
    excluded = tuple(f"nodule {n}: {v.not_covered}" for n, v in verdicts.items() if v.not_covered)
    return Assessment(NAME, None, "", None, said, missing=tuple(missing), excluded=excluded, not_assessed=unseen)


def _assessment(category: str, number: int | None, inputs: tuple[str, ...], unseen: tuple[str, ...] = ()) -> Assessment:
    advice, months = ADVICE[category]
    return Assessment(NAME, category, advice, number, inputs, not_assessed=unseen, next_ct_months=months)


def _tenth(mm: float) -> float:
    """To one decimal, a half upwards."""
    return math.floor(mm * 10 + 0.5 + 1e-9) / 10


def _class(mm: float, *steps: tuple[float, str]) -> str:
    """The category of the first step that the size does not reach."""
    return next(category for below, category in steps if _tenth(mm) < below)


def _first(texture: str, mean_mm: float, solid_mm: float | None) -> str | None:
    """By size alone, as on a first CT. None: the solid part is needed and unknown."""
    if texture == "solid":
        return _class(mean_mm, (6, "2"), (8, "3"), (15, "4A"), (math.inf, "4B"))
    if texture == "non-solid":
        return _class(mean_mm, (30, "2"), (math.inf, "3"))
    if _tenth(mean_mm) < 6:
        return "2"
    return None if solid_mm is None else _class(solid_mm, (6, "3"), (8, "4A"), (math.inf, "4B"))


def _parenchymal(nodule: Parenchymal) -> Verdict:
    if nodule.benign:
        return Verdict("1")
    missing = [CALCIFICATION] if nodule.calcified and nodule.benign is None else []
    if nodule.texture is None:
        missing.append(TEXTURE)
    if nodule.change is None and not (nodule.texture == "non-solid" and _tenth(nodule.mean_mm) < 30):
        missing.append(CHANGE)
    if missing or nodule.texture is None:
        return Verdict(None, tuple(missing))
    unseen = () if nodule.benign is False or nodule.calcified is False else ("fat and benign calcification",)
    if nodule.texture == "non-solid" and _tenth(nodule.mean_mm) < 30:
        return Verdict("2", not_assessed=unseen)
    if nodule.change is Change.STABLE:
        return _stepped(nodule.earlier, _first(nodule.texture, nodule.mean_mm, nodule.solid_mm), nodule)
    verdict = {"solid": _solid, "part-solid": _part_solid, "non-solid": _non_solid}[nodule.texture](nodule)
    return Verdict(verdict.category, verdict.missing, (*unseen, *verdict.not_assessed) if verdict.category else ())


def _solid(nodule: Parenchymal) -> Verdict:
    if nodule.change is Change.SLOW:
        return Verdict("4B")
    if nodule.change is Change.GROWING:
        return Verdict(_class(nodule.mean_mm, (8, "4A"), (math.inf, "4B")))
    category = (
        _class(nodule.mean_mm, (4, "2"), (6, "3"), (8, "4A"), (math.inf, "4B"))
        if nodule.change is Change.NEW
        else _first("solid", nodule.mean_mm, None)
    )
    if _tenth(nodule.mean_mm) >= 10 or category == "2":
        return Verdict(category)
    if nodule.juxtapleural:
        return Verdict("2")
    return Verdict(category, not_assessed=() if nodule.juxtapleural is False else ("juxtapleural shape",))


def _part_solid(nodule: Parenchymal) -> Verdict:
    small = _tenth(nodule.mean_mm) < 6
    if nodule.change is Change.NEW and small:
        return Verdict("3")
    if nodule.change is Change.BASELINE and small:
        return Verdict("2")
    solid_change = Change.NEW if nodule.change is Change.NEW else nodule.solid_change
    if Change.SLOW in (nodule.change, solid_change):
        return Verdict("4B")
    missing = [SOLID_SIZE] if nodule.solid_mm is None else []
    if nodule.change is Change.GROWING and solid_change is None:
        missing.append(SOLID_CHANGE)
    if missing or nodule.solid_mm is None:
        return Verdict(None, tuple(missing))
    if nodule.change is not Change.BASELINE and solid_change in (Change.NEW, Change.GROWING):
        return Verdict(_class(nodule.solid_mm, (4, "4A"), (math.inf, "4B")))
    return Verdict(_first("part-solid", nodule.mean_mm, nodule.solid_mm))


def _non_solid(nodule: Parenchymal) -> Verdict:
    """30 mm and more."""
    return Verdict("2" if nodule.change is Change.SLOW else "3")


def _stepped(earlier: Earlier, by_size: str | None, lesion: Parenchymal | None = None) -> Verdict:
    """A lesion that did not grow: one step down after its time, unless it has reached a higher size class meanwhile."""
    if lesion is not None and lesion.texture == "non-solid":
        return Verdict("2")
    if lesion is not None and lesion.solid_change in (Change.NEW, Change.GROWING, Change.SLOW):
        if lesion.solid_mm is None and lesion.solid_change is not Change.SLOW:
            return Verdict(None, (SOLID_SIZE,))
        slow = lesion.solid_change is Change.SLOW
        return Verdict("4B" if slow else _class(lesion.solid_mm or 0.0, (4, "4A"), (math.inf, "4B")))
    if earlier.category is None or earlier.months is None:
        return Verdict(None, (EARLIER,))
    if earlier.category in ("4B", "4X"):
        if earlier.proven_benign is None:
            return Verdict(None, (WORK_UP,))
        return Verdict("2" if earlier.proven_benign else earlier.category)
    if lesion is not None:
        if earlier.mean_mm is None:
            return Verdict(None, (EARLIER,))
        before = _first(str(lesion.texture), earlier.mean_mm, earlier.solid_mm)
        if by_size is None or before is None:
            return Verdict(None, (SOLID_SIZE if by_size is None else EARLIER,))
        if ORDER.index(by_size) > ORDER.index(before):
            return Verdict(by_size)
    months, down = {"3": (6, "2"), "4A": (3, "3")}.get(earlier.category, (0, "2"))
    return Verdict(down if earlier.months >= months else earlier.category)


def _airway(nodule: Airway) -> Verdict:
    missing = [what for what, known in ((PLACE, nodule.segmental), (CHANGE, nodule.change)) if known is None]
    if missing:
        return Verdict(None, tuple(missing))
    if nodule.segmental:
        return Verdict("4A" if nodule.change in (Change.BASELINE, Change.NEW) else "4B")
    if nodule.change in (Change.GROWING, Change.SLOW):
        return Verdict(None, (NO_ROW,))
    return Verdict("2")


def _cyst(cyst: Cyst) -> Verdict:
    needed = [(WALL, cyst.thick), (CHAMBERS, cyst.multilocular), (CHANGE, cyst.change)]
    missing = [what for what, known in needed if known is None]
    followed = cyst.change not in (Change.BASELINE, Change.NEW, None)
    if followed and None in (cyst.became_multilocular, cyst.wall_grows, cyst.cavity_grows, cyst.more_opacity):
        missing.append(CYST_CHANGE)
    if missing:
        return Verdict(None, tuple(missing))
    if not cyst.thick and not cyst.multilocular:
        return Verdict(None, not_covered="a thin-walled cyst of one chamber is not classed")
    if followed:
        grew = cyst.multilocular and (cyst.cavity_grows or cyst.more_opacity) and not cyst.became_multilocular
        if (cyst.thick and cyst.wall_grows) or grew:
            return Verdict("4B")
        if cyst.became_multilocular:
            return Verdict("4A")
        if cyst.cavity_grows:
            return Verdict("3")
        if cyst.change is Change.STABLE:
            return _stepped(cyst.earlier, None)
    return Verdict("4A")


def _shown(lesion: Lesion) -> str:
    """What is known of a lesion, for people."""
    if isinstance(lesion, Airway):
        return f"airway nodule, {lesion.change or 'change unknown'}"
    if isinstance(lesion, Cyst):
        return f"cyst, {lesion.change or 'change unknown'}"
    solid = f" (solid part {_tenth(lesion.solid_mm):.1f} mm)" if lesion.solid_mm is not None else ""
    texture = lesion.texture or "texture unknown"
    return f"{_tenth(lesion.mean_mm):.1f} mm mean diameter, {texture}{solid}, {lesion.change or 'change unknown'}"
