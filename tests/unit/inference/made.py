"""Headers and small DICOM files for the tests of inference: what a scanner would send, with one thing changed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from inference.geometry import Stack
from inference.headers import Header

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def header(k: int = 0, **changes: Any) -> Header:
    """Slice k of an axial chest CT of 1 mm slices."""
    plain = Header(
        sop_instance_uid=f"1.2.3.{k + 1}",
        sop_class_uid=CT,
        series_instance_uid="1.2.3",
        study_instance_uid="1.2",
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        body_part="CHEST",
        kernel="STANDARD",
        manufacturer="GE MEDICAL SYSTEMS",
        series_number="2",
        instance_number=k + 1,
        acquisition_number=1,
        rows=512,
        columns=512,
        pixel_spacing=(0.7, 0.7),
        slice_thickness=1.0,
        position=(-180.0, -170.0, -300.0 + k),
        orientation=AXIAL,
        frame_of_reference_uid="1.2.9",
        photometric="MONOCHROME2",
        bits_allocated=16,
        has_pixels=True,
        age_years=60.0,
        acquired_at="2026-01-05T10:00:00+00:00",
        pixel_sha256=f"{k:064x}",
    )
    return replace(plain, **changes)


def stack(count: int = 300, **changes: Any) -> list[Header]:
    """An axial chest CT of `count` slices."""
    return [header(k, **changes) for k in range(count)]


def renamed(headers: Sequence[Header], series_uid: str, **changes: Any) -> list[Header]:
    """The same slices as another series."""
    return [
        replace(h, series_instance_uid=series_uid, sop_instance_uid=f"{series_uid}.{k}", **changes)
        for k, h in enumerate(headers)
    ]


def radiograph(**changes: Any) -> Header:
    """A chest X-ray, PA."""
    plain = header(
        sop_class_uid=DX, modality="DX", image_type=("ORIGINAL", "PRIMARY"), view_position="PA", rows=2000, columns=2000
    )
    return replace(plain, **changes)


def ct_dataset(k: int, pixels: np.ndarray, **changes: Any) -> Dataset:
    """One axial slice at z = k x 2.5 mm as a pydicom data set; `changes` are attributes by keyword (None: removed)."""
    plain = Dataset()
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"1.2.3.{k + 1}",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "PatientID": "P1",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesNumber": 2,
        "InstanceNumber": k + 1,
        "SliceThickness": "2.5",
        "ImagePositionPatient": ["-10", "-20", str(2.5 * k)],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "PixelSpacing": ["0.8", "0.6"],
        "FrameOfReferenceUID": "1.2.9",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in {**values, **changes}.items():
        if value is not None:
            setattr(plain, keyword, value)
    if "PixelData" in plain:
        plain["PixelData"].VR = "OW"
    return plain


def write(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """As a DICOM file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def patient(shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    """One slice with air around and in a block of soft tissue, int16 HU."""
    hu = np.full(shape, -1000, np.int16)
    hu[8:24, 4:28] = 40
    hu[12:20, 8:14] = -850
    return hu


def write_series(
    folder: Path, count: int, change: Callable[[int], dict[str, Any]] = lambda k: {}, noise_seed: int | None = 1
) -> list[Path]:
    """`count` slices of a patient; `change(k)` gives the attributes of slice k that differ."""
    random = np.random.default_rng(noise_seed)
    paths = []
    for k in range(count):
        hu = patient() + random.integers(-20, 20, (32, 32)).astype(np.int16)
        paths.append(write(ct_dataset(k, hu, **change(k)), folder / f"{k:03}.dcm"))
    return paths


def uids(found: Stack) -> list[str]:
    """SOP Instance UIDs in the order of the stack."""
    return [h.sop_instance_uid for h in found.headers]
