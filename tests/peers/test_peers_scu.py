"""We send to DCMTK's storescp and to Orthanc; what they hold is read through their own door."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import Refused
from dicom_node.net.scu import Sender
from inference.headers import read_header
from tests.peers import tools
from tests.receivers import EXPLICIT

pytestmark = [pytest.mark.peer, pytest.mark.shared]


class Pacs:
    """Any peer of tools.py as one that we call."""

    host = "127.0.0.1"

    def __init__(self, of: tools.StoreScp | tools.Orthanc) -> None:
        self.ae_title, self.port = of.ae_title, of.port


@pytest.fixture
def sender() -> Sender:
    return Sender("NODE", 20)


@pytest.fixture
def slices(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "ct" / "lidc-idri-0063" / "dicom").glob("*.dcm"))[:3]


@pytest.fixture
def report(shared_data: Path, tmp_path: Path) -> Path:
    """A Structured Report in Explicit VR Little Endian."""
    path = tmp_path / "sr.dcm"
    dataset = dcmread(shared_data / "odd" / "objects" / "sr_comprehensive3d.dcm")
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == EXPLICIT
    return path


def dataset_bytes(path: Path) -> bytes:
    """The data set alone: after preamble and file meta."""
    meta_length = int.from_bytes(path.read_bytes()[140:144], "little")
    return path.read_bytes()[144 + meta_length :]


def test_storescp_gets_the_bytes_that_we_hold(
    sender: Sender, slices: list[Path], storescp: Callable[..., tools.StoreScp]
) -> None:
    scp = storescp()
    assert sender.store(slices, Pacs(scp)).ok
    assert sorted(map(dataset_bytes, scp.files())) == sorted(map(dataset_bytes, slices))


def test_a_peer_of_the_default_syntax_alone_gets_a_report_converted(
    sender: Sender, report: Path, storescp: Callable[..., tools.StoreScp]
) -> None:
    scp = storescp("+xi")
    assert sender.store([report], Pacs(scp)).ok
    (got,) = map(dcmread, scp.files())
    assert got.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    sent = dcmread(report)
    assert sent.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert got.to_json_dict() == sent.to_json_dict()


def test_compressed_images_for_such_a_peer_fail_at_once_in_words(
    sender: Sender, slices: list[Path], storescp: Callable[..., tools.StoreScp]
) -> None:
    scp = storescp("+xi")
    with pytest.raises(Refused, match="does not take CT Image Storage"):
        sender.store(slices, Pacs(scp))
    assert scp.files() == []


def test_orthanc_can_give_back_all_that_we_call_sent(
    sender: Sender, slices: list[Path], report: Path, orthanc: tools.Orthanc
) -> None:
    outcome = sender.store([*slices, report], Pacs(orthanc))
    assert outcome.ok
    assert orthanc.uids("Instance") == {stored.sop_instance_uid for stored in outcome.instances}
    for path in slices:
        fetched = dcmread(BytesIO(orthanc.fetch(read_header(path).sop_instance_uid)))
        assert fetched.PixelData == dcmread(path).PixelData


def test_orthanc_counts_a_series_for_us(sender: Sender, slices: list[Path], orthanc: tools.Orthanc) -> None:
    orthanc.put(*slices)
    header = read_header(slices[0])
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = header.study_instance_uid
    query.SeriesInstanceUID = header.series_instance_uid
    query.NumberOfSeriesRelatedInstances = ""
    (found,) = sender.find(Pacs(orthanc), query)
    assert found.NumberOfSeriesRelatedInstances == len(slices)
    sender.echo(Pacs(orthanc))
