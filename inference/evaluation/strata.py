"""Groups in which a figure is given again: size, texture, slice thickness, scanner maker, kernel, sex, age.

A group is a word; cases of which nobody knows it are in no group ("" or missing).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from inference.headers import Header
from inference.kernels import softness

STRATA: Final = ("size_mm", "texture", "slice_mm", "maker", "kernel", "sex", "age")
_SIZES: Final = ((5.0, "3-5"), (8.0, "5-8"), (15.0, "8-15"))
_SLICES: Final = ((1.3, "to 1.25"), (2.05, "1.25-2"), (3.05, "2-3"))
_AGES: Final = ((50.0, "to 49"), (65.0, "50-64"), (75.0, "65-74"))


def size_group(diameter_mm: float) -> str:
    """3-5, 5-8, 8-15 or above 15 mm."""
    return _first(diameter_mm, _SIZES, "above 15")


def slice_group(thickness_mm: float) -> str:
    """Slices as thick as this."""
    return _first(thickness_mm, _SLICES, "above 3")


def texture_class(mean_rating: float | None) -> str:
    """LIDC texture, 1 non-solid to 5 solid: mean at most 2, between, at least 4; "" where not rated."""
    if mean_rating is None:
        return ""
    return "non-solid" if mean_rating <= 2 else "solid" if mean_rating >= 4 else "part-solid"


def scanner_groups(header: Header) -> Mapping[str, str]:
    """What the header of a slice says of scanner and patient; "" what it does not."""
    maker = header.manufacturer.split()[0].capitalize() if header.manufacturer.strip() else ""
    return {
        "maker": {"Ge": "GE"}.get(maker, maker),
        "kernel": ("sharp" if softness(header.kernel, header.manufacturer) >= 2.0 else "soft") if header.kernel else "",
        "slice_mm": slice_group(header.slice_thickness) if header.slice_thickness else "",
        "sex": header.sex if header.sex in ("F", "M") else "",
        "age": _first(header.age_years, _AGES, "75 and more") if header.age_years is not None else "",
    }


def _first(value: float, bounds: Sequence[tuple[float, str]], above: str) -> str:
    return next((word for bound, word in bounds if value < bound), above)


def by_group(
    groups: Sequence[Mapping[str, str]], figure: Callable[[Sequence[int]], Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """A figure of each group that has cases: {stratum: {word: figure(places of its cases)}}, words sorted."""
    found: dict[str, dict[str, Any]] = {}
    for stratum in STRATA:
        words = [group.get(stratum, "") for group in groups]
        tables = {w: figure([n for n, word in enumerate(words) if word == w]) for w in sorted({*words} - {""})}
        if tables:
            found[stratum] = tables
    return found
