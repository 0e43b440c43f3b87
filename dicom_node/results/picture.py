"""A PNG of what was marked: for each nodule its key slice with the outline, above them where in the chest it lies.

For people who look at a demonstration or at a node's own files, never a DICOM object and never evidence: no name, no
identifier,
"RESEARCH - NOT FOR DIAGNOSIS" on every part. Colours are those of the segments in the SEG.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.seg import colour_of
from inference.findings import NOT_REVIEWED, RESEARCH, Nodule, Reading, Status
from inference.volume import Volume

Rgb = tuple[int, int, int]
Grey = npt.NDArray[np.uint8]

WINDOW_HU: Final = (-1350.0, 150.0)  # the usual lung window, level -600, width 1500
TILE_PX: Final = 300
TILES_A_ROW: Final = 4
_TILE_MM_MIN: Final = 50.0
_CAPTION_PX: Final = 40
_OVERVIEW_PX: Final = 300
_GAP_PX: Final = 6
_LINE_CHARACTERS: Final = 55
_GRADES_PX: Final = 18  # one more line of caption, where a nodule of the picture is graded
_ROWS: Final = 10  # nodules listed one below the other; more go into two columns of smaller letters
_SMALL_ROWS: Final = 15
_WHITE: Final = (235, 235, 235)
_DIM: Final = (165, 165, 165)
_WARNING: Final = (255, 196, 84)
_LETTERS: Final = (("R", "L"), ("A", "P"), ("F", "H"))  # ends of the LPS axes, negative then positive


def draw_key_slices(reading: Reading, volume: Volume, path: Path) -> None:
    """Write the picture of one reading as PNG; the same reading and volume give the same bytes.

    Args:
        volume: the one that was read; `hu` may be memory-mapped, only key slices and two projections are taken from it.
    """
    nodules = reading.nodules or ()
    caption = _CAPTION_PX + (_GRADES_PX if any(grades_of(n) for n in nodules) else 0)
    rows = -(-len(nodules) // TILES_A_ROW)
    width = TILES_A_ROW * (TILE_PX + _GAP_PX) + _GAP_PX
    top = _OVERVIEW_PX + 2 * _GAP_PX
    canvas = Image.new("RGB", (width, top + rows * (TILE_PX + caption + _GAP_PX) + _GAP_PX), (12, 12, 12))
    canvas.paste(_overview(reading, volume, width - 2 * _GAP_PX), (_GAP_PX, _GAP_PX))
    for n, nodule in enumerate(nodules):
        row, column = divmod(n, TILES_A_ROW)
        place = (_GAP_PX + column * (TILE_PX + _GAP_PX), top + row * (TILE_PX + caption + _GAP_PX))
        canvas.paste(_tile(nodule, volume, caption), place)
    canvas.save(path, format="PNG", optimize=True)


def grades_of(nodule: Nodule) -> str:
    """What models said of a nodule, in a few words; "" where none did."""
    words = [nodule.texture or ""]
    if nodule.malignancy is not None:
        words.append(f"suspicion score {nodule.malignancy:.2f}")
    if nodule.calcified:
        words.append("calcified")
    return ", ".join(filter(None, words))


def rgb_of(lab: tuple[float, float, float]) -> Rgb:
    """CIELab (D50, as in DICOM's PCS) to 8-bit sRGB; what lies outside is clipped."""
    fy = (lab[0] + 16) / 116
    f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1.0, 0.8249)
    to_linear = np.array([(3.1339, -1.6169, -0.4906), (-0.9788, 1.9161, 0.0335), (0.0719, -0.2290, 1.4052)])
    linear = np.clip(to_linear @ xyz, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(c) for c in np.rint(encoded * 255))
    return red, green, blue


def _grey(hu: npt.NDArray[np.generic], low: float, high: float) -> Grey:
    return np.asarray(np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1) * 255, np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _ends(direction: npt.NDArray[np.float64]) -> tuple[str, str]:
    """Letters of the patient's sides at the first and the last voxel along a direction (LPS)."""
    axis = int(np.argmax(np.abs(direction)))
    negative, positive = _LETTERS[axis]
    return (negative, positive) if direction[axis] > 0 else (positive, negative)


