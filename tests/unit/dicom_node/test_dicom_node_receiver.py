import logging
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE

from config.settings import Disk
from dicom_node.errors import PortUnavailable
from dicom_node.net.conformance import READ_SOP_CLASSES, STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from dicom_node.receiver import file_meta, serve_receiver
from storage.associations import Marker
from storage.spool import Spool
from tests.peers.tools import until
from tests.receivers import CT, EXPLICIT, SMALL_DISK, associate, receiving, settings_for, write_object


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", SMALL_DISK)


def send(assoc: object, path: Path) -> int:
    return int(assoc.send_c_store(path).Status)  # type: ignore[attr-defined]


def datasets(spool: Spool) -> list[bytes]:
    """What waits in incoming, without preamble and file meta."""
    found = []
    for arrival in spool.arrivals():
        content = arrival.path.read_bytes()
        (length,) = struct.unpack("<L", content[140:144])
        found.append(content[144 + length :])
    return found


def ended(spool: Spool) -> list[Marker]:
    return until(lambda: [m for m in spool.associations if m.state != "open"], "an association to end")


def until_closed(line: socket.socket) -> None:
    """The other side closes this connection, whatever it says before; else the socket's own timeout raises."""
    with suppress(ConnectionError):
        while line.recv(4096):
            pass


def test_success_means_that_the_bytes_lie_in_incoming_as_they_came(spool: Spool, tmp_path: Path) -> None:
    path = write_object(tmp_path / "a", b"\x08\x00\x05\x00CS\x04\x00ANY " * 1000)
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, path) == 0x0000
        (arrival,) = spool.arrivals()
        assert datasets(spool) == [b"\x08\x00\x05\x00CS\x04\x00ANY " * 1000]
        assert arrival.path.read_bytes()[:132] == bytes(128) + b"DICM"
        assert arrival.path.stat().st_mode & 0o777 == 0o600
        assoc.release()


def test_an_object_of_three_pdus_comes_whole(spool: Spool, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1500
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, write_object(tmp_path / "a", content)) == 0x0000
        assoc.release()
    assert datasets(spool) == [content]


def test_every_syntax_that_can_be_filed_is_filed(spool: Spool, tmp_path: Path) -> None:
    private = "1.2.840.113619.5.2"
    with receiving(spool) as receive:
        for syntaxes in (TRANSFER_SYNTAXES, [private]):
            assoc = associate(receive, [(CT, syntax) for syntax in syntaxes])
            for syntax in syntaxes:
                path = write_object(tmp_path / "object", syntax.encode(), syntax=syntax)
                assert send(assoc, path) == 0x0000, syntax
            assoc.release()
    assert sorted(datasets(spool)) == sorted(syntax.encode() for syntax in [*TRANSFER_SYNTAXES, private])


def test_every_storage_class_is_taken_private_and_unknown_ones_too(spool: Spool, tmp_path: Path) -> None:
    classes = [*STORAGE_SOP_CLASSES, "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.9999"]
    assert set(READ_SOP_CLASSES) <= set(classes)
    with receiving(spool) as receive:
        for first in range(0, len(classes), 100):
            assoc = associate(receive, [(name, EXPLICIT) for name in classes[first : first + 100]])
            assert len(assoc.accepted_contexts) == len(classes[first : first + 100])
            assert send(assoc, write_object(tmp_path / "a", b"12345678", sop_class=classes[first])) == 0x0000
            assoc.release()


def test_a_known_syntax_is_preferred_to_an_unknown_one_that_stands_first(spool: Spool) -> None:
    with receiving(spool) as receive:
        both = [build_context(CT, ["1.2.840.113619.5.2", EXPLICIT])]
        assoc = AE("SENDER").associate("127.0.0.1", receive.port, contexts=both, ae_title="DICOMNODE")
        assert [str(cx.transfer_syntax[0]) for cx in assoc.accepted_contexts] == [EXPLICIT]
        assoc.release()


