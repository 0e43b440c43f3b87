"""What an instance is to this node: an image, something to set aside, our own, or a rejection note (IHE IOCM)."""

from typing import Final, Literal

from dicom_node.net.conformance import is_read
from dicom_node.results.context import is_ours
from inference.headers import Header

REJECTIONS: Final = {
    "113001": "rejected for quality reasons",
    "113037": "rejected for patient safety reasons",
    "113038": "incorrect modality worklist entry",
    "113039": "data retention policy expired",
}
WITHDRAW: Final = "withdraw-"  # incoming names of notes that `dicom-node withdraw` wrote
TAKE_BACK: Final = ("113001", "113037", "withdraw")

Kind = Literal["image", "set_aside", "own", "note"]


def kind_of(header: Header, incoming: str) -> Kind:
    """What an instance is to this node."""
    if header.note_title in REJECTIONS and (incoming.startswith(WITHDRAW) or not is_ours(header.model)):
        return "note"
    if is_ours(header.model):
        return "own"
    return "image" if is_read(header.sop_class_uid) else "set_aside"
