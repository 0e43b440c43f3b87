"""Children that talk in JSON lines, and what happens when they do not."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import ChildDied, UnreadableHeader
from dicom_node.header_child import HeaderChild
from dicom_node.processes import LineChild
from tests.result_sources import ct_series


@pytest.fixture
def child(tmp_path: Path) -> Iterator[LineChild]:
    (tmp_path / "talker.py").write_text(
        "import sys, json, time\n"
        "print('a library says hello')\n"
        "for line in sys.stdin:\n"
        "    word = json.loads(line)['word']\n"
        "    if word == 'die': sys.exit(7)\n"
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
