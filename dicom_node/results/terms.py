"""The words and codes that SEG and SR must have alike: tracking text, side, algorithm; and codes as highdicom wants
them."""

from collections.abc import Sequence
from typing import Final

from highdicom.sr import CodedConcept

from config.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME, Code, Codes
from dicom_node.results.errors import ResultError
from dicom_node.results.shadow import ascii_text
from inference.findings import Algorithm, Nodule

__all__ = [
    "PRIVATE_SCHEME",
    "PRIVATE_SCHEME_NAME",
    "algorithm_details",
    "concept",
    "main_algorithm",
    "side_of",
    "texture_of",
    "tracking_text",
]

_UNKNOWN: Final = Algorithm(task="detector", name="unnamed", version="unknown", sha256="", validation="demonstration")


def concept(code: Code) -> CodedConcept:
    """A code as a coded entry."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def tracking_text(nodule: Nodule) -> str:
    """Tracking Identifier and segment label: what a reader calls the nodule."""
    return f"Nodule {nodule.number}"


def side_of(nodule: Nodule, codes: Codes) -> Code | None:
    """The side as a modifier of the lung, None where the reading did not say."""
    site = (nodule.site or "").lower()
    return codes.right if "right" in site else codes.left if "left" in site else None


def texture_of(nodule: Nodule, codes: Codes) -> Code | None:
    """The code of the nodule's texture, None where no model graded it.

    Raises:
        ResultError: a texture that has no code; it must not get lost on the way into the report.
    """
    if nodule.texture is None:
        return None
    known = {
        "solid": codes.solid,
        "part-solid": codes.part_solid,
        "non-solid": codes.non_solid,
        "ground-glass": codes.non_solid,
    }
    name = nodule.texture.lower().replace("_", "-").replace(" ", "-")
    if name not in known:
        raise ResultError(f"no code for texture {nodule.texture!r}", f"nodule {nodule.number}", "report this as a bug")
    return known[name]


def main_algorithm(algorithms: Sequence[Algorithm]) -> Algorithm:
    """The step that gives the chain its name: the detector, or the first that there is."""
    named = [a for a in algorithms if a.task.startswith("detect")]
    return (named or [*algorithms, _UNKNOWN])[0]


def algorithm_details(algorithms: Sequence[Algorithm]) -> dict[str, str]:
    """Every step of the chain with version and digest, for Algorithm Parameters."""
    return {
        ascii_text(a.task, 64): ascii_text(f"{a.name} {a.version} sha256:{a.sha256} ({a.validation})")
        for a in algorithms
    }
