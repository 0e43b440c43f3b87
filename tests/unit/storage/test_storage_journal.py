import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage import journal as journals
from storage.errors import JournalFailed
from storage.journal import Journal, read_all

AT = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)


def open_journal(folder: Path, pid: int = 1) -> Journal:
    return Journal(folder, "host", "boot", pid)


def test_a_line_says_what_it_was_given(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal")
    journal.append("commit", at=AT, study=3, text="Müller\nzwei", nested={"a": [1, None]})
    (entry,) = read_all(tmp_path / "journal").entries
    assert (entry.kind, entry.at, entry.file, entry.line) == ("commit", AT.isoformat(), "host-boot-1.jsonl", 1)
    assert entry.fields == {"study": 3, "text": "Müller\nzwei", "nested": {"a": [1, None]}}


def test_it_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, synced, real = open_journal(tmp_path), [], os.fsync
    monkeypatch.setattr(journals.os, "fsync", lambda fd: (synced.append(fd), real(fd)))
    journal.append("hold")
    assert synced == [journal._descriptor]


def test_lines_of_all_processes_come_by_their_moment(tmp_path: Path) -> None:
    first, second = open_journal(tmp_path, 1), open_journal(tmp_path, 2)
    second.append("b", at=AT + timedelta(seconds=1))
    first.append("a", at=AT)
    first.append("c", at=AT + timedelta(seconds=2))
    assert [entry.kind for entry in read_all(tmp_path).entries] == ["a", "b", "c"]


def test_a_line_that_a_crash_tore_is_stepped_over_and_named(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append("whole")
    with journal.path.open("ab") as file:
        file.write(b'{"kind":"torn","at"')
    found = read_all(tmp_path)
    assert [entry.kind for entry in found.entries] == ["whole"]
    assert found.damaged == ("host-boot-1.jsonl:2",)
    open_journal(tmp_path).append("after")  # the same process name once more: not glued to the torn one
    assert [entry.kind for entry in read_all(tmp_path).entries] == ["whole", "after"]


def test_a_line_that_may_be_lost_is_an_error_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, real = open_journal(tmp_path), os.write

    def half(fd: int, data: bytes) -> int:
        real(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "write", half)
        with pytest.raises(JournalFailed, match="No space left"):
            journal.append("lost")
    journal.append("kept")
    found = read_all(tmp_path)
    assert [entry.kind for entry in found.entries] == ["kept"]
    assert len(found.damaged) == 1


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [journal.append("line", thread=n, text="x" * 5000) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_all(tmp_path)
    assert (len(found.entries), found.damaged) == (80, ())


def test_no_folder_has_no_lines(tmp_path: Path) -> None:
    assert read_all(tmp_path / "none").entries == ()
