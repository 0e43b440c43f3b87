"""Stored values, and from them HU or display grey.

One pinned decoder for each transfer syntax, so that an installation can't change a value; uncompressed pixels are taken from the file
without one. Sizes are checked against the bytes that are there before anything is allocated.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from inference.elements import UNDEFINED, OpenDataset, Values, read_to_pixels, tag_of
from inference.errors import CannotDecode, NoContent, NoPixels, NotForDisplay, NotHounsfield

FRAME_PIXELS_MAX: Final = 2**26  # 8192 x 8192; no CT slice or radiograph is larger
LUT_BYTES_MAX: Final = 2**18  # 65536 entries of 16 bits, twice over
DISPLAY_PERCENTILES: Final = (0.5, 99.5)  # display range of a radiograph that brings neither window nor table

DECODERS: Final[Mapping[str, str]] = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg",  # JPEG Baseline (Process 1)
    "1.2.840.10008.1.2.4.51": "pylibjpeg",  # JPEG Extended (Process 2 and 4)
    "1.2.840.10008.1.2.4.57": "pylibjpeg",  # JPEG Lossless (Process 14)
    "1.2.840.10008.1.2.4.70": "pylibjpeg",  # JPEG Lossless (Process 14, Selection Value 1)
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # High-Throughput JPEG 2000 Lossless, RPCL
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.5": "pydicom",  # RLE Lossless
}
NATIVE: Final = frozenset(
    {
        "",
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
    }
)  # Implicit and Explicit VR Little Endian, Big Endian, Deflated; "" is a file without meta
KEYWORDS: Final = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "PlanarConfiguration",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    "PresentationIntentType",
    "SOPClassUID",
)
TAGS: Final = tuple(sorted(tag_of(keyword) for keyword in KEYWORDS))
DX_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage - For Processing


@dataclass(frozen=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.rows * self.columns * self.bits_allocated // 8


def read_hu(path: Path) -> tuple[npt.NDArray[np.int16], int]:
    """The pixels of a CT image in HU: stored value x slope + intercept, padding included, rounded only where the slope is broken.

    Returns:
        (rows, columns) int16, and how many pixels int16 could not hold (they stand at its ends: padding, metal beyond sense).
    Raises:
        NoPixels, CannotDecode, NotHounsfield, NotDicom.
    """
    opened = read_to_pixels(path, TAGS)
    try:
        values = Values(opened.dataset, opened.little_endian, [])
        stored = _stored(opened, values)
        slope, intercept = values.decimal("RescaleSlope"), values.decimal("RescaleIntercept")
        return hu_of(stored, 1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    finally:
        opened.file.close()


def hu_of(stored: npt.NDArray[Any], slope: float, intercept: float) -> tuple[npt.NDArray[np.int16], int]:
    """Scale stored values (PS3.3 C.11.1.1); see `read_hu`.

    Raises:
        NotHounsfield: a slope of 0 makes all values one.
    """
    if slope == 0:
        raise NotHounsfield("the rescale slope is 0")
    if slope == 1 and float(intercept).is_integer() and abs(intercept) < 2**20:
        scaled = stored.astype(np.int32) + np.int32(intercept)
    else:
        scaled = np.rint(np.clip(stored.astype(np.float64) * slope + intercept, -(2**30), 2**30)).astype(np.int32)
    low, high = -(2**15), 2**15 - 1
    if low <= int(scaled.min()) and int(scaled.max()) <= high:
        return scaled.astype(np.int16), 0
    beyond = int(((scaled < low) | (scaled > high)).sum())
    return np.clip(scaled, low, high).astype(np.int16), beyond


# ---------------------------------------------------------------- stored values


def _stored(opened: OpenDataset, values: Values) -> npt.NDArray[Any]:
    """The single frame of one monochrome image, (rows, columns), as whole numbers in their own signedness."""
    layout = layout_of(values)
    element = opened.pixels
    if element is None or element.length == 0:
        raise NoPixels("the image carries no pixel data")
    if element.tag != tag_of("PixelData"):
        raise CannotDecode("floating-point pixel data")
    if opened.transfer_syntax_uid in NATIVE and element.length != UNDEFINED:
        return used_bits(native_frame(opened, layout), layout)
    if opened.transfer_syntax_uid in NATIVE or element.length != UNDEFINED:
        raise CannotDecode("pixel data and transfer syntax contradict each other (one is compressed, the other not)")
    return _encapsulated(opened, layout)


def layout_of(values: Values, frames_max: int = 1) -> Layout:
    """The Image Pixel module of a monochrome image, checked.

    Raises:
        NoPixels, CannotDecode: it makes no sense, has colours, or more than `frames_max` frames.
    """
    rows, columns = values.short("Rows"), values.short("Columns")
    allocated, stored = values.short("BitsAllocated"), values.short("BitsStored")
    if not rows or not columns:
        raise NoPixels("the image names no rows or columns")
    if rows * columns > FRAME_PIXELS_MAX:
        raise NoPixels(f"the image claims {rows} x {columns} pixels")
    if (values.short("SamplesPerPixel") or 1) != 1:
        raise CannotDecode("a colour image")
    if (values.integer("NumberOfFrames") or 1) > frames_max:
        raise CannotDecode("several frames in one image")
    if allocated not in (8, 16):
        raise CannotDecode(f"{allocated} bits allocated; 8 or 16 are read")
    stored = stored if stored and stored <= allocated else allocated
    high = values.short("HighBit")
    high = high if high is not None and stored - 1 <= high < allocated else stored - 1
    return Layout(rows, columns, allocated, stored, high, signed=values.short("PixelRepresentation") == 1)


def native_frame(opened: OpenDataset, layout: Layout, before: int = 0) -> npt.NDArray[Any]:
    """Uncompressed pixels, straight from the file (PS3.5 8.2 and A.1 to A.3); `before` frames lie in front of them.

    Raises:
        NoPixels: the file ends before they do.
    """
    element, needed = opened.pixels, layout.frame_bytes
    start = before * needed
    there = min(element.length, opened.file.size - element.start) - start if element else 0
    if element is None or there < needed:
        raise NoPixels(
            f"pixel data are cut short: {max(0, there)} bytes where {layout.rows} x {layout.columns} pixels need {needed}"
        )
    opened.file.seek(element.start + start)
    data = opened.file.read(needed)
    if len(data) < needed:
        raise NoPixels(f"pixel data are cut short: {len(data)} bytes where {needed} are needed")
    kind = np.dtype(("i" if layout.signed else "u") + str(layout.bits_allocated // 8)).newbyteorder(
        "<" if opened.little_endian else ">"
    )
    return np.frombuffer(data, kind).reshape(layout.rows, layout.columns)


def used_bits(pixels: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """Only Bits Stored below High Bit are the value; old overlays lie in the others (PS3.5 8.1.1)."""
    if layout.bits_stored == layout.bits_allocated:
        return pixels
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    left = layout.bits_allocated - 1 - layout.high_bit
    return np.asarray(np.right_shift(np.left_shift(native, left), layout.bits_allocated - layout.bits_stored))


def _encapsulated(opened: OpenDataset, layout: Layout) -> npt.NDArray[Any]:
    plugin = DECODERS.get(opened.transfer_syntax_uid)
    if plugin is None or opened.pixels is None:
        raise CannotDecode(f"no decoder for the transfer syntax {syntax_name(opened.transfer_syntax_uid)}")
    opened.file.seek(opened.pixels.start)
    return decode_frame(opened.file.read(), opened.transfer_syntax_uid, layout)


def syntax_name(uid: str) -> str:
    """A transfer syntax as PS3.6 names it; an unknown one by its UID."""
    return str(UID(uid).name)


def decode_frame(encapsulated: bytes, transfer_syntax_uid: str, layout: Layout) -> npt.NDArray[Any]:
    """One compressed frame by the pinned decoder of its syntax.

    Args:
        encapsulated: the value of Pixel Data: items as in PS3.5 A.4.
    Raises:
        CannotDecode: it can't, or gives another size than the header names.
    """
    name = syntax_name(transfer_syntax_uid)
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
    }
    try:
        pixels, _ = get_decoder(UID(transfer_syntax_uid)).as_array(
            encapsulated, index=0, raw=True, decoding_plugin=DECODERS[transfer_syntax_uid], **options
        )
    except MemoryError:
        raise
    except Exception as error:
        raise CannotDecode(f"{name}: the pixel data can't be decoded ({type(error).__name__})") from error
    if pixels.shape != (layout.rows, layout.columns):
        raise CannotDecode(f"{name}: decodes to another size than {layout.rows} x {layout.columns}")
    return pixels


# ---------------------------------------------------------------- display grey


def display_grey(path: Path, *, for_processing: bool = False) -> npt.NDArray[np.float32]:
    """The pixels of a radiograph as its maker means them to be seen: 0 black to 1 white, air black and bone white.

    Modality LUT or rescale, then VOI LUT, else window, else the range of the pixels; then inverted for MONOCHROME1 or a
    Presentation LUT Shape of INVERSE, which say the same and count once (PS3.3 C.11.1, C.11.2, C.11.6). Padding is black. The image
    is neither turned nor mirrored.
    Args:
        for_processing: also take For Processing images, whose values are the detector's.
    Returns:
        (rows, columns) float32.
    Raises:
        NotForDisplay, NoContent, NoPixels, CannotDecode, NotDicom.
    """
    opened = read_to_pixels(path, TAGS)
    try:
        values = Values(opened.dataset, opened.little_endian, [])
        return _display_grey(opened, values, for_processing=for_processing)
    finally:
        opened.file.close()


def _display_grey(opened: OpenDataset, values: Values, *, for_processing: bool) -> npt.NDArray[np.float32]:
    photometric = values.code("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotForDisplay(f"a picture in {photometric or 'no named colours'}, no radiograph")
    processing = values.code("PresentationIntentType") == "FOR PROCESSING" or values.uid("SOPClassUID") == DX_PROCESSING
    if processing and not for_processing:
        raise NotForDisplay("a For Processing image: its values are the detector's, not for display")
    stored = _stored(opened, values)
    signed = values.short("PixelRepresentation") == 1
    padding = _padding(values, stored)
    if int(stored.max()) == int(stored.min()):
        raise NoContent("every pixel has the same value")
    seen = _voi(values, _modality(values, stored, signed), padding, signed)
    grey = np.clip(seen, 0.0, 1.0).astype(np.float32)
    if photometric == "MONOCHROME1" or values.code("PresentationLUTShape") == "INVERSE":
        grey = np.float32(1.0) - grey
    grey[padding] = 0.0
    return grey


def _padding(values: Values, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixel Padding Value, or from it to Pixel Padding Range Limit; both in the signedness of the pixels (PS3.3 C.7.5.1.1.2)."""
    limits = [
        _signed_short(values, keyword, stored.dtype) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ]
    if limits[0] is None:
        return np.zeros(stored.shape, np.bool_)
    other = limits[1] if limits[1] is not None else limits[0]
    return np.asarray((stored >= min(limits[0], other)) & (stored <= max(limits[0], other)))