def _tile(nodule: Nodule, volume: Volume, caption_px: int) -> Image.Image:
    """The key slice around the nodule, always the same number of mm on a side, outline on the edges of its pixels."""
    _, row_mm, column_mm = volume.spacing_mm
    side_mm = max(_TILE_MM_MIN, 2.5 * nodule.long_axis_mm)
    k, (column, row) = nodule.key_slice.slice_index, nodule.key_slice.centre_px
    left, top = column - side_mm / column_mm / 2, row - side_mm / row_mm / 2
    box = (left, top, left + side_mm / column_mm, top + side_mm / row_mm)
    whole = Image.fromarray(_grey(volume.hu[k], *WINDOW_HU))
    picture = whole.transform(
        (TILE_PX, TILE_PX), Image.Transform.EXTENT, box, resample=Image.Resampling.BICUBIC, fillcolor=0
    ).convert("RGB")
    draw = ImageDraw.Draw(picture)
    colour = rgb_of(colour_of(nodule.number))
    scale = (TILE_PX / (box[2] - box[0]), TILE_PX / (box[3] - box[1]))
    for a, b in _edges(nodule, k):
        ends = [((x - left) * scale[0], (y - top) * scale[1]) for x, y in (a, b)]
        draw.line([ends[0], ends[1]], fill=colour, width=2)
    _marks(draw, volume.affine[:3, 2], volume.affine[:3, 1], (TILE_PX, TILE_PX))
    _scale_bar(draw, TILE_PX / side_mm)
    return _captioned(picture, nodule, colour, caption_px)


