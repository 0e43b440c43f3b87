"""One study through a running node, with a PACS and an EHR that are not ours."""

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import highdicom as hd
import jsonschema
import psutil
import pydicom
import pytest

from dicom_node.demo.phantom import write_ct_phantom
from dicom_node.errors import NoAnswer
from inference.phantom import ChestPhantom
from tests.integration.conftest import Hospital, Study, send
from tests.running import RunningNode


def results_of(story: dict[str, Any], kind: str) -> list[str]:
    """UIDs (or files of messages) of one kind that the story names."""
    return [
        r["sop_instance_uid"] or r["file"] for entry in story["series"] for r in entry["results"] if r["kind"] == kind
    ]


def field(message: bytes, segment: str, number: int) -> list[str]:
    """One field of every segment of a name; MSH counts its separator."""
    rows = [line.split("|") for line in message.decode().split("\r") if line.startswith(segment + "|")]
    return [row[number - 1 if segment == "MSH" else number] for row in rows if len(row) > number - (segment == "MSH")]


def fits(schema: str, value: Any) -> None:
    """What a script reads is as its schema in the package says."""
    folder = resources.files("dicom_node") / "schemas"
    jsonschema.validate(value, json.loads((folder / f"{schema}.schema.json").read_text()))


def test_a_ct_comes_back_as_seg_sr_and_one_message(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """The main job: images in, three answers out, under the same UIDs that the node tells its operator."""
    study = ct_study("main", companions=True)
    assert send(study.files, node) == len(study.files)
    story = node.until_state(study.uid, "done")
    message = hospital.next_message()
    (seg,), (sr,) = hospital.objects("SEG"), hospital.objects("SR")
    assert results_of(story, "seg") == [seg.SOPInstanceUID]
    assert results_of(story, "sr") == [sr.SOPInstanceUID]
    read = next(e for e in story["series"] if e["status"] == "completed")
    assert len(read["nodules"]) == len(seg.SegmentSequence) >= 2
    assert {e["status"] for e in story["series"] if e is not read} == {"passed_over"}
    assert field(message, "OBR", 25) == ["P"]
    assert f"{study.uid}" in message.decode()
    assert "RESEARCH" in message.decode()
    assert all(d["state"] == "sent" for d in story["study"]["deliveries"])
    fits("status-why", story)
    fits("summary", {"schema_version": 1, "series": story["series"]})
    fits("status", json.loads(node.command("status", "--json")))
    fits("deliveries", json.loads(node.command("deliveries", "list", "--json")))
    groups = hd.sr.srread(_saved(sr, node)).content.get_volumetric_roi_measurement_groups()  # type: ignore[attr-defined]
    assert len(groups) == len(read["nodules"])


def _saved(dataset: pydicom.Dataset, node: RunningNode) -> Path:
    path = node.folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path)
    return path


