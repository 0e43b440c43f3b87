"""Peers here are pynetdicom's SCP with handlers that misbehave in one way, or a bare socket."""

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_context, evt

from dicom_node.errors import NoAnswer, NotReached, Refused
from dicom_node.net.conformance import rejection, store_status
from dicom_node.net.scu import Sender, StoreOutcome
from tests.peers.tools import free_port
from tests.receivers import EXPLICIT, write_object

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@dataclass(frozen=True)
class Address:
    port: int
    ae_title: str = "PACS"
    host: str = "127.0.0.1"


@contextmanager
def peer(handler: Callable[[Any], Any], event: Any = evt.EVT_C_STORE, **options: Any) -> Iterator[Address]:
    ae = AE("PACS")
    for sop_class in ("1.2.840.10008.1.1", FIND):
        ae.add_supported_context(sop_class)
    for name, value in options.items():
        setattr(ae, name, value)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(event, handler)])
    try:
        yield Address(port)
    finally:
        server.shutdown()


@pytest.fixture
def batch(tmp_path: Path) -> list[Path]:
    return [write_object(tmp_path / f"{n}", b"dataset " * 100, uid=f"1.2.3.{n}") for n in range(3)]


@pytest.fixture
def sender() -> Sender:
    return Sender("NODE", 5)


def fates(outcome: StoreOutcome) -> list[str]:
    return [stored.fate for stored in outcome.instances]


def test_each_file_goes_out_byte_by_byte_in_order(sender: Sender, batch: list[Path]) -> None:
    got: list[tuple[str, bytes]] = []
    connected: list[int] = []

    def take(event: Any) -> int:
        got.append((str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()))
        return 0x0000

    with peer(take) as pacs:
        outcome = sender.store(batch, pacs, lambda: connected.append(len(got)))
    assert outcome.ok
    assert [stored.sop_instance_uid for stored in outcome.instances] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert got == [(f"1.2.3.{n}", b"dataset " * 100) for n in range(3)]
    assert connected == [0]  # once, before the first


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_means_that_the_peer_has_it(sender: Sender, batch: list[Path], status: int) -> None:
    with peer(lambda event: status) as pacs:
        outcome = sender.store(batch, pacs)
    assert outcome.ok
    assert len(outcome.warnings) == 3
    assert outcome.warnings[0].startswith(f"{status:04X}H ")


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0122, 0xC211])
def test_after_a_refusal_nothing_more_is_sent(sender: Sender, batch: list[Path], status: int) -> None:
    asked: list[int] = []

    def refuse_second(event: Any) -> int:
        asked.append(1)
        return status if len(asked) == 2 else 0x0000

    with peer(refuse_second) as pacs, pytest.raises(Refused, match=f"file 2 of 3: {status:04X}H") as raised:
        sender.store(batch, pacs)
    assert len(asked) == 2
    assert fates(raised.value.outcome) == ["success", "refused", "not sent"]
    assert fates(pickle.loads(pickle.dumps(raised.value)).outcome) == ["success", "refused", "not sent"]


def test_silence_after_sending_is_no_answer(batch: list[Path]) -> None:
    let_go = threading.Event()

    def wait(event: Any) -> int:
        let_go.wait(30)
        return 0x0000

    with peer(wait) as pacs:
        with pytest.raises(NoAnswer, match=r"no answer in 0\.3 s") as raised:
            Sender("NODE", 0.3).store(batch, pacs)
        let_go.set()
    assert fates(raised.value.outcome) == ["no answer", "not sent", "not sent"]


def test_a_cut_after_sending_is_no_answer(sender: Sender, batch: list[Path]) -> None:
    def cut(event: Any) -> int:
        event.assoc.abort()
        return 0x0000

    with peer(cut) as pacs, pytest.raises(NoAnswer, match="cut") as raised:
        sender.store(batch, pacs)
    assert fates(raised.value.outcome) == ["no answer", "not sent", "not sent"]


def test_a_peer_that_stops_reading_does_not_hold_us_for_ever(tmp_path: Path) -> None:
    """Its socket is full, and a write without a limit would block."""
    let_go = threading.Event()

    def stop_reading(event: Any) -> None:
        wrapper = event.assoc.dul.socket
        real = wrapper.recv
        wrapper.recv = lambda count: real(count) if count < 10_000 else let_go.wait(60) and real(count)

    large = write_object(tmp_path / "large", bytes(20_000_000))
    with peer(stop_reading, evt.EVT_ESTABLISHED, maximum_pdu_size=0) as pacs:
        sender = Sender("NODE", 0.5)
        with pytest.raises(NoAnswer):
            sender.store([large], pacs)
        let_go.set()


