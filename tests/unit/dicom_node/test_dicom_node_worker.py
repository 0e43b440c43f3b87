"""A worker's job on a real ledger and spool; the reading room is one that does what it is told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from config.settings import Disk, Read, Select, Settings, Site, StudySettings
from dicom_node.assembler import Assembler
from dicom_node.cli_studies import _write_note
from dicom_node.errors import ReaderFailed
from dicom_node.indexer import Indexer
from dicom_node.node import Node
from dicom_node.reading import ReadingRoom
from dicom_node.results.context import Device
from dicom_node.story import series_entries
from dicom_node.worker import Worker
from inference.findings import Reading, Status
from inference.kept import save_reading
from storage.rows import StudyView
from storage.spool import Spool
from storage.states import StudyState
from tests.ledgers import Books
from tests.result_sources import CHAIN

STUDY = "1.2.826.0.1.3680043.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
SLICES = 80


class Room(ReadingRoom):
    """Fails for the series that it is told to; finds nothing in the others."""

    def __init__(self) -> None:
        self._weights = ("0" * 64,)
        self.poison: set[str] = set()
        self.asked: list[str] = []

    def read(
        self,
        files: Sequence[Path],
        out: Path,
        *,
        may_wait: bool = False,
        on_volume: Callable[[Path, Reading], None] | None = None,
    ) -> Reading:
        headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in files]
        uid = str(headers[0].SeriesInstanceUID)
        self.asked.append(uid[-1])
        if uid in self.poison:
            raise ReaderFailed(what="the reader ended by signal SIGSEGV")
        reading = Reading(
            series_instance_uid=uid,
            modality="CT",
            status=Status.COMPLETED,
            reason=None,
            nodules=(),
            findings=None,
            quality=(),
            algorithms=CHAIN,
            slices_read=tuple(str(h.SOPInstanceUID) for h in headers),
            slices_left_out=(),
            candidates=(),
        )
        save_reading(reading, out)
        return reading

    def close(self) -> None:
        """Nothing runs."""


class House:
    """One study of two thin chest series, an assembler and a worker."""

    def __init__(self, folder: Path) -> None:
        self.books = Books(folder)
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)
        disk = Disk(free_mib_min=1, used_max=0.9999, alarm_used=0.9999, reserve_mib=1)
        settings = Settings(
            site=Site(timezone="UTC"),
            disk=disk,
            select=Select(age_h_max=0),
            study=StudySettings(quiet_s=0.1),
            read=Read(attempts_max=2, backoff_s=1),
        )
        settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"state": str(folder)})})
        self.spool = Spool(folder / "spool", disk)
        self.indexer = Indexer(settings, self.spool, self.books.ledger)
        self.assembler = Assembler(settings, self.spool, self.books.ledger)
        device = Device(ae_title="NODE", serial="1", software_version="0.1.0")
        self.worker = Worker(settings, self.spool, self.books.ledger, owner="w", device=device, clock=lambda: self.now)
        self.room = Room()
        self.worker._room = self.room
        self.node = Node(settings, self.spool, self.books.journal, self.books.database, self.books.ledger, "w")
        self.sent = 0

    def close(self) -> None:
        self.indexer.close()
        self.books.close()

    def send(self, series: int, slices: int = SLICES, thickness: float = 2.0) -> None:
        """One series, its first slice at the bottom."""
        for number in range(1, slices + 1):
            self.sent += 1
            image = pydicom.Dataset()
            image.file_meta = pydicom.dataset.FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.SOPClassUID, image.SOPInstanceUID = CT, f"{STUDY}.{series}.{number}"
            image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, f"{STUDY}.{series}"
            image.Modality, image.BodyPartExamined, image.ImageType = "CT", "CHEST", ["ORIGINAL", "PRIMARY", "AXIAL"]
            image.PatientID, image.PatientName, image.IssuerOfPatientID = "4711", "Test^Anna", "HOSP"
            image.PatientBirthDate, image.PatientSex, image.StudyDate, image.StudyTime = (
                "19500101",
                "F",
                "20260302",
                "1200",
            )
            image.AccessionNumber = image.StudyID = image.ReferringPhysicianName = ""
            image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = series, number, 1
            image.FrameOfReferenceUID = f"{STUDY}.9"
            image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 2.0 * number], [1, 0, 0, 0, 1, 0]
            image.PixelSpacing, image.SliceThickness = [0.7, 0.7], thickness
            image.Rows = image.Columns = 2
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit, image.PixelRepresentation = 15, 0
            image.RescaleSlope, image.RescaleIntercept = 1, -1024
            image.PixelData = bytes(8)
            image.save_as(self.spool.incoming / f"host-boot-1-1-{self.sent}.dcm", enforce_file_format=True)
        while self.indexer.turn(self.now):
            pass

    def run(self, turns: int = 20) -> None:
        """Let time pass and everybody work."""
        for _ in range(turns):
            self.now = max(self.now, datetime.now(UTC)) + timedelta(seconds=3600)
            self.assembler.turn(self.now)
            self.worker.turn(self.now)

    def kept(self) -> str:
        """Name of the one kept Reading."""
        (path,) = (self.spool.study_folder(STUDY) / "readings").iterdir()
        return path.name

    @property
    def view(self) -> StudyView:
        return self.books.view()

    def statuses(self) -> set[str]:
        return {entry["status"] for entry in series_entries(self.spool, self.view)}

    def outcomes(self) -> dict[str, str]:
        return {row.series_uid[-1]: str(row.outcome) for row in self.view.series}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_a_series_that_kills_its_reader_is_quarantined_and_the_next_one_is_read(house: House) -> None:
    house.room.poison.add(f"{STUDY}.1")
    house.send(1, thickness=1.0)
    house.send(2)
    house.run()
    assert house.room.asked == ["1", "1", "2"]
    assert house.outcomes() == {"1": "failed", "2": "read"}
    assert not house.view.holds
    assert house.view.study.state is StudyState.DONE


def test_a_series_that_ends_its_keeper_each_time_is_quarantined_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As SIGKILL: nothing is given back."""

    read, house.room.poison = house.room.read, {f"{STUDY}.1"}

    def die(files: Sequence[Path], out: Path, **values: object) -> Reading:
        try:
            return read(files, out)
        except ReaderFailed:
            raise Killed from None

    monkeypatch.setattr(house.room, "read", die)
    monkeypatch.setattr(house.worker, "_give_back", lambda *_, **__: None)
    house.send(1, thickness=1.0)
    house.send(2)
    for _ in range(12):
        with suppress(Killed):
            house.run(1)
        house.books.ledger.expire_leases(house.now + timedelta(hours=1))
    assert house.room.asked == ["1", "1", "2"]
    assert house.outcomes() == {"1": "failed", "2": "read"}