def test_a_series_sent_again_makes_nothing_new(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """Duplicates are taken with 0000H and change nothing."""
    study = ct_study("again")
    send(study.files, node)
    first = node.until_state(study.uid, "done")
    send(study.files, node)
    node.until(lambda: _filed_twice(node, study), "the duplicates to be filed")
    second = node.until_state(study.uid, "done")
    assert (second["study"]["revision"], second["study"]["deliveries"]) == (1, first["study"]["deliveries"])
    assert len(hospital.objects("SR")) == 1


def _filed_twice(node: RunningNode, study: Study) -> bool:
    return node.log().count("association.ended") >= 2 and not any((node.folder / "state/spool/incoming").iterdir())


def test_a_late_slice_makes_exactly_one_second_result_that_names_the_first(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """Still preliminary, the predecessor named, nodules keep tracking UID and number."""
    study = ct_study("late")
    send(study.files[:-1], node)
    first = node.until_state(study.uid, "done")
    old = hospital.next_message()
    send(study.files[-1:], node)
    second = node.until_state(study.uid, "done", revision=2)
    new = hospital.next_message()
    reports = hospital.objects("SR")
    assert len(reports) == 2
    assert _predecessors(reports[1]) == [reports[0].SOPInstanceUID]
    assert _tracking(first) == _tracking(second) != []
    assert field(new, "OBR", 25) == ["P"]
    assert field(new, "OBR", 3) == field(old, "OBR", 3)
    assert field(new, "MSH", 10) != field(old, "MSH", 10)
    assert second["study"]["revision"] == 2


def _predecessors(report: pydicom.Dataset) -> list[str]:
    return [
        instance.ReferencedSOPInstanceUID
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def _tracking(story: dict[str, Any]) -> list[tuple[int, str]]:
    return [(n["number"], n["tracking_uid"]) for entry in story["series"] for n in entry["nodules"] or []]


def test_hold_keeps_results_here_until_release(
    tmp_path: Path, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """No result of a held study leaves; images are still taken."""
    study = ct_study("hold")
    waits = {"assembly": {"quiet_s": 60}}  # the hold comes before a stack that is not whole is given up
    with RunningNode(tmp_path / "node", **hospital.settings, **waits) as node:
        send(study.files[:40], node)
        node.until(lambda: node.why(study.uid), "the study to be known")
        node.command("hold", study.uid, "--by", "tester", "--why", "wait for the radiologist")
        assert send(study.files[40:], node) == len(study.files) - 40
        node.until(lambda: not any((node.folder / "state/spool/incoming").iterdir()), "all to be filed")
        story = node.why(study.uid)
        assert story is not None
        assert {e["status"] for e in story["series"]} == {"held"}
        node.command("status", "--why", study.uid, expect=1)
        node.command("release", study.uid, "--by", "tester", "--why", "seen")
        node.until_state(study.uid, "done")
        assert len(hospital.objects("SR")) == 1


def test_requeue_says_when_nothing_could_change_and_reads_again_with_other_settings(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """The same images, settings and models give the same result, so nothing is done; other settings make a revision."""
    study = ct_study("requeue")
    send(study.files, node)
    first = node.until_state(study.uid, "done")
    assert "the result would be the same" in node.command("requeue", study.uid, "--by", "tester", "--why", "try")
    node.stop()
    node.config.write_text(node.config.read_text().replace("[read]", "[read]\nnodules_max = 1"))
    with node:
        assert "read again" in node.command("requeue", study.uid, "--by", "tester", "--why", "only the first")
        second = node.until_state(study.uid, "done", revision=2)
    assert len(_tracking(first)) > len(_tracking(second)) == 1
    hospital.next_message()
    assert "D" in field(hospital.next_message(), "OBX", 11)  # what vanished is deleted


def test_withdraw_takes_back_what_was_sent(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """A rejection note for the PACS, the message again as deleted for the EHR; images that come again hold the study."""
    study = ct_study("withdraw")
    send(study.files, node)
    node.until_state(study.uid, "done")
    hospital.next_message()
    node.command("withdraw", study.uid, "--by", "tester", "--why", "wrong protocol")
    story = node.until_state(study.uid, "withdrawn")
    withdrawal = hospital.next_message()
    assert set(field(withdrawal, "OBX", 11)) == {"D"}
    node.until(lambda: hospital.objects("KO"), "the rejection note")
    (note,) = hospital.objects("KO")
    assert _evidence(note) == {d.SOPInstanceUID for d in (*hospital.objects("SEG"), *hospital.objects("SR"))}
    assert {e["status"] for e in story["series"]} == {"withdrawn"}
    send(study.files[:3], node)
    again = node.until(lambda: (s := node.why(study.uid)) and s["study"]["held"] and s, "the study to be held")
    assert again["study"]["held"][0]["reason"] == "rejected_again"


def _evidence(document: pydicom.Dataset) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def test_two_patients_in_one_study_hold_it_until_a_person_says_whose_it_is(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """Any doubt holds the study, and no result is sent; the other's images stay out."""
    count = iter(range(1000))

    def every_tenth(dataset: pydicom.Dataset) -> None:
        if next(count) % 10 == 9:
            dataset.PatientID = "SOMEBODY-ELSE"

    study = ct_study("two", change=every_tenth)
    send(study.files, node)
    story = node.until(lambda: (s := node.why(study.uid)) and s["study"]["held"] and s, "the doubt")
    assert story["study"]["held"][0]["reason"] == "identity"
    assert [i["key"] for i in story["study"]["identities"]] == ["p1", "p2"]
    node.command("release", study.uid, "--by", "tester", "--why", "asked", expect=3)
    assert hospital.objects("SR") == []
    node.command("release", study.uid, "--identity", "p1", "--by", "tester", "--why", "the order says so")
    done = node.until_state(study.uid, "done")
    assert done["series"][0]["status"] == "not_analysed"  # without the other's slices there are gaps
    assert hospital.objects("SR")[0].PatientID != "SOMEBODY-ELSE"


def test_a_study_of_twelve_series_gives_one_sr_and_one_message(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study], tmp_path: Path
) -> None:
    """One report for a study, whatever the scanner sends with it."""
    study = ct_study("twelve", companions=True)
    extra = []
    axial = [f for f in study.files if pydicom.dcmread(f, stop_before_pixels=True).SeriesNumber == 2]
    for number in range(4, 13):
        for file in axial[30:34]:
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID}.{number}"[-64:].lstrip(".")
            dataset.SOPInstanceUID = f"2.25.{number}{dataset.InstanceNumber}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.SeriesNumber = number
            extra.append(tmp_path / f"extra-{number}-{dataset.InstanceNumber}.dcm")
            dataset.save_as(extra[-1])
    send([*study.files, *extra], node)
    story = node.until_state(study.uid, "done")
    assert len(story["series"]) == 12
    assert [e["status"] for e in story["series"]].count("completed") == 1
    assert all(e["reason"] for e in story["series"] if e["status"] != "completed")
    assert len(hospital.objects("SR")) == 1
    assert len(story["study"]["deliveries"]) == 2


def test_in_shadow_mode_results_are_kept_and_nothing_leaves(
    tmp_path: Path, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """What the node does until the site enables delivery; enabling it later sends nothing that was made before."""
    study = ct_study("shadow")
    with RunningNode(tmp_path / "node", deliver=False, **hospital.settings) as node:
        send(study.files, node)
        story = node.until_state(study.uid, "done")
        assert story["study"]["deliveries"] == []
        assert Path(next(r["file"] for e in story["series"] for r in e["results"] if r["kind"] == "sr")).exists()
        assert any("shadow mode" in e["why"] for e in story["study"]["events"])
    assert hospital.pacs.files() == []


def test_an_empty_lung_has_no_nodule_in_its_result(
    node: RunningNode, hospital: Hospital, empty_chest: ChestPhantom, tmp_path: Path
) -> None:
    """No SEG, and a sentence that never says that there is none."""
    files = write_ct_phantom(tmp_path / "empty", datetime.now(UTC), empty_chest, salt="empty", companions=False)
    send(files, node)
    story = node.until_state(pydicom.dcmread(files[0]).StudyInstanceUID, "done")
    assert story["series"][0]["nodules"] == []
    assert hospital.objects("SEG") == []
    text = hospital.next_message().decode()
    assert "this does not exclude nodules" in text


def test_the_logs_of_a_whole_run_name_no_patient(
    node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """One line a move, with the ledger's own number for a study and no identifier."""
    study = ct_study("private", companions=True)
    send(study.files, node)
    node.until_state(study.uid, "done")
    dataset = pydicom.dcmread(study.files[0], stop_before_pixels=True)
    log = node.log()
    assert "study.written" in log
    for secret in (
        str(dataset.PatientName),
        dataset.PatientID,
        dataset.AccessionNumber,
        study.uid,
        *study.sop_uids[:3],
        dataset.SeriesInstanceUID,
    ):
        assert secret not in log


def test_kill_9_of_the_receiver_during_a_send_loses_nothing(
    tmp_path: Path, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """What was acknowledged is there; the sender comes again with the rest, and there is one result."""
    waits = {"assembly": {"quiet_s": 60, "aborted_quiet_s": 60}}  # the sender comes again before what came is given up
    with RunningNode(tmp_path / "node", **hospital.settings, **waits) as node:
        study, broken = _cut_off_by_a_kill(node, ct_study)
        acknowledged = {s.sop_instance_uid for s in broken.outcome.instances if s.fate == "success"}  # type: ignore[attr-defined]
        assert 0 < len(acknowledged) < len(study.files)
        node.until(node.listening, "the receiver to come back")
        node.until(lambda: _images(node, study) >= acknowledged, "all that was acknowledged to be filed")
        send([f for f, uid in zip(study.files, study.sop_uids, strict=True) if uid not in acknowledged], node)
        story = node.until_state(study.uid, "done")
        assert story["study"]["revision"] == 1
        assert _images(node, study) == set(study.sop_uids)
        for modality in ("SR", "SEG"):
            assert [d.StudyInstanceUID for d in hospital.objects(modality)].count(study.uid) == 1


def _cut_off_by_a_kill(node: RunningNode, ct_study: Callable[..., Study]) -> tuple[Study, NoAnswer]:
    """A study whose send the kill cut off; a send that was over before the kill is let go, and another study tried."""
    for number in range(5):
        study = ct_study(f"kill-receiver-{number}")
        broken = _killed_while_sending(node, study)
        if broken is not None:
            return study, broken
        node.until(node.listening, "the receiver to come back")
    raise AssertionError("five sends were over before the receiver was killed")


def _killed_while_sending(node: RunningNode, study: Study) -> NoAnswer | None:
    """What the sender was told; None when the send was over before the kill."""
    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(send, study.files, node)
        node.until(lambda: sending.done() or len(_images(node, study)) >= 10, "the first images to be filed")
        node.kill_role("receiver")
        try:
            sending.result(60)
        except NoAnswer as broken:
            return broken
    return None


def _images(node: RunningNode, study: Study) -> set[str]:
    """Of a study, those that are filed."""
    return {f.stem for f in node.folder.glob("state/spool/studies/*/*/images/*.dcm")} & set(study.sop_uids)


@pytest.mark.parametrize("process", ["keeper", "reader"])
def test_kill_9_during_inference_gives_each_result_once(
    process: str, node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]
) -> None:
    """Of the process that has the models, or of the one that has the lease: the study is read again, and sent once."""
    study = ct_study(f"kill-{process}")
    send(study.files, node)
    node.until_state(study.uid, "reading")
    if process == "keeper":
        node.kill_role("worker")
    else:
        node.until(lambda: _readers(node), "the reader")
        for reader in _readers(node):
            reader.kill()
    story = node.until_state(study.uid, "done")
    assert story["study"]["revision"] == 1
    assert [e["status"] for e in story["series"]] == ["completed"]
    assert len(hospital.objects("SR")) == len(hospital.objects("SEG")) == 1


def _readers(node: RunningNode) -> list[psutil.Process]:
    children = [c for pid in node.role_pids("worker") for c in psutil.Process(pid).children(recursive=True)]
    return [c for c in children if "inference.resident" in c.cmdline()]


def test_the_ledger_can_burn(node: RunningNode, hospital: Hospital, ct_study: Callable[..., Study]) -> None:
    """Deleted under a node that has delivered one study and is reading another: the first is not sent again, the second is read."""
    first, second = ct_study("burn-1"), ct_study("burn-2")
    send(first.files, node)
    before = node.until_state(first.uid, "done")
    send(second.files, node)
    node.until_state(second.uid, "reading")
    for file in (node.folder / "state").glob("ledger.sqlite*"):
        file.unlink()
    after = node.until_state(second.uid, "done", timeout_s=240)
    kept = node.until_state(first.uid, "done")
    assert results_of(kept, "sr") == results_of(before, "sr")
    assert results_of(after, "sr")
    assert sorted(str(d.StudyInstanceUID) for d in hospital.objects("SR")) == sorted([first.uid, second.uid])
    with sqlite3.connect(node.folder / "state" / "ledger.sqlite") as ledger:
        assert ledger.execute("select count(*) from studies").fetchone() == (2,)
