"""The demonstration's hospital does what a hospital does: takes results, answers messages, counts, sends."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.demo.hospital import Hospital
from dicom_node.demo.phantom import write_ct_phantom, write_radiograph
from dicom_node.net.scu import Sender
from hl7.client import send as send_message
from inference.phantom import chest_phantom, radiograph_phantom

NOW = datetime(2026, 1, 5, 10, 15, 30, tzinfo=UTC)
ORU = b"MSH|^~\\&|A|B|C|D|20260105||ORU^R01^ORU_R01|MSG%d|P|2.5.1\rPID|1||P-1^^^HOSP^MR\r"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with Hospital(tmp_path / "hospital", lambda: NOW) as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    chest = chest_phantom((), seed=2, spacing_mm=(20, 15, 15), shape=(15, 24, 24))
    ct = write_ct_phantom(folder, NOW, chest)
    return ct + write_radiograph(folder, NOW, radiograph_phantom(shape=(100, 120)))


def _dataset(path: Path) -> Dataset:
    """Without the file's own heading, which names who wrote it."""
    dataset = dcmread(path)
    del dataset.file_meta
    return dataset


def test_what_the_pacs_gets_lies_in_its_folder_as_it_came(hospital: Hospital, images: list[Path]) -> None:
    assert Sender("NODE", 10).store(images, hospital.pacs).ok
    assert hospital.wait(lambda: len(hospital.objects()) == len(images), 10)
    assert [_dataset(p) for p in hospital.objects()] == [_dataset(p) for p in images]
    assert hospital.objects()[0].name == "0001-CT.dcm"


def test_it_answers_echo(hospital: Hospital) -> None:
    Sender("NODE", 10).echo(hospital.pacs)


def test_it_counts_what_the_scanner_sent(hospital: Hospital, images: list[Path], tmp_path: Path) -> None:
    """C-FIND at each level, for what was sent to the node, which the PACS has too."""
    with Hospital(tmp_path / "node", lambda: NOW) as node:
        seen: list[tuple[int, int]] = []
        sent = hospital.send(images, node.pacs, lambda done, total: seen.append((done, total)))
        assert (sent.stored, sent.refused, sent.skipped) == (len(images), 0, 0)
        assert seen[-1] == (len(images), len(images))
        assert len(node.objects()) == len(images)
    first = dcmread(images[0])
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = first.StudyInstanceUID
    query.PatientName = query.NumberOfStudyRelatedInstances = query.NumberOfStudyRelatedSeries = None
    query.ModalitiesInStudy = None
    (study,) = Sender("NODE", 10).find(hospital.pacs, query)
    assert study.NumberOfStudyRelatedSeries == 3
    assert study.NumberOfStudyRelatedInstances == len(images) - 1
    assert (study.PatientName, study.ModalitiesInStudy) == (first.PatientName, "CT")
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = first.StudyInstanceUID
    query.SeriesInstanceUID = dcmread(images[1]).SeriesInstanceUID
    query.NumberOfSeriesRelatedInstances = None
    (series,) = Sender("NODE", 10).find(hospital.pacs, query)
    assert series.NumberOfSeriesRelatedInstances == 15


def test_it_answers_each_message_and_keeps_it(hospital: Hospital) -> None:
    for number in range(3):
        answer = send_message(*hospital.ehr, ORU % number, control_id=f"MSG{number}", timeout_s=10)
        assert answer.code == "AA"
    assert [p.read_bytes() for p in hospital.messages()] == [ORU % n for n in range(3)]


def test_rubbish_on_the_message_port_harms_nobody(hospital: Hospital) -> None:
    with socket.create_connection(hospital.ehr, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert send_message(*hospital.ehr, ORU % 1, control_id="MSG1", timeout_s=10).code == "AA"
    assert len(hospital.messages()) == 1


def test_waiting_ends_when_nothing_comes(hospital: Hospital) -> None:
    assert not hospital.wait(lambda: bool(hospital.objects()), 0.05)


def test_an_open_connection_does_not_keep_the_hospital_from_closing(tmp_path: Path) -> None:
    with Hospital(tmp_path, lambda: NOW) as hospital:
        connection = socket.create_connection(hospital.ehr, timeout=10)
    connection.close()
