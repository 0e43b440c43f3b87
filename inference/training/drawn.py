"""Nodules that nobody has, drawn by chance: solid, part-solid, non-solid, cavitated; lobulated, spiculated. And what is none:
scars (thin plates), vessels and their forks, patches of ground glass and consolidation. Sizes of nodules follow those of the
readers in `tables/lidc_clusters.csv`, without those of patients that are held out, with more of the small and the large.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.training.crops import patient_key
from inference.training.planting import Array, Shape, centred

_DIAMETER_MM: Final = (3.0, 60.0)
_EQUIVALENT_SHARE: Final = 0.8  # diameter of the equal sphere against the readers' largest one


def reader_diameters_mm(data: Path, held_out: Iterable[str] = ()) -> npt.NDArray[np.float64]:
    """Diameters of the readers' nodules as spheres of their volume, mm, without the patients that are held out."""
    out = {patient_key(patient) for patient in held_out}
    with (data / "tables" / "lidc_clusters.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if patient_key(row["patient"]) not in out]
    return np.array([float(row["diam_mm_mean"]) for row in rows if row["diam_mm_mean"]]) * _EQUIVALENT_SHARE


def drawn_diameter_mm(rng: np.random.Generator, diameters_mm: npt.NDArray[np.float64]) -> float:
    """Every other one of a reader's nodule, the others evenly over the logarithm."""
    low, high = _DIAMETER_MM
    if rng.random() < 0.5:
        return float(np.clip(rng.choice(diameters_mm) * rng.uniform(0.9, 1.1), low, high))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _grid(reach: int) -> tuple[Array, Array, Array]:
    """Distance from the middle in mm and the unit vectors [k, j, i, axis]."""
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    distance = np.linalg.norm(places, axis=-1)
    return places, distance, places / np.maximum(distance, 1e-3)[..., None]


def _directions(rng: np.random.Generator, count: int) -> Array:
    vectors = rng.normal(size=(count, 3))
    unit: Array = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def drawn_nodule(rng: np.random.Generator, diameter_mm: float) -> Shape:
    """A nodule of about that diameter."""
    radius = diameter_mm / 2
    places, distance, unit = _grid(int(np.ceil(min(radius * 1.9 + 3, 36))))
    stretch = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    stretch /= np.prod(stretch) ** (1 / 3)
    elliptic = np.linalg.norm(places / stretch, axis=-1)
    lobes = np.ones_like(distance)
    amplitude = rng.uniform(0.1, 0.35) if rng.random() < 0.4 else rng.uniform(0, 0.08)
    for direction in _directions(rng, int(rng.integers(3, 8))):
        lobes += amplitude * np.exp(rng.uniform(3, 8) * (unit @ direction - 1)) * rng.choice([1, 1, -0.7])
    depth = radius * lobes - elliptic  # mm inside the surface, roughly
    softness = rng.uniform(0.25, 0.6) if rng.random() < 0.75 else rng.uniform(0.6, 0.2 * radius + 0.7)
    filled = 1 / (1 + np.exp(-np.clip(depth / softness, -30, 30)))
    if diameter_mm > 6 and rng.random() < 0.2:
        filled = np.maximum(filled, _spicules(rng, places, distance, radius))
    texture = str(rng.choice(["solid", "part-solid", "non-solid", "cavitated"], p=[0.58, 0.14, 0.2, 0.08]))
    if diameter_mm < 8 and texture in ("part-solid", "cavitated"):
        texture = "solid"
    hu = _hu_of(rng, texture, depth, radius)
    shape = Shape(
        filled=ndi.gaussian_filter(filled, 0.5).astype(np.float32),
        hu=hu.astype(np.float32),
        diameter_mm=diameter_mm,
        texture=texture,
    )
    return centred(shape)


def _spicules(rng: np.random.Generator, places: Array, distance: Array, radius: float) -> Array:
    """Thin lines that run out of a nodule."""
    result = np.zeros_like(distance)
    for direction in _directions(rng, int(rng.integers(4, 14))):
        along = places @ direction
        across = np.sqrt(np.maximum(distance**2 - along**2, 0))
        length = radius * rng.uniform(1.2, 1.8)
        line = np.exp(-((across / rng.uniform(0.5, 0.9)) ** 2)) * (along > 0) * (along < length)
        result = np.maximum(result, rng.uniform(0.4, 0.9) * line)
    return result.astype(np.float32)


def _hu_of(rng: np.random.Generator, texture: str, depth: Array, radius: float) -> npt.NDArray[np.float64]:
    solid_hu = rng.uniform(-80, 90) if rng.random() < 0.92 else rng.uniform(150, 400)
    if texture == "solid":
        return np.full(depth.shape, solid_hu)
    if texture == "cavitated":
        wall = max(1.5, radius * rng.uniform(0.25, 0.6))
        return np.where(depth > wall, rng.uniform(-980, -850), solid_hu)
    mottled = ndi.gaussian_filter(rng.normal(size=depth.shape), rng.uniform(0.8, 2.5))
    ground = rng.uniform(-720, -380) + rng.uniform(10, 70) * mottled / max(float(mottled.std()), 1e-6)
    if texture == "non-solid":
        return ground
    core = radius * rng.uniform(0.3, 0.7)
    return np.where(depth > radius - core, solid_hu, ground)


def drawn_distractor(rng: np.random.Generator) -> Shape:
    """A scar or a vessel, no nodule."""
    places, distance, _ = _grid(22)
    normal, other, third = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    if rng.random() < 0.4:
        bend = rng.normal(0, 0.02) * (places @ other) ** 2
        thick, width, length = rng.uniform(0.6, 1.4), rng.uniform(5, 14), rng.uniform(8, 20)
        filled = (
            np.exp(-(((places @ normal + bend) / thick) ** 4))
            * np.exp(-(((places @ other) / width) ** 6))
            * np.exp(-(((places @ third) / length) ** 6))
        )
    else:
        radius = rng.uniform(0.8, 3.0)
        filled = np.zeros_like(distance)
        branches = [(normal, True), *((d, False) for d in _directions(rng, int(rng.integers(0, 3))))]
        for direction, through in branches:
            along = places @ direction
            across = np.sqrt(np.maximum(distance**2 - along**2, 0))
            thin = radius * (1 if through else rng.uniform(0.5, 0.9))
            tube = 1 / (1 + np.exp(np.clip((across - thin) / 0.35, -30, 30)))
            filled = np.maximum(filled, tube if through else tube * (along > 0))
    return Shape(
        filled=ndi.gaussian_filter(filled, 0.5).astype(np.float32),
        hu=np.full(filled.shape, rng.uniform(-100, 150), np.float32),
        diameter_mm=0.0,
        nodule=False,
    )


OPACITY_MM: Final = 73  # as far as the wide view sees
_APART_ML: Final = 0.3  # a patch of its own
_ROUND_MAX, _ROUND_MAX_OF_SEVERAL = 0.62, 0.72  # of the ball around a patch; a rounder one might be a nodule
_OPACITY_SHARE: Final = (0.06, 0.5)


def drawn_opacity(rng: np.random.Generator) -> Shape:
    """Lung that is ill: patches of ground glass or consolidation, irregular or several, sharp or fading, one in the middle.

    Level sets of a smooth random field; what is round and alone is drawn again, for it might be a nodule.
    """
    while True:
        field = _smooth(rng, rng.uniform(3.5, 9)) + rng.uniform(0.2, 0.7) * _smooth(rng, rng.uniform(1.5, 3))
        depth = (field - np.quantile(field, 1 - rng.uniform(*_OPACITY_SHARE))) / float(field.std())
        depth = _rolled_to_top(rng, depth)
        inside = depth > 0
        parts, _ = ndi.label(inside)
        middle = OPACITY_MM // 2
        here = parts == parts[middle, middle, middle]
        several = np.count_nonzero(np.bincount(parts.ravel())[1:] > _APART_ML * 1000) >= 3
        fills = _fills_its_ball(here)
        if fills < _ROUND_MAX or (several and fills < _ROUND_MAX_OF_SEVERAL):
            break
    softness = np.exp(rng.uniform(np.log(0.05), np.log(0.5)))
    filled = 1 / (1 + np.exp(-np.clip(depth / softness, -30, 30)))
    mottled = _smooth(rng, rng.uniform(0.7, 2.5))
    base = rng.uniform(-720, -350) if rng.random() < 0.6 else rng.uniform(-350, 20)
    hu = base + rng.uniform(0, 250) * np.clip(depth, 0, 2) + rng.uniform(20, 90) * mottled
    return Shape(
        filled=filled.astype(np.float32), hu=np.minimum(hu, 80).astype(np.float32), diameter_mm=0.0, nodule=False
    )


def _smooth(rng: np.random.Generator, sigma_mm: float) -> Array:
    """Gaussian noise of standard deviation 1 that is smooth over some mm."""
    field = ndi.gaussian_filter(rng.normal(size=(OPACITY_MM,) * 3).astype(np.float32), sigma_mm, mode="wrap")
    return np.asarray(field / float(field.std()), np.float32)


def _rolled_to_top(rng: np.random.Generator, depth: Array) -> Array:
    """The field turned round (it has no edge) until one of its tops lies in the middle."""
    tops = np.argwhere((ndi.maximum_filter(depth, 9, mode="wrap") == depth) & (depth > 0))
    top = tops[int(rng.integers(len(tops)))]
    return np.roll(depth, tuple(int(OPACITY_MM // 2 - at) for at in top), axis=(0, 1, 2))


def _fills_its_ball(body: npt.NDArray[np.bool_]) -> float:
    """The volume of a body by that of the ball around its middle that reaches to its farthest point but for a twentieth."""
    places = np.argwhere(body)
    reach = np.quantile(np.linalg.norm(places - places.mean(axis=0), axis=1), 0.95)
    return float(len(places) / (4 / 3 * np.pi * max(reach, 1.0) ** 3))
