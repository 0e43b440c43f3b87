import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import Disk
from storage import disk
from storage.errors import NameTaken, SpoolFull
from storage.spool import Spool, safe_name, write_synced

AT = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)
STUDY = "1.2.840.1"
ROOMY = Disk(free_mib_min=1, used_max=1.0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", ROOMY)


def arrive(spool: Spool, content: bytes = b"bytes") -> str:
    association = spool.associations.open(calling_ae="A", called_ae="B", address="127.0.0.1", at=AT)
    name = association.next_name()
    spool.receive(name, [content])
    return name


def test_the_spool_is_readable_by_its_own_user_alone(spool: Spool) -> None:
    folders = [spool.root, *(path for path in spool.root.rglob("*") if path.is_dir())]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}
    arrive(spool)
    assert spool.arrivals()[0].path.stat().st_mode & 0o777 == 0o600


def test_a_spool_that_was_left_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    assert Spool(tmp_path / "spool").root.stat().st_mode & 0o777 == 0o700


def test_pieces_become_one_file(spool: Spool) -> None:
    path = spool.receive("host-boot-1-1-1", [b"head", bytearray(b"-"), memoryview(b"body")])
    assert path.read_bytes() == b"head-body"


def test_a_write_that_the_kernel_cuts_short_goes_on(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: real(fd, [memoryview(b"".join(views))[:6]]))
    assert spool.receive("host-boot-1-1-1", [b"head", b"-", b"body"]).read_bytes() == b"head-body"


def test_arrivals_come_oldest_first_and_no_more_than_asked_for(spool: Spool) -> None:
    names = [arrive(spool) for _ in range(3)]
    for age, name in enumerate(names):
        os.utime(spool.incoming / f"{name}.dcm", (1000 - age, 1000 - age))
    assert [arrival.name for arrival in spool.arrivals()] == names[::-1]
    assert [arrival.name for arrival in spool.arrivals(limit=1)] == names[2:]
    assert spool.arrivals()[0].association == names[2].rsplit("-", 1)[0]


def test_arrivals_of_one_moment_come_in_the_order_of_their_association(spool: Spool) -> None:
    names = [f"host-boot-1-1-{number}" for number in range(1, 13)]
    for name in names:
        spool.receive(name, [b"bytes"])
        os.utime(spool.incoming / f"{name}.dcm", (1000, 1000))
    assert [arrival.name for arrival in spool.arrivals()] == names


def test_a_half_written_file_is_no_arrival(spool: Spool) -> None:
    (spool.incoming / "host-boot-1-1-1.part").write_bytes(b"half")
    assert spool.arrivals() == []


def test_half_written_files_of_dead_processes_go_and_of_living_ones_stay(spool: Spool) -> None:
    living = spool.associations.process
    dead = f"{living.host}-{living.boot[:8]}1-{living.pid}"
    for name in (f"{living}-1-1.part", f"{dead}-1-1.part", "elsewhere-boot-1-1-1.part", "odd.part"):
        (spool.incoming / name).write_bytes(b"half")
    assert spool.remove_dead_parts() == 1
    assert not (spool.incoming / f"{dead}-1-1.part").exists()


def test_too_little_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Disk(free_mib_min=10**9))
    with pytest.raises(SpoolFull, match=r"disk\.free_mib_min"):
        spool.receive("host-boot-1-1-1", [b"x"])
    assert list(spool.incoming.iterdir()) == []


def test_too_full_a_disk_is_refused_by_its_share(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull, match=r"disk\.used_max"):
        Spool(tmp_path, Disk(free_mib_min=1, used_max=1e-9)).check_room()


def test_an_object_that_would_go_below_the_limit_is_refused(spool: Spool) -> None:
    with pytest.raises(SpoolFull):
        spool.check_room(spool.disk_state().free_mib * 2**20 + 2**20)


def test_our_own_results_have_a_reserve(tmp_path: Path) -> None:
    free = Spool(tmp_path, ROOMY).disk_state().free_mib
    spool = Spool(tmp_path, Disk(free_mib_min=free + 100_000, used_max=1.0, reserve_mib=200_000))
    with pytest.raises(SpoolFull):
        spool.check_room()
    spool.check_reserve()
    with pytest.raises(SpoolFull, match="reserve"):
        spool.check_reserve(size=(free + 1) * 2**20)


def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, views: list[memoryview]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "writev", full)
    with pytest.raises(SpoolFull, match="the disk is full"):
        spool.receive("host-boot-1-1-1", [b"x"])
    assert list(spool.incoming.iterdir()) == []


