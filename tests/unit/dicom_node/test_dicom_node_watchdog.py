"""What a supervisor hears, over real sockets: one with a path and one without (abstract)."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.watchdog import Watchdog


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(what NOTIFY_SOCKET says, the socket behind it)."""
    name = f"dicom-node-test-{os.getpid()}"
    address = str(tmp_path / "notify") if request.param == "path" else f"@{name}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as line:
        line.bind(address if request.param == "path" else "\0" + name)
        line.settimeout(5)
        yield address, line


def heard(line: socket.socket) -> list[str]:
    line.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(line.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_the_supervisor_hears_the_whole_life_of_a_role(
    supervisor: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, line = supervisor
    now = iter([100.0, 100.5, 101.5])
    monkeypatch.setattr("dicom_node.watchdog.time.monotonic", now.__next__)
    role = Watchdog.from_environment({"NOTIFY_SOCKET": address})
    role.ready()
    role.ready()  # told once
    for _ in range(3):
        role.feed()  # at most one a second
    role.status("41 images waiting\nand more")
    role.stopping()
    assert heard(line) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STATUS=41 images waiting", "STOPPING=1"]


def test_without_a_supervisor_nothing_is_said_and_nothing_fails() -> None:
    role = Watchdog.from_environment({})
    role.ready()
    role.feed()
    role.status("")
    role.stopping()


def test_a_supervisor_that_went_away_harms_no_role(tmp_path: Path) -> None:
    role = Watchdog(str(tmp_path / "nobody"))
    role.ready()
    role.stopping()
