"""Results carry patient and study byte for byte as the images do, whatever stands there."""

import filecmp
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.results.errors import SourcesDisagree, SourceUnusable
from dicom_node.results.note import Rejection, write_note
from dicom_node.results.seg import write_seg
from dicom_node.results.shadow import IDENTITY, ascii_text, planes, references, unconcerned
from dicom_node.results.sr import write_sr
from tests.conftest import REPOSITORY
from tests.result_sources import (
    CONTEXT,
    HOSTILE_NAMES,
    ORDER,
    Series,
    ball,
    ct_reading,
    ct_series,
    hostile_series,
    report_of,
)


def raw(path: Path, tag: object) -> bytes | None:
    """The bytes of an element as they lie in the file, without padding; None where it is missing."""
    item = dcmread(path, stop_before_pixels=True, force=True).get_item(tag)
    if item is None:
        return None
    if isinstance(item.value, bytes | None):
        return (item.value or b"").rstrip(b" \0")
    values = item.value if isinstance(item.value, list) else [item.value]
    return "\\".join(str(v) for v in values).encode("latin-1")


def all_results(series: Series, folder: Path) -> list[Path]:
    """SEG, SR and a rejection note of one reading with one nodule."""
    reading = ct_reading(series, [ball(series, 1, (5, 20, 20))])
    seg = write_seg(reading, series.files, CONTEXT, folder / "seg.dcm")
    assert seg is not None
    sr = write_sr(report_of(reading), series.files, {series.uid: seg.path}, CONTEXT, folder / "sr.dcm")
    note = write_note([seg.path, sr.path], Rejection.QUALITY, CONTEXT, folder / "note.dcm")
    return [seg.path, sr.path, note.path]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_every_result_names_patient_and_study_in_the_bytes_of_the_images(tmp_path: Path, name: str) -> None:
    series = hostile_series(tmp_path / "ct", name)
    source = series.files[series.order[0]]
    for result in all_results(series, tmp_path):
        for tag in IDENTITY:
            expected = raw(source, tag)
            if expected is None and raw(result, tag) in (b"", b"see the images"):
                continue  # required: empty, or a pointer, where the source has none
            assert raw(result, tag) == expected, f"{tag} of {result.name}"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_encoding_of_the_images_does_not_matter(tmp_path: Path, syntax: str) -> None:
    series = ct_series(
        tmp_path / "ct", PatientName=b"M\xfcller^J\xf6rg", SpecificCharacterSet="ISO_IR 100", pixels=False
    )
    for path in series.files.values():
        source = dcmread(path)
        source.decode()
        plain = Dataset(source)
        plain.file_meta = source.file_meta
        plain.file_meta.TransferSyntaxUID = syntax
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dcmwrite(path, plain, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    for result in all_results(series, tmp_path):
        assert raw(result, "PatientName") == b"M\xfcller^J\xf6rg"
        assert raw(result, "AccessionNumber") == b"ACC1001"


def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    builds = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        builds.append([path.read_bytes() for path in all_results(series, tmp_path / name)])
    assert builds[0] == builds[1]


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    """A retry after a crash is another process, with another seed of Python's hashes."""
    code = (
        "import sys; from pathlib import Path; from tests.result_sources import ct_series\n"
        "from tests.unit.dicom_node.test_results_shadow import all_results\n"
        "all_results(ct_series(Path(sys.argv[1]) / 'ct'), Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", code, str(tmp_path / seed)]
        subprocess.run(command, check=True, cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": seed})
    for name in ("seg.dcm", "sr.dcm", "note.dcm"):
        assert filecmp.cmp(tmp_path / "1" / name, tmp_path / "2" / name, shallow=False)


def test_the_time_of_a_result_is_in_the_offset_of_the_images(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", TimezoneOffsetFromUTC="+0900")
    result = dcmread(all_results(series, tmp_path)[1])
    assert (result.ContentDate, result.ContentTime) == ("20260105", "191530")


def test_without_an_offset_in_the_images_the_site_decides(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", TimezoneOffsetFromUTC="CET")
    at = datetime(2026, 1, 5, 23, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=1)))
    written = write_sr(
        report_of(ct_reading(series)), series.files, {}, replace(CONTEXT, content_at=at), tmp_path / "sr.dcm"
    )
    result = dcmread(written.path)
    assert (result.ContentDate, result.ContentTime) == ("20260106", "003000")


def test_an_accession_number_that_only_the_order_knows_is_filled_in(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", AccessionNumber="")
    written = write_sr(
        report_of(ct_reading(series)), series.files, {}, replace(CONTEXT, order=ORDER), tmp_path / "sr.dcm"
    )
    assert dcmread(written.path).AccessionNumber == "ACC1001"


def test_an_accession_number_of_the_images_is_never_replaced(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", AccessionNumber="OTHER")
    written = write_sr(
        report_of(ct_reading(series)), series.files, {}, replace(CONTEXT, order=ORDER), tmp_path / "sr.dcm"
    )
    assert dcmread(written.path).AccessionNumber == "OTHER"


def shadow_of(series: Series) -> tuple[Dataset, tuple[str, ...]]:
    shadow = planes(series.files, series.order)
    return shadow.datasets[3], shadow.remarks


def test_a_decimal_comma_is_taken_as_a_point(tmp_path: Path) -> None:
    plane, _ = shadow_of(hostile_series(tmp_path, "decimal comma"))
    assert [float(v) for v in plane.ImagePositionPatient] == [-20.0, -30.0, 3.75]
    assert float(plane.SliceThickness) == 1.25


@pytest.mark.parametrize("name", ["no slice thickness", "empty slice thickness"])
def test_a_missing_thickness_is_the_distance_of_the_slices_and_the_result_says_so(tmp_path: Path, name: str) -> None:
    plane, remarks = shadow_of(hostile_series(tmp_path, name))
    assert float(plane.SliceThickness) == 1.25
    assert "Slice thickness is missing in the images; 1.25 mm is the distance of their slices" in remarks


@pytest.mark.parametrize(
    "name", ["no frame of reference", "empty frame of reference", "a frame of reference per slice"]
)
def test_a_volume_has_one_frame_of_reference_and_the_result_says_when_it_is_made_up(tmp_path: Path, name: str) -> None:
    shadow = planes((series := hostile_series(tmp_path, name)).files, series.order)
    assert len({d.FrameOfReferenceUID for d in shadow.datasets}) == 1
    assert shadow.datasets[0].FrameOfReferenceUID.startswith("2.25.")
    assert any("derived from the series" in remark for remark in shadow.remarks)


def test_a_frame_of_reference_that_all_slices_share_is_kept(tmp_path: Path) -> None:
    plane, remarks = shadow_of(ct_series(tmp_path))
    assert plane.FrameOfReferenceUID == "1.2.3.4.5.6.900"
    assert remarks == ()


def test_a_slightly_different_orientation_of_one_slice_is_that_of_the_first(tmp_path: Path) -> None:
    series = ct_series(tmp_path, per_slice=[{}, {"ImageOrientationPatient": "1\\0.001\\0\\-0.001\\1\\0"}])
    assert len({str(d.ImageOrientationPatient) for d in planes(series.files, series.order).datasets}) == 1


@pytest.mark.parametrize(
    "header",
    [
        {"ImagePositionPatient": None},
        {"ImagePositionPatient": "a\\b\\c"},
        {"ImageOrientationPatient": "1\\0\\0"},
        {"PixelSpacing": ""},
    ],
)
def test_slices_without_geometry_are_refused_with_the_series_named(
    tmp_path: Path, header: dict[str, str | None]
) -> None:
    series = ct_series(tmp_path, **header)
    with pytest.raises(SourceUnusable, match=r"1\.2\.3\.4\.5\.6: a slice has no position"):
        planes(series.files, series.order)


def test_two_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    series = ct_series(tmp_path, per_slice=[{}, {"ImagePositionPatient": "-20\\-30\\0"}])
    with pytest.raises(SourcesDisagree, match="same place"):
        planes(series.files, series.order)


def test_slices_of_two_sizes_are_refused(tmp_path: Path) -> None:
    series = ct_series(tmp_path, per_slice=[{}, {"Rows": b"\x20\0"}])
    with pytest.raises(SourcesDisagree, match="differ in size"):
        planes(series.files, series.order)


def test_a_slice_without_a_file_is_named(tmp_path: Path) -> None:
    series = ct_series(tmp_path)
    with pytest.raises(SourceUnusable, match=r"^1\.2\.3\.4\.5\.6\.2: no file"):
        references({k: v for k, v in series.files.items() if k != "1.2.3.4.5.6.2"}, series.order)


def test_a_file_that_is_gone_or_no_dicom_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.dcm"
    empty.write_bytes(b"")
    for path in (empty, tmp_path / "gone.dcm"):
        with pytest.raises(SourceUnusable):
            references({"1.2": path}, ["1.2"])


def test_a_result_is_of_one_study(tmp_path: Path) -> None:
    series = ct_series(tmp_path, per_slice=[{}, {"StudyInstanceUID": "1.9.9"}])
    with pytest.raises(SourcesDisagree, match="more than one study"):
        references(series.files, series.order)


def test_text_of_ours_fits_any_character_set() -> None:
    assert ascii_text("Kn\u00f6tchen\t\u7d50\u7bc0\r\n5 mm") == "Kn?tchen???\r\n5 mm"
    assert ascii_text("x" * 100, 64) == "x" * 64


def test_pydicom_is_as_strict_afterwards_as_it_was_before(tmp_path: Path) -> None:
    from pydicom import config

    before = (config.settings.reading_validation_mode, config.settings.writing_validation_mode)
    with pytest.raises(SourceUnusable), unconcerned():
        references({}, ["1.2"])
    assert (config.settings.reading_validation_mode, config.settings.writing_validation_mode) == before


def test_the_sources_may_be_headers_alone(tmp_path: Path) -> None:
    make: Callable[[bool, str], Series] = lambda pixels, name: ct_series(tmp_path / name, pixels=pixels)  # noqa: E731
    whole, headers = make(True, "whole"), make(False, "headers")
    for name, series in (("w", whole), ("h", headers)):
        (tmp_path / name).mkdir()
        all_results(series, tmp_path / name)
    assert filecmp.cmp(tmp_path / "w" / "seg.dcm", tmp_path / "h" / "seg.dcm", shallow=False)
