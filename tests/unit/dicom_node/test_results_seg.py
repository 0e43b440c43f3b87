"""The SEG holds the nodules voxel by voxel, at the places of their slices."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.codes import DEFAULT, Code
from dicom_node.results.context import MODEL, is_ours
from dicom_node.results.errors import NotWritten, SourcesDisagree
from dicom_node.results.seg import SERIES_DESCRIPTION, colour_of, write_seg
from inference.findings import Nodule, Reading
from tests.result_sources import CONTEXT, Series, ball, ct_reading, ct_series


def frames_of(seg: Dataset) -> list[tuple[int, str, list[float], np.ndarray]]:
    """(segment, source, position, pixels) of each frame, unpacked without the library that wrote them.

    A SEG of one segment names it in the shared functional groups.
    """
    size = seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    shared = seg.SharedFunctionalGroupsSequence[0]
    frames = []
    for n, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        holder = group if "SegmentIdentificationSequence" in group else shared
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        pixels = bits[n * size : (n + 1) * size].reshape(seg.Rows, seg.Columns).astype(bool)
        frames.append((holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber, str(source), position, pixels))
    return frames


def write(series: Series, nodules: Sequence[Nodule], folder: Path) -> Dataset:
    written = write_seg(ct_reading(series, nodules), series.files, CONTEXT, folder / "seg.dcm")
    assert written is not None
    return dcmread(written.path)


def many(series: Series) -> list[Nodule]:
    """Three nodules, two of which touch; the numbers are those of a revision."""
    return [
        ball(series, 1, (5, 10, 10)),
        ball(series, 3, (5, 10, 17), site="left lung"),
        ball(series, 7, (9, 30, 30), site=None),
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_each_voxel_is_on_its_own_slice(tmp_path: Path, count: int) -> None:
    series = ct_series(tmp_path)
    nodules = many(series)[:count]
    expected = {}
    for segment, nodule in enumerate(nodules, 1):
        for k, area in enumerate(nodule.mask.voxels, nodule.mask.start[0]):
            whole = np.zeros(series.shape[1:], bool)
            j, i = nodule.mask.start[1:]
            whole[j : j + area.shape[0], i : i + area.shape[1]] = area
            expected[segment, series.order[k]] = whole
    found = {}
    for segment, source, position, pixels in frames_of(write(series, nodules, tmp_path)):
        assert position == [-20.0, -30.0, series.order.index(source) * 1.25]
        found[segment, source] = pixels
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_another_reader_gets_the_same_volume_back(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    write(series, many(series), tmp_path)
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    assert sorted(np.unique(volume.array)) == [0, 1, 2, 3]
    assert [int((volume.array == n).sum()) for n in (1, 2, 3)] == [int(n.mask.voxels.sum()) for n in many(series)]


def test_the_order_of_instance_numbers_does_not_matter(tmp_path: Path) -> None:
    """The mask's k is the order in which the reading names its slices, never that of numbers or file names."""
    series = ct_series(tmp_path, per_slice=[{"InstanceNumber": str(99 - k)} for k in range(12)])
    nodule = ball(series, 1, (2, 20, 20), radius=2)
    sources = {source for _, source, _, _ in frames_of(write(series, [nodule], tmp_path))}
    assert sources == {f"1.2.3.4.5.6.{k + 1}" for k in range(5)}


def test_no_nodule_makes_no_seg(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    for nodules in ((), None):
        reading = replace(ct_reading(series), nodules=nodules)
        assert write_seg(reading, series.files, CONTEXT, tmp_path / "seg.dcm") is None
    assert not (tmp_path / "seg.dcm").exists()


def test_a_segment_says_what_where_by_whom_and_which_nodule(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    seg = write(series, many(series), tmp_path)
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [1, 2, 3]
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Nodule 1", "Nodule 3", "Nodule 7"]
    for segment, nodule in zip(seg.SegmentSequence, many(series), strict=True):
        assert (segment.TrackingID, segment.TrackingUID) == (f"Nodule {nodule.number}", nodule.tracking_uid)
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
        assert segment.AnatomicRegionSequence[0].CodeValue == "39607008"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("hessian-dot", "1.0")
        for digest in ("sha256:" + "b" * 64, "sha256:" + "c" * 64):
            assert digest in algorithm.AlgorithmParameters
    sides = [s.AnatomicRegionSequence[0].get("AnatomicRegionModifierSequence") for s in seg.SegmentSequence]
    assert [side and side[0].CodeMeaning for side in sides] == ["Right", "Left", None]


def test_each_nodule_has_the_colour_of_its_number(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    seg = write(series, many(series), tmp_path)
    lightness, a, b = colour_of(3)
    stored = seg.SegmentSequence[1].RecommendedDisplayCIELabValue
    assert stored == pytest.approx([lightness * 655.35, (a + 128) * 257, (b + 128) * 257], abs=1)
    assert len({tuple(s.RecommendedDisplayCIELabValue) for s in seg.SegmentSequence}) == 3


def test_the_whole_series_is_referenced(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    seg = write(series, many(series)[:1], tmp_path)
    referenced = seg.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == series.uid
    assert {i.ReferencedSOPInstanceUID for i in referenced.ReferencedInstanceSequence} == set(series.order)


def test_our_own_seg_is_known_when_it_comes_back(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    seg = write(series, many(series), tmp_path)
    assert is_ours(seg.ManufacturerModelName)
    assert seg.ManufacturerModelName == MODEL
    assert not is_ours(str(dcmread(series.files[series.order[0]]).get("ManufacturerModelName", "")))
    assert seg.SeriesDescription == SERIES_DESCRIPTION
    assert "RESEARCH - NOT FOR DIAGNOSIS" in seg.ContentDescription
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert seg.SegmentationType == "BINARY"
    assert seg.SegmentsOverlap == "NO"


def test_a_site_may_call_a_nodule_by_a_code_of_its_own(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    own = DEFAULT.remapped({"nodule": Code("N1", "99SITE", "Lung nodule")})
    reading = ct_reading(series, many(series))
    write_seg(reading, series.files, CONTEXT, tmp_path / "seg.dcm", own)
    assert dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "N1"


def broken(series: Series) -> dict[str, list[Nodule]]:
    good = ball(series, 1, (5, 20, 20))
    nothing = replace(good, mask=replace(good.mask, voxels=np.zeros_like(good.mask.voxels)))
    outside = replace(good, mask=replace(good.mask, start=(8, 20, 20)))
    return {"an empty mask": [nothing], "a mask outside": [outside], "an overlap": [good, ball(series, 2, (5, 20, 22))]}


@pytest.mark.parametrize("what", ["an empty mask", "a mask outside", "an overlap"])
def test_what_cannot_be_a_segment_is_refused_and_leaves_no_file(tmp_path: Path, what: str) -> None:
    series = ct_series(tmp_path / "ct")
    reading: Reading = ct_reading(series, broken(series)[what])
    with pytest.raises(SourcesDisagree, match="nodule"):
        write_seg(reading, series.files, CONTEXT, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


def test_a_disk_that_refuses_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    with pytest.raises(NotWritten):
        write_seg(ct_reading(series, many(series)), series.files, CONTEXT, tmp_path / "no folder" / "seg.dcm")
