"""Whole scans with truth: what is a hit, masks on the scan's grid, patients held out, files that are no mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from inference.errors import NoSuchData
from inference.findings import MaskCrop
from inference.training.scans import Scan, Truth, load_scan, load_scans, read_nifti, scan_folders

from .balls import chest


def scan_with(mask: MaskCrop | None, readers: int | None = 4, diameter_mm: float = 4.0) -> tuple[Scan, Truth]:
    truth = Truth(1, (30.0, 30.0, 30.0), diameter_mm, readers, mask, {})
    return Scan("one", "P", chest(), (truth,), True), truth


def test_a_centre_hits_within_the_radius_or_three_millimetres_of_the_nodules_centre() -> None:
    scan, small = scan_with(None)
    assert scan.hits(small, (30.0, 32.9, 30.0))
    assert not scan.hits(small, (30.0, 33.1, 30.0))
    _, large = scan_with(None, diameter_mm=12.0)
    assert scan.hits(large, (30.0, 35.9, 30.0))
    assert not scan.hits(large, (30.0, 36.1, 30.0))


def test_a_centre_hits_within_two_millimetres_of_the_mask() -> None:
    voxels = np.ones((1, 1, 9), bool)  # a line along x from 30 to 42 mm
    scan, truth = scan_with(MaskCrop((15, 20, 20), voxels))
    assert scan.hits(truth, (42.0, 31.9, 30.0))
    assert not scan.hits(truth, (42.0, 32.1, 30.0))


def test_fewer_than_three_readers_make_an_ignore_zone_and_one_outline_a_nodule() -> None:
    assert [scan_with(None, readers)[1].counts for readers in (1, 2, 3, 4, None)] == [False, False, True, True, True]


def test_of_a_patient_held_out_no_image_is_opened(tmp_path: Path) -> None:
    for name, patient in (("a", "P-1"), ("b", "P-2")):
        (tmp_path / "ct" / name / "dicom").mkdir(parents=True)
        truth = {"patient_id": patient, "nodules": [{"id": 1, "centre_lps_mm": [0, 0, 0], "diameter_mm": 5}]}
        (tmp_path / "ct" / name / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "ct" / name / "dicom" / "1.dcm").write_bytes(b"no DICOM: reading this fails")
    assert [folder.name for folder in scan_folders(tmp_path, [" p-1"])] == ["b"]
    assert list(load_scans(tmp_path, ["P-1", "P-2"])) == []
    with pytest.raises(Exception, match=r"\S"):
        list(load_scans(tmp_path, ["P-1"]))


def test_what_is_no_mask_and_a_folder_without_truth_are_said(tmp_path: Path) -> None:
    (tmp_path / "mask.nii").write_bytes(b"\0" * 400)
    with pytest.raises(NoSuchData, match="no little-endian NIfTI-1"):
        read_nifti(tmp_path / "mask.nii")
    with pytest.raises(NoSuchData, match=r"truth\.json"):
        load_scan(tmp_path)


@pytest.mark.shared
def test_masks_lie_on_the_nodules_of_a_public_scan(shared_data: Path) -> None:
    scan = load_scan(shared_data / "ct" / "lidc-idri-0063")
    assert scan.complete
    assert [t.counts for t in scan.truth] == [False, True, False, True]
    for truth in scan.truth:
        assert truth.mask is not None
        volume_mm3 = np.count_nonzero(truth.mask.voxels) * np.prod(scan.volume.spacing_mm)
        assert (6 / np.pi * volume_mm3) ** (1 / 3) == pytest.approx(truth.diameter_mm, abs=0.1)
        assert scan.distance_mm(truth.mask, truth.centre_lps_mm) < 3.0