def test_queries_are_not_offered(spool: Spool) -> None:
    with receiving(spool) as receive:
        assoc = associate(receive, [("1.2.840.10008.5.1.4.1.2.2.1", EXPLICIT), ("1.2.840.10008.1.1", EXPLICIT)])
        assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == ["1.2.840.10008.1.1"]
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


@pytest.mark.parametrize("uid", ["1." + "2" * 68, "../../etc/passwd", "not a uid"])
def test_a_sop_instance_uid_against_the_grammar_ends_no_job(spool: Spool, tmp_path: Path, uid: str) -> None:
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, write_object(tmp_path / "a", b"12345678", uid=uid)) == 0x0000
        assert send(assoc, write_object(tmp_path / "b", b"87654321")) == 0x0000
        assoc.release()
    assert datasets(spool) == [b"12345678", b"87654321"]
    assert all(arrival.path.parent == spool.incoming for arrival in spool.arrivals())


@pytest.mark.parametrize(
    ("calling", "called", "why"),
    [
        ("STRANGER", "DICOMNODE", "calling AE title not recognised"),
        ("SENDER", "OTHER", "called AE title not recognised"),
    ],
)
def test_who_is_not_named_or_means_another_is_turned_away(spool: Spool, calling: str, called: str, why: str) -> None:
    with receiving(spool) as receive:
        assert associate(receive, calling=calling, called=called).is_rejected
        assert associate(receive, calling=calling, called=called).is_rejected
        (refusal,) = spool.refusals
        assert (refusal.calling_ae, refusal.called_ae, refusal.address) == (calling, called, "127.0.0.1")
        assert (refusal.why, refusal.count) == (why, 2)
    assert not list(spool.associations)


def test_nobody_may_send_where_no_caller_is_named(spool: Spool) -> None:
    with receiving(spool, calling_ae_titles=()) as receive:
        assert associate(receive).is_rejected


def test_anybody_may_where_that_is_switched_on(spool: Spool) -> None:
    with receiving(spool, calling_ae_titles=(), any_calling_ae=True, any_called_ae=True) as receive:
        assoc = associate(receive, calling="X", called="Y")
        assert assoc.is_established
        assoc.release()


def test_one_association_too_many_is_told_to_come_again(spool: Spool) -> None:
    with receiving(spool, associations_max=2) as receive:
        first, second, third = associate(receive), associate(receive), associate(receive)
        assert first.is_established
        assert second.is_established
        assert third.is_rejected
        assert third.acceptor.primitive.result == 2  # transient
        first.release()
        until(lambda: ended(spool), "the first to end")
        fourth = associate(receive)
        assert fourth.is_established
        fourth.release()
        second.release()


def test_a_full_disk_is_a_700h_and_nothing_is_left_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Disk(free_mib_min=10**9))
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, write_object(tmp_path / "a", b"12345678")) == 0xA700
        assert send(assoc, write_object(tmp_path / "a", b"12345678")) == 0xA700
        assoc.release()
    assert list(spool.incoming.iterdir()) == []


def test_a_request_without_a_data_set_is_not_understood(spool: Spool, tmp_path: Path) -> None:
    with receiving(spool) as receive:
        assoc = associate(receive)
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3"
        assoc._reactor_checkpoint.clear()  # as send_c_store does it
        assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
        _, response = assoc.dimse.get_msg(block=True)
        assoc._reactor_checkpoint.set()
        assert response.Status == 0xC000
        assert send(assoc, write_object(tmp_path / "a", b"12345678")) == 0x0000
        assoc.release()


def test_an_object_above_the_limit_ends_its_association_and_no_other(spool: Spool, tmp_path: Path) -> None:
    with receiving(spool, object_mib_max=1) as receive:
        large, small = associate(receive), associate(receive)
        assert "Status" not in large.send_c_store(write_object(tmp_path / "a", bytes(3 * 2**20)))
        for _ in range(4):  # what was filed is not counted again
            assert send(small, write_object(tmp_path / "b", bytes(900_000))) == 0x0000
        small.release()
        markers = until(lambda: found if len(found := ended(spool)) == 2 else None, "both to end")
        assert sorted((m.state, m.files, m.why) for m in markers) == [
            ("aborted", 0, "an object of more than 1 MiB"),
            ("released", 4, "released"),
        ]


