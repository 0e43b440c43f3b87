"""Bad input ends in a clear refusal or outcome, and the next study runs. One node takes all of it, one after the other."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, MRImageStorage

from dicom_node.demo.phantom import write_ct_phantom
from dicom_node.errors import NotReached, Refused
from dicom_node.net.send import Address, send_files
from inference.phantom import ChestPhantom
from tests.integration.conftest import Hospital, send
from tests.peers import tools
from tests.peers.conftest import _or_missing
from tests.running import RunningNode

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One hospital for the module."""
    folder = tmp_path_factory.mktemp("hospital")
    with ExitStack() as stack:
        pacs = stack.enter_context(_or_missing(lambda: tools.StoreScp(folder / "pacs", "-pm")))
        ehr = stack.enter_context(_or_missing(lambda: tools.MllpReceiver(folder / "ehr")))
        yield Hospital(pacs, ehr)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, around: Hospital) -> Iterator[RunningNode]:
    """One node for the module."""
    with RunningNode(tmp_path_factory.mktemp("node"), **around.settings) as node:
        yield node


@pytest.fixture
def sent(tmp_path: Path, busy: RunningNode, chest: ChestPhantom) -> Callable[..., str]:
    """`sent(salt, change, only=...)` sends a changed CT study; returns its UID."""

    def write_and_send(
        salt: str, change: Change, keep: Callable[[pydicom.Dataset], bool] = lambda d: True, companions: bool = False
    ) -> str:
        files = write_ct_phantom(tmp_path / salt, datetime.now(UTC), chest, salt=salt, companions=companions)
        kept = []
        for file in files:
            dataset = pydicom.dcmread(file)
            if keep(dataset):
                change(dataset)
                dataset.save_as(file)
                kept.append(file)
        assert send(kept, busy) == len(kept)
        return str(pydicom.dcmread(kept[0], stop_before_pixels=True).StudyInstanceUID)

    return write_and_send


def read_one(story: dict[str, Any]) -> dict[str, Any]:
    """The series that was read, else the first."""
    entries: list[dict[str, Any]] = story["series"]
    return next((e for e in entries if e["status"] in ("completed", "partial")), entries[0])


def report_of(around: Hospital, study_uid: str) -> pydicom.Dataset:
    """The one SR of a study at the PACS."""
    (report,) = [d for d in around.objects("SR") if study_uid == d.StudyInstanceUID]
    return report


def leave(dataset: pydicom.Dataset) -> None:
    """As it is."""


def test_pixels_that_no_decoder_can_read_are_not_analysed(
    busy: RunningNode, around: Hospital, sent: Callable[..., str]
) -> None:
    def break_pixels(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7 this is no image"])
        dataset["PixelData"].is_undefined_length = True

    story = busy.until_state(sent("undecodable", break_pixels), "done")
    assert read_one(story)["status"] == "not_analysed"
    assert read_one(story)["reason"]["text"]


def test_pixels_that_end_too_early_are_not_analysed(busy: RunningNode, sent: Callable[..., str]) -> None:
    def cut(dataset: pydicom.Dataset) -> None:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) * 6 // 10 // 2 * 2]

    story = busy.until_state(sent("truncated", cut), "done")
    assert read_one(story)["status"] == "not_analysed"


def test_a_localizer_alone_gets_no_report(busy: RunningNode, around: Hospital, sent: Callable[..., str]) -> None:
    uid = sent("localizer", leave, keep=lambda d: "LOCALIZER" in d.ImageType, companions=True)
    story = busy.until_state(uid, "done")
    assert {e["status"] for e in story["series"]} <= {"passed_over", "not_analysed"}
    assert all(e["reason"] for e in story["series"])


def test_images_sent_as_another_class_are_set_aside(busy: RunningNode, sent: Callable[..., str]) -> None:
    def as_mr(dataset: pydicom.Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage

    story = busy.until_state(sent("as-mr", as_mr, keep=lambda d: d.InstanceNumber < 20), "done")
    assert {(e["status"], e["nodules"]) for e in story["series"]} == {("set_aside", None)}
    assert story["study"]["deliveries"] == []


def test_a_data_set_that_is_not_of_the_class_it_was_sent_as_ends_with_a_reason(
    busy: RunningNode, sent: Callable[..., str]
) -> None:
    def lie(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage

    story = busy.until_state(sent("lies", lie, keep=lambda d: d.InstanceNumber < 20), "done")
    assert all(e["reason"]["text"] for e in story["series"])


def test_a_study_without_a_single_image_is_set_aside(
    busy: RunningNode, around: Hospital, tmp_path: Path, sent: Callable[..., str]
) -> None:
    busy.until_state(sent("for-its-report", leave), "done")
    report = around.objects("SR")[-1]
    report.StudyInstanceUID, report.SOPInstanceUID = "2.25.71", "2.25.72"
    report.file_meta.MediaStorageSOPInstanceUID = "2.25.72"
    report.ManufacturerModelName = "somebody else's"
    report.save_as(tmp_path / "report.dcm")
    assert send([tmp_path / "report.dcm"], busy) == 1
    story = busy.until_state("2.25.71", "done")
    assert {e["status"] for e in story["series"]} == {"set_aside"}
    assert story["study"]["deliveries"] == []


def test_a_single_slice_ends_with_a_reason(busy: RunningNode, sent: Callable[..., str]) -> None:
    story = busy.until_state(sent("one", leave, keep=lambda d: d.InstanceNumber == 30), "done")
    assert story["series"][0]["reason"]["text"]


def test_missing_type_2_attributes_are_no_obstacle(
    busy: RunningNode, around: Hospital, sent: Callable[..., str]
) -> None:
    def strip(dataset: pydicom.Dataset) -> None:
        for keyword in (
            "StudyID",
            "AccessionNumber",
            "PatientSex",
            "PatientBirthDate",
            "StudyTime",
            "ReferringPhysicianName",
        ):
            if keyword in dataset:
                del dataset[keyword]

    uid = sent("stripped", strip)
    assert read_one(busy.until_state(uid, "done"))["status"] == "completed"
    assert report_of(around, uid).get("AccessionNumber", "") in ("", None)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["ISO_IR 192"], "Müller^Ægir"),
        (["ISO_IR 100"], "Müller^Zoë"),
    ],
)
def test_names_survive_in_any_character_set(
    charset: list[str], name: str, busy: RunningNode, around: Hospital, sent: Callable[..., str]
) -> None:
    def rename(dataset: pydicom.Dataset) -> None:
        dataset.SpecificCharacterSet = charset
        dataset.PatientName = name

    uid = sent(f"charset-{'-'.join(charset)}", rename)
    busy.until_state(uid, "done")
    assert str(report_of(around, uid).PatientName) == name


