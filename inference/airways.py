"""The trachea and the large bronchi: air within the patient that is no lung.

The trachea is the longest stack of small, round, dark pieces of air near the midline; the bronchi are grown from it.
"""

from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.grids import in_threads, threads
from inference.masks import Mask, box_of

_AIRWAYS_ML_MAX: Final = 100.0  # a tree that is larger has leaked into the lung
_LADDER_HU: Final = (-950.0, -930.0, -910.0, -890.0, -860.0, -830.0, -800.0, -750.0)

Air = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]


def find_airways(air: Air, inside: Mask, lung: Mask, cell_mm: Spacing, headwards: int) -> Mask:
    """Trachea and large bronchi, grown from the trachea at the highest threshold that doesn't leak; empty without one.

    Args:
        air: HU [k, j, i], slightly smoothed; k across axial slices.
        inside: air within the patient.
        lung: bodies of it that are lung, with the airways.
        cell_mm: size of a cell along k, j and i.
        headwards: 1 where k grows to the head, else -1.
    """
    trachea = _trachea(air, inside, lung, cell_mm, headwards)
    if not trachea.any():
        return trachea
    box = box_of(inside | trachea)
    grow = partial(_grown, air[box], inside[box], trachea[box])
    ways = trachea.copy()
    at_once = threads()
    for first in range(0, len(_LADDER_HU), at_once):
        for grown in in_threads(grow, _LADDER_HU[first : first + at_once]):
            if grown.sum() * np.prod(cell_mm) / 1000 > _AIRWAYS_ML_MAX:
                return ways
            ways[box] = grown
    return ways


def _grown(air: Air, inside: Mask, trachea: Mask, threshold_hu: float) -> Mask:
    """The air below a threshold that hangs together with the trachea."""
    parts, count = ndi.label(((air < threshold_hu) & inside) | trachea)
    reached = np.zeros(count + 1, bool)
    reached[np.unique(parts[trachea])] = True
    grown: Mask = reached[parts]
    return grown


def _trachea(air: Air, inside: Mask, lung: Mask, cell_mm: Spacing, headwards: int) -> Mask:
    """The longest stack of small, round, dark, central pieces of air in the head half of the lungs and above."""
    slices, columns = np.flatnonzero(lung.any(axis=(1, 2))), np.flatnonzero(lung.any(axis=(0, 1)))
    middle, centre = (slices[0] + slices[-1]) / 2, (columns[0] + columns[-1]) / 2
    pieces = np.zeros_like(inside)
    for k in range(len(air)):
        if (k - middle) * headwards < 0:
            continue
        parts, _ = ndi.label(inside[k])
        for number, (rows, cols) in enumerate(ndi.find_objects(parts), start=1):
            piece = parts[rows, cols] == number
            height, width = (rows.stop - rows.start) * cell_mm[1], (cols.stop - cols.start) * cell_mm[2]
            area = piece.sum() * cell_mm[1] * cell_mm[2]
            off_centre = abs((cols.start + cols.stop - 1) / 2 - centre) * cell_mm[2]
            if (
                50 < area < 800
                and max(height, width) < 45
                and area > height * width / 2
                and off_centre < 40
                and air[k, rows, cols][piece].min() < -900
            ):
                pieces[k, rows, cols] |= piece
    trachea = np.zeros_like(inside)
    if pieces.any():
        box = box_of(pieces)
        stacks, _ = ndi.label(pieces[box], np.ones((3, 3, 3)))
        lengths = [(stack[0].stop - stack[0].start) * cell_mm[0] for stack in ndi.find_objects(stacks)]
        if max(lengths) >= 15:
            trachea[box] = stacks == 1 + int(np.argmax(lengths))
    return trachea