def _signed_short(values: Values, keyword: str, kind: np.dtype[Any]) -> int | None:
    value = values.short(keyword)
    return value - 2**16 if value is not None and kind.kind == "i" and value >= 2**15 else value


def _modality(values: Values, stored: npt.NDArray[Any], signed: bool) -> npt.NDArray[np.float64]:
    for item in values.items("ModalityLUTSequence")[:1]:
        table = _table(item, signed)
        if table is not None:
            return table.look_up(stored)
    slope, intercept = values.decimal("RescaleSlope"), values.decimal("RescaleIntercept")
    return stored.astype(np.float64) * (slope or 1.0) + (intercept or 0.0)


def _voi(
    values: Values, scaled: npt.NDArray[np.float64], padding: npt.NDArray[np.bool_], signed: bool
) -> npt.NDArray[np.float64]:
    """Values of interest to 0..1, before clipping; the first of several tables or windows."""
    for item in values.items("VOILUTSequence")[:1]:
        table = _table(item, signed)
        if table is not None:
            return np.asarray(table.look_up(np.rint(scaled)) / (2**table.bits - 1), np.float64)
    centre, width = values.decimal("WindowCenter"), values.decimal("WindowWidth")
    function = values.code("VOILUTFunction") or "LINEAR"
    if centre is not None and width is not None and (width > 1 or (width > 0 and function != "LINEAR")):
        return window(scaled, centre, width, function)
    low, high = np.percentile(scaled[~padding] if not padding.all() else scaled, DISPLAY_PERCENTILES)
    if high <= low:
        low, high = scaled.min(), scaled.max()
    return np.asarray((scaled - low) / (high - low), np.float64)