def test_nobody_listens(sender: Sender, batch: list[Path]) -> None:
    with pytest.raises(NotReached, match="no connection"):
        sender.store(batch, Address(free_port()))


def test_a_host_that_has_no_address(sender: Sender) -> None:
    with pytest.raises(NotReached):
        sender.echo(Address(104, host="no-such-host.invalid"))


def test_a_peer_that_listens_and_says_nothing(batch: list[Path]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(NotReached, match="no association"):
            Sender("NODE", 0.3).store(batch, Address(silent.getsockname()[1]))


def test_a_rejection_says_why(sender: Sender, batch: list[Path]) -> None:
    connected: list[int] = []
    with (
        peer(lambda event: 0x0000, require_calling_aet=["OTHER"]) as pacs,
        pytest.raises(NotReached, match="calling AE title not recognised"),
    ):
        sender.store(batch, pacs, lambda: connected.append(1))
    assert connected == []


def test_a_class_that_is_not_taken_fails_the_batch_before_a_byte_is_sent(sender: Sender, tmp_path: Path) -> None:
    got: list[int] = []
    files = [
        write_object(tmp_path / "a", b"12345678", uid="1.2.1", syntax="1.2.840.10008.1.2.4.80"),
        write_object(tmp_path / "b", b"12345678", uid="1.2.2", sop_class=FIND, syntax=EXPLICIT + ".98"),
    ]
    with peer(lambda event: got.append(1) or 0x0000) as pacs, pytest.raises(Refused, match="does not take") as raised:
        sender.store(files, pacs)
    assert got == []
    assert fates(raised.value.outcome) == ["not sent", "not sent"]


def test_when_the_ledger_says_stop_nothing_is_sent(sender: Sender, batch: list[Path]) -> None:
    got: list[int] = []

    def stop() -> None:
        raise NotReached(what="the lease is over")

    with peer(lambda event: got.append(1) or 0x0000) as pacs, pytest.raises(NotReached, match="lease"):
        sender.store(batch, pacs, stop)
    assert got == []


def test_echo_answers_or_says_why_not(sender: Sender) -> None:
    with peer(lambda event: 0x0000, evt.EVT_C_ECHO) as pacs:
        sender.echo(pacs)
    with peer(lambda event: 0x0122, evt.EVT_C_ECHO) as pacs, pytest.raises(Refused, match="0122H"):
        sender.echo(pacs)


def query() -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = "SERIES"
    asked.StudyInstanceUID = "1.2.3"
    asked.NumberOfSeriesRelatedInstances = ""
    return asked


def test_find_gives_all_answers(sender: Sender) -> None:
    def answer(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for count in ("24", "3"):
            found = Dataset()
            found.NumberOfSeriesRelatedInstances = count
            yield 0xFF00, found

    with peer(answer, evt.EVT_C_FIND) as pacs:
        assert [str(found.NumberOfSeriesRelatedInstances) for found in sender.find(pacs, query())] == ["24", "3"]
        with pytest.raises(Refused, match="more than 1"):
            sender.find(pacs, query(), answers_max=1)


def test_a_failed_find_is_no_empty_list(sender: Sender) -> None:
    def fail(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xA700, None

    with peer(fail, evt.EVT_C_FIND) as pacs, pytest.raises(Refused, match="A700H"):
        sender.find(pacs, query())


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (0x0000, "success", "0000H"),
        (0xB000, "warning", "B000H coercion of data elements"),
        (0xA700, "refused", "A700H out of resources"),
        (0xA7FE, "refused", "A7FEH out of resources"),
        (0xC211, "refused", "C211H cannot understand"),
        (0x0110, "refused", "0110H processing failure"),
        (0x1234, "refused", "1234H unknown failure"),
        (0xB001, "refused", "B001H unknown failure"),
    ],
)
def test_statuses_as_the_standard_prints_them(status: int, kind: str, text: str) -> None:
    assert store_status(status) == (kind, text)


def test_rejections_in_words() -> None:
    assert rejection(1, 1, 7) == "called AE title not recognised"
    assert rejection(2, 3, 2) == "too many associations (transient)"
    assert rejection(1, 1, 9) == "rejected (1, 1, 9)"


def test_an_answer_is_left_to_who_asked_for_it(sender: Sender) -> None:
    """pynetdicom's own loop, let go by the end of one request, may run once more and take the answer to the next."""
    contexts = [build_context("1.2.840.10008.1.1")]
    with peer(lambda event: 0, evt.EVT_C_ECHO) as address, sender._association(address, contexts) as association:
        association.dimse.msg_queue.put((1, "the answer"))
        assert association.dimse.get_msg(block=False) == (None, None)
        assert association.dimse.get_msg(block=True) == (1, "the answer")
