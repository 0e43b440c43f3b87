"""As many nodules as a result may have: every one has its segment, its two groups and its numbers."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
from pydicom import dcmread

from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from tests.result_sources import CHAIN, CONTEXT, GRADER, ball, ct_reading, ct_series, graded, report_of

BYTES_MAX = 1_000_000  # of either, but for the SEG's pixels


def test_thirty_graded_nodules_have_segments_and_groups(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", slices=40)
    nodules = [
        graded(ball(series, n + 1, (4 + 3 * (n // 3), 8 + 14 * (n % 3), 20), radius=1), "part-solid", n % 2 == 0)
        for n in range(30)
    ]
    quality = ("12 further places answered the detector; only the 30 strongest are shown",)
    reading = ct_reading(series, nodules, algorithms=(*CHAIN, GRADER), quality=quality)
    seg = write_seg(reading, series.files, CONTEXT, tmp_path / "seg.dcm")
    assert seg is not None
    written = write_sr(report_of(reading), series.files, {series.uid: seg.path}, CONTEXT, tmp_path / "sr.dcm")
    segments = dcmread(seg.path).SegmentSequence
    assert [s.SegmentNumber for s in segments] == list(range(1, 31))
    pixels = 90 * 48 * 48 // 8  # each nodule on three slices, a bit a pixel
    assert seg.size < BYTES_MAX + pixels
    assert written.size < BYTES_MAX
    report = hd.sr.srread(written.path).content
    volumetric, planar = report.get_volumetric_roi_measurement_groups(), report.get_planar_roi_measurement_groups()
    assert [g.tracking_uid for g in volumetric] == [g.tracking_uid for g in planar] == [n.tracking_uid for n in nodules]
    assert {len(g.get_measurements()) for g in volumetric} == {10}
    assert {len(g.get_measurements()) for g in planar} == {0}


def test_a_number_that_was_given_before_stays_with_its_segment(tmp_path: Path) -> None:
    """After revisions the numbers of thirty nodules may be any."""
    series = ct_series(tmp_path / "ct", slices=40)
    nodules = [replace(ball(series, 7 * n + 3, (4 + 3 * n, 20, 20), radius=1)) for n in range(10)]
    seg = write_seg(ct_reading(series, nodules), series.files, CONTEXT, tmp_path / "seg.dcm")
    assert seg is not None
    labels = [str(s.SegmentLabel) for s in dcmread(seg.path).SegmentSequence]
    assert labels == [f"Nodule {7 * n + 3}" for n in range(10)]
