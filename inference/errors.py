"""What can keep a series from being read.

    NodeError
    └── ReadingError          `outcome` and `code` say what becomes of the series
        ├── NoLung            passed over: not for us
        ├── LungsCut          declined: too little of the lungs is there
        ├── LungsMayComplete  wait: given back, no attempt counted
        ├── NoDevice          failed: the device asked for does not work
        └── UnreadableReading failed: a kept reading is damaged or of another format
"""

from typing import ClassVar

from config.errors import NodeError


class ReadingError(NodeError):
    """A series was not read. `outcome`: what becomes of it; `code`: why, for machines."""

    outcome: ClassVar[str] = "failed"
    code: ClassVar[str] = "reading"


class NoLung(ReadingError):
    """There is no lung in the volume: passed over as not for us."""

    outcome = "passed_over"
    code = "no_lung"


class LungsCut(ReadingError):
    """More than a quarter of the largest lung cross-section lies on an end slice: too little is there to be read."""

    outcome = "declined"
    code = "lungs_cut"


class LungsMayComplete(ReadingError):
    """The lungs are cut at an end of the stack and more slices may come: the study is given back, no attempt counted."""

    outcome = "wait"
    code = "lungs_cut"


class NoDevice(ReadingError):
    """The device that was asked for is missing or does not work."""

    outcome = "failed"
    code = "no_device"


class UnreadableReading(ReadingError):
    """A kept reading is damaged or of another format: read the series again."""

    outcome = "failed"
    code = "kept_reading"