def test_a_character_set_that_does_not_exist_is_survived(
    busy: RunningNode, around: Hospital, sent: Callable[..., str]
) -> None:
    def bogus(dataset: pydicom.Dataset) -> None:
        dataset.SpecificCharacterSet = "LATIN1"

    uid = sent("bogus", bogus)
    assert read_one(busy.until_state(uid, "done"))["status"] == "completed"


def test_an_accession_number_of_56_characters_reaches_report_and_message(
    busy: RunningNode, around: Hospital, sent: Callable[..., str]
) -> None:
    long = "A" * 56

    def change(dataset: pydicom.Dataset) -> None:
        dataset.AccessionNumber = long

    uid = sent("accession", change)
    story = busy.until_state(uid, "done")
    assert report_of(around, uid).AccessionNumber == long
    message = next(Path(r["file"]) for e in story["series"] for r in e["results"] if r["kind"] == "oru")
    assert long in message.read_text()


def test_an_instance_that_comes_again_with_other_pixels_holds_the_study(
    busy: RunningNode, sent: Callable[..., str], tmp_path: Path
) -> None:
    uid = sent("conflict", leave)
    busy.until_state(uid, "done")
    file = sorted((tmp_path / "conflict").glob("*.dcm"))[20]
    dataset = pydicom.dcmread(file)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(file)
    send([file], busy)
    story = busy.until(lambda: (s := busy.why(uid)) and s["study"]["held"] and s, "the study to be held")
    assert story["study"]["held"][0]["reason"] == "differs"


def test_an_unknown_caller_is_rejected_and_can_be_seen(tmp_path: Path, chest: ChestPhantom) -> None:
    files = write_ct_phantom(tmp_path / "ct", datetime.now(UTC), chest, salt="caller", companions=False)
    with RunningNode(
        tmp_path / "node", deliver=False, receive={"any_calling_ae": False, "calling_ae_titles": ["PACS"]}
    ) as node:
        with pytest.raises(NotReached):
            send(files[:1], node, calling="STRANGER")
        assert "STRANGER" in node.command("peers", "refused")
        assert send(files[:1], node, calling="PACS") == 1


def test_a_full_disk_is_refused_before_harm_and_nothing_is_lost(tmp_path: Path, chest: ChestPhantom) -> None:
    files = write_ct_phantom(tmp_path / "ct", datetime.now(UTC), chest, salt="disk", companions=False)
    with RunningNode(tmp_path / "node", deliver=False, disk={"free_mib_min": 10**9}) as node:
        with pytest.raises(Refused, match="A700"):
            send(files[:1], node)
        assert list((node.folder / "state/spool/incoming").iterdir()) == []


def test_every_odd_file_that_can_be_sent_is_taken_and_answered(
    busy: RunningNode, around: Hospital, shared_data: Path, sent: Callable[..., str]
) -> None:
    """175 odd files: what can be filed is taken with 0000H and ends with an outcome; then an ordinary study runs."""
    files = sorted(p for p in (shared_data / "odd").rglob("*.dcm"))
    outcome = send_files(files, Address(busy.ae_title, "127.0.0.1", busy.port), calling_ae="ODD")
    assert outcome.stored >= 100
    assert (outcome.refused, outcome.stored + outcome.skipped) == (0, len(files))
    busy.until(lambda: not any((busy.folder / "state/spool/incoming").iterdir()), "all to be filed", 120)
    busy.until(lambda: _all_ended(busy), "every study to end", 240)
    quarantined = list((busy.folder / "state/spool/unfiled").glob("*.dcm"))
    named = json.loads(busy.command("status", "--json", "--limit", "1000", expect=None))["latest"]
    assert len(named) > 50
    assert all((f.with_suffix(".json")).exists() for f in quarantined), "a file was put aside without saying why"
    good = sent("after-odd", leave)
    assert read_one(busy.until_state(good, "done"))["status"] == "completed"


def _all_ended(node: RunningNode) -> bool:
    latest = json.loads(node.command("status", "--json", "--limit", "1000", expect=None))["latest"]
    return all(s["state"] in ("done", "undelivered", "withdrawn") or s["held"] for s in latest)
