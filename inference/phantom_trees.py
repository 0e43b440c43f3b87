"""Arteries, veins and airways of the phantom's lungs, as straight tapering pieces in LPS mm.

A detector of dots must find nothing in them: branches leave along their parent's way, thin out to nothing, never cross
an airway, and no branching is thicker than its parent.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from inference import phantom_body as body
from inference.phantom_body import Point, Tube


class Trees:
    """Arteries, veins and airways of both lungs. `points` and `radii` of the vessels, for finding places."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.vessels: list[Tube] = []
        self.airways: list[Tube] = []
        for side, hilum in body.HILUM.items():
            heading = np.array([side * 1.0, 0.1, 0.0])
            root = np.array(hilum)
            self.vessels += _tree(root, heading, _targets(rng, side, 300, 5.0), 0.70, 0.375)
            veins = root + np.array([side * -2, -10, -14])
            self.vessels += _tree(veins, heading, _targets(rng, side, 190, 6.0), 0.70, 0.36)
            start = np.array(body.TRACHEA[1 if side < 0 else 2].end)
            self.airways += _tree(start, heading, _targets(rng, side, 16, 26.0), 1.25, 0.50)
        self.vessels = _aside(self.vessels, self.airways)
        #: ends of the vessels' pieces, (n, 3) LPS mm, and their radii, (n,) mm
        self.points = np.array([t.end for t in self.vessels])
        self.radii = np.array([t.end_mm for t in self.vessels])
        self._vessels = KDTree(self.points)
        self._airways = KDTree(np.array([t.end for t in self.airways]))

    def to_airway_mm(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Distance of points (n, 3) to the middle of the nearest airway."""
        return np.asarray(self._airways.query(points)[0])

    def to_vessel_mm(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Distance of points (n, 3) to the nearest wall of a vessel; of the twelve nearest pieces, which are 3.5 mm
        long.
        """
        distance, nearest = self._vessels.query(points, k=12)
        return np.asarray((distance - self.radii[nearest]).min(axis=1))


def _targets(rng: np.random.Generator, side: int, count: int, inside_mm: float) -> npt.NDArray[np.float64]:
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


def _tree(
    root: npt.NDArray[np.float64],
    heading: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
    leaf_mm: float,
    power: float,
) -> list[Tube]:
    """Branches from `root` to all targets, LPS mm.

    Each goes towards the middle of its targets, which are then halved where they spread most. A branch that feeds n
    targets has the radius leaf_mm * n ** power, and leaves its parent along the parent's way.
    """
    tubes: list[Tube] = []
    jobs = [(root, heading / np.linalg.norm(heading), targets, leaf_mm * len(targets) ** power)]
    while jobs:
        start, direction, points, radius = jobs.pop()
        count = len(points)
        way = points.mean(axis=0) - start
        end = start + way * (1.0 if count == 1 else 0.42)
        halves = _halves(points) if count > 1 else []
        end_radius = leaf_mm * max((len(h) for h in halves), default=0) ** power if halves else 0.25 * leaf_mm
        length = float(np.linalg.norm(end - start))
        bend = start + direction * length * 0.45
        steps = max(2, int(length / 3.5))
        line = [(1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t * t * end for t in np.linspace(0, 1, steps + 1)]
        radii = np.linspace(radius, end_radius, steps + 1)
        for n in range(steps):
            a, b = line[n].tolist(), line[n + 1].tolist()
            tubes.append(Tube((a[0], a[1], a[2]), (b[0], b[1], b[2]), float(radii[n]), float(radii[n + 1])))
        last = line[-1] - line[-2]
        direction = last / (np.linalg.norm(last) or 1.0)
        jobs += [(end, direction, half, leaf_mm * len(half) ** power) for half in halves]
    return tubes


def _halves(points: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = np.argsort(centred @ axis, kind="stable")
    middle = len(points) // 2
    return [points[order[:middle]], points[order[middle:]]]


def _aside(vessels: Sequence[Tube], airways: Sequence[Tube]) -> list[Tube]:
    """The vessels, moved out of the airways' way: one that ran through an airway would leave stumps that look like
    nodules.
    """
    ways = KDTree(np.array([t.end for t in airways]))
    radii = np.array([t.end_mm for t in airways])

    def moved(points: npt.NDArray[np.float64], own_mm: npt.NDArray[np.float64]) -> list[Point]:
        distance, nearest = ways.query(points)
        wanted = radii[nearest] * 1.2 + own_mm + 1.5
        push = np.clip(wanted / np.maximum(distance, 0.3), 1, 8)[:, None]
        out = ways.data[nearest] + (points - ways.data[nearest]) * push
        return [(float(x), float(y), float(z)) for x, y, z in out]

    starts = moved(np.array([t.start for t in vessels]), np.array([t.start_mm for t in vessels]))
    ends = moved(np.array([t.end for t in vessels]), np.array([t.end_mm for t in vessels]))
    return [Tube(s, e, t.start_mm, t.end_mm) for s, e, t in zip(starts, ends, vessels, strict=True)]
