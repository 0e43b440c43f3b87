"""A rejection note takes back exactly what was sent."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.results.context import is_ours
from dicom_node.results.note import Rejection, write_note
from dicom_node.results.seg import write_seg
from dicom_node.results.sr import write_sr
from tests.result_sources import CONTEXT, ball, ct_reading, ct_series, report_of


@pytest.mark.parametrize(("rejection", "code"), [(Rejection.QUALITY, "113001"), (Rejection.WRONG_PATIENT, "113037")])
def test_a_note_names_its_reason_and_each_object_that_was_sent(tmp_path: Path, rejection: Rejection, code: str) -> None:
    series = ct_series(tmp_path / "ct")
    reading = ct_reading(series, [ball(series, 1, (5, 20, 20))])
    seg = write_seg(reading, series.files, CONTEXT, tmp_path / "seg.dcm")
    assert seg is not None
    sr = write_sr(report_of(reading), series.files, {series.uid: seg.path}, CONTEXT, tmp_path / "sr.dcm")
    written = write_note([sr.path, seg.path], rejection, CONTEXT, tmp_path / "note.dcm")
    note = dcmread(written.path)
    assert note.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59"
    assert note.ConceptNameCodeSequence[0].CodeValue == code
    named = {
        (s.SeriesInstanceUID, i.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for s in study.ReferencedSeriesSequence
        for i in s.ReferencedSOPSequence
    }
    assert named == {(w.series_instance_uid, w.sop_instance_uid) for w in (seg, sr)}
    assert (note.PatientID, note.StudyInstanceUID) == ("P-1001", "1.2.3.4.5")
    assert is_ours(note.ManufacturerModelName)
    assert (written.kind, written.size) == ("note", (tmp_path / "note.dcm").stat().st_size)


def test_the_order_of_the_objects_does_not_matter(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    srs = [
        write_sr(report_of(ct_reading(series)), series.files, {}, CONTEXT, tmp_path / "sr.dcm").path,
        series.files[series.order[0]],
    ]
    notes = [
        write_note(objects, Rejection.QUALITY, CONTEXT, tmp_path / "note.dcm").sha256 for objects in (srs, srs[::-1])
    ]
    assert notes[0] == notes[1]


def test_two_notes_of_one_withdrawal_that_name_other_objects_are_two_notes(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    sr = write_sr(report_of(ct_reading(series)), series.files, {}, CONTEXT, tmp_path / "sr.dcm").path
    other = series.files[series.order[0]]
    uids = {
        write_note(objects, rejection, CONTEXT, tmp_path / "note.dcm").sop_instance_uid
        for objects in ([sr], [sr, other])
        for rejection in Rejection
    }
    assert len(uids) == 4
