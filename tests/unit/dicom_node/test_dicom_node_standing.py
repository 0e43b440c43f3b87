"""A worker that can read nothing claims nothing, says so, costs no study an attempt, and goes on when it can read again."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from config.catalogue import models_folder
from config.settings import Read, Settings, Site
from dicom_node.cli import cli
from dicom_node.errors import NoReader
from dicom_node.reading import ReadingRoom
from dicom_node.standing import FOLDER, standing_still
from storage.associations import ProcessName
from storage.states import StudyState
from tests.installed import WEIGHTS, put_model

from .test_dicom_node_worker import STUDY, House

READER = "tests.unit.dicom_node.stand_in_reader"


class Room(ReadingRoom):
    """The real room, watching a real process; only the decoder is spared."""

    def decode(self, files: Sequence[Path], folder: Path) -> None:
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        series = [str(headers[0].SeriesInstanceUID), [str(h.SOPInstanceUID) for h in headers]]
        (folder / "series.json").write_text(json.dumps(series))


class GpuHouse(House):
    """A house whose reader computes on a GPU of which a file says whether it works."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.state = folder
        self.device("works")
        self.real = Room(self.node.settings, folder / "scratch", tick=self.worker._tick, reader=READER)
        self.worker._room = self.real

    def device(self, how: str) -> None:
        (self.state / "device").write_text(how)

    def starts(self) -> int:
        return sum(event.what == "reading starts" for event in self.books.ledger.events(1))

    def counts(self) -> tuple[int, int]:
        """Attempts of the study and of its series."""
        return self.view.study.attempts, self.view.series[0].attempts

    def close(self) -> None:
        self.worker.close()
        super().close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[GpuHouse]:
    made = GpuHouse(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("how", ["lost", "kills"])
def test_a_lost_gpu_stops_claims_says_so_and_costs_no_attempt(
    house: GpuHouse, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Whether it answers an error, or takes the process with it. Nor is it read on the CPU then, in silence and ten times
    slower: what `auto` found when the worker started holds."""
    house.worker.warm()
    house.device(how)
    house.send(1)
    with caplog.at_level(logging.INFO, "dicom_node"):
        house.run(6)
    assert house.view.study.state is StudyState.QUEUED
    assert house.counts() == (0, 0)
    assert house.starts() == 1
    [one] = standing_still(house.state)
    assert "cuda" in one.why.lower()
    alarms = [record.getMessage() for record in caplog.records if "alarm.no_reader" in record.getMessage()]
    assert len(alarms) == 1  # however often it is tried
    house.device("works")
    house.run(3)
    assert house.outcomes() == {"1": "read"}
    assert standing_still(house.state) == []


def test_without_a_gpu_auto_reads_on_the_cpu(tmp_path: Path) -> None:
    house = GpuHouse(tmp_path)
    house.device("lost")
    house.send(1)
    house.run(3)
    house.close()
    assert house.outcomes() == {"1": "read"}


@pytest.mark.parametrize("how", ["poison", "sticky"])
def test_a_series_that_kills_its_reader_on_a_gpu_that_works_costs_attempts(house: GpuHouse, how: str) -> None:
    house.device(how)
    house.send(1)
    house.run(8)
    assert house.outcomes() == {"1": "failed"}
    assert standing_still(house.state) == []


def test_the_next_try_comes_later_each_time_and_not_before(house: GpuHouse) -> None:
    house.real._device = "cuda"
    house.device("lost")
    house.worker.warm()
    asked: list[int] = []
    house.real.warm = lambda: asked.append(1)  # type: ignore[method-assign]
    house.worker.turn(house.now)
    assert asked == []
    house.run(1)
    assert asked == [1]


def test_status_says_that_nothing_is_read(house: GpuHouse, tmp_path: Path) -> None:
    house.real._device = "cuda"
    house.device("lost")
    house.worker.warm()
    config = tmp_path / "config.toml"
    config.write_text(f'[site]\ntimezone = "UTC"\n[paths]\nstate = "{house.state}"\n')
    said = CliRunner().invoke(cli, ["--config", str(config), "status"])
    assert said.exit_code == 1
    assert "NOTHING IS READ since" in said.output
    assert "CUDA does not compute" in said.output
    house.worker.close()
    assert "NOTHING IS READ" not in CliRunner().invoke(cli, ["--config", str(config), "status"]).output


def test_what_a_killed_worker_left_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    said = json.dumps({"since": "2026-01-01T00:00:00+00:00", "code": "DeviceLost", "why": "gone"})
    mine = ProcessName.of_this_process()
    (tmp_path / FOLDER / f"worker@{mine}").write_text(said)
    (tmp_path / FOLDER / f"worker@{mine.host}-{mine.boot[:-1]}0x-{mine.pid}").write_text(said)
    assert [one.worker for one in standing_still(tmp_path)] == [f"worker@{mine}"]


def settings_of(state: Path, detector: str) -> Settings:
    settings = Settings(site=Site(timezone="UTC"), read=Read(detector=detector, device="cpu"))
    return settings.model_copy(update={"paths": settings.paths.model_copy(update={"state": str(state)})})


def test_a_model_whose_weights_changed_is_never_loaded(tmp_path: Path) -> None:
    """By the real reader: it names the entry, and what to do."""
    settings = settings_of(tmp_path, "of-the-site")
    models = models_folder(str(tmp_path))
    put_model(models, "of-the-site")
    (models / "of-the-site" / WEIGHTS).write_bytes(b"other")
    room = ReadingRoom(settings, tmp_path / "scratch")
    try:
        with pytest.raises(NoReader, match=r"of-the-site.*SHA-256.*install the model again") as refused:
            room.warm()
        assert refused.value.code == "ModelRefused"
    finally:
        room.close()


def test_a_model_that_is_exchanged_under_a_running_worker_is_not_read_with(tmp_path: Path) -> None:
    """Results name what they were read with: the models of a process are those it started with."""
    models = models_folder(str(tmp_path))
    put_model(models, "of-the-site")
    (tmp_path / "device").write_text("works")
    room = Room(settings_of(tmp_path, "of-the-site"), tmp_path / "scratch", reader=READER)
    for file in (models / "of-the-site").iterdir():
        file.unlink()
    (models / "of-the-site").rmdir()
    put_model(models, "of-the-site", seed=1)
    try:
        with pytest.raises(NoReader, match="other models are installed"):
            room.warm()
    finally:
        room.close()


def test_a_refused_model_stops_claims_and_costs_no_attempt(house: GpuHouse) -> None:
    models = models_folder(str(house.state))
    put_model(models, "of-the-site")
    room = Room(settings_of(house.state, "of-the-site"), house.state / "scratch", tick=house.worker._tick)
    (models / "of-the-site" / WEIGHTS).write_bytes(b"other")
    house.worker._room = room
    house.send(1)
    house.run(2)
    assert house.view.study.state is StudyState.QUEUED
    assert house.counts() == (0, 0)
    [one] = standing_still(house.state)
    assert one.code == "ModelRefused"
    assert "of-the-site" in one.why
    assert STUDY not in one.why