def window(values: npt.NDArray[Any], centre: float, width: float, function: str = "LINEAR") -> npt.NDArray[np.float64]:
    """Window Center and Width to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3); unknown functions count as LINEAR."""
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700))), np.float64)
    if function == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5, np.float64)
    return np.asarray((values - (centre - 0.5)) / (width - 1.0) + 0.5, np.float64)


@dataclass(frozen=True, eq=False)
class _Table:
    first: int
    bits: int
    entries: npt.NDArray[np.float64]

    def look_up(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Values below the first entry get it, values above the last one get that."""
        index = np.clip(np.asarray(values, np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def _table(item: Values, signed: bool) -> _Table | None:
    """LUT Descriptor and LUT Data (PS3.3 C.11.1.1); None when they make no sense."""
    descriptor, data = item.raw("LUTDescriptor"), item.raw("LUTData", LUT_BYTES_MAX)
    if not descriptor or len(descriptor) < 6 or not data:
        return None
    count, first, bits = (int(v) for v in struct.unpack(item.order + ("HhH" if signed else "HHH"), descriptor[:6]))
    count = count or 2**16
    if not 1 <= bits <= 16:
        return None
    if len(data) >= 2 * count:
        entries = np.frombuffer(data[: 2 * count], np.dtype("u2").newbyteorder(_order(item.order)))
    elif len(data) >= count and bits <= 8:
        entries = np.frombuffer(data[:count], np.uint8)
    else:
        return None
    return _Table(first, bits, entries.astype(np.float64))


def _order(order: str) -> Literal["<", ">"]:
    return "<" if order == "<" else ">"
