"""The SR says what was found, and never more than that."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results.context import ResultContext, is_ours
from dicom_node.results.errors import ResultError, SourceUnusable
from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from inference.findings import LUNG_RADS, Assessment, Finding, Nodule, NotRead, Reason, Report, Status, sentences
from tests.result_sources import (
    CHAIN,
    CONTEXT,
    GRADER,
    LEFT_OUT,
    ORDER,
    Series,
    ball,
    ct_reading,
    ct_series,
    graded,
    radiograph,
    radiograph_reading,
    report_of,
)

GAP = Reason("gap", "slices are missing: 32.5 mm between z = -100.0 and z = -67.5")


def write(report: Report, series: Series, folder: Path, context: ResultContext = CONTEXT) -> Dataset:
    segs = {}
    for reading in report.readings:
        written = write_seg(reading, series.files, context, folder / "seg.dcm")
        if written is not None:
            segs[reading.series_instance_uid] = written.path
    return dcmread(write_sr(report, series.files, segs, context, folder / "sr.dcm").path)


def items(node: Dataset, keyword: str = "") -> Iterator[Dataset]:
    """All content items, depth first; with a code value those of that name."""
    for item in node.get("ContentSequence", ()):
        name = item.get("ConceptNameCodeSequence")
        if not keyword or (name and name[0].CodeValue == keyword):
            yield item
        yield from items(item, keyword)


def texts(sr: Dataset) -> str:
    return "\n".join(item.TextValue for item in items(sr) if item.ValueType == "TEXT")


def nodules_of(series: Series, count: int) -> list[Nodule]:
    made = [
        ball(series, 1, (5, 10, 10)),
        ball(series, 3, (5, 10, 17), site="left lung"),
        ball(series, 7, (8, 30, 30), site=None),
    ]
    return made[:count]


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return ct_series(tmp_path / "ct")


@pytest.mark.parametrize("count", [1, 3])
def test_each_nodule_is_one_volumetric_and_one_planar_group_of_one_tracking_pair(
    tmp_path: Path, series: Series, count: int
) -> None:
    nodules = nodules_of(series, count)
    write(report_of(ct_reading(series, nodules)), series, tmp_path)
    content = hd.sr.srread(tmp_path / "sr.dcm").content
    for groups in (content.get_volumetric_roi_measurement_groups(), content.get_planar_roi_measurement_groups()):
        pairs = [(g.tracking_identifier, g.tracking_uid) for g in groups]
        assert pairs == [(f"Nodule {n.number}", n.tracking_uid) for n in nodules]
        assert all(g.finding_type.value == "27925004" for g in groups)


def test_each_number_stands_once_and_is_the_number_of_the_reading(tmp_path: Path, series: Series) -> None:
    nodule = replace(ball(series, 2, (5, 20, 20)), confidence=0.873, malignancy=0.37, spiculation=0.1, lobulation=0.25)
    sr = write(report_of(ct_reading(series, [nodule])), series, tmp_path)
    numbers = [
        (
            i.ConceptNameCodeSequence[0].CodeValue,
            float(i.MeasuredValueSequence[0].NumericValue),
            i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for i in items(sr)
        if i.ValueType == "NUM"
    ]
    assert numbers == [
        ("103339001", nodule.long_axis_mm, "mm"),
        ("103340004", nodule.short_axis_mm, "mm"),
        ("81827009", nodule.mean_diameter_mm, "mm"),
        ("118565006", nodule.volume_mm3, "mm3"),
        ("112031", nodule.mean_hu, "[hnsf'U]"),
        ("118538004", nodule.mass_mg, "mg"),
        ("AIDETECTION", 0.873, "1"),
        ("AISUSP", 0.37, "1"),
        ("AISPICULATION", 0.1, "1"),
        ("AILOBULATION", 0.25, "1"),
    ]


def test_what_no_model_said_is_not_in_the_report(tmp_path: Path, series: Series) -> None:
    sr = write(report_of(ct_reading(series, [ball(series, 1, (5, 20, 20))])), series, tmp_path)
    names = {i.ConceptNameCodeSequence[0].CodeValue for i in items(sr)}
    assert not names & {"AIDETECTION", "AISUSP", "AISPICULATION", "AILOBULATION", "C41144", "C3672"}
    assert "CodingSchemeIdentificationSequence" not in sr


def test_grades_are_scores_of_readers_opinion_and_say_whose(tmp_path: Path, series: Series) -> None:
    reading = ct_reading(series, [graded(ball(series, 1, (5, 20, 20)))], algorithms=(*CHAIN, GRADER))
    sr = write(report_of(reading), series, tmp_path)
    said = texts(sr)
    assert "Grades of nodules by graded-by-test 1.0 (measured): scores trained on readers' opinion" in said
    assert "no probabilities" in said
    values = [(i, i.MeasuredValueSequence[0]) for i in items(sr) if i.ValueType == "NUM"]
    scores = [i for i, value in values if value.MeasurementUnitsCodeSequence[0].CodeValue == "1"]
    meanings = [i.ConceptNameCodeSequence[0].CodeMeaning for i in scores]
    assert meanings[0] == "Detection score"
    assert len(meanings) == 4
    assert all("score, trained on readers' opinion" in meaning for meaning in meanings[1:])


def test_a_nodule_without_errors_has_none_beside_its_numbers(tmp_path: Path, series: Series) -> None:
    """As one kept by an earlier version."""
    old = replace(
        ball(series, 1, (5, 20, 20)), size_error_mm=None, volume_error_mm3=None, mass_mg=None, mass_error_mg=None
    )
    sr = write(report_of(ct_reading(series, [old])), series, tmp_path)
    assert "118538004" not in {i.ConceptNameCodeSequence[0].CodeValue for i in items(sr)}
    assert "voxel size alone" not in texts(sr)


def test_a_guideline_is_a_code_and_a_sentence_for_research(tmp_path: Path, series: Series) -> None:
    said = Assessment(LUNG_RADS, "4A", "low-dose CT in 3 months", 1, ("nodule 1: 9.0 mm",), next_ct_months=(3, 3))
    report = replace(report_of(ct_reading(series, [ball(series, 1, (5, 20, 20))])), assessment=said)
    sr = write(report, series, tmp_path)
    assert next(items(sr, "AILUNGRADS")).ConceptCodeSequence[0].CodeValue == "LR4A"
    assert "Lung-RADS v2022 by software, for research: category 4A by nodule 1: low-dose CT in 3 months." in texts(sr)


def test_an_abstention_is_a_sentence_and_no_code(tmp_path: Path, series: Series) -> None:
    said = Assessment(LUNG_RADS, None, "", None, (), missing=("texture of nodule 1",))
    report = replace(report_of(ct_reading(series, [ball(series, 1, (5, 20, 20))])), assessment=said)
    sr = write(report, series, tmp_path)
    assert not list(items(sr, "AILUNGRADS"))
    assert "no category, for these are missing: texture of nodule 1." in texts(sr)


def test_attributes_are_coded(tmp_path: Path, series: Series) -> None:
    nodule = replace(ball(series, 1, (5, 20, 20)), texture="part_solid", calcified=False)
    sr = write(report_of(ct_reading(series, [nodule])), series, tmp_path)
    assert next(items(sr, "C41144")).ConceptCodeSequence[0].CodeValue == "RID50152"
    assert next(items(sr, "C3672")).ConceptCodeSequence[0].CodeValue == "272519000"


def test_a_texture_without_a_code_is_an_error_and_not_lost(tmp_path: Path, series: Series) -> None:
    nodule = replace(ball(series, 1, (5, 20, 20)), texture="fluffy")
    with pytest.raises(ResultError, match="fluffy"):
        write(report_of(ct_reading(series, [nodule])), series, tmp_path)


def test_the_segment_and_its_slices_are_referenced(tmp_path: Path, series: Series) -> None:
    nodules = nodules_of(series, 3)
    sr = write(report_of(ct_reading(series, nodules)), series, tmp_path)
    seg = dcmread(tmp_path / "seg.dcm")
    segments = [i.ReferencedSOPSequence[0] for i in items(sr, "121191")]
    assert [(s.ReferencedSOPInstanceUID, s.ReferencedSegmentNumber) for s in segments] == [
        (seg.SOPInstanceUID, n) for n in (1, 2, 3)
    ]
    sources = {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in items(sr, "121233")}
    assert sources == {series.order[k] for k in range(2, 12)}


def test_the_circle_lies_on_the_key_slice_around_the_outline(tmp_path: Path, series: Series) -> None:
    nodule = ball(series, 1, (5, 20, 30))
    sr = write(report_of(ct_reading(series, [nodule])), series, tmp_path)
    region = next(items(sr, "111030"))
    x, y, rim_x, rim_y = region.GraphicData
    assert region.GraphicType == "CIRCLE"
    assert (x, y) == nodule.key_slice.centre_px
    assert (abs(rim_x - x), rim_y) == (nodule.key_slice.radius_px, y)
    assert (
        region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == nodule.key_slice.sop_instance_uid
    )


@pytest.mark.parametrize("column", [1.0, 46.5])
def test_the_circle_of_a_nodule_at_the_edge_has_its_rim_in_the_image(
    tmp_path: Path, series: Series, column: float
) -> None:
    nodule = ball(series, 1, (5, 20, 30))
    edge = replace(nodule, key_slice=replace(nodule.key_slice, centre_px=(column, 20.5)))
    region = next(items(write(report_of(ct_reading(series, [edge])), series, tmp_path), "111030"))
    assert 0 <= region.GraphicData[2] <= 48


def outcomes(series: Series) -> dict[str, Report]:
    nodules = nodules_of(series, 2)
    declined = NotRead(series.uid, "CT", "declined", GAP, "2")
    return {
        "some": report_of(ct_reading(series, nodules)),
        "none": report_of(ct_reading(series)),
        "partial, some": report_of(ct_reading(series, nodules, Status.PARTIAL)),
        "partial, none": report_of(ct_reading(series, (), Status.PARTIAL)),
        "not analysed": report_of(not_read=[declined], reason=GAP),
        "failed": report_of(
            not_read=[replace(declined, outcome="failed")], reason=Reason("failed", "three attempts failed")
        ),
    }


@pytest.mark.parametrize(
    ("name", "status", "completion", "not_detected"),
    [
        ("some", "111222", "COMPLETE", False),
        ("none", "111222", "COMPLETE", True),
        ("partial, some", "111223", "PARTIAL", False),
        ("partial, none", "111223", "PARTIAL", False),
        ("not analysed", "111225", "PARTIAL", False),
        ("failed", "111224", "PARTIAL", False),
    ],
)
def test_each_outcome_has_its_status_and_only_whole_lungs_without_nodules_say_not_detected(
    tmp_path: Path, series: Series, name: str, status: str, completion: str, not_detected: bool
) -> None:
    report = outcomes(series)[name]
    sr = write(report, series, tmp_path)
    assert next(items(sr, "111065")).ConceptCodeSequence[0].CodeValue == status
    assert sr.CompletionFlag == completion
    assert (sr.VerificationFlag, sr.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    said = [i.ConceptCodeSequence[0].CodeValue for i in items(sr, "27925004")]
    assert said == (["260415000"] if not_detected else [])
    assert next(items(sr, "121077")).TextValue == "\r\n".join(sentences(report))
    assert len(hd.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()) == len(report.nodules)


@pytest.mark.parametrize("name", ["some", "none", "partial, some", "partial, none", "not analysed", "failed"])
def test_no_report_claims_what_nobody_looked_for(tmp_path: Path, series: Series, name: str) -> None:
    sr = write(outcomes(series)[name], series, tmp_path)
    assert "RESEARCH - NOT FOR DIAGNOSIS" in texts(sr)
    assert "not reviewed by a radiologist" in texts(sr)
    assert not re.search(r"\b(absent|normal|negative|cancer)\b", texts(sr), re.IGNORECASE)
    meanings = {c.CodeMeaning for i in items(sr) for c in i.get("ConceptCodeSequence", ())}
    assert "Absent" not in meanings
    assert is_ours(sr.ManufacturerModelName)


def test_a_device_observes_and_no_person(tmp_path: Path, series: Series) -> None:
    sr = write(report_of(ct_reading(series)), series, tmp_path)
    assert [i.ConceptCodeSequence[0].CodeValue for i in items(sr, "121005")] == ["121007"]
    assert next(items(sr, "121013")).TextValue == "DICOMNODE"
    assert next(items(sr, "121016")).TextValue == "TEST-0001"
    assert CONTEXT.device.uid == next(items(sr, "121012")).UID
    assert not any(i.ValueType == "PNAME" for i in items(sr))
    assert "VerifyingObserverSequence" not in sr


def evidence(sr: Dataset) -> set[str]:
    return {
        i.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for s in study.ReferencedSeriesSequence
        for i in s.ReferencedSOPSequence
    }


def test_the_evidence_is_every_instance_read_and_the_seg(tmp_path: Path, series: Series) -> None:
    reading = replace(
        ct_reading(series, nodules_of(series, 1)), slices_read=series.order[:11], slices_left_out=(LEFT_OUT,)
    )
    sr = write(report_of(reading), series, tmp_path)
    assert evidence(sr) == {*series.order[:11], dcmread(tmp_path / "seg.dcm").SOPInstanceUID}
    assert f"Left out (same position as another slice): {LEFT_OUT.sop_instance_uid}." in texts(sr)


def test_a_study_that_was_not_analysed_names_the_instances_known(tmp_path: Path, series: Series) -> None:
    assert evidence(write(outcomes(series)["not analysed"], series, tmp_path)) == set(series.order)


def test_provenance_is_in_the_report(tmp_path: Path, series: Series) -> None:
    sr = write(report_of(ct_reading(series, nodules_of(series, 1))), series, tmp_path)
    said = texts(sr)
    for digest in ("a", "b", "c"):
        assert f"sha256:{digest * 64}" in said
    assert f"Settings sha256:{'5' * 64}." in said
    assert f"Result key {CONTEXT.key}." in said
    expected = "Nodule 1: the voxel size alone can change a length by 1.1 mm, the volume by 21 mm3, the mass by 11 mg."
    assert expected in said
    assert [i.TextValue for i in items(sr, "111001")] == ["hessian-dot"] * 2


def test_a_revision_names_the_report_it_replaces(tmp_path: Path, series: Series) -> None:
    (tmp_path / "first").mkdir()
    first = write(report_of(ct_reading(series)), series, tmp_path / "first")
    context = replace(CONTEXT, key="e" * 64, revision=2, predecessor=tmp_path / "first" / "sr.dcm")
    second = write(report_of(ct_reading(series, nodules_of(series, 1))), series, tmp_path, context)
    predecessor = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert predecessor.SeriesInstanceUID == first.SeriesInstanceUID
    assert predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert "replaces the one named as its predecessor" in texts(second)
    assert "PredecessorDocumentsSequence" not in first


def test_the_order_is_named_where_it_is_known(tmp_path: Path, series: Series) -> None:
    request = write(
        report_of(ct_reading(series)), series, tmp_path, replace(CONTEXT, order=ORDER)
    ).ReferencedRequestSequence[0]
    assert (request.AccessionNumber, request.PlacerOrderNumberImagingServiceRequest) == ("ACC1001", "PL-1")
    assert (request.FillerOrderNumberImagingServiceRequest, request.RequestedProcedureID) == ("FI-1", "RP-1")
    assert request.StudyInstanceUID == "1.2.3.4.5"
    assert "ReferencedRequestSequence" not in write(report_of(ct_reading(series)), series, tmp_path)


def test_a_radiograph_names_its_reported_findings_with_their_image(tmp_path: Path) -> None:
    image = radiograph(tmp_path / "dx")
    findings = [
        Finding(image.order[0], "Cardiomegaly", 0.812, True, False),
        Finding(image.order[0], "Hernia", 0.9, False, False),
    ]
    sr = write(report_of(radiograph_reading(image, *findings)), image, tmp_path)
    group = hd.sr.srread(tmp_path / "sr.dcm").content.get_image_measurement_groups()
    assert [g.tracking_identifier for g in group] == ["Cardiomegaly"]
    assert [float(i.MeasuredValueSequence[0].NumericValue) for i in items(sr) if i.ValueType == "NUM"] == [0.812]
    assert next(items(sr, "121058")).ConceptCodeSequence[0].CodeValue == "363679005"
    assert not list(items(sr, "27925004"))
    assert evidence(sr) == set(image.order)


def test_a_radiograph_that_was_not_analysed_says_why(tmp_path: Path) -> None:
    image = radiograph(tmp_path / "dx")
    reason = Reason("no_model", "no model for chest X-rays is installed")
    sr = write(report_of(not_read=[NotRead(image.uid, "DX", "declined", reason)], reason=reason), image, tmp_path)
    assert "Not analysed: no model for chest X-rays is installed." in texts(sr)
    assert next(items(sr, "121058")).ConceptCodeSequence[0].CodeValue == "363679005"


def test_what_the_shadow_made_up_is_said(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", FrameOfReferenceUID=None, SliceThickness="")
    said = texts(write(report_of(ct_reading(series, nodules_of(series, 1))), series, tmp_path))
    assert "the segmentation has one derived from the series" in said
    assert "1.25 mm is the distance of their slices" in said


def test_a_nodule_without_its_segment_is_refused(tmp_path: Path, series: Series) -> None:
    with pytest.raises(SourceUnusable, match="nodule 1: no segment"):
        write_sr(report_of(ct_reading(series, nodules_of(series, 1))), series.files, {}, CONTEXT, tmp_path / "sr.dcm")


def test_words_that_no_character_set_holds_are_written_with_question_marks(tmp_path: Path, series: Series) -> None:
    report = report_of(ct_reading(series), notes=["Kn\u00f6tchen \u7d50\u7bc0"])
    assert "Kn?tchen ??." in texts(write(report, series, tmp_path))


def test_bytes_do_not_hang_on_the_order_of_the_files_given(tmp_path: Path, series: Series) -> None:
    report = outcomes(series)["not analysed"]
    orders: Sequence[dict[str, Path]] = [dict(series.files), dict(reversed(series.files.items()))]
    written = [write_sr(report, files, {}, CONTEXT, tmp_path / "sr.dcm").sha256 for files in orders]
    assert written[0] == written[1]


def test_objects_of_private_classes_in_the_study_are_evidence_but_never_all_of_it(tmp_path: Path) -> None:
    private = {"SOPClassUID": "1.2.276.0.19.55.1"}
    report = report_of(not_read=[NotRead("1.2.3.4.5.6", "CT", "declined", GAP)], reason=GAP)
    mixed = ct_series(tmp_path / "mixed", slices=2, per_slice=[private])
    assert evidence(write(report, mixed, tmp_path)) == set(mixed.order)
    alone = ct_series(tmp_path / "alone", slices=2, per_slice=[private, private])
    with pytest.raises(SourceUnusable, match="no image of a class"):
        write(report, alone, tmp_path)
