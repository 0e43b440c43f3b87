"""pynetdicom's own switches, in one place. They hold for a whole process; all are of its documented interface."""

from typing import Any, Final

from pynetdicom import _config

UID_CHARACTERS_MAX: Final = 1024


def prepare() -> None:
    """Set them; before the first AE is made. Again is no matter."""
    _config.LOG_HANDLER_LEVEL = "none"  # its handlers print data sets, and cost time for each PDU
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # private and unknown storage classes are filed as well
    _config.STORE_SEND_CHUNKED_DATASET = True  # a file goes out from its bytes, not decoded and encoded again
    _config.VALIDATORS["UI"] = _any_uid  # a SOP Instance UID of 70 characters would end the association, and the job


def _any_uid(value: Any) -> tuple[bool, str]:
    return 0 < len(value) <= UID_CHARACTERS_MAX, f"must have 1 to {UID_CHARACTERS_MAX} characters"
