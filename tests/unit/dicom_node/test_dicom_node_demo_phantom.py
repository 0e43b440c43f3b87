"""The phantom's files are what a scanner would send: one study, three series, nothing of the truth."""

import filecmp
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.demo.phantom import write_ct_phantom, write_radiograph
from inference.phantom import ChestPhantom, chest_phantom, radiograph_phantom

NOW = datetime(2026, 1, 5, 10, 15, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_phantom(seed=2, spacing_mm=(5, 3.8, 3.8), shape=(60, 96, 96))


@pytest.fixture(scope="module")
def study(chest: ChestPhantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_ct_phantom(tmp_path_factory.mktemp("study"), NOW, chest)


def _series(paths: list[Path]) -> dict[int, list[pydicom.Dataset]]:
    found: dict[int, list[pydicom.Dataset]] = {}
    for path in paths:
        instance = pydicom.dcmread(path)
        found.setdefault(int(instance.SeriesNumber), []).append(instance)
    return found


def test_the_axial_slices_hold_the_phantom_voxel_by_voxel(chest: ChestPhantom, study: list[Path]) -> None:
    slices = sorted(_series(study)[2], key=lambda s: float(s.ImagePositionPatient[2]))
    assert len(slices) == len(chest.hu)
    for k, s in enumerate(slices):
        hu = s.pixel_array.astype(int) * int(s.RescaleSlope) + int(s.RescaleIntercept)
        assert np.array_equal(hu, chest.hu[k])
        assert np.allclose([float(v) for v in s.ImagePositionPatient], (chest.affine @ (k, 0, 0, 1))[:3], atol=1e-3)
    assert [s.InstanceNumber for s in slices] == list(range(len(slices), 0, -1))  # the head first, as scanners do


def test_the_reformat_lies_where_the_slices_lie(chest: ChestPhantom, study: list[Path]) -> None:
    """Its pixels are means of the volume at its own position and spacing."""
    planes = _series(study)[3]
    plane = planes[len(planes) // 2]
    x, y, z = (float(v) for v in plane.ImagePositionPatient)
    thick = round(float(plane.SliceThickness) / chest.spacing_mm[1])
    first = round((y - chest.origin_lps_mm[1]) / chest.spacing_mm[1] - (thick - 1) / 2)
    row = 20
    k = round((z - row * float(plane.PixelSpacing[0]) - chest.origin_lps_mm[2]) / chest.spacing_mm[0])
    expected = chest.hu[max(k - 1, 0) : k + 2, first : first + thick].mean(axis=(0, 1))
    got = plane.pixel_array[row].astype(float) - 1024
    assert x == pytest.approx(chest.origin_lps_mm[0], abs=1e-3)
    assert np.corrcoef(got, expected)[0, 1] > 0.98


def test_three_series_of_one_patient_and_one_study(study: list[Path]) -> None:
    series = _series(study)
    assert {n: len(s) for n, s in series.items()} == {1: 1, 2: 60, 3: 96}
    instances = [i for s in series.values() for i in s]
    assert len({i.SOPInstanceUID for i in instances}) == len(instances)
    for keyword in ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "AccessionNumber", "FrameOfReferenceUID"):
        assert len({i[keyword].value for i in instances}) == 1
    assert instances[0].StudyDate == "20260105"
    assert instances[0].TimezoneOffsetFromUTC == "+0100"
    assert "phantom" in instances[0].ManufacturerModelName.lower()


def test_the_truth_is_in_none_of_the_files(chest: ChestPhantom, study: list[Path]) -> None:
    for nodule in chest.nodules:
        written = f"{nodule.centre_lps_mm[0]:.1f}".encode()
        for path in study[::20]:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            assert written.decode() not in str(header)


def test_the_same_seed_salt_and_time_make_the_same_bytes_and_another_salt_other_uids(
    chest: ChestPhantom, study: list[Path], tmp_path: Path
) -> None:
    again = write_ct_phantom(tmp_path / "again", NOW, chest)
    assert len(again) == len(study)
    assert all(filecmp.cmp(*pair, shallow=False) for pair in zip(again, study, strict=True))
    other = write_ct_phantom(tmp_path / "other", NOW, chest, salt="2", companions=False)
    assert len(other) == 60
    assert pydicom.dcmread(other[0]).StudyInstanceUID != pydicom.dcmread(study[0]).StudyInstanceUID
    assert pydicom.dcmread(other[0]).AccessionNumber != pydicom.dcmread(study[0]).AccessionNumber


def test_the_radiograph_comes_as_dx_or_as_cr(tmp_path: Path) -> None:
    picture = radiograph_phantom(shape=(200, 240))
    dx, cr = (
        pydicom.dcmread(write_radiograph(tmp_path, NOW, picture, computed=computed)[0]) for computed in (False, True)
    )
    assert (dx.Modality, cr.Modality) == ("DX", "CR")
    assert (dx.ViewPosition, cr.ViewPosition) == ("PA", "PA")
    assert np.array_equal(dx.pixel_array, picture.pixels)
    assert dx.StudyInstanceUID != cr.StudyInstanceUID


def test_a_time_without_an_offset_is_refused(chest: ChestPhantom, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offset from UTC"):
        write_ct_phantom(tmp_path, datetime(2026, 1, 5, tzinfo=UTC).replace(tzinfo=None), chest)