def test_a_failed_revision_leaves_the_earlier_result(house: House) -> None:
    house.send(1)
    house.run()
    house.room.poison.add(f"{STUDY}.2")
    house.room.poison.add(f"{STUDY}.1")
    (house.spool.study_folder(STUDY) / "readings").joinpath(house.kept()).unlink()
    house.send(2, thickness=1.0)
    house.run()
    assert (house.view.study.revision, house.view.study.outcome) == (1, "completed")


def test_a_failed_revision_does_not_leave_a_result_of_rejected_images(house: House) -> None:
    house.send(1)
    house.run()
    house.room.poison.add(f"{STUDY}.1")
    house.books.ledger.reject(
        STUDY, [f"{STUDY}.1.{SLICES}"], code="113001", note="1.2", by="PACS", why="", now=house.now
    )
    house.run()
    assert (house.view.study.revision, house.view.study.outcome) == (2, "not_analysed")


def test_a_study_is_withdrawn_after_its_images_went_with_their_retention(house: House) -> None:
    house.send(1)
    house.run()
    later = house.now + timedelta(days=4)
    for file in house.books.ledger.remove_images(1, later, later):
        (house.spool.study_folder(STUDY) / file).unlink()
    _write_note(house.node, house.view.study, "anna", "wrong patient", later)
    assert house.view.study.state is StudyState.WITHDRAWN
    assert house.statuses() == {"withdrawn"}
    assert [e.fields["by"] for e in house.books.lines("rejection")] == ["anna"]


def test_a_series_keeps_its_status_when_its_result_went_with_its_retention(house: House) -> None:
    house.send(1)
    house.run()
    assert house.statuses() == {"completed"}
    view = house.view
    assert view.current is not None
    folder = house.spool.study_folder(STUDY) / view.current.folder
    assert house.books.ledger.remove_result(view.current.key, house.now + timedelta(days=90), house.now)
    for path in folder.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    assert house.statuses() == {"completed"}


def test_a_series_that_waits_to_be_read_again_says_so(house: House) -> None:
    house.send(1)
    house.run()
    house.books.ledger.requeue(1, by="anna", why="new rules", now=house.now)
    house.now += timedelta(seconds=3600)
    house.assembler.turn(house.now)
    assert house.view.study.state is StudyState.QUEUED
    assert house.statuses() == {"waiting"}


def test_a_full_disk_costs_a_series_no_attempt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.send(1)
    with monkeypatch.context() as full:
        full.setattr(house.spool, "disk", Disk(free_mib_min=10**9, used_max=0.9999, alarm_used=0.9999, reserve_mib=1))
        house.run(6)
    assert house.view.study.state is StudyState.QUEUED
    assert (house.view.study.attempts, house.view.series[0].attempts, house.room.asked) == (0, 0, [])
    house.run()
    assert house.outcomes() == {"1": "read"}
