"""Multi-frame CT objects for tests, made from single slices: by highdicom's converter, or by hand where a test turns things.

`legacy` is highdicom's Legacy Converted Enhanced CT; `enhanced` is ours, with the functional groups of an Enhanced CT and
nothing else, so that a test can put anything into them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

ENHANCED: Final = "1.2.840.10008.5.1.4.1.1.2.1"
Change = Callable[[int], dict[str, Any]]


def legacy(slices: Sequence[Path], path: Path, uid: str = "2.25.77", shuffle: int | None = 0) -> Path:
    """The slices as one Legacy Converted Enhanced CT of a series of its own, its frames in a random order."""
    sources = [pydicom.dcmread(s) for s in slices]
    for source in sources:
        if source.file_meta.TransferSyntaxUID.is_encapsulated:
            source.decompress()
    whole = hd.legacy.LegacyConvertedEnhancedCTImage(
        sources, series_instance_uid=f"{uid}1", series_number=77, sop_instance_uid=f"{uid}2", instance_number=1
    )
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(sources))
        whole.PixelData = whole.pixel_array[order].tobytes()
        groups = list(whole.PerFrameFunctionalGroupsSequence)
        whole.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
    whole.save_as(path, enforce_file_format=True)
    return path


def enhanced(
    stored: np.ndarray[Any, np.dtype[np.int16]],
    path: Path,
    change: Change = lambda n: {},
    syntax: str = ExplicitVRLittleEndian,
    compressed: Sequence[bytes] | None = None,
    **whole: Any,
) -> Path:
    """`stored` int16 [frame, row, column] as an Enhanced CT, frame n (from 0) at z = 2.5 n mm.

    `change(n)` overrides of frame n: `z`, `slope`, `intercept`, `stack`, `phase` (temporal position), `frame_type`,
    `technique`. `compressed`: frames already encoded in `syntax`. `whole` are elements of the object by keyword.
    """
    made = Dataset()
    values = {
        "SOPClassUID": ENHANCED, "SOPInstanceUID": "1.2.7.1", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.7",
        "Modality": "CT", "PatientID": "P1", "PatientName": "Test^Frames", "PatientAge": "060Y", "SeriesNumber": 7,
        "InstanceNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "FrameOfReferenceUID": "1.2.9",
        "PositionReferenceIndicator": "", "NumberOfFrames": len(stored), "Rows": stored.shape[1], "Columns": stored.shape[2],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16,
        "HighBit": 15, "PixelRepresentation": 1, "PatientBirthDate": "", "PatientSex": "", "StudyID": "", "StudyDate": "",
        "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "",
    }  # fmt: skip
    for keyword, value in {**values, **whole}.items():
        setattr(made, keyword, value)
    measures = _item(PixelSpacing=["0.8", "0.6"], SliceThickness="2.5")
    orientation = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    made.SharedFunctionalGroupsSequence = [
        _item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation],
              CTReconstructionSequence=[_item(ConvolutionKernel="B31f")])
    ]  # fmt: skip
    made.PerFrameFunctionalGroupsSequence = [_frame(n, change(n)) for n in range(len(stored))]
    if compressed is None:
        made.PixelData = stored.astype("<i2").tobytes()
        made["PixelData"].VR = "OW"
    else:
        made.PixelData = encapsulate(list(compressed), has_bot=False)
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = ENHANCED, made.SOPInstanceUID
    made.save_as(path, enforce_file_format=True)
    return path


def _frame(n: int, change: dict[str, Any]) -> Dataset:
    content = _item(StackID=change.get("stack", "1"))
    if "phase" in change:
        content.TemporalPositionIndex = change["phase"]
    return _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[_item(ImagePositionPatient=["-10", "-20", f"{change.get('z', 2.5 * n):g}"])],
        PixelValueTransformationSequence=[
            _item(RescaleSlope=str(change.get("slope", 1)), RescaleIntercept=str(change.get("intercept", 0)),
                  RescaleType="HU")
        ],
        CTImageFrameTypeSequence=[
            _item(FrameType=change.get("frame_type", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
                  PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME",
                  VolumeBasedCalculationTechnique=change.get("technique", "NONE"))
        ],
    )  # fmt: skip


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
