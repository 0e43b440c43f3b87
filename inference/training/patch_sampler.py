"""Batches of places for the detector's network: what is a nodule, what is none, each as other scanners would show it.

Every number comes from a seed and the step, so that a run that is taken up again goes on as if it had not stopped.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from config.catalogue import Entry
from inference.patches import NEAR_SIZE, WIDE_SIZE
from inference.training.augment import NoiseBank, augmented
from inference.training.crops import Crop, load_cubes, load_native
from inference.training.drawn import (
    drawn_diameter_mm,
    drawn_distractor,
    drawn_nodule,
    drawn_opacity,
    reader_diameters_mm,
)
from inference.training.places import MARGIN, Places, load_places
from inference.training.plan import Progress
from inference.training.planting import Shape, plant, resized, shapes_of

TEST_FOLD: Final = 4  # crops of this fold are planted to measure, and never trained on
DRAWN: Final = 500
DISTRACTORS: Final = 120
OPACITIES: Final = 64
GROWN: Final = 120
SHRUNK: Final = 120
_GROWN_MM: Final = (22.0, 60.0)
_SHRUNK_MM: Final = (3.0, 5.0)
_RESIZED_FROM: Final = 800  # step: first nodules as they are, then more of the sizes that are rare
_RESIZED_SHARE: Final = 0.4
_ILL_FROM: Final = 2000  # step: healthy lungs first, then ill ones too
_ILL_SHARE: Final = 0.2  # of planted and drawn nodules that lie in ill lung
_ILL_MM: Final = 24  # as far from the middle of a patch
_NO_WIDE_HU: Final = -600.0  # the wide view where there is none: what the network takes for zero
_NO_WIDE_SHARE: Final = 0.18  # as often without the wide view for what is no nodule as for what is one
_SHIFT_MM: Final = 3
_TRIES: Final = 6
_SEEN_HU: Final = 100.0
_SEEN_SHARE: Final = 0.6

Views = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Mix:
    """How many of each in a batch."""

    scanned: int = 3  # nodules of the whole scans
    cubes: int = 3  # nodules with all their surroundings, near view only
    planted: int = 6  # real nodules in other lungs
    drawn: int = 4
    negative: int = 26
    distractors: int = 3
    sites: int = 3
    opacities: int = 4  # from the step on from which lungs are ill, in place of as many negatives

    @property
    def positives(self) -> int:
        return self.scanned + self.cubes + self.planted + self.drawn

    @property
    def size(self) -> int:
        return self.positives + self.negative + self.distractors + self.sites


@dataclass(eq=False)
class Sampler:
    """All that may be seen, and batches of it. `hardness` of each negative place of each scan follows the network's score."""

    places: Sequence[Places]
    shapes: Sequence[Shape]
    resized: Sequence[Shape]
    cubes: Sequence[Crop]
    drawn: Sequence[Shape]
    distractors: Sequence[Shape]
    draw_opacities: Callable[[], Sequence[Shape]]  # not before they are needed: they take seconds
    seed: int
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        self.noise = NoiseBank(self.seed)
        self.owner = np.array([(s, n) for s, p in enumerate(self.places) for n in range(len(p.negative[0]))])
        self.hardness = np.full(len(self.owner), 0.5)
        self._with_nodules = [p for p in self.places if len(p.positive[0])]

    @property
    def patients(self) -> frozenset[str]:
        """Everyone who is in it."""
        return frozenset(
            [p.patient for p in self.places]
            + [s.patient for s in (*self.shapes, *self.resized) if s.patient]
            + [c.patient for c in self.cubes]
        )

    @cached_property
    def opacities(self) -> Sequence[Shape]:
        """Patches of disease."""
        return self.draw_opacities()

    def batch(self, step: int) -> tuple[Views, npt.NDArray[np.float32], npt.NDArray[np.intp]]:
        """Views (n, 32, 32, 32) and (n, 24, 24, 24) in HU, labels (n,), and which negative place each is (-1: none)."""
        rng = np.random.default_rng([self.seed, 11, step])
        mix = self.mix
        ill = step >= _ILL_FROM
        views = [self._scanned(rng) for _ in range(mix.scanned)]
        views += [self._cube(rng) for _ in range(mix.cubes)]
        for _ in range(mix.planted):
            rare = step >= _RESIZED_FROM and rng.random() < _RESIZED_SHARE
            views.append(self._planted(rng, self.resized if rare else self.shapes, ill))
        views += [self._planted(rng, self.drawn, ill) for _ in range(mix.drawn)]
        chances = self.hardness / self.hardness.sum()
        hard = rng.choice(len(self.owner), mix.negative // 2, p=chances)
        anywhere = rng.choice(len(self.owner), mix.negative - len(hard))
        which = np.concatenate([np.full(mix.positives, -1), hard, anywhere])
        if ill:
            which[len(which) - mix.opacities :] = -1
        for n in which[which >= 0]:
            scan, place = self.owner[n]
            views.append(self._cut(rng, self.places[scan].negative, place))
        views += [self._ill(rng, _SHIFT_MM) for _ in range(mix.opacities if ill else 0)]
        views += [self._planted(rng, self.distractors) for _ in range(mix.distractors)]
        views += [self._site(rng, places) for places in self._some(rng, mix.sites)]
        for n in range(mix.positives, mix.size):
            if rng.random() < _NO_WIDE_SHARE:
                views[n] = (views[n][0], np.full_like(views[n][1], _NO_WIDE_HU))
        blind = np.array([bool((wide == _NO_WIDE_HU).all()) for _, wide in views])
        changed = [augmented(near, wide, rng, self.noise) for near, wide in views]
        near, wide = np.stack([v[0] for v in changed]), np.stack([v[1] for v in changed])
        wide[blind] = _NO_WIDE_HU
        labels = np.zeros(mix.size, np.float32)
        labels[: mix.positives] = 1
        which = np.concatenate([which, np.full(mix.size - len(which), -1)])
        return (near, wide), labels, which

    def learn_hardness(self, which: npt.NDArray[np.intp], scores: npt.NDArray[np.float32]) -> None:
        """Places that the network takes for nodules come more often. Of scans whose nodules are not all marked they don't:
        they may be right."""
        for n, score in zip(which, scores, strict=True):
            if n >= 0 and self.places[self.owner[n][0]].complete:
                self.hardness[n] = 0.5 * self.hardness[n] + 0.5 * (0.05 + float(score))

    def _some(self, rng: np.random.Generator, count: int) -> list[Places]:
        return [self.places[int(rng.integers(len(self.places)))] for _ in range(count)]

    def _cut(
        self, rng: np.random.Generator, views: tuple[npt.NDArray[np.int16], ...], place: int, reach: int = _SHIFT_MM
    ) -> Views:
        """A place, shifted by up to 3 mm along each axis."""
        shift = rng.integers(-reach, reach + 1, 3)
        near = views[0][place][tuple(slice(MARGIN + s, MARGIN + s + NEAR_SIZE) for s in shift)]
        wide = views[1][place][tuple(slice(1 + round(s / 3), 1 + round(s / 3) + WIDE_SIZE) for s in shift)]
        return near.astype(np.float32), wide.astype(np.float32)

    def _scanned(self, rng: np.random.Generator) -> Views:
        places = self._with_nodules[int(rng.integers(len(self._with_nodules)))]
        return self._cut(rng, places.positive, int(rng.integers(len(places.positive[0]))))

    def _site(self, rng: np.random.Generator, places: Places) -> Views:
        return self._cut(rng, places.site, int(rng.integers(len(places.site[0]))))

    def _cube(self, rng: np.random.Generator) -> Views:
        crop = self.cubes[int(rng.integers(len(self.cubes)))]
        first = (np.array(crop.hu.shape) - NEAR_SIZE) // 2 + rng.integers(-_SHIFT_MM, _SHIFT_MM + 1, 3)
        near = crop.hu[tuple(slice(f, f + NEAR_SIZE) for f in first)].astype(np.float32)
        return near, np.full((WIDE_SIZE,) * 3, _NO_WIDE_HU, np.float32)

    def _ill(self, rng: np.random.Generator, reach_mm: int) -> Views:
        """Lung with patches of disease, the middle of one as far from the views' middle."""
        shape = self.opacities[int(rng.integers(len(self.opacities)))].turned(rng)
        (places,) = self._some(rng, 1)
        near, wide = self._site(rng, places)
        noise = self.noise.piece(rng, 3 * WIDE_SIZE)
        rolled = shape.rolled(rng.integers(-reach_mm, reach_mm + 1, 3))
        return plant(near, wide, rolled, np.zeros(3, np.intp), noise, places.noise_hu)

    def _planted(self, rng: np.random.Generator, shapes: Sequence[Shape], ill: bool = False) -> Views:
        """A shape in lung where most of it can be seen (behind pleura or heart it could not); where lungs are ill, in some
        that are."""
        shape = shapes[int(rng.integers(len(shapes)))].turned(rng)
        reach = max(_SHIFT_MM, int(shape.diameter_mm / 5))
        for _ in range(_TRIES):
            (places,) = self._some(rng, 1)
            if ill and rng.random() < _ILL_SHARE:
                near, wide = self._ill(rng, _ILL_MM)
            else:
                near, wide = self._site(rng, places)
            noise = self.noise.piece(rng, 3 * WIDE_SIZE)
            planted = plant(near, wide, shape, rng.integers(-reach, reach + 1, 3), noise, places.noise_hu)
            changed = np.abs(planted[0] - near) > _SEEN_HU
            whole = min(int(np.count_nonzero(shape.filled > 0.5)), near.size)
            if np.count_nonzero(changed) > _SEEN_SHARE * whole:
                break
        return planted


def load_sampler(data: Path, held_out: Iterable[str], cache: Path, entry: Entry, seed: int, say: Progress) -> Sampler:
    """All of a data folder that training may see; of patients that are held out nothing is opened or drawn from. `cache` and
    `entry`: see `load_places`."""
    held_out = frozenset(held_out)
    rng = np.random.default_rng([seed, 3])
    native = [crop for crop in load_native(data, held_out) if crop.fold != TEST_FOLD]
    cubes = [crop for crop in load_cubes(data, held_out) if crop.fold != TEST_FOLD]
    diameters_mm = reader_diameters_mm(data, held_out)
    shapes = shapes_of([*native, *cubes])
    return Sampler(
        places=load_places(data, held_out, cache, entry, say),
        shapes=shapes,
        resized=_resized(shapes, np.random.default_rng([seed, 4])),
        cubes=cubes,
        drawn=[drawn_nodule(rng, drawn_diameter_mm(rng, diameters_mm)) for _ in range(DRAWN)],
        distractors=[drawn_distractor(rng) for _ in range(DISTRACTORS)],
        draw_opacities=lambda: [drawn_opacity(rng) for _ in range(OPACITIES)],
        seed=seed,
    )


def _resized(shapes: Sequence[Shape], rng: np.random.Generator) -> list[Shape]:
    """Masses grown from nodules of 10 mm and more, and small nodules shrunk from those of at most 10 mm."""
    found = []
    for count, (low, high), kind in (
        (GROWN, _GROWN_MM, [s for s in shapes if s.diameter_mm >= 10]),
        (SHRUNK, _SHRUNK_MM, [s for s in shapes if s.diameter_mm <= 10]),
    ):
        for _ in range(count if kind else 0):
            diameter_mm = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            found.append(resized(kind[int(rng.integers(len(kind)))], diameter_mm))
    return found
