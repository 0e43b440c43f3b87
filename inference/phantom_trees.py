"""Arteries, veins and airways of the phantom's lungs, as straight tapering pieces in LPS mm.

A detector of dots must find nothing in them: branches leave along their parent's way and thin out to nothing, and no
branching is thicker than its parent.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from inference import phantom_body as body
from inference.phantom_body import Point, Tube

Places = npt.NDArray[np.float64]
"""(n, 3) LPS mm, or one place (3,)."""


class Trees:
    """Arteries, veins and airways of both lungs. `points` and `radii` of the vessels, for finding places."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.vessels: list[Tube] = []
        self.airways: list[Tube] = []
        for side in (-1, 1):
            x, y, z = body.TRACHEA[1 if side < 0 else 2].end
            self.airways += _grow([(abs(x), y, z)] * 2, side, _targets(rng, side, 16, 26.0), 0.9, 0.42)
            self.vessels += _grow(body.ARTERY_ROOTS, side, _targets(rng, side, 240, 5.0), 0.6, 0.36)
            self.vessels += _grow(body.VEIN_ROOTS, side, _targets(rng, side, 150, 6.0), 0.6, 0.36)
        #: ends of the vessels' pieces, (n, 3) LPS mm, and their radii, (n,) mm
        self.points = np.array([t.end for t in self.vessels])
        self.radii = np.array([t.end_mm for t in self.vessels])
        self._vessels = KDTree(self.points)
        self._airways = KDTree(np.array([t.end for t in self.airways]))

    def to_airway_mm(self, points: Places) -> Places:
        """Distance of points (n, 3) to the middle of the nearest airway."""
        return np.asarray(self._airways.query(points)[0])

    def to_vessel_mm(self, points: Places) -> Places:
        """Distance of points (n, 3) to the nearest wall of a vessel, judged by the twelve nearest pieces."""
        distance, nearest = self._vessels.query(points, k=12)
        return np.asarray((distance - self.radii[nearest]).min(axis=1))


def _targets(rng: np.random.Generator, side: int, count: int, inside_mm: float) -> Places:
    """Points all over one lung, `inside_mm` or more from its pleura, none close to another: where the branches end."""
    found = np.empty((count, 3))
    have = 0
    apart_mm = 30.0 * (200 / count) ** (1 / 3)
    while have < count:
        x, y, z = rng.uniform((2, -90, 15), (135, 90, 285), (600, 3)).T
        depth = body.lung_depth(*(a.astype(np.float32) for a in (side * x, y, z)))
        for point in np.stack((side * x, y, z), 1)[depth > inside_mm]:
            if have < count and (have == 0 or ((found[:have] - point) ** 2).sum(axis=1).min() > apart_mm**2):
                found[have] = point
                have += 1
        apart_mm *= 0.93  # ends always: sooner or later the lung has room
    return found


def _grow(roots: Sequence[Point], side: int, targets: Places, leaf_mm: float, power: float) -> list[Tube]:
    """A tree from each root (mirrored for the right side); the targets are shared out from the feet to the head."""
    tubes = []
    for root, part in zip(
        roots, np.array_split(targets[np.argsort(targets[:, 2], kind="stable")], len(roots)), strict=True
    ):
        start = np.array(root) * (side, 1, 1)
        way = part.mean(axis=0) - start
        tubes += _tree(start, way / np.linalg.norm(way) + np.array([side * 0.6, 0, 0]), part, leaf_mm, power)
    return tubes


def _tree(
    root: Places,
    heading: Places,
    targets: Places,
    leaf_mm: float,
    power: float,
) -> list[Tube]:
    """Branches from `root` to all targets, LPS mm.

    Each goes towards the middle of its targets, which are then parted, a third and two thirds, where they spread
    most. A branch that feeds n targets has the radius leaf_mm * n ** power, and leaves along its parent's way.
    """
    tubes: list[Tube] = []
    jobs = [(root, heading / np.linalg.norm(heading), targets, leaf_mm * len(targets) ** power)]
    while jobs:
        start, direction, points, radius = jobs.pop()
        count = len(points)
        way = points.mean(axis=0) - start
        end = start + way * (1.0 if count == 1 else 0.42)
        parts = _parts(points) if count > 1 else []
        end_radius = leaf_mm * max((len(p) for p in parts), default=0) ** power if parts else 0.25 * leaf_mm
        length = float(np.linalg.norm(end - start))
        bend = start + direction * length * 0.3
        steps = max(2, int(length / 3.5))
        line = [(1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t * t * end for t in np.linspace(0, 1, steps + 1)]
        radii = np.linspace(radius, end_radius, steps + 1)
        for n in range(steps):
            a, b = line[n].tolist(), line[n + 1].tolist()
            tubes.append(Tube((a[0], a[1], a[2]), (b[0], b[1], b[2]), float(radii[n]), float(radii[n + 1])))
        last = line[-1] - line[-2]
        direction = last / (np.linalg.norm(last) or 1.0)
        jobs += [(end, direction, part, leaf_mm * len(part) ** power) for part in parts]
    return tubes


def _parts(points: Places) -> list[Places]:
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = np.argsort(centred @ axis, kind="stable")
    middle = max(1, round(0.35 * len(points)))
    return [points[order[:middle]], points[order[middle:]]]
