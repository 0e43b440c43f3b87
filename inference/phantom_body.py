"""The body of the phantom: where skin, bones, lungs, heart and large vessels are, as signed distances in LPS mm.

Distances are positive inside; near a surface they are close to mm, so that they give partial volumes. Feet at z = 0,
the apices of the lungs near z = 283; x = 0 is the middle, the spine lies at y = +62, the breastbone at y = -97.
Everything is a sketch of an adult's chest, arms raised, no contrast medium. Nothing here is random.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]

AIR, LUNG, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -865.0, -100.0, 48.0, 42.0, 58.0
MARROW, CORTEX, DISC, TABLE = 190.0, 620.0, 85.0, -250.0
HEIGHT_MM: Final = 300.0
# Where the vessels of a lobe come from, left; the right ones mirrored. All inside the mediastinum: the thick branchings
# lie hidden there, as they would look like nodules.
ARTERY_ROOTS: Final[tuple[Point, ...]] = ((20.0, 6.0, 138.0), (20.0, 0.0, 152.0), (20.0, -6.0, 166.0))
VEIN_ROOTS: Final[tuple[Point, ...]] = ((18.0, -10.0, 118.0), (18.0, -22.0, 146.0))
CARINA: Final[Point] = (0.0, 12.0, 182.0)


@dataclass(frozen=True)
class Tube:
    """A straight piece of a vessel, airway or bone from `start` to `end`, LPS mm, with its radius at both ends, mm."""

    start: Point
    end: Point
    start_mm: float
    end_mm: float


def tube_depth(tube: Tube, x: Array, y: Array, z: Array) -> Array:
    """How deep (x, y, z) lies in the tube, mm; its ends are round."""
    p, q = np.asarray(tube.start, np.float32), np.asarray(tube.end, np.float32)
    along = q - p
    length2 = float(along @ along) or 1.0
    dx, dy, dz = x - p[0], y - p[1], z - p[2]
    t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / np.float32(length2), 0, 1)
    away2 = (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
    radius = np.float32(tube.start_mm) + t * np.float32(tube.end_mm - tube.start_mm)
    return np.asarray(radius - np.sqrt(away2), np.float32)


LARGE_VESSELS: Final = (
    Tube((24, 50, -20), (21, 46, 188), 11.5, 12.5),  # descending aorta
    Tube((21, 46, 188), (6, 16, 208), 12.5, 13.5),  # arch
    Tube((6, 16, 208), (-14, -24, 196), 13.5, 15.0),
    Tube((-14, -24, 196), (-8, -26, 130), 15.0, 16.0),  # ascending aorta
    Tube((-22, -14, 236), (-25, -10, 140), 8.5, 10.0),  # superior vena cava, and on into the neck
    Tube((-16, -12, 310), (-22, -14, 236), 6.5, 8.5),
    Tube((-12, 0, 210), (-20, -4, 290), 6.0, 5.0),  # brachiocephalic artery
    Tube((14, 24, 212), (22, 16, 290), 5.0, 4.0),  # left subclavian artery
)
PULMONARY_TRUNK: Final = (
    Tube((12, -32, 130), (14, -10, 160), 14.0, 13.0),
    Tube((14, -10, 160), (24, 2, 156), 11.0, 7.0),
    Tube((14, -8, 156), (-14, -2, 160), 11.0, 9.0),
    Tube((-14, -2, 160), (-24, 2, 156), 9.0, 7.0),
)
TRACHEA: Final = (
    Tube((0, 4, 320), CARINA, 8.5, 8.0),
    Tube(CARINA, (-30, 12, 160), 6.5, 5.5),
    Tube(CARINA, (34, 15, 164), 6.0, 5.0),
)


def _reaches(tube: Tube, low_mm: float, high_mm: float) -> bool:
    """Whether anything of the tube, or its surroundings, lies between two heights."""
    return min(tube.start[2], tube.end[2]) - 24 < high_mm and max(tube.start[2], tube.end[2]) + 24 > low_mm


def _oval_depth(x: Array, y: Array, a_mm: float, b_mm: float) -> Array:
    return np.asarray((1 - np.sqrt((x / a_mm) ** 2 + (y / b_mm) ** 2)) * min(a_mm, b_mm), np.float32)


def _narrowing(z: Array | float, from_mm: float, end_mm: float) -> Array:
    """1 below `from_mm`, then a quarter circle down to nothing at `end_mm`."""
    t = np.clip((np.asarray(z, np.float32) - from_mm) / (end_mm - from_mm), 0, 0.9995)
    return np.asarray(np.sqrt(1 - t * t), np.float32)


def _blend(one: Array, other: Array, width: float) -> Array:
    """The larger of two depths, with a smooth passage from one to the other."""
    share = np.clip(0.5 + (one - other) / (2 * width), 0, 1)
    return np.asarray(other + share * (one - other) + width * share * (1 - share), np.float32)


def heart_depth(x: Array, y: Array, z: Array | float) -> Array:
    """Depth in the heart, mm."""
    tip = np.sqrt(((x - 40) / 46) ** 2 + ((y + 38) / 42) ** 2 + ((z - 92) / np.float32(44)) ** 2)  # the ventricles
    base = np.sqrt(((x - 2) / 44) ** 2 + ((y + 14) / 42) ** 2 + ((z - 112) / np.float32(48)) ** 2)  # the atria
    return np.asarray(_blend(1 - tip, 1 - base, 0.18) * 42, np.float32)


def lung_depth(x: Array, y: Array, z: Array) -> Array:
    """Depth in either lung, mm: the distance to the pleura; negative outside the lungs. Arguments broadcast."""
    lateral = np.abs(x)
    shrink = _narrowing(z, 130, 286)
    a, b = 133 * shrink * (1 - 0.0006 * np.maximum(90 - z, 0)), 87 * shrink
    depth = (1 - np.sqrt((x / a) ** 2 + (y / b) ** 2)) * b
    # the mediastinum is wider where arch and vena cava lie: a vessel that stood out would look like a nodule
    arch = 17 * np.exp(-(((y - 50) / 26) ** 2) - ((z - 194) / 34) ** 2)
    cava = 11 * np.exp(-(((y + 13) / 26) ** 2) - ((z - 225) / 50) ** 2)
    medial = (
        np.where(x > 0, arch, cava) + 9 + 17 * np.exp(-(((y - 8) / 38) ** 2)) + 5 * np.exp(-(((z - 170) / 60) ** 2))
    )
    depth = np.minimum(depth, lateral - medial)
    depth = np.minimum(depth, -heart_depth(x, y, z) - 2)
    depth = np.minimum(depth, np.hypot(x, y - 62) - 23)  # the spine with what lies upon it
    for tube in LARGE_VESSELS:
        if _reaches(tube, float(z.min()), float(z.max())):
            depth = np.minimum(depth, -tube_depth(tube, x, y, z) - 2)
    top = np.where(x < 0, np.float32(96), np.float32(84))
    dome = top - 58 * ((lateral - 62) / 74) ** 2 - 52 * ((y + 14) / 90) ** 2
    return np.asarray(np.minimum(depth, 0.75 * (z - np.maximum(dome, 18))), np.float32)


def section(x: Array, y: Array, z_mm: float, edge_mm: float) -> Array:
    """HU of one axial section, without ribs, lung vessels, airways in the lungs and noise.

    Args:
        x, y: LPS mm, shapes (1, columns) and (rows, 1).
        z_mm: where the section lies.
        edge_mm: width over which a surface blends, about a voxel.
    Returns:
        (rows, columns) float32.
    """
    hu = np.full(np.broadcast_shapes(x.shape, y.shape), AIR, np.float32)

    def paint(depth: Array, value: float | Array) -> None:
        _paint(hu, depth, value, edge_mm)

    table = y - (128 - 30 * (x / 190) ** 2)  # the table is hollow, its edges are raised
    for offset in (0, 22):
        paint(np.minimum(1.6 - np.abs(table - offset), 190 - np.abs(x)), TABLE)
    shrink = float(_narrowing(z_mm, 205, 430))
    paint(_oval_depth(x, y - 6, 170 * shrink, 116 * shrink), FAT)
    paint(_oval_depth(x, y - 6, 156 * shrink, 105 * shrink), MUSCLE)
    if z_mm > 165:  # fat of the armpits, muscles before and behind it
        wide = 5 + 17 * min(1.0, (z_mm - 165) / 60)
        paint(_oval_depth(np.abs(x) - 122, y - 4, wide, 1.6 * wide), FAT)
    rows, columns = np.flatnonzero(np.abs(y[:, 0]) < 112), np.flatnonzero(np.abs(x[0]) < 140)
    if rows.size and columns.size:
        inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        _paint_inside(hu[inner], x[:, inner[1]], y[inner[0]], z_mm, edge_mm)
    return hu


def _paint(hu: Array, depth: Array, value: float | Array, edge_mm: float) -> None:
    cover = np.clip(0.5 + depth / edge_mm, 0, 1)
    hu += cover * (value - hu)


def _paint_inside(hu: Array, x: Array, y: Array, z_mm: float, edge_mm: float) -> None:
    """What lies within the ribs, with spine and breastbone."""
    z = np.full((1, 1), z_mm, np.float32)

    def paint(depth: Array, value: float | Array) -> None:
        _paint(hu, depth, value, edge_mm)

    cage = float(_narrowing(z_mm, 130, 290))
    chest = _oval_depth(x, y, 136 * cage, 90 * cage)
    paint(chest, -70 + 30 * np.sin(x / 9) * np.cos(y / 11))  # fat of the mediastinum and between the organs
    if z_mm < 110:  # liver on the right, spleen and stomach on the left
        paint(np.minimum(chest - 1, -x + 22), LIVER)
        paint(np.minimum(chest - 1, x - 32), MUSCLE)
    paint(lung_depth(x, y, z), LUNG + 0.22 * y)  # denser where the patient lies on
    if z_mm < 175:
        paint(np.minimum(heart_depth(x, y, z), chest), BLOOD)
    for tube in (*LARGE_VESSELS, *PULMONARY_TRUNK):
        if _reaches(tube, z_mm, z_mm):
            paint(tube_depth(tube, x, y, z), BLOOD)
    _paint_spine(paint, x, y, z_mm)
    if 96 < z_mm < 252:  # breastbone
        bone = np.minimum(19 + 0.03 * (z_mm - 96) - np.abs(x), 5.5 - np.abs(y + 97 - 0.0009 * (z_mm - 150) ** 2))
        paint(bone, CORTEX * 0.75)
        paint(bone - 1.8, MARROW * 0.7)
    airways = [tube_depth(tube, x, y, z) for tube in TRACHEA if _reaches(tube, z_mm, z_mm)]
    for depth in airways:
        paint(depth + 1.8, MUSCLE)
    for depth in airways:
        paint(depth, AIR)


def _paint_spine(paint: Callable[[Array, float | Array], None], x: Array, y: Array, z_mm: float) -> None:
    to_disc = abs((z_mm % 26) - 13)  # 13 in the middle of a disc, 0 in the middle of a vertebra
    body = _oval_depth(x, y - 62, 18, 15)
    if to_disc > 10.5:
        paint(body, DISC)
    else:
        paint(body, CORTEX * 0.8)
        paint(body - (1.5 if to_disc < 9 else 12), MARROW)
    if to_disc < 8:  # arch, transverse and spinous processes; the canal stays open
        paint(3.5 - np.abs(np.hypot(x, y - 86) - 11), CORTEX * 0.7)
        paint(np.minimum(3.5 - np.abs(y - 93), np.minimum(np.abs(x) - 10, 32 - np.abs(x))), MARROW * 1.6)
        paint(np.minimum(3.0 - np.abs(x), np.minimum(y - 94, 108 - y)), CORTEX * 0.7)
    paint(np.asarray(8.0 - np.hypot(x, y - 86), np.float32), 30.0)


def bones() -> Iterator[tuple[Tube, float]]:
    """Ribs, collar bones and shoulder blades as short tubes, each with its HU; marrow comes after cortex."""
    paths = [path for side in (-1, 1) for path in (*_ribs(side), _clavicle(side), *_scapula(side))]
    for shell, value in ((0.0, CORTEX), (1.7, MARROW)):
        for points, radius in paths:
            for start, end in pairwise(points):
                yield Tube(start, end, radius - shell, radius - shell), value


def _ribs(side: int) -> Iterator[tuple[list[Point], float]]:
    for number in range(11):
        behind_mm, fall_mm = 274 - 24 * number, 34 + 3.2 * number
        front = 2.75 if number < 7 else 2.75 - 0.28 * (number - 6)  # the lower ones end at the side
        points = []
        for angle in np.linspace(0.28, front, 34).tolist():  # from the spine around the side
            z = behind_mm - fall_mm * (1 - np.cos(angle)) / 2 * 1.35
            wide = float(_narrowing(float(max(z, 0)), 130, 305))
            points.append((float(side * 143 * wide * np.sin(angle)), float(97 * wide * np.cos(angle)), float(z)))
        yield points, 4.6


def _clavicle(side: int) -> tuple[list[Point], float]:
    return [(side * (22 + 11 * t), -66 + 4.5 * t + 8 * float(np.sin(t)), 262 + 2.2 * t) for t in range(10)], 5.0


def _scapula(side: int) -> Iterator[tuple[list[Point], float]]:
    for row in range(16):  # a plate, in rods side by side
        x, y, z = 74 + 0.8 * row, 103 - 0.35 * row, 180 + 5.0 * row
        reach = 6 + 2.4 * row
        yield (
            [
                (side * x, y, z),
                (side * (x + 0.5 * reach), y - 0.30 * reach, z),
                (side * (x + reach), y - 0.75 * reach, z),
            ],
            2.6,
        )
