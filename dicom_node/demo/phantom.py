"""The phantom as DICOM files: a chest CT with its localizer and a reformat, and a chest X-ray of the same patient.

The equipment says that it is a phantom. UIDs are derived from seed and salt: the same seed, salt and time give the same
files. The truth (`ChestPhantom.nodules`) is in none of them.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from scipy import ndimage

from dicom_node.results.context import MANUFACTURER
from dicom_node.results.uids import uid
from inference.phantom import ChestPhantom, RadiographPhantom

MODEL: Final = "Chest phantom"
PATIENT_ID: Final = "PHANTOM-1"
PATIENT_NAME: Final = "PHANTOM^CHEST"
ISSUER: Final = "PHANTOMS"
HU_OFFSET: Final = 1024  # stored 0 is -1024 HU
REFORMAT_MM: Final = 5.0


def write_ct_phantom(
    folder: Path, now: datetime, chest: ChestPhantom, *, salt: str = "", companions: bool = True
) -> list[Path]:
    """Write a CT study: series 1 a localizer, series 2 the axial slices (head first, as scanners number them),
    series 3 a
    coronal reformat of 5 mm. Without `companions` series 2 alone.

    Args:
        folder: made if missing.
        now: aware; the time of the study.
        salt: another salt makes other UIDs and another accession number of the same chest.
    Returns:
        the files in the order in which a scanner would send them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for instance in _ct_study(now, chest, salt, companions):
        path = folder / f"ct-{instance.SeriesNumber}-{instance.InstanceNumber:04d}.dcm"
        _save(instance, path)
        written.append(path)
    return written


