"""Small pictures of places in a CT, as PNG: grey in the lung window, outlines in colour. No text, no id."""

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage as ndi

WINDOW_HU: Final = (-1350.0, 150.0)
PIXEL_MM: Final = 0.35
TRUTH: Final = (86, 180, 233)  # blue and orange of Okabe and Ito: told apart by any eye
FOUND: Final = (230, 159, 0)

Colour = tuple[int, int, int]
Plane = npt.NDArray[np.int16]
Area = npt.NDArray[np.bool_]


def patch(
    plane: Plane,
    spacing_mm: tuple[float, float],
    centre: tuple[float, float],
    outlines: Sequence[tuple[Area, Colour]] = (),
    side_mm: float = 50.0,
) -> bytes:
    """A square of a slice around a place, as PNG.

    Args:
        plane: HU (rows, columns).
        spacing_mm: of rows and columns.
        centre: (row, column) in pixels; beyond the field the picture is black.
        outlines: masks of the plane's shape with their colours.
    """
    pixels = round(side_mm / PIXEL_MM)
    at = (np.arange(pixels) - (pixels - 1) / 2) * PIXEL_MM
    grid = np.meshgrid(centre[0] + at / spacing_mm[0], centre[1] + at / spacing_mm[1], indexing="ij")
    fine = ndi.map_coordinates(plane.astype(np.float32), grid, order=1, mode="constant", cval=-3000.0)
    grey = np.clip((fine - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0]), 0, 1)
    picture = np.repeat((grey * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    for mask, colour in outlines:
        share = ndi.map_coordinates(mask.astype(np.float32), grid, order=1, mode="constant")
        area = share >= 0.5
        picture[ndi.binary_dilation(area) & ~area] = colour
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def disc(
    shape: tuple[int, int], spacing_mm: tuple[float, float], centre: tuple[float, float], radius_mm: float
) -> Area:
    """A disc around a place (row, column), where no mask was drawn."""
    rows = (np.arange(shape[0]) - centre[0]) * spacing_mm[0]
    columns = (np.arange(shape[1]) - centre[1]) * spacing_mm[1]
    inside: Area = np.hypot(rows[:, None], columns[None, :]) <= radius_mm
    return inside
