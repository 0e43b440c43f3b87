"""As many nodules as a result may have: every line is there, and a receiver with the smallest buffer can take it."""

from hl7.text import parse
from inference.findings import LUNG_RADS, Assessment

from .samples import DETECTOR, nodule, reading, render, report

SMALLEST_BUFFER = 64 * 1024
"""The stream limit of Python's asyncio, and so of receivers that never raised it; a longer message never arrives there."""


def test_thirty_graded_nodules_are_one_message_that_fits() -> None:
    nodules = [
        nodule(n, confidence=0.871, malignancy=0.372, texture="part-solid", spiculation=0.251, lobulation=0.512,
               calcified=True, tracking_uid="2.25." + str(2**127 + n))
        for n in range(1, 31)
    ]
    missing = tuple(f"size of the solid part of nodule {n}" for n in range(1, 31))
    inputs = tuple(f"nodule {n}: 8.2 mm mean diameter, part-solid, first CT" for n in range(1, 31))
    said = report(
        reading(*nodules, algorithms=(DETECTOR, DETECTOR, DETECTOR, DETECTOR),
                quality=("12 further places answered the detector; only the 30 strongest are shown",)),
        assessment=Assessment(LUNG_RADS, None, "", None, inputs, missing=missing),
    )
    message = render(said)
    assert len(message) < SMALLEST_BUFFER
    observations = [s for s in parse(message.decode()) if s.name == "OBX"]
    assert {o.value(4) for o in observations} == {str(n) for n in range(31)}
    assert len({len([o for o in observations if o.value(4) == str(n)]) for n in range(1, 31)}) == 1
    summary, = (o.value(5) for o in observations if o.value(3) == "AISUMMARY")
    assert "only the 30 strongest are shown" in summary
    assert "size of the solid part of nodule 30" in summary
    assert [int(o.value(1)) for o in observations] == list(range(1, len(observations) + 1))


def test_a_category_is_a_code_and_an_abstention_is_words_only() -> None:
    given = report(reading(nodule(1)), assessment=Assessment(LUNG_RADS, "3", "low-dose CT in 6 months", 1, ()))
    refused = report(reading(nodule(1)), assessment=Assessment(LUNG_RADS, None, "", None, (), missing=("texture",)))
    codes = []
    for said in (given, refused):
        found = {o.value(3): o.value(5) for o in parse(render(said).decode()) if o.name == "OBX"}
        codes.append(found.get("AILUNGRADS"))
        assert "Lung-RADS v2022 by software, for research" in found["AISUMMARY"]
    assert codes == ["LR3", None]
