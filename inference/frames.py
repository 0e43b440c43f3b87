"""The frames of one multi-frame CT object, decoded one by one and in any order, so that memory holds one at a time.

Uncompressed frames lie one behind the other (PS3.5 8.1.1). Compressed ones are items; which items make a frame is told by
the Basic Offset Table, by one item a frame, or by the markers that a JPEG stream begins with (PS3.5 A.4). Where none of
these tells, the object is refused: a wrong guess would show the wrong slice.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from inference.elements import UNDEFINED, BoundedFile, Values, read_to_pixels, tag_of
from inference.errors import CannotDecode, NoPixels
from inference.pixels import (
    DECODERS,
    NATIVE,
    TAGS,
    decode_frame,
    hu_of,
    layout_of,
    native_frame,
    syntax_name,
    used_bits,
)

FRAMES_BYTES_MAX: Final = 2**31  # of one compressed frame's items together: nonsense beyond
STREAM_STARTS: Final = (b"\xff\xd8", b"\xff\x4f\xff\x51")  # SOI of JPEG and JPEG-LS, SOC and SIZ of JPEG 2000
_ITEM: Final = struct.Struct("<HHL")


class Item(NamedTuple):
    """A fragment: where its value starts in the file, and how many bytes it has."""

    start: int
    length: int


class FrameFile:
    """An open multi-frame object; a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        """Open it and find its frames.

        Raises:
            NoPixels, CannotDecode, NotDicom: it has none, or they can't be told apart.
        """
        self._opened = read_to_pixels(path, TAGS)
        try:
            values = Values(self._opened.dataset, self._opened.little_endian, [])
            self.frames = max(1, values.integer("NumberOfFrames") or 1)
            self._layout = layout_of(values, frames_max=self.frames)
            self._items = self._find_items()
        except BaseException:
            self._opened.file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.file.close()

    def hu(self, frame: int, slope: float, intercept: float) -> tuple[npt.NDArray[np.int16], int]:
        """A frame in HU, (rows, columns) int16, and how many of its pixels int16 could not hold; see `pixels.read_hu`.

        Args:
            frame: counted from 1.
            slope, intercept: those of this frame.
        Raises:
            NoPixels, CannotDecode, NotHounsfield.
        """
        return hu_of(self._stored(frame), slope, intercept)

    def _stored(self, frame: int) -> npt.NDArray[Any]:
        if not 1 <= frame <= self.frames:
            raise NoPixels(f"frame {frame} of an object of {self.frames}")
        if self._items is None:
            return used_bits(native_frame(self._opened, self._layout, frame - 1), self._layout)
        file = self._opened.file
        data = b"".join(_read(file, item) for item in self._items[frame - 1])
        data += b"\0" * (len(data) % 2)
        encapsulated = _ITEM.pack(0xFFFE, 0xE000, 0) + _ITEM.pack(0xFFFE, 0xE000, len(data)) + data
        return decode_frame(encapsulated, self._opened.transfer_syntax_uid, self._layout)

    def _find_items(self) -> Sequence[Sequence[Item]] | None:
        """The items of each frame; None for uncompressed pixels."""
        opened, element = self._opened, self._opened.pixels
        if element is None or element.length == 0:
            raise NoPixels("the image carries no pixel data")
        if element.tag != tag_of("PixelData"):
            raise CannotDecode("floating-point pixel data")
        native = opened.transfer_syntax_uid in NATIVE
        if native != (element.length != UNDEFINED):
            raise CannotDecode(
                "pixel data and transfer syntax contradict each other (one is compressed, the other not)"
            )
        if native:
            return None
        if opened.transfer_syntax_uid not in DECODERS:
            raise CannotDecode(f"no decoder for the transfer syntax {syntax_name(opened.transfer_syntax_uid)}")
        table, items = _walk(opened.file, element.start)
        return _by_frame(opened.file, table, items, self.frames)


def _read(file: BoundedFile, item: Item) -> bytes:
    file.seek(item.start)
    return file.read(min(item.length, FRAMES_BYTES_MAX))


def _walk(file: BoundedFile, start: int) -> tuple[Sequence[int], list[Item]]:
    """The Basic Offset Table and the items behind it; a last one that the file's end cuts is left out."""
    file.seek(start)
    items: list[Item] = []
    while len(head := file.read(_ITEM.size)) == _ITEM.size:
        group, element, length = _ITEM.unpack(head)
        here = file.tell()
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED or here + length > file.size:
            break
        items.append(Item(here, length))
        file.seek(here + length)
    if not items:
        raise NoPixels("compressed pixel data without an item")
    table = _read(file, items[0])
    return struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4]), items[1:]


def _by_frame(file: BoundedFile, table: Sequence[int], items: Sequence[Item], frames: int) -> Sequence[Sequence[Item]]:
    """Which items make which frame."""
    if len(items) < frames:
        raise NoPixels(f"pixel data are cut short: {len(items)} compressed parts for {frames} frames")
    if len(items) == frames:
        return [[item] for item in items]
    if frames == 1:
        return [list(items)]
    offsets = [item.start - _ITEM.size - (items[0].start - _ITEM.size) for item in items]
    if len(table) == frames and table[0] == 0 and set(table) <= set(offsets):
        firsts = [offsets.index(offset) for offset in table]
    else:
        firsts = [n for n, item in enumerate(items) if _read(file, Item(item.start, 4)).startswith(STREAM_STARTS)]
    if len(firsts) != frames or firsts != sorted(set(firsts)) or firsts[0] != 0:
        raise CannotDecode(f"nothing tells which of {len(items)} compressed parts belong to which of {frames} frames")
    return [list(items[first:end]) for first, end in zip(firsts, [*firsts[1:], len(items)], strict=True)]
