"""A download from a real server on loopback: cut off, resumed, refused, too large, and with no server at all."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.downloads import Bounds, Download, fetch_small, without_secrets
from dicom_node.errors import NotReached, Precondition, Refused
from tests.file_server import FileServer, file_server

CONTENT = random.Random(1).randbytes(700_000)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["/model.bin"] = CONTENT
        yield running


def download(url: str, folder: Path, bytes_max: int = 10**6, tries_max: int = 3) -> Download:
    return Download(url, folder, Bounds(bytes_max, lambda more: None, tries_max, wait_s=0))


def ranges(server: FileServer) -> list[str]:
    return [headers.get("range", "") for _, headers in server.asked]


def test_a_file_comes_as_it_is_with_progress_up_to_its_end(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    one = Download(
        server.url("/model.bin"), tmp_path, Bounds(10**6, lambda more: None), lambda *said: told.append(said)
    )
    assert one.fetch().read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    one.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_cut_connection_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000]
    assert download(server.url("/model.bin"), tmp_path).fetch().read_bytes() == CONTENT
    assert ranges(server) == ["", "bytes=300000-", "bytes=400000-"]


def test_a_later_command_goes_on_too(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000]
    with pytest.raises(NotReached, match=r"cut after 300000 of 700000 bytes \(300000 bytes are kept\)") as cut:
        download(server.url("/model.bin"), tmp_path, tries_max=1).fetch()
    assert "goes on where it stopped" in cut.value.do
    assert download(server.url("/model.bin"), tmp_path).fetch().read_bytes() == CONTENT
    assert ranges(server)[1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_not_patched_together(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000]
    with pytest.raises(NotReached):
        download(server.url("/model.bin"), tmp_path, tries_max=1).fetch()
    server.files["/model.bin"] = CONTENT[::-1]
    assert download(server.url("/model.bin"), tmp_path).fetch().read_bytes() == CONTENT[::-1]


def test_a_part_of_a_file_that_is_now_shorter_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    one = download(server.url("/model.bin"), tmp_path)
    one.fetch()
    server.files["/model.bin"] = CONTENT[:1000]
    assert one.fetch().read_bytes() == CONTENT[:1000]


def test_what_is_here_as_a_whole_is_not_fetched_twice(server: FileServer, tmp_path: Path) -> None:
    one = download(server.url("/model.bin"), tmp_path)
    one.fetch()
    assert one.fetch().read_bytes() == CONTENT
    assert ranges(server) == ["", f"bytes={len(CONTENT)}-"]


def test_without_a_validator_nothing_is_resumed(server: FileServer, tmp_path: Path) -> None:
    """Nothing would say that the rest belongs to the same file."""
    server.plain = True
    (path,) = [download(server.url("/model.bin"), tmp_path).fetch()]
    path.write_bytes(CONTENT[:100])
    assert download(server.url("/model.bin"), tmp_path).fetch().read_bytes() == CONTENT
    assert ranges(server) == ["", ""]


def test_a_server_that_always_cuts_is_given_up_and_says_what_is_kept(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1000, *[0] * 20]
    with pytest.raises(NotReached, match="1000 bytes are kept"):
        download(server.url("/model.bin"), tmp_path).fetch()
    assert len(server.asked) == 3


def test_no_such_file_is_a_no_and_is_not_asked_again(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="404 Not Found"):
        download(server.url("/none.bin"), tmp_path).fetch()
    assert len(server.asked) == 1


def test_a_server_in_trouble_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(NotReached, match="503"):
        download(server.url("/model.bin"), tmp_path).fetch()
    assert len(server.asked) == 3


def test_no_server_says_so_and_what_to_do_instead(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/model.bin"
        with pytest.raises(NotReached, match=r"can't be reached: .*Connection refused") as none:
            download(url, tmp_path).fetch()
    assert "another machine" in none.value.do
    assert "HTTPS_PROXY" in none.value.do


def test_too_large_a_file_is_refused_before_it_is_fetched(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(Precondition, match="more than 0 MiB"):
        download(server.url("/model.bin"), tmp_path, bytes_max=1000).fetch()
    assert list(tmp_path.glob("*.part")) == []


def test_one_that_does_not_say_its_size_is_stopped_on_the_way(server: FileServer, tmp_path: Path) -> None:
    server.plain = True
    with pytest.raises(Precondition, match="more than 0 MiB"):
        download(server.url("/model.bin"), tmp_path, bytes_max=600_000).fetch()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.part")) <= 600_000


def test_a_redirection_is_followed_but_never_to_a_local_file(server: FileServer, tmp_path: Path) -> None:
    server.moved = {"/here": server.url("/model.bin"), "/local": "file:///etc/hostname"}
    assert download(server.url("/here"), tmp_path).fetch().read_bytes() == CONTENT
    with pytest.raises((Refused, NotReached)):
        download(server.url("/local"), tmp_path).fetch()


def test_a_full_disk_stops_it_before_it_begins(server: FileServer, tmp_path: Path) -> None:
    def no_room(more: int) -> None:
        raise Precondition(f"no room for {more} bytes")

    with pytest.raises(Precondition, match="no room for 700000 bytes"):
        Download(server.url("/model.bin"), tmp_path, Bounds(10**6, no_room)).fetch()


def test_a_small_file_is_fetched_whole_and_bounded(server: FileServer) -> None:
    server.files["/entry.toml"] = b"name = 1"
    assert fetch_small(server.url("/entry.toml"), 100) == b"name = 1"
    assert fetch_small(server.url("/none.toml"), 100) is None
    with pytest.raises(Precondition, match="more than 4 bytes"):
        fetch_small(server.url("/entry.toml"), 4)
    server.status = 500
    with pytest.raises(NotReached, match="500"):
        fetch_small(server.url("/entry.toml"), 100)


def test_what_is_shown_of_an_address_holds_no_secrets() -> None:
    assert without_secrets("https://me:secret@h.org:8443/m.zip?token=abc#x") == "https://h.org:8443/m.zip"
    assert without_secrets("https://[::1]/m.zip") == "https://[::1]/m.zip"


def test_a_disk_that_fills_on_the_way_is_no_fault_of_the_network(server: FileServer, tmp_path: Path) -> None:
    one = download(server.url("/model.bin"), tmp_path)
    one._part.symlink_to("/dev/full")
    with pytest.raises(Precondition, match="the disk is full"):
        one.fetch()
    assert len(server.asked) == 1
