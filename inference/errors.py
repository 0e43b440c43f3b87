"""What can go wrong between files and findings.

NodeError
├── NotDicom                  no data set, or one that names no SOP Instance and study; it can't be filed
├── ModelRefused              weights are missing, or are not those of the catalogue; no reader starts
├── NoSuchData                offline: a data folder lacks what a training or an evaluation needs
├── InSample                  offline: an evaluation on patients that the weights were trained on; refused
├── LearnMissing              offline: the libraries of the extra `learn` are not installed
└── ReadingError              `outcome` and `code` say what becomes of the series
    ├── Unfit                 declined: ours, but it can't be read
    │   ├── OnlyLocalizer     nothing but localizers
    │   ├── NotOneVolume      two orientations, sizes, stacks or acquisitions in one series
    │   │   ├── MissingSlices a gap between two slices
    │   │   ├── UnevenSpacing slices at unequal distances
    │   │   ├── SamePlace     two different slices at one position
    │   │   ├── Tilted        slices are not stacked along their normal
    │   │   └── TooFewSlices  nothing to stack
    │   ├── NoGeometry        position, orientation, spacing or matrix is missing
    │   ├── NoPixels          no pixel data, or fewer bytes than rows and columns ask for
    │   ├── CannotDecode      the decoders can't read these pixels
    │   ├── NotHounsfield     the values are no HU: scale, range or content says so
    │   ├── NotForDisplay     a radiograph that can't be brought to display convention
    │   ├── NoContent         every pixel has the same value
    │   └── TooLarge          more memory than the limit allows
    ├── NoLung                passed over: not for us
    ├── LungBase              passed over: an end of the lungs in a scan of something else
    ├── LungsCut              declined: too little of the lungs is there
    ├── LungsMayComplete      wait: given back, no attempt counted
    ├── NoDevice              failed: the device asked for does not work
    └── UnreadableReading     failed: a kept reading is damaged or of another format
"""

from typing import ClassVar

from config.errors import NodeError


class NotDicom(NodeError):
    """No DICOM data set, or one without SOP Instance UID and Study Instance UID; the file can't be filed."""

    code: ClassVar[str] = "not_dicom"


class ModelRefused(NodeError):
    """Weights that are missing, or whose digest is not that of the catalogue: they are not loaded."""

    code: ClassVar[str] = "model_refused"


class NoSuchData(NodeError):
    """A data folder lacks what a training or an evaluation needs, or holds something else; no reading raises it."""

    code: ClassVar[str] = "no_such_data"


class InSample(NodeError):
    """An evaluation of weights on patients that they were trained on, or when nobody knows whether they were."""

    code: ClassVar[str] = "in_sample"


class LearnMissing(NodeError):
    """A library that only training and evaluation need is not installed."""

    code: ClassVar[str] = "learn_missing"


class ReadingError(NodeError):
    """A series was not read. `outcome`: what becomes of it; `code`: why, for machines; `what`: why, for people."""

    outcome: ClassVar[str] = "failed"
    code: ClassVar[str] = "reading"


class Unfit(ReadingError):
    """The series is one of ours, but what was sent can't be read."""

    outcome = "declined"
    code = "unfit"


class OnlyLocalizer(Unfit):
    """The series holds nothing but localizers (scout, topogram)."""

    code = "localizer"


class NotOneVolume(Unfit):
    """Two orientations, matrix sizes, stacks or acquisitions in one series."""

    code = "not_one_acquisition"


class MissingSlices(NotOneVolume):
    """A gap between two slices; `what` names its length and both positions."""

    code = "gap"


class UnevenSpacing(NotOneVolume):
    """The slices lie at unequal distances, and no single one is missing."""

    code = "spacing"


class SamePlace(NotOneVolume):
    """Two slices at one position with different pixels."""

    code = "duplicates"


class Tilted(NotOneVolume):
    """Gantry tilt: the slices are stacked along another direction than their normal."""

    code = "tilt"


class TooFewSlices(NotOneVolume):
    """One slice, or none: nothing to stack."""

    code = "too_few_slices"


class NoGeometry(Unfit):
    """Position, orientation, pixel spacing or matrix size is missing or makes no sense."""

    code = "no_geometry"


class NoPixels(Unfit):
    """No pixel data, or fewer bytes than rows and columns ask for."""

    code = "no_pixels"


class CannotDecode(Unfit):
    """The pinned decoders can't read these pixels."""

    code = "cannot_decode"


class NotHounsfield(Unfit):
    """The values are no Hounsfield units: the scale, the range or the content says so."""

    code = "not_hu"


class NotForDisplay(Unfit):
    """A radiograph that can't be brought to display convention (For Processing, colour)."""

    code = "not_for_display"


class NoContent(Unfit):
    """Every pixel has the same value: no picture."""

    code = "no_content"


class TooLarge(Unfit):
    """More memory than the limit allows."""

    code = "too_large"


class NoLung(ReadingError):
    """There is no lung in the volume: passed over as not for us."""

    outcome = "passed_over"
    code = "no_lung"


class LungBase(ReadingError):
    """An end of the lungs at one end of a scan that is of something else (an abdomen, a neck): passed over as not for us,
    unless the headers call it chest."""

    outcome = "passed_over"
    code = "lung_base"


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
