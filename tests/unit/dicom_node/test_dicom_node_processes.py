"""Children that talk in JSON lines, and what happens when they do not."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, Site
from dicom_node.errors import ChildDied, UnreadableHeader
from dicom_node.header_child import HeaderChild
from dicom_node.processes import LineChild
from dicom_node.reading import ReadingRoom
from tests.result_sources import ct_series


@pytest.fixture
def child(tmp_path: Path) -> Iterator[LineChild]:
    (tmp_path / "talker.py").write_text(
        "import sys, json, time\n"
        "print('a library says hello')\n"
        "for line in sys.stdin:\n"
        "    word = json.loads(line)['word']\n"
        "    if word == 'die': sys.exit(7)\n"
        "    if word == 'fault': sys.stderr.write('chatter\\n' * 50000); raise MemoryError('too large for me')\n"
        "    if word == 'silent': time.sleep(60)\n"
        "    print(json.dumps({'said': word}))\n"
    )
    with LineChild("talker", cwd=tmp_path) as talker:
        yield talker


def test_a_line_is_answered_and_chatter_is_passed_over(child: LineChild) -> None:
    child.send({"word": "hello"})
    assert child.receive(20) == {"said": "hello"}


def test_silence_is_none_and_an_end_says_how(child: LineChild) -> None:
    child.send({"word": "silent"})
    assert child.receive(0.2) is None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match="SIGKILL"):
        child.receive(20)


def test_an_exit_code_is_named(child: LineChild) -> None:
    child.send({"word": "die"})
    with pytest.raises(ChildDied, match="exit code 7"):
        child.receive(20)


def test_a_header_is_read_by_a_child_and_rubbish_is_no_header(tmp_path: Path) -> None:
    reader = HeaderChild(20)
    try:
        series = ct_series(tmp_path / "ct")
        assert reader.read(next(iter(series.files.values()))).modality == "CT"
        (tmp_path / "rubbish").write_bytes(os.urandom(5000))
        with pytest.raises(UnreadableHeader):
            reader.read(tmp_path / "rubbish")
    finally:
        reader.close()


def test_the_last_words_of_a_child_are_kept_and_its_chatter_never_blocks_it(child: LineChild) -> None:
    child.send({"word": "fault"})
    with pytest.raises(ChildDied) as died:
        child.receive(20)
    assert "exit code 1" in died.value.what
    assert "too large for me" in died.value.do
    assert "too large" not in died.value.what


def test_a_worker_removes_volumes_that_a_killed_one_left_behind(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for owner in (gone.pid, os.getpid()):
        (tmp_path / f"volume-{owner}").mkdir()
        (tmp_path / f"volume-{owner}" / "volume.npy").write_bytes(b"1")
    ReadingRoom(Settings(site=Site(timezone="UTC")), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"volume-{os.getpid()}"]
