"""A folder or a zip from elsewhere into a folder of ours: plain files under plain names, counted and bounded; nothing is run.

Refused: a name that leads out of the folder, a link, a device, two files of one name, encryption, compiled Python (what it does
can't be read), more files or bytes than allowed. A zip says before how large its files are, and not one byte more is written.
"""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from dicom_node.errors import Precondition

FILES_MAX: Final = 5000
NAME_MAX: Final = 200
PART_BYTES_MAX: Final = 255  # of a file's name, on the usual file systems
COMPILED: Final = (".pyc", ".pyo", ".so", ".pyd", ".dll")
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BAD_ZIP: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def safe_name(name: str) -> PurePosixPath:
    """A path inside a package.

    Raises:
        Precondition: it leads elsewhere, or is a name that some system reads otherwise.
    """
    path = PurePosixPath(name)
    fine = (
        name.isprintable()
        and 0 < len(name) <= NAME_MAX
        and all(len(part.encode()) <= PART_BYTES_MAX for part in path.parts)
        and not path.is_absolute()
        and "\\" not in name
        and ":" not in name
        and bool(path.parts)
        and all(part not in ("", ".", "..") for part in name.rstrip("/").split("/"))
    )
    if not fine:
        raise Precondition("a name that could lead out of its folder", ascii(name)[:80], "don't use this package")
    if path.suffix.lower() in COMPILED or "__pycache__" in path.parts:
        raise Precondition(
            "compiled code, which nobody can read", name, "remove it, or take the package from its publisher"
        )
    return path


def unpack(archive: Path, folder: Path, *, bytes_max: int, require_room: Callable[[int], None]) -> None:
    """The files of a zip into an empty folder.

    Raises:
        Precondition: it is damaged, or anything of the above. What was written before stays, for the caller to remove.
    """
    try:
        with zipfile.ZipFile(archive) as package:
            members = [m for m in package.infolist() if not m.is_dir()]
            _require_plain(members)
            total = sum(member.file_size for member in members)
            _require_size(len(members), total, bytes_max, archive.name)
            require_room(total)
            for member in members:
                target = folder / safe_name(member.filename)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with package.open(member) as source, target.open("xb") as file:
                    _copy(source.read, file.write, member.file_size)
    except _BAD_ZIP as error:
        raise Precondition(f"a damaged zip: {str(error)[:200]}", archive.name, "fetch it again") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise Precondition("two files of one name", archive.name, "don't use this package") from error


def _require_plain(members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Precondition("neither a file nor a folder", member.filename, "links are not followed")
        if member.flag_bits & 0x1:
            raise Precondition("it is encrypted", member.filename, "unpack it yourself and install the folder")
        if member.compress_type not in _METHODS:
            raise Precondition(
                "compressed by an unusual method", member.filename, "unpack it yourself and install the folder"
            )
        safe_name(member.filename)


def _require_size(files: int, total: int, bytes_max: int, which: str) -> None:
    if files > FILES_MAX or total > bytes_max:
        raise Precondition(
            f"{files} files of {total // 2**20} MiB; allowed are {FILES_MAX} files of {bytes_max // 2**20} MiB",
            which,
            "is it a model?",
        )


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], object], size: int) -> None:
    """At most `size` bytes, and not fewer."""
    left = size
    while piece := read(min(2**20, left) or 1):
        left -= len(piece)
        if left < 0:
            raise zipfile.BadZipFile("a file is larger than the zip says")
        write(piece)
    if left:
        raise zipfile.BadZipFile("a file is smaller than the zip says")


def copy_folder(source: Path, folder: Path, *, bytes_max: int, require_room: Callable[[int], None]) -> None:
    """The files of a folder into an empty one. Raises Precondition: anything of the above."""
    files: list[tuple[Path, PurePosixPath, int]] = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise Precondition("neither a file nor a folder", name, "links are not followed")
        files.append((path, safe_name(name), path.stat().st_size))
        _require_size(len(files), sum(size for _, _, size in files), bytes_max, source.name)
    require_room(sum(size for _, _, size in files))
    for path, inside, _ in files:
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(path, target, follow_symlinks=False)


def package_root(folder: Path) -> Path:
    """Where a package's files begin: its one folder, where it has nothing else."""
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def make_durable(folder: Path) -> None:
    """Sync every file and folder below, and let nobody write to the files any more: each counts in a digest."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o400)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
