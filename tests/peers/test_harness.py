"""The peers themselves, before they judge us: each starts, answers, and sees a planted fault."""

import socket
import subprocess
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers import tools

ORU = (
    b"MSH|^~\\&|A|B|C|D|20260105||ORU^R01^ORU_R01|MSG1|P|2.5.1\r"
    b"PID|1||P-1^^^HOSP^MR~X^^^Y\r"
    b"OBX|1|TX|C^a \\T\\ b^L||one\\.br\\two||||||P\r"
)


def _frame(message: bytes) -> bytes:
    return b"\x0b" + message + b"\x1c\r"


def _exchange(port: int, message: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_frame(message))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while got := connection.recv(65536):
            answer += got
    return answer


def test_the_receiver_keeps_each_message_as_it_came_and_gives_the_answers_it_was_told(
    mllp_receiver: Callable[..., tools.MllpReceiver],
) -> None:
    receiver = mllp_receiver("AE", "AA")
    for code in (b"AE", b"AA", b"AA"):
        assert b"MSA|" + code + b"|MSG1" in _exchange(receiver.port, ORU)
        received = receiver.message()
        assert (received.content, received.control_id) == (ORU, "MSG1")


def test_the_receiver_can_hang_up_or_answer_rubbish(mllp_receiver: Callable[..., tools.MllpReceiver]) -> None:
    receiver = mllp_receiver("close", "garbage", "wrong-id")
    assert _exchange(receiver.port, ORU) == b""
    assert _exchange(receiver.port, ORU) == _frame(b"no such thing")
    assert b"MSA|AA|NOT-MSG1" in _exchange(receiver.port, ORU)


def test_a_message_of_megabytes_arrives(mllp_receiver: Callable[..., tools.MllpReceiver]) -> None:
    receiver = mllp_receiver()
    large = ORU + b"OBX|2|ED|R^report^L||A^AP^PDF^Base64^" + b"QUJD" * 1_000_000 + b"\r"
    assert b"MSA|AA|" in _exchange(receiver.port, large)
    assert receiver.message().content == large


def test_the_independent_parser_counts_as_hl7_does_and_unescapes(
    hl7_parse: Callable[[bytes], tools.ParsedMessage],
) -> None:
    message = hl7_parse(ORU)
    assert message.names() == ["MSH", "PID", "OBX"]
    assert message.get("MSH", 1, 9, 3) == "ORU_R01"
    assert message.get("PID", 1, 3, 4) == "HOSP"
    assert message.get("PID", 1, 3, 4, repetition=2) == "Y"
    assert message.get("OBX", 1, 3, 2) == "a & b"
    assert message.get("OBX", 1, 5) == "one\rtwo"
    assert message.raw("OBX", 1, 5) == "one\\.br\\two"
    assert message.get("ZZZ", 1, 1) == message.get("OBX", 9, 1) == ""
    with pytest.raises(ValueError, match="PID"):
        hl7_parse(b"PID|1\r")


@pytest.mark.peer
def test_orthanc_takes_files_finds_them_and_gives_them_back(orthanc: tools.Orthanc, shared_data: Path) -> None:
    path = next((shared_data / "ct" / "lidc-idri-0003" / "dicom").glob("*.dcm"))
    put = orthanc.put(path)
    (uid,) = orthanc.uids("Instance")
    assert orthanc.find("Study")[0]["ID"] == put[0]["ParentStudy"]
    assert orthanc.fetch(uid)[128:132] == b"DICM"
    orthanc.delete_all()
    assert orthanc.uids("Instance") == set()


@pytest.mark.peer
def test_orthanc_sends_to_the_node_and_says_when_it_could_not(
    orthanc: tools.Orthanc, storescp: Callable[..., tools.StoreScp], shared_data: Path
) -> None:
    scp = storescp()
    study = orthanc.put(*sorted((shared_data / "ct" / "lidc-idri-0003" / "dicom").glob("*.dcm"))[:3])[0]["ParentStudy"]
    orthanc.set_node("STORESCP", scp.port)
    assert orthanc.store_to("node", study)["InstancesCount"] == 3
    assert len(scp.files()) == 3
    orthanc.set_node("STORESCP", tools.free_port())
    with pytest.raises(urllib.error.HTTPError, match="connect"):
        orthanc.store_to("node", study)


@pytest.mark.peer
def test_two_receivers_can_stand_side_by_side(storescp: Callable[..., tools.StoreScp], shared_data: Path) -> None:
    one, other = storescp(), storescp(ae_title="OTHER")
    path = next((shared_data / "ct" / "lidc-idri-0003" / "dicom").glob("*.dcm"))
    subprocess.run(
        [tools.program("storescu"), "-R", "-xu", "-aec", "OTHER", "127.0.0.1", str(other.port), str(path)], check=True
    )
    assert (len(one.files()), len(other.files())) == (0, 1)


def test_the_iod_validator_sees_a_fault(dciodvfy: Callable[[Path], list[str]], tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"no DICOM")
    assert dciodvfy(rubbish)


def test_the_sr_validators_see_a_fault(
    dsrdump: Callable[[Path], list[str]], pixelmed: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"no DICOM")
    assert dsrdump(rubbish)
    assert pixelmed(rubbish)


def test_dcentvfy_sees_two_patients_in_one_study(
    dcentvfy: Callable[[list[Path]], list[str]], shared_data: Path, tmp_path: Path
) -> None:
    paths = sorted((shared_data / "ct" / "lidc-idri-0003" / "dicom").glob("*.dcm"))[:2]
    assert dcentvfy(paths) == []
    content = paths[1].read_bytes()
    assert content.count(b"LIDC-IDRI-0003") >= 1
    other = tmp_path / "other.dcm"
    other.write_bytes(content.replace(b"LIDC-IDRI-0003", b"LIDC-IDRI-0009"))
    assert dcentvfy([paths[0], other])
