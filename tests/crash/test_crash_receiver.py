"""The receiver is killed at every named point of a write. What it had acknowledged is there, and nothing is there by halves."""

from pathlib import Path

import pytest

from storage.disk import CRASH_POINTS
from storage.spool import Spool
from tests.receivers import SMALL_DISK, ReceiverProcess, associate, write_object

DIES_AT_FILE = 3


def content(number: int) -> bytes:
    return b"\x08\x00\x05\x00CS\x04\x00ANY " + bytes([number]) * 200_000


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, point: str) -> None:
    acknowledged = []
    with ReceiverProcess(tmp_path / "spool", die_at=f"{point}:{DIES_AT_FILE}") as receiver:
        assoc = associate(receiver.receive)
        for number in range(1, 6):
            path = write_object(tmp_path / "object", content(number), uid=f"1.2.{number}")
            if not assoc.is_established or "Status" not in (status := assoc.send_c_store(path)):
                break
            assert status.Status == 0x0000
            acknowledged.append(number)
        assert receiver.process.wait(20) == -9
    assert len(acknowledged) == DIES_AT_FILE - 1

    spool = Spool(tmp_path / "spool", SMALL_DISK)
    kept = {arrival.path.read_bytes()[-200_000:] for arrival in spool.arrivals()}
    assert {content(number)[-200_000:] for number in acknowledged} <= kept
    assert kept <= {content(number)[-200_000:] for number in (*acknowledged, DIES_AT_FILE)}  # never half of one
    (marker,) = spool.associations
    assert (marker.state, marker.ended()) == ("open", "aborted")
    spool.remove_dead_parts()
    assert [path.suffix for path in spool.incoming.iterdir()] == [".dcm"] * len(kept)

    with ReceiverProcess(tmp_path / "spool") as receiver:  # the sender comes again with what it was not told of
        assoc = associate(receiver.receive)
        for number in range(len(acknowledged) + 1, 6):
            path = write_object(tmp_path / "object", content(number), uid=f"1.2.{number}")
            assert assoc.send_c_store(path).Status == 0x0000
        assoc.release()
    names = [arrival.name for arrival in spool.arrivals()]
    assert len(names) == len(set(names)) == len(kept) + 5 - len(acknowledged)
