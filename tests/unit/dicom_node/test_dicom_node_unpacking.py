"""Packages from elsewhere: what could lead out of their folder, link, hide or flood is refused."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from dicom_node.errors import Precondition
from dicom_node.unpacking import copy_folder, package_root, unpack

MIB = 2**20


def room(more: int) -> None:
    """There is enough."""


def packed(path: Path, *files: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files:
            package.writestr(name, content)
    return path


def unpacked(archive: Path, folder: Path, bytes_max: int = 10 * MIB) -> dict[str, bytes]:
    folder.mkdir()
    unpack(archive, folder, bytes_max=bytes_max, require_room=room)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_plain_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"a/b/c.json": b"{}", "a/model.pt": os.urandom(MIB), "LICENSE": b"text"}
    assert unpacked(packed(tmp_path / "z.zip", *files.items()), tmp_path / "out") == files


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "a/../../out.txt",
        "/etc/out.txt",
        "a\\..\\out.txt",
        "c:out.txt",
        "a/./b",
        "a\x1b[31m.txt",
        "x" * 201,
        "ü" * 150,
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / "z.zip", ("fine.txt", b"1"), (name, b"2"))
    with pytest.raises(Precondition, match="lead out of its folder"):
        unpacked(archive, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "z.zip"]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("models/model.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(Precondition, match="neither a file nor a folder"):
        unpacked(packed(tmp_path / "z.zip", (link, b"/etc/passwd")), tmp_path / "out")


def test_a_bomb_writes_nothing(tmp_path: Path) -> None:
    """A thousand times smaller than what comes out of it: what it says is asked first."""
    archive = packed(tmp_path / "z.zip", ("zeros.bin", bytes(12 * MIB)))
    assert archive.stat().st_size < MIB
    with pytest.raises(Precondition, match="12 MiB; allowed are"):
        unpacked(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bomb_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path: Path) -> None:
    archive = packed(tmp_path / "z.zip", ("zeros.bin", bytes(12 * MIB)))
    content = archive.read_bytes()
    lie, truth = (1000).to_bytes(4, "little"), (12 * MIB).to_bytes(4, "little")
    assert content.count(truth) == 2
    archive.write_bytes(content.replace(truth, lie))
    with pytest.raises(Precondition, match="damaged zip"):
        unpacked(archive, tmp_path / "out")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*")) <= 1000


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.unpacking.FILES_MAX", 20)
    archive = packed(tmp_path / "z.zip", *((f"{n}.txt", b"") for n in range(21)))
    with pytest.raises(Precondition, match="21 files"):
        unpacked(archive, tmp_path / "out")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = packed(tmp_path / "z.zip", ("a.txt", b"1"), ("a.txt", b"2"))
    with pytest.raises(Precondition, match="two files of one name"):
        unpacked(archive, tmp_path / "out")
    archive = packed(tmp_path / "y.zip", ("a", b"1"), ("a/b", b"2"))
    with pytest.raises(Precondition, match="two files of one name"):
        unpacked(archive, tmp_path / "out2")


@pytest.mark.parametrize("name", ["scripts/__pycache__/a.txt", "scripts/a.pyc", "scripts/a.SO"])
def test_compiled_code_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Precondition, match="compiled code"):
        unpacked(packed(tmp_path / "z.zip", (name, b"1")), tmp_path / "out")


def test_a_damaged_zip_says_so(tmp_path: Path) -> None:
    archive = packed(tmp_path / "z.zip", ("a.bin", os.urandom(MIB)))
    content = bytearray(archive.read_bytes())
    content[5000] ^= 255
    archive.write_bytes(content)
    with pytest.raises(Precondition, match="damaged zip"):
        unpacked(archive, tmp_path / "out")
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(Precondition, match="damaged zip"):
        unpacked(archive, tmp_path / "out2")


def test_an_encrypted_zip_or_an_unusual_method_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "z.zip", ("a.bin", b"12345"))
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(Precondition, match="encrypted"):
        unpacked(archive, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_LZMA) as package:
        package.writestr("a.bin", b"12345")
    with pytest.raises(Precondition, match="unusual method"):
        unpacked(tmp_path / "y.zip", tmp_path / "out2")


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "models").mkdir(parents=True)
    out.mkdir()
    (source / "models" / "model.pt").symlink_to("/etc/passwd")
    with pytest.raises(Precondition, match="neither a file nor a folder"):
        copy_folder(source, out, bytes_max=MIB, require_room=room)
    assert list(out.iterdir()) == []


def test_a_package_begins_at_its_one_folder(tmp_path: Path) -> None:
    (tmp_path / "bundle-1.0" / "configs").mkdir(parents=True)
    assert package_root(tmp_path) == tmp_path / "bundle-1.0"
    (tmp_path / "README").touch()
    assert package_root(tmp_path) == tmp_path