def _edges(nodule: Nodule, k: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The edges between mask and not mask on slice k, as (column, row) ends counted from the image's corner."""
    crop = np.pad(nodule.mask.voxels[k - nodule.mask.start[0]], 1)
    _, top, left = nodule.mask.start
    edges = []
    for row, column in np.argwhere(crop[:-1] != crop[1:]):  # between row and the next one
        x, y = float(left + column - 1), float(top + row)
        edges.append(((x, y), (x + 1, y)))
    for row, column in np.argwhere(crop[:, :-1] != crop[:, 1:]):
        x, y = float(left + column), float(top + row - 1)
        edges.append(((x, y), (x, y + 1)))
    return edges


def _marks(
    draw: ImageDraw.ImageDraw,
    across: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    size: tuple[int, int],
) -> None:
    """The patient's sides, at the left and the right edge and on top."""
    left, right = _ends(across)
    above, _ = _ends(down)
    middle = size[1] // 2
    _on_picture(draw, (6, middle), left, _WHITE, 17, "lm")
    _on_picture(draw, (size[0] - 6, middle), right, _WHITE, 17, "rm")
    _on_picture(draw, (size[0] // 2, 4), above, _WHITE, 17, "ma")


def _on_picture(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Rgb, size: int, anchor: str
) -> None:
    """Text with a dark rim, to be read on lung and on bone."""
    draw.text(place, text, fill=colour, font=_font(size), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _scale_bar(draw: ImageDraw.ImageDraw, px_a_mm: float) -> None:
    y = TILE_PX - 12
    draw.rectangle([8, y - 2, 12 + 10 * px_a_mm, y + 2], fill=(0, 0, 0))
    draw.line([(10, y), (10 + 10 * px_a_mm, y)], fill=_WHITE, width=2)
    _on_picture(draw, (10, y - 6), "10 mm", _WHITE, 13, "lb")


def _captioned(picture: Image.Image, nodule: Nodule, colour: Rgb, caption_px: int) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX + caption_px), (28, 28, 28))
    tile.paste(picture, (0, 0))
    draw = ImageDraw.Draw(tile)
    size = f"{nodule.long_axis_mm:.1f} x {nodule.short_axis_mm:.1f} mm, {nodule.volume_mm3} mm3"
    draw.text((6, TILE_PX + 3), f"Nodule {nodule.number}", fill=colour, font=_font(15))
    draw.text((TILE_PX - 6, TILE_PX + 4), size, fill=_WHITE, font=_font(13), anchor="ra")
    foot = TILE_PX + caption_px - 17
    if grades_of(nodule):
        draw.text((6, TILE_PX + 22), grades_of(nodule), fill=_WHITE, font=_font(13))
    draw.text((6, foot), RESEARCH, fill=_WARNING, font=_font(11))
    if nodule.site:
        draw.text((TILE_PX - 6, foot), nodule.site, fill=_DIM, font=_font(11), anchor="ra")
    return tile


def _overview(reading: Reading, volume: Volume, width: int) -> Image.Image:
    """The chest from the front and from the side (means along the rays), a dot for each nodule, and what is said."""
    strip = Image.new("RGB", (width, _OVERVIEW_PX), (28, 28, 28))
    x = 0
    for axis in (1, 2):  # along rows: from the front; along columns: from the side
        view = _projection(reading, volume, axis)
        strip.paste(view, (x, 0))
        x += view.width + _GAP_PX
    draw = ImageDraw.Draw(strip)
    draw.text((x + 10, 12), RESEARCH, fill=_WARNING, font=_font(20))
    draw.text((x + 10, 42), f"Software result, {NOT_REVIEWED}", fill=_DIM, font=_font(14))
    y = 66
    if any(grades_of(n) for n in reading.nodules or ()):
        draw.text((x + 10, 60), "Scores follow readers' opinion, not pathology", fill=_DIM, font=_font(14))
        y = 82
    for line in _said(reading):
        draw.text((x + 10, y), line, fill=_WARNING if reading.status is Status.PARTIAL else _WHITE, font=_font(15))
        y += 20
    _list(draw, (x + 10, y + 2), reading.nodules or (), width - x - 10)
    return strip


def _said(reading: Reading) -> list[str]:
    if reading.status is Status.PARTIAL:
        reason = reading.reason.text if reading.reason else "not the whole lungs"
        return textwrap.wrap(f"Read in part: {reason}", _LINE_CHARACTERS)[:4]
    if reading.nodules:
        return []
    size = f" of at least {reading.smallest_mm:.1f} mm" if reading.smallest_mm else ""
    return [f"No nodule{size} was marked;", "this does not exclude nodules"]


def _list(draw: ImageDraw.ImageDraw, place: tuple[int, int], nodules: Sequence[Nodule], width: int) -> None:
    """Number, long axis, side and grades of each nodule, as many as fit; the rest are counted."""
    x, y = place
    few = len(nodules) <= _ROWS and y + 20 * len(nodules) <= _OVERVIEW_PX
    rows = len(nodules) if few else min(_SMALL_ROWS, (_OVERVIEW_PX - y) // 14)
    shown = nodules if few or len(nodules) <= 2 * rows else nodules[: 2 * rows - 1]
    for n, nodule in enumerate(shown):
        column, row = divmod(n, rows)
        words = [f"{nodule.number}", f"{nodule.long_axis_mm:.1f} mm", nodule.site or ""]
        words += [grades_of(nodule)] if few else []
        size = 15 if few else 12
        at = (x + column * width // 2, y + row * (20 if few else 14))
        draw.text(at, "   ".join(filter(None, words)), fill=rgb_of(colour_of(nodule.number)), font=_font(size))
    if len(shown) < len(nodules):
        at = (x + width // 2, y + (rows - 1) * 14)
        draw.text(at, f"and {len(nodules) - len(shown)} more", fill=_WHITE, font=_font(12))


def _projection(reading: Reading, volume: Volume, axis: int) -> Image.Image:
    """Mean HU along `axis` (1 rows, 2 columns), head up, in true proportions."""
    other = 3 - axis
    mean = np.stack([np.clip(plane, -1024, 1500).mean(axis=axis - 1) for plane in volume.hu])
    low, high = float(np.percentile(mean, 5)), float(np.percentile(mean, 99.5))
    upside_down = volume.affine[2, 0] > 0  # k ascends towards the head
    grey = _grey(mean[::-1] if upside_down else mean, low, max(high, low + 1))
    mm = volume.spacing_mm
    height_mm, width_mm = grey.shape[0] * mm[0], grey.shape[1] * mm[other]
    scale = min(_OVERVIEW_PX / height_mm, 1.4 * _OVERVIEW_PX / width_mm)  # px a mm
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    inner = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    view = Image.new("RGB", (size[0], _OVERVIEW_PX), (0, 0, 0))
    offset = (_OVERVIEW_PX - size[1]) // 2
    view.paste(inner, (0, offset))
    draw = ImageDraw.Draw(view)
    to_voxel = np.linalg.inv(volume.affine)
    for nodule in reading.nodules or ():
        kji = to_voxel @ np.array([*nodule.centre_lps_mm, 1.0])
        k = grey.shape[0] - 1 - kji[0] if upside_down else kji[0]
        x, y = (kji[other] + 0.5) * mm[other] * scale, offset + (k + 0.5) * mm[0] * scale
        colour = rgb_of(colour_of(nodule.number))
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], outline=colour, width=2)
        _on_picture(draw, (x + 9, y), str(nodule.number), colour, 14, "lm")
    down = -volume.affine[:3, 0] if upside_down else volume.affine[:3, 0]
    _marks(draw, volume.affine[:3, other], down, view.size)
    return view
