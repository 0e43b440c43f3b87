"""From incoming/ to studies and ledger: what a turn makes of files that are odd."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from config.settings import Disk, Settings, Site
from dicom_node.indexer import Indexer
from storage.errors import NameTaken
from storage.rows import Arrival, StudyView
from storage.spool import Spool
from storage.states import StudyMove
from tests.ledgers import Books

STUDY, SERIES = "1.2.826.0.1.3680043.2.1", "1.2.826.0.1.3680043.2.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
NOTE = "1.2.840.10008.5.1.4.1.1.88.59"


class Desk:
    """An indexer with its spool and ledger, and a sender that writes into incoming/."""

    def __init__(self, folder: Path) -> None:
        self.books = Books(folder)
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)
        disk = Disk(free_mib_min=1, used_max=0.9999, alarm_used=0.9999, reserve_mib=1)
        self.spool = Spool(folder / "spool", disk)
        self.indexer = Indexer(Settings(site=Site(timezone="UTC"), disk=disk), self.spool, self.books.ledger)
        self.sent = 0

    def close(self) -> None:
        self.indexer.close()
        self.books.close()

    def send(self, number: int, pixels: bytes = b"\0\0", **values: str) -> None:
        """One small image."""
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CT
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{SERIES}.{number}"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = STUDY, SERIES, "CT"
        image.PatientID, image.PatientName = "4711", "Test^Anna"
        image.Rows = image.Columns = 1
        image.BitsAllocated = 16
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.PixelData = pixels
        for name, value in values.items():
            setattr(image, name, value)
        self._put(image)

    def note(self, code: str, *numbers: int) -> None:
        """A rejection note of some images."""
        import highdicom as hd
        from pydicom.sr.codedict import Code

        folder = self.spool.study_folder(STUDY) / "images"
        images = [pydicom.dcmread(folder / f"{SERIES}.{n}.dcm") for n in numbers]
        for image in images:
            image.AccessionNumber = image.StudyID = image.StudyDate = image.StudyTime = ""
            image.PatientBirthDate = image.PatientSex = image.ReferringPhysicianName = ""
        note = hd.ko.KeyObjectSelectionDocument(
            evidence=images,
            content=hd.ko.KeyObjectSelection(Code(code, "DCM", "rejected"), images),
            series_instance_uid=generate_uid(),
            series_number=1,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="another",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        self._put(note)

    def _put(self, dataset: pydicom.Dataset) -> None:
        self.sent += 1
        path = self.spool.incoming / f"host-boot-1-1-{self.sent}.dcm"
        dataset.save_as(path, enforce_file_format=True)

    def turn(self) -> int:
        return self.indexer.turn(self.now)

    @property
    def view(self) -> StudyView:
        return self.books.view()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_an_image_that_comes_back_after_its_retention_is_kept_once_more(desk: Desk) -> None:
    desk.send(1)
    desk.turn()
    ledger, later = desk.books.ledger, datetime.now(UTC) + timedelta(hours=1)  # arrivals have the time of their file
    view = desk.view
    ledger.choose(1, view.study.change_no, verdicts=[], move=StudyMove.NOT_FOR_US, why="", now=desk.now)
    (file,) = ledger.remove_images(1, later, later)
    (desk.spool.study_folder(STUDY) / file).unlink()

    desk.send(1)
    desk.turn()

    ((image,),) = [row.instances for row in desk.view.series]
    assert not image.gone
    assert (desk.spool.study_folder(STUDY) / image.file).is_file()


def test_a_nameless_first_image_does_not_make_two_patients_one(desk: Desk) -> None:
    desk.send(1, PatientID="", PatientName="")
    desk.turn()
    desk.send(2, PatientID="4711", PatientName="Test^Anna")
    desk.turn()
    assert not desk.view.holds
    desk.send(3, PatientID="4712", PatientName="Test^Bert")
    desk.turn()
    assert [h.reason for h in desk.view.holds] == ["identity"]
    assert [(i.identity.patient_id, i.instances) for i in desk.view.identities] == [("4711", 2), ("4712", 1)]


def test_two_patients_are_two_in_one_batch_too(desk: Desk) -> None:
    desk.send(1, PatientID="", PatientName="")
    desk.send(2, PatientID="4711", PatientName="Test^Anna")
    desk.send(3, PatientID="4712", PatientName="Test^Bert")
    desk.turn()
    assert [h.reason for h in desk.view.holds] == ["identity"]


@pytest.mark.parametrize(("name", "held"), [("Test^Anna", True), ("Test^Bert", False)])
def test_what_was_in_the_wrong_worklist_entry_may_come_again_under_another_name_only(
    desk: Desk, name: str, held: bool
) -> None:
    desk.send(1)
    desk.send(2)
    desk.turn()
    desk.note("113038", 1, 2)
    desk.turn()
    desk.send(1, PatientName=name, PatientID="" if held else "4712")
    desk.turn()
    assert ("rejected_again" in [h.reason for h in desk.view.holds]) is held


def test_a_file_that_cannot_be_filed_holds_up_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    file_batch = type(desk.books.ledger).file_batch

    def refuse(ledger: object, rows: list[Arrival], now: datetime) -> object:
        if any(row.sop_uid.endswith(".2") for row in rows):
            raise NameTaken(what="a hundred copies of one instance", which=rows[0].sop_uid)
        return file_batch(desk.books.ledger, rows, now)

    monkeypatch.setattr(type(desk.books.ledger), "file_batch", refuse)
    for number in (1, 2, 3):
        desk.send(number)
    assert desk.turn() == 3
    assert not desk.spool.arrivals()
    assert len(desk.view.series[0].instances) == 2
    (why,) = desk.spool.unfiled.glob("*.json")
    assert "cannot_be_filed" in why.read_text()
    assert SERIES not in why.read_text()
