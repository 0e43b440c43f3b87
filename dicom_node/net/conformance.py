"""What the node says on the DICOM network, as data: SOP classes, transfer syntaxes, statuses, reasons of rejection.

The conformance statement is printed from here. When a status is sent is the receiver's business, what a peer's status
means to a delivery the courier's.
"""

from collections.abc import Mapping
from typing import Final, Literal

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

IMPLEMENTATION_CLASS_UID: Final = "2.25.255462630116234354868266846087395749042"
IMPLEMENTATION_VERSION_NAME: Final = "DICOM_NODE_0.1"  # at most 16 characters (PS3.7 D.3.3.2)

VERIFICATION: Final = "1.2.840.10008.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"

READ_SOP_CLASSES: Final[Mapping[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
}
"""What is read (For Processing: by configuration; of multi-frame objects those that hold one volume). All else of storage is
filed and set aside."""

NOTE_SOP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
"""Key Object Selection Document: set aside as well, but one with a title of IOCM takes instances out of reading."""

STORAGE_SOP_CLASSES: Final[tuple[str, ...]] = tuple(str(cx.abstract_syntax) for cx in AllStoragePresentationContexts)
"""Storage classes of the standard; private and unknown ones are taken too."""

TRANSFER_SYNTAXES: Final[tuple[str, ...]] = tuple(str(syntax) for syntax in ALL_TRANSFER_SYNTAXES)
"""Syntaxes of the standard; any other that is all a sender offers is filed too, for nothing is decoded on arrival."""

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000

STORE_STATUSES_SENT: Final[Mapping[int, str]] = {
    SUCCESS: "the object is durable",
    OUT_OF_RESOURCES: "the disk is above its high-water mark, or writing failed: nothing was kept, send again",
    CANNOT_UNDERSTAND: "the request had no data set: there is nothing to keep",
}

StatusKind = Literal["success", "warning", "refused"]
STORE_WARNINGS: Final[Mapping[int, str]] = {
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class",
}
"""The peer has the object all the same (PS3.4 B.2.3)."""

_FAILURES: Final[tuple[tuple[int, int, str], ...]] = (
    (0x0117, 0x0117, "invalid SOP Instance"),
    (0x0122, 0x0122, "SOP class not supported"),
    (0x0124, 0x0124, "not authorised"),
    (0x0110, 0x0110, "processing failure"),
    (0x0210, 0x0210, "duplicate invocation"),
    (0x0211, 0x0211, "unrecognised operation"),
    (0x0212, 0x0212, "mistyped argument"),
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "data set does not match SOP class"),
    (0xC000, 0xCFFF, "cannot understand"),
)  # PS3.4 B.2.3, PS3.7 C.5

REJECTIONS: Final[Mapping[tuple[int, int, int], str]] = {
    (1, 1, 1): "rejected, no reason given",
    (1, 1, 2): "application context not supported",
    (1, 1, 3): "calling AE title not recognised",
    (1, 1, 7): "called AE title not recognised",
    (1, 2, 1): "rejected, no reason given",
    (1, 2, 2): "protocol version not supported",
    (2, 3, 1): "temporary congestion",
    (2, 3, 2): "too many associations",
}
"""(result, source, diagnostic) of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

CALLING_AE_REJECTED: Final = (1, 1, 3)
CALLED_AE_REJECTED: Final = (1, 1, 7)
MALFORMED_REJECTED: Final = (1, 2, 1)
TOO_MANY_REJECTED: Final = (2, 3, 2)


def store_status(status: int) -> tuple[StatusKind, str]:
    """What a C-STORE response means, as the standard prints it: ("refused", "A700H out of resources")."""
    if status == SUCCESS:
        return "success", "0000H"
    if status in STORE_WARNINGS:
        return "warning", f"{status:04X}H {STORE_WARNINGS[status]}"
    text = next((text for low, high, text in _FAILURES if low <= status <= high), "unknown failure")
    return "refused", f"{status:04X}H {text}"


def rejection(result: int, source: int, diagnostic: int) -> str:
    """Why a peer rejected an association, in words."""
    reason = REJECTIONS.get((result, source, diagnostic), f"rejected ({result}, {source}, {diagnostic})")
    return f"{reason} (transient)" if result == 2 else reason


def is_read(sop_class_uid: str) -> bool:
    """Whether objects of this class may be read; all others are set aside."""
    return sop_class_uid in READ_SOP_CLASSES
