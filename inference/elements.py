"""The elements of a DICOM file, read bounded and from their raw bytes: the seam to pydicom for everything but pixels.

Promises: no element is believed about its length, nesting is bounded, and memory follows the bytes that are there,
whatever a file claims. A value that makes no sense is None or "" and a fault in words, never an exception. Raw bytes, so
that no value representation of a converting archive (UN, a swapped VR) and no locale's decimal comma stops anything.
"""

import hashlib
import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from inference.errors import NotDicom

VALUE_BYTES_MAX: Final = 64 * 1024  # longest text or number element that is looked at
SEQUENCE_BYTES_MAX: Final = 32 * 1024 * 1024  # longest sequence that is looked at; 2,000 frames with private groups
INFLATED_BYTES_MAX: Final = 1024 * 1024 * 1024  # a deflated data set may grow to this
CHUNK_BYTES: Final = 1024 * 1024
UNDEFINED: Final = 0xFFFFFFFF
PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # float, double and integer pixel data


class BoundedFile:
    """A file that never hands out, nor allocates, more than it has, whatever length is asked for."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, at most what is left."""
        left = max(0, self.size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file behind."""
        self._file.close()


@dataclass(frozen=True)
class PixelElement:
    """Where the value of the pixel data element lies. `length` is as claimed, UNDEFINED for encapsulated pixels."""

    tag: int
    length: int
    start: int


@dataclass(frozen=True)
class OpenDataset:
    """A data set read up to its pixels, and the bytes (inflated where the syntax deflates) that they can be read from."""

    dataset: Dataset
    transfer_syntax_uid: str
    little_endian: bool
    file: BoundedFile
    pixels: PixelElement | None


def read_to_pixels(path: Path, tags: Sequence[int] | None) -> OpenDataset:
    """Read the elements named by `tags` (None: all) up to the pixel data.

    The whole file is not loaded, but for a deflated one, whose inflated size is bounded. The open file is returned inside.

    Raises:
        NotDicom: no data set can be made out, it is nested too deeply, or inflates beyond INFLATED_BYTES_MAX.
        OSError: the file can't be opened or read.
    """
    file = BoundedFile(path.open("rb"), str(path))
    try:
        opened = _read_to_pixels(file, path, tags)
    except BaseException as error:
        file.close()
        if isinstance(error, MemoryError | RecursionError):
            raise NotDicom("its data set is nested too deeply or too large to read", path.name) from error
        from_disk = isinstance(error, OSError) and error.errno is not None  # pydicom raises OSError for structure too
        if isinstance(error, NotDicom) or from_disk or not isinstance(error, Exception):
            raise
        # pydicom raises whatever a broken structure provokes; all of it means the same here
        raise NotDicom(f"no DICOM data set can be read ({type(error).__name__})", path.name) from error
    if opened.file is not file:
        file.close()
    return opened


def _read_to_pixels(file: BoundedFile, path: Path, tags: Sequence[int] | None) -> OpenDataset:
    found: list[PixelElement] = []
    source = file

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if int(tag) in PIXEL_TAGS:
            found.append(PixelElement(int(tag), length, source.tell()))
        return int(tag) in PIXEL_TAGS

    specific = [int(t) for t in tags] if tags is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes values in its warnings, and a value may name a patient
        start = file.read(4096)
        file.seek(0)
        if DeflatedExplicitVRLittleEndian.encode() in start:
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                source = _inflated(file, path, meta_end=132 + 12 + int(meta.FileMetaInformationGroupLength))
                dataset = read_dataset(
                    cast(BinaryIO, source),
                    False,
                    True,
                    stop_when=at_pixels,
                    defer_size=SEQUENCE_BYTES_MAX,
                    specific_tags=cast(Any, specific),
                )
                return OpenDataset(
                    dataset, str(DeflatedExplicitVRLittleEndian), True, source, found[0] if found else None
                )
        whole = read_partial(
            cast(BinaryIO, file),
            stop_when=at_pixels,
            defer_size=SEQUENCE_BYTES_MAX,
            force=True,
            specific_tags=cast(Any, specific),
        )
    syntax = str(whole.file_meta.get("TransferSyntaxUID", "") or "")
    return OpenDataset(whole, syntax, bool(whole.original_encoding[1]), file, found[0] if found else None)


def _inflated(file: BoundedFile, path: Path, meta_end: int) -> BoundedFile:
    """The data set behind the file meta, inflated (PS3.5 A.5)."""
    file.seek(meta_end)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(file.read(), INFLATED_BYTES_MAX)
    if stream.unconsumed_tail:
        raise NotDicom(f"it inflates to more than {INFLATED_BYTES_MAX // 2**20} MiB", path.name)
    return BoundedFile(io.BytesIO(data), file.name)


# ---------------------------------------------------------------- values

PN_DELIMITERS: Final = {0x5E, 0x3D, 0x5C}  # ^ = \ reset a code extension (PS3.5 6.1.2.5.3)
TEXT_DELIMITERS: Final = {0x5C, 0x0A, 0x0C, 0x0D, 0x09}


def tag_of(keyword: str) -> int:
    """The tag of a keyword, as a number."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return tag


class Values:
    """The values of one data set, read from raw bytes; what makes no sense becomes None or "" and a fault."""

    def __init__(
        self, dataset: Dataset, little_endian: bool, faults: list[str], encodings: list[str] | None = None
    ) -> None:
        self.dataset = dataset
        self.faults = faults
        self.order = "<" if little_endian else ">"
        self.character_set = tuple(
            v.strip() for v in (self.raw("SpecificCharacterSet") or b"").decode("ascii", "replace").split("\\")
        )
        named = any(self.character_set)
        self.encodings = self._encodings() if named or encodings is None else encodings
        if not named:
            self.character_set = ()

    def _encodings(self) -> list[str]:
        try:
            return convert_encodings(list(self.character_set)) if any(self.character_set) else ["iso8859"]
        except (LookupError, AttributeError):
            self.faults.append("SpecificCharacterSet: unknown character set, read as Latin-1")
            return ["iso8859"]

    def raw(self, keyword: str, limit: int = VALUE_BYTES_MAX) -> bytes | None:
        """The value's bytes; None when it is missing, too long, or no plain value."""
        try:
            element = self.dataset.get_item(tag_of(keyword), keep_deferred=True)
        except KeyError:
            return None
        if element is None:
            return None
        if isinstance(element, RawDataElement):
            if element.length not in (0, UNDEFINED) and (element.value is None or len(element.value) > limit):
                self.faults.append(f"{keyword}: {element.length} bytes, too long to be looked at")
                return None
            return element.value or b""
        value = element.value  # something in pydicom has converted it already: only character sets
        if isinstance(value, str):
            return value.encode("latin-1", "replace")
        if isinstance(value, Sequence) and all(isinstance(v, str) for v in value):
            return "\\".join(value).encode("latin-1", "replace")
        return None

    def text(self, keyword: str, delimiters: set[int] = TEXT_DELIMITERS) -> str:
        """Decoded text without padding; several values stay joined by a backslash."""
        value = self.raw(keyword)
        if not value:
            return ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                text = decode_bytes(value.rstrip(b"\0 "), self.encodings, delimiters)
            except (UnicodeError, LookupError):
                text = value.decode("latin-1")
        if "\ufffd" in text:
            self.faults.append(f"{keyword}: not written in the character set that the header names")
        return text.replace("\0", "").strip()

    def code(self, keyword: str) -> str:
        """Text of the default repertoire (CS, UI, DA, TM, IS, DS): never decoded by the character set."""
        value = self.raw(keyword)
        return value.decode("latin-1").replace("\0", "").strip() if value else ""

    def uid(self, keyword: str) -> str:
        """One UID as it stands; characters that no UID has are a fault, and kept."""
        text = self.code(keyword).split("\\")[0].strip()
        if text and not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
            self.faults.append(f"{keyword}: not a valid UID")
        elif len(text) > 64:
            self.faults.append(f"{keyword}: longer than 64 characters")
        return text

    def words(self, keyword: str) -> tuple[str, ...]:
        """The values of a CS."""
        text = self.code(keyword)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def decimals(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Exactly `count` finite numbers of a DS (a decimal comma is taken, with a fault), or None."""
        text = self.code(keyword)
        if not text:
            return None
        parts = text.split("\\")
        if "," in text:
            self.faults.append(f"{keyword}: decimal comma")
            parts = [p.replace(",", ".") for p in parts]
        try:
            numbers = tuple(float(p) for p in parts)
        except ValueError:
            self.faults.append(f"{keyword}: not a number")
            return None
        if len(numbers) < count or not all(math.isfinite(n) for n in numbers):
            self.faults.append(f"{keyword}: {len(numbers)} values where {count} finite ones are needed")
            return None
        return numbers[:count]

    def decimal(self, keyword: str) -> float | None:
        """The first number of a DS, or None."""
        numbers = self.decimals(keyword, 1)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        """A whole number of an IS, or None."""
        text = self.code(keyword).split("\\")[0]
        if not text:
            return None
        try:
            return int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else int(float(text))
        except (ValueError, OverflowError):
            self.faults.append(f"{keyword}: not a whole number")
            return None

    def short(self, keyword: str) -> int | None:
        """An unsigned 16-bit number (US), or None; a number written as text is taken."""
        value = self.raw(keyword)
        if not value:
            return None
        if len(value) == 2:
            return int(struct.unpack(self.order + "H", value)[0])
        text = value.decode("latin-1").strip("\0 ")
        if re.fullmatch(r"[0-9]{1,5}", text):
            self.faults.append(f"{keyword}: a number written as text")
            return int(text)
        self.faults.append(f"{keyword}: not a number")
        return None

    def items(self, keyword: str) -> list["Values"]:
        """The items of a sequence; () when it is missing, broken or too long."""
        tag = tag_of(keyword)
        try:
            element = self.dataset.get_item(tag, keep_deferred=True)
        except KeyError:
            return []
        if element is None:
            return []
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            self.faults.append(f"{keyword}: {element.length} bytes, too long to be looked at")
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [item for item in self.dataset[tag].value or [] if isinstance(item, Dataset)]
        except (Exception, RecursionError) as error:  # noqa: BLE001 - a broken sequence fails in any way; it is a fault, no more
            self.faults.append(f"{keyword}: broken sequence ({type(error).__name__})")
            return []
        return [Values(item, self.order == "<", self.faults, self.encodings) for item in found]


def pixel_facts(opened: OpenDataset, faults: list[str], with_digest: bool) -> dict[str, Any]:
    """Whether there are pixels, how many bytes, and the SHA-256 of the raw value, read in pieces and never decoded."""
    element = opened.pixels
    if element is None or element.length == 0:
        return {"has_pixels": False}
    digest = hashlib.sha256()
    opened.file.seek(element.start)
    if element.length == UNDEFINED:
        whole, size = _walk_fragments(opened, digest if with_digest else None)
    else:
        size = min(element.length, opened.file.size - element.start)
        whole = size == element.length
        left = size if with_digest else 0
        while left > 0 and (chunk := opened.file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    if not whole:
        faults.append("PixelData: the file ends before its pixel data does")
    return {
        "has_pixels": size > 0,
        "pixel_bytes": size,
        "pixel_sha256": digest.hexdigest() if with_digest and size else "",
    }


def _walk_fragments(opened: OpenDataset, digest: "hashlib._Hash | None") -> tuple[bool, int]:
    """Over the items of encapsulated pixels (PS3.5 A.4): do they end in a delimiter, and how many bytes lie in them."""
    size = 0
    while len(head := opened.file.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return True, size
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
            return False, size
        if digest is not None:
            digest.update(head)
        end = opened.file.tell() + length
        if end > opened.file.size:
            return False, size
        while digest is not None and (left := end - opened.file.tell()) > 0:
            digest.update(opened.file.read(min(left, CHUNK_BYTES)))
        opened.file.seek(end)
        size += length
    return False, size
