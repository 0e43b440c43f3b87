"""A chest as arrays, with its truth: for the demonstration, for tests, for training. No patient.

Anatomy (`phantom_body`), arteries, veins and airways (`phantom_trees`), nodules of known place and size,
noise with the grain of a soft kernel. The same seed gives the same voxels. The truth lies beside the voxels and never
in them: a reading gets the volume alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference import phantom_body as body
from inference.phantom_body import Array, Point, Tube
from inference.phantom_trees import Trees

Kind = Literal["solid", "part-solid", "juxtapleural", "juxtavascular"]
SOLID_HU, GROUND_GLASS_HU = 35.0, -560.0
CORE_SHARE: Final = 0.55  # diameter of a part-solid nodule's core
NOISE_HU: Final = 16.0
APART_MM: Final = 30.0  # between nodules
FINER: Final = 4  # samples along each side of a voxel, for the partial volumes of a nodule


@dataclass(frozen=True)
class NoduleWish:
    """A nodule that the phantom shall have; its place is found by the seed."""

    kind: Kind
    diameter_mm: float


@dataclass(frozen=True)
class PhantomNodule:
    """Truth: a sphere around `centre_lps_mm`. A juxtapleural one is cut by the pleura, half a radius beyond its
    centre.
    """

    centre_lps_mm: Point
    diameter_mm: float
    kind: Kind


@dataclass(frozen=True, eq=False)
class ChestPhantom:
    """`hu` [k, j, i] int16, k towards the head, j towards the back, i towards the left; `affine` takes (k, j, i, 1)
    to LPS mm.

    `spacing_mm` is (k, j, i); `origin_lps_mm` the centre of voxel (0, 0, 0).
    """

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    origin_lps_mm: Point
    affine: npt.NDArray[np.float64]
    nodules: tuple[PhantomNodule, ...]
    seed: int = 1


@dataclass(frozen=True, eq=False)
class RadiographPhantom:
    """`pixels` (rows, columns) uint16, 12 bits, bone bright, the patient's left on the right; `spacing_mm` (row,
    column).
    """

    pixels: npt.NDArray[np.uint16]
    spacing_mm: tuple[float, float]


DEFAULT_NODULES: Final = (
    NoduleWish("solid", 20.0),
    NoduleWish("part-solid", 15.0),
    NoduleWish("solid", 12.0),
    NoduleWish("juxtapleural", 11.0),
    NoduleWish("juxtavascular", 9.0),
    NoduleWish("solid", 7.0),
    NoduleWish("solid", 5.0),
)


def chest_phantom(
    nodules: Sequence[NoduleWish] | None = None,
    *,
    seed: int = 1,
    spacing_mm: tuple[float, float, float] = (1.25, 0.95, 0.95),
    shape: tuple[int, int, int] = (240, 384, 384),
) -> ChestPhantom:
    """Make a chest CT without contrast medium.

    Args:
        nodules: None the default seven, () empty lungs, else what is wished.
        seed: of vessels, places and noise.
        spacing_mm: (k, j, i). The anatomy is 300 mm high and 340 mm wide: smaller fields cut it.
        shape: voxels (k, j, i).
    Raises:
        ValueError: a wished nodule finds no place.
    """
    # streams of their own: the same chest with other nodules has the same vessels and the same noise
    vessels, places, noise = (np.random.default_rng((seed, n)) for n in range(3))
    canvas = _Canvas(shape, spacing_mm)
    canvas.paint_body()
    trees = Trees(vessels)
    canvas.paint_bones()
    canvas.paint_vessels(trees.vessels)
    canvas.paint_airways(trees.airways)
    truth = _places(DEFAULT_NODULES if nodules is None else nodules, trees, places)
    for nodule in truth:
        canvas.paint_nodule(nodule)
    return ChestPhantom(canvas.with_noise(noise), spacing_mm, canvas.origin, canvas.affine(), tuple(truth), seed)


def radiograph_phantom(
    *, seed: int = 1, shape: tuple[int, int] = (800, 960), nodules: Sequence[NoduleWish] | None = None
) -> RadiographPhantom:
    """Project a chest from back to front: attenuation summed along y, inverted logarithm as a display shows it (bone
    bright).
    """
    rng = np.random.default_rng(seed)
    spacing = (300.0 / 220, 360.0 / 240, 360.0 / 240)
    chest = chest_phantom(nodules, seed=seed, spacing_mm=spacing, shape=(220, 240, 240))
    water = np.clip(chest.hu.astype(np.float32) + 1000, 0, None) / 1000
    water += (
        np.clip(water - 1.15, 0, None) * 1.5
    )  # X-rays as soft as a radiograph's are stopped by bone more than a CT's
    depth = water.sum(axis=1)[::-1] * spacing[1]  # mm of water; the head is up
    depth = ndimage.zoom(depth, (shape[0] / depth.shape[0], shape[1] / depth.shape[1]), order=3, mode="nearest")
    low, high = np.percentile(depth, (2, 99.5))
    grey = np.clip((depth - low) / (high - low), 0, 1) ** 0.85 * 3500 + 200
    grey += ndimage.gaussian_filter(rng.standard_normal(grey.shape), 0.7) * 25
    return RadiographPhantom(np.clip(np.round(grey), 0, 4095).astype(np.uint16), (300.0 / shape[0], 360.0 / shape[1]))


class _Canvas:
    """HU being painted, float32 [k, j, i], and the coordinates of its voxels' centres."""

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        self.spacing = spacing
        self.hu = np.empty(shape, np.float32)
        first = [
            (body.HEIGHT_MM - (shape[0] - 1) * spacing[0]) / 2,
            -(shape[1] - 1) * spacing[1] / 2,
            -(shape[2] - 1) * spacing[2] / 2,
        ]
        first[1] += 8.0  # the table is in the picture, the air before the chest less so
        self.z, self.y, self.x = (
            (f + np.arange(n) * s).astype(np.float32) for f, n, s in zip(first, shape, spacing, strict=True)
        )
        self.origin: Point = (first[2], first[1], first[0])
        self.edge_mm = float(np.cbrt(np.prod(spacing)))

    def affine(self) -> npt.NDArray[np.float64]:
        matrix = np.zeros((4, 4))
        matrix[2, 0], matrix[1, 1], matrix[0, 2], matrix[3, 3] = *self.spacing, 1.0
        matrix[:3, 3] = self.origin
        return matrix

    def box(
        self, low: Sequence[float], high: Sequence[float]
    ) -> tuple[tuple[slice, slice, slice], Array, Array, Array]:
        """Voxels whose centres lie between two corners (LPS mm): the index, and x, y, z shaped to broadcast as [k,
        j, i].
        """
        k, j, i = (
            slice(int(np.searchsorted(axis, low[n], "left")), int(np.searchsorted(axis, high[n], "right")))
            for n, axis in ((2, self.z), (1, self.y), (0, self.x))
        )
        return (k, j, i), self.x[i][None, None, :], self.y[j][None, :, None], self.z[k][:, None, None]

    def _tube_cover(self, tube: Tube) -> tuple[tuple[slice, slice, slice], Array]:
        reach = max(tube.start_mm, tube.end_mm) + self.edge_mm
        low = np.minimum(tube.start, tube.end) - reach
        high = np.maximum(tube.start, tube.end) + reach
        where, x, y, z = self.box(low.tolist(), high.tolist())
        cover = np.clip(0.5 + body.tube_depth(tube, x, y, z) / self.edge_mm, 0, 1)
        thin = min(1.0, (max(tube.start_mm, tube.end_mm) / (0.5 * self.edge_mm)) ** 2)  # thinner than a voxel: fainter
        return where, np.asarray(cover * thin, np.float32)

    def paint_body(self) -> None:
        x, y = self.x[None, :], self.y[:, None]
        for k, z in enumerate(self.z):
            self.hu[k] = body.section(x, y, float(z), self.edge_mm)

    def paint_bones(self) -> None:
        for tube, value in body.bones():
            where, cover = self._tube_cover(tube)
            self.hu[where] += cover * (value - self.hu[where])

    def paint_vessels(self, tubes: Sequence[Tube]) -> None:
        # where tubes meet the larger cover counts, not the sum: a sum would make a blob of each branching
        covers = np.zeros_like(self.hu)
        for tube in tubes:
            where, cover = self._tube_cover(tube)
            np.maximum(covers[where], cover, out=covers[where])
        brighter = covers * (body.BLOOD - self.hu)
        self.hu += np.maximum(brighter, 0)

    def paint_airways(self, tubes: Sequence[Tube]) -> None:
        for wider, value in ((1.0, body.MUSCLE), (0.0, body.AIR)):
            for tube in tubes:
                grown = Tube(
                    tube.start,
                    tube.end,
                    tube.start_mm * (1 + 0.18 * wider) + 0.5 * wider,
                    tube.end_mm * (1 + 0.18 * wider) + 0.5 * wider,
                )
                where, cover = self._tube_cover(grown)
                self.hu[where] += cover * (value - self.hu[where])

    def paint_nodule(self, nodule: PhantomNodule) -> None:
        centre, radius = np.asarray(nodule.centre_lps_mm), nodule.diameter_mm / 2
        where, x, y, z = self.box(
            (centre - radius - self.edge_mm * 2).tolist(), (centre + radius + self.edge_mm * 2).tolist()
        )
        inside = np.clip(0.5 + body.lung_depth(x, y, z) / self.edge_mm, 0, 1)
        layers = [(radius, SOLID_HU)]
        if nodule.kind == "part-solid":
            layers = [(radius, GROUND_GLASS_HU), (radius * CORE_SHARE, SOLID_HU)]
        for r, value in layers:
            share = self._sphere_share(x, y, z, centre, r) * inside
            self.hu[where] = np.maximum(self.hu[where], self.hu[where] + share * (value - self.hu[where]))

    def _sphere_share(self, x: Array, y: Array, z: Array, centre: npt.NDArray[np.float64], radius: float) -> Array:
        """The share of each voxel that lies in a sphere, by FINER^3 samples a voxel."""
        steps = (np.arange(FINER) + 0.5) / FINER - 0.5
        fine = [
            ((axis.ravel()[:, None] + steps * s).ravel() - c) ** 2
            for axis, s, c in zip((z, y, x), self.spacing, centre[::-1], strict=True)
        ]
        inside = fine[0][:, None, None] + fine[1][None, :, None] + fine[2][None, None, :] <= radius**2
        k, j, i = z.size, y.size, x.size
        return np.asarray(inside.reshape(k, FINER, j, FINER, i, FINER).mean(axis=(1, 3, 5)), np.float32)

    def with_noise(self, rng: np.random.Generator) -> npt.NDArray[np.int16]:
        """Blur as a soft kernel does, with noise of the same grain."""
        sigma = (0.45, 0.62, 0.62)
        gain = np.prod([2 * np.sqrt(np.pi) * s for s in sigma]) ** 0.5  # what the blur takes from white noise
        self.hu += rng.standard_normal(self.hu.shape, dtype=np.float32) * np.float32(NOISE_HU * gain)
        for axis, s in enumerate(sigma):
            ndimage.gaussian_filter1d(self.hu, s, axis=axis, output=self.hu, mode="nearest", truncate=3)
        return np.clip(np.rint(self.hu), -1024, 3071).astype(np.int16)