def test_a_pdu_that_claims_four_gigabytes_ends_the_connection(spool: Spool) -> None:
    with receiving(spool) as receive, socket.create_connection(("127.0.0.1", receive.port), timeout=20) as line:
        line.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1000))
        until_closed(line)
        assoc = associate(receive)
        assert assoc.is_established
        assoc.release()


def test_bytes_that_are_no_dicom_end_the_connection(spool: Spool) -> None:
    with receiving(spool) as receive, socket.create_connection(("127.0.0.1", receive.port), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        until_closed(line)


def test_a_released_and_an_aborted_association_say_how_many_files_they_brought(spool: Spool, tmp_path: Path) -> None:
    path = write_object(tmp_path / "a", b"12345678")
    with receiving(spool) as receive:
        good, bad = associate(receive), associate(receive)
        assert [send(assoc, path) for assoc in (good, good, bad)] == [0, 0, 0]
        assert {(m.state, m.calling_ae, m.address) for m in spool.associations} == {("open", "SENDER", "127.0.0.1")}
        good.release()
        bad.abort()
        markers = until(lambda: found if len(found := ended(spool)) == 2 else None, "both to end")
    assert sorted((m.state, m.files, m.why) for m in markers) == [
        ("aborted", 1, "aborted by the sender"),
        ("released", 2, "released"),
    ]
    brought = {arrival.association for arrival in spool.arrivals()}
    assert brought == {m.name for m in markers}


def test_a_connection_that_breaks_counts_as_aborted(spool: Spool, tmp_path: Path) -> None:
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, write_object(tmp_path / "a", b"12345678")) == 0
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        (marker,) = ended(spool)
    assert (marker.state, marker.files, marker.why) == ("aborted", 1, "the connection was lost")


def test_silence_ends_an_association(spool: Spool) -> None:
    with receiving(spool, network_timeout_s=0.5) as receive:
        associate(receive)
        (marker,) = ended(spool)
    assert (marker.state, marker.why) == ("aborted", "aborted by us after silence")


def test_a_stop_ends_associations_and_keeps_what_was_acknowledged(spool: Spool, tmp_path: Path) -> None:
    with receiving(spool) as receive:
        assoc = associate(receive)
        assert send(assoc, write_object(tmp_path / "a", b"12345678")) == 0
    (marker,) = spool.associations
    assert (marker.state, marker.files, marker.why) == ("aborted", 1, "aborted by us: the receiver stops")
    assert datasets(spool) == [b"12345678"]


def test_a_taken_port_is_said(spool: Spool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = settings_for(other.getsockname()[1])
        with pytest.raises(PortUnavailable, match=r"127\.0\.0\.1"):
            serve_receiver(settings, spool, stop=threading.Event(), ready=lambda: None, heartbeat=lambda: None)


def test_the_log_names_callers_and_counts_but_no_identifier(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicom_node")
    with receiving(spool) as receive:
        assoc = associate(receive)
        send(assoc, write_object(tmp_path / "a", b"12345678", uid="1.2.3.77777"))
        assoc.release()
        associate(receive, calling="STRANGER")
        ended(spool)
    lines = [record.getMessage() for record in caplog.records if record.name == "dicom_node"]
    assert any(line.startswith("association.ended ae=SENDER peer=127.0.0.1 count=1 ") for line in lines)
    assert any(line.startswith("receiver.rejected ae=STRANGER peer=127.0.0.1 ") for line in lines)
    assert not any("77777" in line for line in lines)


def test_file_meta_is_what_pydicom_reads(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(file_meta(CT, "1.2.3", EXPLICIT, b""))
    meta = read_file_meta_info(tmp_path / "a")
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3")
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.FileMetaInformationGroupLength == len(file_meta(CT, "1.2.3", EXPLICIT, b"")) - 144
