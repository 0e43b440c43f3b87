"""Which guideline a study is for, by the site's words, and what it makes of the report's nodules.

Pure. The guidelines are in `inference/guidelines/`; here is only what this node knows and does not know of their inputs:
neither earlier CTs nor the patient's history, and of a lesion no more than the nodule says.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from config.settings import Guideline
from inference.findings import Assessment, Nodule, Report, Status
from inference.guidelines.fleischner import Incidental, Person, fleischner
from inference.guidelines.lung_rads import Change, Parenchymal, lung_rads
from inference.headers import Header
from inference.words import names_other_part

EITHER: Final = "Lung-RADS v2022 or Fleischner 2017"
BOTH: Final = "the study's words call it both screening and a finding by chance"
NOT_WHOLE: Final = "whether both lungs were read whole"
_TEXTURES: Final = {"solid": "solid", "part-solid": "part-solid", "non-solid": "non-solid", "ground-glass": "non-solid"}


def with_guideline(report: Report, headers: Sequence[Header], rules: Guideline) -> Report:
    """The report with what the guideline of its study says; as it was where the site's words name none, or no CT was read.

    Args:
        report: nodules numbered.
        headers: of the images read.
    """
    read = [r for r in report.readings if r.nodules is not None and r.status in (Status.COMPLETED, Status.PARTIAL)]
    text = "\n".join(
        {
            t: None
            for h in headers
            for t in (h.study_description, h.series_description, h.protocol, h.requested_procedure)
        }
    )
    whole = all(r.status is Status.COMPLETED and not r.limited for r in read)
    screening = names_other_part(text, rules.screening_words)
    incidental = names_other_part(text, rules.incidental_words)
    if not read or not (screening or incidental):
        return report
    if screening and incidental:
        said = Assessment(EITHER, None, "", None, (f"word {screening}", f"word {incidental}"), excluded=(BOTH,))
    elif screening:
        said = _screening(report.nodules, names_other_part(text, rules.first_words), whole, screening)
    else:
        said = _incidental(report.nodules, headers, rules, incidental)
        if not whole:
            said = replace(
                said, category=None, advice="", nodule=None, next_ct_months=None, missing=(*said.missing, NOT_WHOLE)
            )
    return replace(report, assessment=said)


def _screening(nodules: Sequence[Nodule], first_word: str, whole: bool, word: str) -> Assessment:
    change = Change.BASELINE if first_word else None
    lesions = {n.number: Parenchymal(n.mean_diameter_mm, _texture(n), change, calcified=n.calcified) for n in nodules}
    words = [f"screening (word {word})", *([f"first CT (word {first_word})"] if first_word else [])]
    return lung_rads(lesions, whole_lungs=whole or None, inputs=words)


def _incidental(nodules: Sequence[Nodule], headers: Sequence[Header], rules: Guideline, word: str) -> Assessment:
    ages = [h.age_years for h in headers if h.age_years is not None]
    known = False if rules.incidental_eligible else None  # neither a cancer nor a weak immune system: the site's word
    person = Person(min(ages, default=None), cancer=known, weak_immunity=known, high_risk=None)
    found = {n.number: Incidental(n.mean_diameter_mm, _texture(n), calcified=n.calcified) for n in nodules}
    return fleischner(found, person, [f"found by chance (word {word})"])


def _texture(nodule: Nodule) -> str | None:
    """As the guidelines call it; None where no model graded it."""
    return None if nodule.texture is None else _TEXTURES.get(nodule.texture.lower().replace("_", "-").replace(" ", "-"))