def test_filing_gives_a_second_name_and_can_be_repeated(spool: Spool) -> None:
    name = arrive(spool)
    target = spool.free_name(STUDY, "1.2.3")
    path = spool.file_into(STUDY, name, target)
    assert path == spool.study_folder(STUDY) / "images" / "1.2.3.dcm"
    assert spool.file_into(STUDY, name, target) == path
    assert path.stat().st_ino == spool.arrivals()[0].inode
    spool.remove_arrivals([name])
    assert spool.arrivals() == []
    assert spool.file_into(STUDY, name, target) == path  # its incoming name is gone, and it is filed
    spool.remove_arrivals([name])
    assert path.read_bytes() == b"bytes"


def test_a_study_lies_below_the_first_two_digits_of_its_hash(spool: Spool) -> None:
    assert spool.study_folder("1.2.3").relative_to(spool.studies) == Path("c4/1.2.3")
    spool.file_into(STUDY, arrive(spool), "1.dcm")
    assert list(spool.study_folders()) == [spool.study_folder(STUDY)]


def test_another_file_is_never_overwritten(spool: Spool) -> None:
    first, second = arrive(spool, b"first"), arrive(spool, b"second")
    spool.file_into(STUDY, first, "1.2.3.dcm")
    with pytest.raises(NameTaken):
        spool.file_into(STUDY, second, "1.2.3.dcm")
    assert spool.free_name(STUDY, "1.2.3") == "1.2.3~2.dcm"
    assert spool.file_into(STUDY, second, "1.2.3~2.dcm").read_bytes() == b"second"
    assert spool.free_name(STUDY, "1.2.3") == "1.2.3~3.dcm"


def test_a_file_that_is_nowhere_is_said(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.file_into(STUDY, "host-boot-1-1-1", "1.2.3.dcm")
    with pytest.raises(FileNotFoundError):
        spool.withdraw(STUDY, "1.2.3.dcm")


def test_a_rejected_image_moves_to_withdrawn_also_when_asked_twice(spool: Spool) -> None:
    image = spool.file_into(STUDY, arrive(spool), "1.2.3.dcm")
    gone = spool.withdraw(STUDY, "1.2.3.dcm")
    assert gone == spool.study_folder(STUDY) / "withdrawn" / "1.2.3.dcm"
    assert not image.exists()
    assert spool.withdraw(STUDY, "1.2.3.dcm") == gone


def test_the_second_of_a_name_in_withdrawn_is_kept_beside_the_first(spool: Spool) -> None:
    for content in (b"first", b"second"):
        name = arrive(spool, content)
        spool.file_into(STUDY, name, "1.2.3.dcm")
        spool.remove_arrivals([name])
        last = spool.withdraw(STUDY, "1.2.3.dcm")
    assert last.name == "1.2.3~2.dcm"
    assert spool.withdraw(STUDY, "1.2.3.dcm") == last
    assert sorted(path.read_bytes() for path in last.parent.iterdir()) == [b"first", b"second"]


def test_an_object_that_is_rejected_before_it_comes_goes_to_withdrawn_at_once(spool: Spool) -> None:
    path = spool.file_into(STUDY, arrive(spool), spool.free_name(STUDY, "1.2.3", "withdrawn"), place="withdrawn")
    assert path.parent.name == "withdrawn"


def test_what_cannot_be_filed_is_put_aside_with_the_reason(spool: Spool) -> None:
    name = arrive(spool)
    for _ in range(2):
        path = spool.quarantine(name, code="no_study", text="names no study", at=AT)
    assert path.parent == spool.unfiled
    assert spool.arrivals() == []
    why = json.loads(path.with_suffix(".json").read_text())
    assert (why["code"], why["text"], why["at"]) == ("no_study", "names no study", "2026-01-05T10:15:00+00:00")


def test_a_result_has_a_folder_for_each_attempt(spool: Spool) -> None:
    folder = spool.result_folder(STUDY, "a" * 64, 7)
    assert folder == spool.study_folder(STUDY) / "results" / ("a" * 64) / "7"
    assert folder.is_dir()
    for key, token in (("../..", "7"), ("a", "../7"), ("a", "")):
        with pytest.raises(ValueError, match="no name"):
            spool.result_folder(STUDY, key, token)


def test_a_synced_write_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_synced(path, b"first, and longer")
    write_synced(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_uid_of_the_grammar_is_its_own_name_and_another_is_hashed() -> None:
    assert safe_name("1.2.840.10008") == "1.2.840.10008"
    assert {len(safe_name(uid)) for uid in ("", "..", "a/b", "1.2.3\n", "1" * 65, "\u0661")} == {65}


def test_a_note_of_the_node_itself_is_kept_where_an_image_is_refused(tmp_path: Path) -> None:
    """`withdraw` works on a disk that takes no more images."""
    free = Spool(tmp_path / "look").disk_state().free_mib
    spool = Spool(tmp_path / "spool", Disk(free_mib_min=free + 100, used_max=1.0, reserve_mib=1000))
    with pytest.raises(SpoolFull):
        spool.receive("image-1", [b"an image"])
    assert spool.receive("withdraw-1", [b"a note"], ours=True).read_bytes() == b"a note"
