"""DCMTK and Orthanc send to the receiver; what lies in the spool is read with DCMTK."""

import filecmp
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.net.scu import Sender
from storage.spool import Spool
from tests.peers import tools
from tests.receivers import SMALL_DISK, receiving

pytestmark = [pytest.mark.peer, pytest.mark.shared]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", SMALL_DISK)


@pytest.fixture
def slices(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "ct" / "lidc-idri-0063" / "dicom").glob("*.dcm"))[:12]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def storescu(program: str, port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(program, "-v", "-aet", "SENDER", "-aec", "DICOMNODE", "127.0.0.1", str(port), *arguments)


def test_storescu_sends_a_compressed_series_and_dcmtk_can_read_what_is_kept(
    spool: Spool, slices: list[Path], peer_program: Callable[[str], str], tmp_path: Path
) -> None:
    with receiving(spool) as receive:
        said = storescu(tools.program("storescu"), receive.port, "-xt", *slices)
        assert said.returncode == 0, said.stderr
    arrivals = spool.arrivals()
    assert len(arrivals) == len(slices)
    assert run(peer_program("dcmftest"), *(arrival.path for arrival in arrivals)).returncode == 0
    dcmconv = peer_program("dcmconv")
    for number, arrival in enumerate(arrivals):  # without file meta they are the same bytes
        bare, sent = tmp_path / f"bare{number}", tmp_path / f"sent{number}"
        assert run(dcmconv, "-F", arrival.path, bare).returncode == 0
        assert run(dcmconv, "-F", slices[number], sent).returncode == 0
        assert filecmp.cmp(bare, sent, shallow=False)


def test_four_storescu_at_once_lose_nothing(spool: Spool, slices: list[Path]) -> None:
    command = [tools.program("storescu"), "-xt", "-aet", "SENDER", "-aec", "DICOMNODE", "127.0.0.1"]
    with receiving(spool) as receive:
        senders = [subprocess.Popen([*command, str(receive.port), *map(str, slices)]) for _ in range(4)]
        assert [sender.wait(120) for sender in senders] == [0] * 4
    assert len(spool.arrivals()) == 4 * len(slices)
    assert sorted((m.state, m.files) for m in spool.associations) == [("released", len(slices))] * 4


def test_an_association_for_each_image_is_no_matter(spool: Spool, slices: list[Path]) -> None:
    with receiving(spool) as receive:
        for path in slices[:4]:
            assert storescu(tools.program("storescu"), receive.port, "-xt", path).returncode == 0
    assert len(spool.arrivals()) == len(list(spool.associations)) == 4


def test_storescu_is_told_why_it_is_turned_away(spool: Spool, slices: list[Path]) -> None:
    with receiving(spool, ae_title="ANOTHER") as receive:
        said = storescu(tools.program("storescu"), receive.port, "-xt", slices[0])
    assert said.returncode != 0
    assert "Called AE Title Not Recognized" in said.stderr + said.stdout


def test_orthanc_sends_a_series_in_one_job(spool: Spool, slices: list[Path], orthanc: tools.Orthanc) -> None:
    study = orthanc.put(*slices)[0]["ParentStudy"]
    with receiving(spool, calling_ae_titles=(orthanc.ae_title,)) as receive:
        orthanc.set_node("DICOMNODE", receive.port)
        answer = orthanc.store_to("node", study)
    assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (len(slices), 0)
    assert len(spool.arrivals()) == len(slices)


def test_objects_that_are_not_read_are_taken_all_the_same(spool: Spool, shared_data: Path) -> None:
    """Secondary captures, SR, KOS, private classes: a sender's job must not stop at what we do not read."""
    odd = shared_data / "odd"
    files = [path for folder in ("objects", "structure") for path in sorted((odd / folder).glob("*.dcm"))]
    files = [path for path in files if names_itself(path)]
    assert len(files) > 20
    with receiving(spool) as receive:
        outcome = Sender("SENDER", 20).store(files, receive)
    assert outcome.ok
    assert len(spool.arrivals()) == len(files)


def names_itself(path: Path) -> bool:
    """Whether a sender can say what it is, from the file meta."""
    try:
        meta = read_file_meta_info(path)
    except InvalidDicomError:
        return False
    return all(meta.get(name) for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"))
