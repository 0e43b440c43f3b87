"""Results of a multi-frame CT point at the image and at the very frame; nothing else about them differs."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from inference.findings import LeftOut
from tests.multiframe import legacy
from tests.result_sources import CONTEXT, Series, as_frames, ball, ct_reading, ct_series, report_of

CENTRE = (5, 20, 20)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Series:
    return ct_series(tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def multi(single: Series, tmp_path_factory: pytest.TempPathFactory) -> tuple[Series, tuple[int, ...]]:
    return as_frames(legacy(list(single.files.values()), tmp_path_factory.mktemp("multi") / "m.dcm"))


def written(series: Series, folder: Path, frames: tuple[int, ...] = ()) -> tuple[Dataset, Dataset]:
    """SEG and SR of one nodule."""
    folder.mkdir()
    nodule = ball(series, 1, CENTRE)
    if frames:
        nodule = replace(nodule, key_slice=replace(nodule.key_slice, frame=frames[CENTRE[0]]))
    reading = ct_reading(series, [nodule], frames_read=frames)
    seg = write_seg(reading, series.files, CONTEXT, folder / "seg.dcm")
    assert seg is not None
    sr = write_sr(report_of(reading), series.files, {series.uid: seg.path}, CONTEXT, folder / "sr.dcm")
    return pydicom.dcmread(seg.path), pydicom.dcmread(sr.path)


def image_references(item: Dataset) -> list[Dataset]:
    """Every IMAGE content item's reference."""
    found = list(item.ReferencedSOPSequence) if item.get("ValueType") == "IMAGE" else []
    return found + [r for child in item.get("ContentSequence", ()) for r in image_references(child)]


def test_each_frame_of_the_seg_names_the_frame_it_was_made_from(
    tmp_path: Path, single: Series, multi: tuple[Series, tuple[int, ...]]
) -> None:
    series, frames = multi
    seg, _ = written(series, tmp_path / "multi", frames)
    place = {frame: k for k, frame in enumerate(frames)}
    thickness = 1.25
    for group in seg.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert (source.ReferencedSOPInstanceUID, source.ReferencedSOPClassUID) == (
            series.order[0],
            "1.2.840.10008.5.1.4.1.1.2.2",
        )
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        assert place[int(source.ReferencedFrameNumber)] * thickness == pytest.approx(z)
    (listed,) = seg.ReferencedSeriesSequence
    assert [i.ReferencedSOPInstanceUID for i in listed.ReferencedInstanceSequence] == [series.order[0]]
    assert "ReferencedFrameNumber" not in listed.ReferencedInstanceSequence[0]
    alone, _ = written(single, tmp_path / "single")
    assert np.array_equal(seg.pixel_array, alone.pixel_array)


def test_the_sr_names_the_frames_and_lists_the_image_once(
    tmp_path: Path, multi: tuple[Series, tuple[int, ...]]
) -> None:
    series, frames = multi
    seg, sr = written(series, tmp_path / "multi", frames)
    named = [r for r in image_references(sr) if r.ReferencedSOPInstanceUID == series.order[0]]
    slices = {frames[k] for k in range(CENTRE[0] - 3, CENTRE[0] + 4)}
    numbers = [r.ReferencedFrameNumber for r in named]
    assert sorted(int(n) for n in numbers[0]) == sorted(slices)
    assert numbers[1:] == [frames[CENTRE[0]]]
    evidence = [
        item.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    ]
    assert sorted(evidence) == sorted([series.order[0], seg.SOPInstanceUID])


def test_the_library_finds_the_source_frames_again(tmp_path: Path, multi: tuple[Series, tuple[int, ...]]) -> None:
    series, frames = multi
    written(series, tmp_path / "multi", frames)
    seg = hd.seg.segread(tmp_path / "multi" / "seg.dcm")
    by_frame = seg.get_pixels_by_source_frame(
        series.order[0],
        [frames[CENTRE[0]], frames[0]],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    assert by_frame[0].any()
    assert not by_frame[1].any()


def test_a_frame_that_was_left_out_is_named(tmp_path: Path, multi: tuple[Series, tuple[int, ...]]) -> None:
    series, frames = multi
    reading = replace(
        ct_reading(series, frames_read=frames[:-1]),
        slices_read=series.order[:-1],
        slices_left_out=(LeftOut(series.order[0], "a localizer", frames[-1]),),
    )
    sr = write_sr(report_of(reading), series.files, {}, CONTEXT, tmp_path / "sr.dcm")
    assert f"{series.order[0]} frame {frames[-1]}".encode() in sr.path.read_bytes()


def test_the_same_reading_gives_the_same_bytes(tmp_path: Path, multi: tuple[Series, tuple[int, ...]]) -> None:
    series, frames = multi
    for name in ("one", "two"):
        written(series, tmp_path / name, frames)
    for file in ("seg.dcm", "sr.dcm"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