def _places(wishes: Sequence[NoduleWish], trees: Trees, rng: np.random.Generator) -> list[PhantomNodule]:
    found: list[PhantomNodule] = []
    for n, wish in enumerate(wishes):
        tries = _tries(wish, 1 if n % 2 else -1, trees, rng)
        free = tries[_fits(wish, tries, trees)]
        for nodule in found:
            free = free[np.linalg.norm(free - nodule.centre_lps_mm, axis=1) > APART_MM]
        if not len(free):
            raise ValueError(f"no place for a {wish.kind} nodule of {wish.diameter_mm:g} mm")
        x, y, z = free[0].tolist()
        found.append(PhantomNodule((x, y, z), wish.diameter_mm, wish.kind))
    return found


def _tries(wish: NoduleWish, side: int, trees: Trees, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Places to try, (n, 3) LPS mm, in the order of the seed."""
    if wish.kind == "juxtavascular":
        mine = np.flatnonzero((trees.radii > 1.3) & (trees.radii < 2.6) & (side * trees.points[:, 0] > 45))
        mine = rng.permutation(mine)
        away = rng.standard_normal((len(mine), 3))
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        return np.asarray(trees.points[mine] + away * (wish.diameter_mm / 2 + 0.5))
    return rng.uniform((2, -90, 40), (135, 90, 270), (20000, 3)) * (side, 1, 1)


def _fits(wish: NoduleWish, places: npt.NDArray[np.float64], trees: Trees) -> npt.NDArray[np.bool_]:
    radius = wish.diameter_mm / 2
    x, y, z = places.astype(np.float32).T
    depth = body.lung_depth(x, y, z)
    if wish.kind == "juxtapleural":  # at the ribs, so that it sits on a smooth wall
        return np.asarray((np.abs(depth - radius * 0.5) < 0.4) & (np.abs(x) > 95) & (z > 100) & (z < 230))
    fits = (depth > radius + 6) & (trees.to_airway_mm(places) > radius + 7)
    if wish.kind != "juxtavascular":
        fits &= trees.to_vessel_mm(places) > radius + 1.5
    return np.asarray(fits)
