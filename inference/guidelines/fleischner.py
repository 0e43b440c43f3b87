"""Fleischner Society 2017: what is advised for nodules found by chance, or what is missing to say so.

Source: MacMahon et al., Guidelines for management of incidental pulmonary nodules detected on CT images, Radiology
2017;284:228, table 1 (A solid, B subsolid). Facts only, in our words; months to the next CT:

| solid | < 6 mm | 6 to 8 mm | > 8 mm |
| --- | --- | --- | --- |
| one, low risk | none | 6-12, then consider 18-24 | consider CT at 3, PET/CT or tissue sampling |
| one, high risk | optional at 12 | 6-12, then 18-24 | the same |
| several, low risk | none | 3-6, then consider 18-24 | 3-6, then consider 18-24 |
| several, high risk | optional at 12 | 3-6, then 18-24 | 3-6, then 18-24 |

| subsolid | < 6 mm | >= 6 mm |
| --- | --- | --- |
| one non-solid | none | 6-12 whether it persists, then every 2 years until 5 years |
| one part-solid | none | 3-6 whether it persists; solid part < 6 mm unchanged: yearly for 5 years |
| several | 3-6; stable: consider 2 and 4 years | 3-6, then by the most suspicious one |

A part-solid nodule that persists with a solid part of 6 mm and more is highly suspicious. Sizes are the mean of long and
short axis, to whole mm. Not for screening, patients under 35, with known cancer or with a weakened immune system; not for
masses above 30 mm, nor for nodules that are plainly benign.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from inference.findings import Assessment

NAME: Final = "Fleischner 2017"
AGE_MIN: Final = 35
MASS_MM: Final = 30


class Size(StrEnum):
    """Size classes of the table, in whole mm."""

    SMALL = "under 6 mm"
    MIDDLE = "6 to 8 mm"
    LARGE = "above 8 mm"


@dataclass(frozen=True)
class Row:
    """What a row advises, and in how many months (from, to) the next CT is due; None: no CT is due."""

    advice: str
    months: tuple[int, int] | None


@dataclass(frozen=True)
class Person:
    """What the guideline asks about the patient. None: unknown. `high_risk`: smoking and what else its text counts."""

    age_years: float | None
    cancer: bool | None
    weak_immunity: bool | None
    high_risk: bool | None
    screening: bool | None = False


@dataclass(frozen=True)
class Incidental:
    """A nodule: mean diameter mm; `texture` solid, part-solid or non-solid; `solid_mm` of the solid part. None: unknown.

    `benign`: benign calcification, fat, or a typical lymph node at a fissure.
    """

    mean_mm: float
    texture: str | None
    solid_mm: float | None = None
    calcified: bool | None = None
    benign: bool | None = None


NONE: Final = Row("no routine follow-up", None)
OPTIONAL: Final = Row("optional CT at 12 months", (12, 12))
WORK_UP: Final = Row("consider CT at 3 months, PET/CT or tissue sampling", (3, 3))

# (several nodules?, size) -> (low risk, high risk)
SOLID: Final[Mapping[tuple[bool, Size], tuple[Row, Row]]] = {
    (False, Size.SMALL): (NONE, OPTIONAL),
    (False, Size.MIDDLE): (
        Row("CT at 6 to 12 months, then consider CT at 18 to 24 months", (6, 12)),
        Row("CT at 6 to 12 months, then CT at 18 to 24 months", (6, 12)),
    ),
    (False, Size.LARGE): (WORK_UP, WORK_UP),
    (True, Size.SMALL): (NONE, OPTIONAL),
    (True, Size.MIDDLE): (
        Row("CT at 3 to 6 months, then consider CT at 18 to 24 months", (3, 6)),
        Row("CT at 3 to 6 months, then CT at 18 to 24 months", (3, 6)),
    ),
    (True, Size.LARGE): (
        Row("CT at 3 to 6 months, then consider CT at 18 to 24 months", (3, 6)),
        Row("CT at 3 to 6 months, then CT at 18 to 24 months", (3, 6)),
    ),
}
NON_SOLID: Final = Row("CT at 6 to 12 months; if it persists, CT every 2 years until 5 years", (6, 12))
PART_SOLID: Final = Row("CT at 3 to 6 months; if unchanged with a solid part under 6 mm, yearly CT for 5 years", (3, 6))
PART_SOLID_LARGE: Final = Row("CT at 3 to 6 months; if it persists it is highly suspicious", (3, 6))
SEVERAL_SMALL: Final = Row("CT at 3 to 6 months; if stable consider CT at 2 and 4 years", (3, 6))
SEVERAL: Final = Row("CT at 3 to 6 months, then by the most suspicious nodule", (3, 6))

AGE: Final = "age"
CANCER: Final = "whether a cancer is known"
IMMUNITY: Final = "whether the immune system is weakened"
SCREENING: Final = "whether this is screening"
RISK: Final = "risk (smoking and others)"
MOST_SUSPICIOUS: Final = "which is the most suspicious of solid and subsolid nodules together"


def whole_mm(mm: float) -> int:
    """To whole mm, a half upwards."""
    return math.floor(mm + 0.5 + 1e-9)


def size_of(mm: float) -> Size:
    """The size class of a mean diameter."""
    rounded = whole_mm(mm)
    return Size.SMALL if rounded < 6 else Size.MIDDLE if rounded <= 8 else Size.LARGE


def fleischner(nodules: Mapping[int, Incidental], person: Person, inputs: Sequence[str] = ()) -> Assessment:
    """What the guideline advises for the nodules of one patient, by number.

    Returns:
        The row that applies as `category`, with its advice; or None, with what is missing, or with why the guideline does
        not apply. Of several nodules the largest stands for all.
    """
    shown = {number: nodule for number, nodule in nodules.items() if not nodule.benign}
    said = (*_said(person), *inputs, *(f"nodule {n}: {_shown(nodule)}" for n, nodule in nodules.items()))
    excluded = _excluded(nodules, shown, person)
    if excluded:
        return Assessment(NAME, None, "", None, said, excluded=excluded)
    missing = _missing(shown, person)
    if missing:
        return Assessment(NAME, None, "", None, said, missing=missing)
    number = max(shown, key=lambda n: shown[n].mean_mm)
    low, high, name = _row(shown, shown[number])
    if low != high and person.high_risk is None:
        return Assessment(NAME, None, "", None, said, missing=(RISK,))
    if low != high:
        name += ", high risk" if person.high_risk else ", low risk"
    row = high if person.high_risk else low
    unseen = ("benign calcification, fat, lymph node at a fissure",) if shown[number].benign is None else ()
    return Assessment(NAME, name, row.advice, number, said, not_assessed=unseen, next_ct_months=row.months)


def _excluded(nodules: Mapping[int, Incidental], shown: Mapping[int, Incidental], person: Person) -> tuple[str, ...]:
    """Why the guideline is not for this patient or these nodules."""
    why = []
    if person.age_years is not None and person.age_years < AGE_MIN:
        why.append(f"the patient is under {AGE_MIN} years")
    if person.cancer:
        why.append("a cancer is known")
    if person.weak_immunity:
        why.append("the immune system is weakened")
    if person.screening:
        why.append("it is screening")
    if not nodules:
        why.append("no nodule was marked, which does not exclude nodules")
    elif not shown:
        why.append("every nodule is plainly benign")
    why += [f"nodule {n} is above {MASS_MM} mm" for n, nodule in shown.items() if whole_mm(nodule.mean_mm) > MASS_MM]
    return tuple(why)


def _missing(shown: Mapping[int, Incidental], person: Person) -> tuple[str, ...]:
    asked = (
        (AGE, person.age_years),
        (CANCER, person.cancer),
        (IMMUNITY, person.weak_immunity),
        (SCREENING, person.screening),
    )
    missing = [what for what, known in asked if known is None]
    for number, nodule in shown.items():
        if nodule.calcified and nodule.benign is None:
            missing.append(f"pattern of the calcification of nodule {number}")
        if nodule.texture is None:
            missing.append(f"texture of nodule {number}")
        alone = len(shown) == 1 and nodule.texture == "part-solid" and size_of(nodule.mean_mm) is not Size.SMALL
        if alone and nodule.solid_mm is None:
            missing.append(f"size of the solid part of nodule {number}")
    textures = {nodule.texture == "solid" for nodule in shown.values()}
    if not missing and len(textures) > 1:
        missing.append(MOST_SUSPICIOUS)
    return tuple(missing)


def _row(shown: Mapping[int, Incidental], largest: Incidental) -> tuple[Row, Row, str]:
    """(for low risk, for high risk, name of the row)."""
    several, size = len(shown) > 1, size_of(largest.mean_mm)
    if largest.texture == "solid":
        return (*SOLID[several, size], f"{'several solid' if several else 'one solid'}, {size}")
    name = "under 6 mm" if size is Size.SMALL else "6 mm and more"
    if several:
        row = SEVERAL_SMALL if size is Size.SMALL else SEVERAL
        return row, row, f"several subsolid, {name}"
    row = NONE if size is Size.SMALL else NON_SOLID
    if largest.texture == "part-solid" and size is not Size.SMALL:
        row = PART_SOLID if whole_mm(largest.solid_mm or 0.0) < 6 else PART_SOLID_LARGE
    return row, row, f"one {largest.texture}, {name}"


def _said(person: Person) -> tuple[str, ...]:
    """What is known of the patient, for people: no more than the guideline asks."""

    def known(value: bool | None, yes: str, no: str, unknown: str) -> str:
        return unknown if value is None else yes if value else no

    return (
        "age unknown" if person.age_years is None else f"age {math.floor(person.age_years)}",
        known(person.cancer, "cancer known", "no cancer known", "cancer not said"),
        known(person.weak_immunity, "immune system weakened", "immune system not weakened", "immune system not said"),
        known(person.high_risk, "high risk", "low risk", "risk not said"),
    )


def _shown(nodule: Incidental) -> str:
    solid = f" (solid part {whole_mm(nodule.solid_mm)} mm)" if nodule.solid_mm is not None else ""
    return f"{whole_mm(nodule.mean_mm)} mm, {nodule.texture or 'texture unknown'}{solid}"