def write_radiograph(
    folder: Path, now: datetime, picture: RadiographPhantom, *, salt: str = "", computed: bool = False
) -> list[Path]:
    """Write a study of one frontal chest X-ray: DX for presentation, or CR when `computed`."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "cr" if computed else "dx"
    key = f"{salt} {kind}"
    image = _base(now, key, f"X{_number(key)}", "CR" if computed else "DX", "Chest X-ray phantom")
    image.SOPClassUID = ComputedRadiographyImageStorage if computed else DigitalXRayImageStorageForPresentation
    image.SeriesInstanceUID = uid("phantom series", key)
    image.SOPInstanceUID = uid("phantom image", key)
    image.SeriesNumber = image.InstanceNumber = 1
    image.SeriesDescription = "Chest PA, phantom"
    image.ProtocolName = "Chest PA"
    image.ViewPosition = "PA"
    image.PatientOrientation = ["L", "F"]
    _set_pixels(image, picture.pixels, bits=12)
    if computed:
        image.PlateType, image.PixelSpacing = "PHANTOM", _pair(picture.spacing_mm)
    else:
        _set_dx(image, picture)
    path = folder / f"{kind}-1-0001.dcm"
    _save(image, path)
    return [path]


def _ct_study(now: datetime, chest: ChestPhantom, salt: str, companions: bool) -> Iterator[Dataset]:
    key = f"{salt} ct {chest.seed}"
    base = _base(now, key, f"C{_number(key)}", "CT", "Chest CT phantom")
    base.SOPClassUID = CTImageStorage
    base.FrameOfReferenceUID = uid("phantom frame of reference", key)
    base.PositionReferenceIndicator = ""
    base.ProtocolName = "Chest routine"
    base.KVP = "120"
    if companions:
        yield _localizer(base, chest, key)
    yield from _axial(base, chest, key)
    if companions:
        yield from _coronal(base, chest, key)


def _axial(base: Dataset, chest: ChestPhantom, key: str) -> Iterator[Dataset]:
    count = len(chest.hu)
    for number in range(1, count + 1):
        k = count - number
        x, y, z = (float(c) for c in (chest.affine @ (k, 0, 0, 1))[:3])
        slice_ = _ct_image(base, key, 2, number, chest.hu[k])
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.SeriesDescription = f"Chest {chest.spacing_mm[0]:g} mm soft, phantom"
        slice_.ConvolutionKernel = "PHANTOM SOFT"
        slice_.ImagePositionPatient = _decimals(x, y, z)
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing = _pair(chest.spacing_mm[1:])
        slice_.SliceThickness = f"{chest.spacing_mm[0]:g}"
        slice_.SliceLocation = f"{z:.3f}"
        slice_.WindowCenter, slice_.WindowWidth = ["-600", "40"], ["1500", "400"]
        yield slice_


def _coronal(base: Dataset, chest: ChestPhantom, key: str) -> Iterator[Dataset]:
    """Means of 5 mm along the back-to-front axis, with square pixels."""
    dz, dy, dx = chest.spacing_mm
    thick = max(1, round(REFORMAT_MM / dy))
    for number in range(1, chest.hu.shape[1] // thick + 1):
        rows = slice((number - 1) * thick, number * thick)
        flat = chest.hu[::-1, rows].mean(axis=1, dtype=np.float32)  # the head is up
        image = np.rint(ndimage.zoom(flat, (dz / dx, 1.0), order=1, grid_mode=True, mode="nearest")).astype(np.int16)
        x, y, z = (float(c) for c in (chest.affine @ (len(chest.hu) - 1, rows.start + (thick - 1) / 2, 0, 1))[:3])
        row_mm = dz * len(chest.hu) / len(image)
        plane = _ct_image(base, key, 3, number, image)
        plane.ImageType = ["DERIVED", "SECONDARY", "MPR"]
        plane.SeriesDescription = "Chest coronal 5 mm, phantom"
        plane.ConvolutionKernel = "PHANTOM SOFT"
        plane.ImagePositionPatient = _decimals(x, y, z + (dz - row_mm) / 2)
        plane.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        plane.PixelSpacing = _pair((row_mm, dx))
        plane.SliceThickness = f"{thick * dy:.3f}"
        plane.WindowCenter, plane.WindowWidth = "40", "400"
        yield plane


def _localizer(base: Dataset, chest: ChestPhantom, key: str) -> Dataset:
    """A projection from back to front, as the scanner makes it before the scan; its values are no true HU."""
    dz, dy, dx = chest.spacing_mm
    water = np.clip(chest.hu.astype(np.float32) + 1000, 0, None).sum(axis=1)[::-1] * (dy / 250) - 500
    projected = ndimage.zoom(water, (dz / dx, 1.0), order=1, grid_mode=True, mode="nearest")
    image = _ct_image(base, key, 1, 1, np.clip(np.rint(projected), -HU_OFFSET, 3071).astype(np.int16))
    x, _, z = (float(c) for c in (chest.affine @ (len(chest.hu) - 1, 0, 0, 1))[:3])
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    del image.RescaleType  # no HU
    image.SeriesDescription = "Localizer, phantom"
    image.ImagePositionPatient = _decimals(x, 0.0, z)
    image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    image.PixelSpacing = _pair((dz * len(chest.hu) / len(projected), dx))
    image.SliceThickness = f"{dy * chest.hu.shape[1]:.1f}"
    image.WindowCenter, image.WindowWidth = "400", "1600"
    return image


def _ct_image(base: Dataset, key: str, series: int, number: int, hu: npt.NDArray[np.int16]) -> Dataset:
    image = Dataset()
    image.update(base)  # the elements are shared: none of them is changed below
    image.SeriesInstanceUID = uid(f"phantom series {series}", key)
    image.SOPInstanceUID = uid(f"phantom series {series} image {number}", key)
    image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = series, number, 1
    _set_pixels(image, (hu.astype(np.int32) + HU_OFFSET).astype(np.uint16), bits=12)
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = f"{-HU_OFFSET}", "1", "HU"
    return image


def _base(now: datetime, key: str, accession: str, modality: str, study: str) -> Dataset:
    """What all images of one study share."""
    if now.tzinfo is None:
        raise ValueError("the time of a phantom must name its offset from UTC")
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 100"
    common.TimezoneOffsetFromUTC = now.strftime("%z")[:5]
    for part in ("Study", "Series", "Acquisition", "Content"):
        setattr(common, f"{part}Date", now.strftime("%Y%m%d"))
        setattr(common, f"{part}Time", now.strftime("%H%M%S"))
    common.StudyInstanceUID = uid("phantom study", key)
    common.StudyID = accession[:16]
    common.AccessionNumber = accession
    common.ReferringPhysicianName = ""
    common.StudyDescription = study
    common.PatientName, common.PatientID, common.IssuerOfPatientID = PATIENT_NAME, PATIENT_ID, ISSUER
    common.PatientBirthDate, common.PatientSex = "19600101", "O"
    common.Modality = modality
    common.Manufacturer, common.ManufacturerModelName = MANUFACTURER, MODEL
    common.StationName, common.SoftwareVersions = "PHANTOM", "1"
    common.DeviceSerialNumber = "0"
    common.InstitutionName = "No hospital: phantom"
    common.BodyPartExamined, common.PatientPosition = "CHEST", "HFS"
    common.BurnedInAnnotation, common.LossyImageCompression = "NO", "00"
    return common


def _set_pixels(image: Dataset, pixels: npt.NDArray[np.uint16], bits: int) -> None:
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, bits, bits - 1, 0
    image.PixelData = np.clip(pixels, 0, 2**bits - 1).astype("<u2").tobytes()


def _set_dx(image: Dataset, picture: RadiographPhantom) -> None:
    """What PS3.3 A.26 asks of a DX image for presentation."""
    image.ImageType = ["ORIGINAL", "PRIMARY", ""]
    image.PresentationIntentType = "FOR PRESENTATION"
    image.ImageLaterality = "U"
    image.AnatomicRegionSequence = [_coded(codes.SCT.Chest)]
    image.ViewCodeSequence = [_coded(codes.cid4010.PosteroAnterior)]
    image.ViewCodeSequence[0].ViewModifierCodeSequence = []
    image.AcquisitionContextSequence = []
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LOG", -1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "US"
    image.PresentationLUTShape = "IDENTITY"
    image.WindowCenter, image.WindowWidth = "2000", "3600"
    image.DetectorType, image.DetectorID = "DIRECT", "PHANTOM"
    image.ImagerPixelSpacing = _pair(picture.spacing_mm)
    image.PositionerType = "NONE"
    image.KVP = "120"
    del image.PatientPosition  # of stacks; here the view says it


def _coded(code: object) -> Dataset:
    item = Dataset()
    item.CodeValue = getattr(code, "value")  # noqa: B009  pydicom builds its codes at run time
    item.CodingSchemeDesignator = getattr(code, "scheme_designator")  # noqa: B009
    item.CodeMeaning = getattr(code, "meaning")  # noqa: B009
    return item


def _save(image: Dataset, path: Path) -> None:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


def _decimals(*values: float) -> list[str]:
    return [f"{value:.4f}" for value in values]


def _pair(values: tuple[float, ...]) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _number(key: str) -> str:
    """Eight digits that differ between phantoms, for the accession number."""
    return uid("phantom accession", key)[-8:]
