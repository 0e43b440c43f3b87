"""The node's own outlines of the crops: from a point near the nodule, by the outliner that ships, never by a reader.

The point is the middle of the readers' mask moved by up to 3 mm in a direction drawn for each crop (fixed seed). The size
that the outliner expects comes from the dot filter at that point. Crops have hardly any margin along k, so they are
continued there with their end slices, always by the same length: the crop's shape tells nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from config.catalogue import Entry, parameters_digest
from inference.chain import build_part
from inference.detect import DotFilter
from inference.device import choose_device
from inference.errors import NoSuchData
from inference.findings import MaskCrop, Point
from inference.lungs import RIGHT, Lungs
from inference.reader import Outliner, Spot
from inference.stored import with_weights
from inference.training.crops import Crop, volume_of
from inference.training.patients import need_unseen
from inference.training.plan import Progress

PROMPT_MM_MAX: Final = 3.0
_SCALES_MM: Final = (1.5, 2.2, 3.2, 4.7, 7.0, 10.0)
_PLACES: Final = 40
_CONTINUED_MM: Final = 15.0  # as far as the outliner looks along k from the middle of a nodule of 10 mm
_AIR_HU_MAX: Final = -400.0
_CLOSING_MM: Final = 10.0
_NEAR_MM: Final = 6.0  # a filter's answer this near to the point is about it
_ANY_FOLD: Final = -1
_CODE: Final = sorted(Path(__file__).parents[1].glob("outline*.py"))  # a mask is only as old as what made it
_JUDGEMENT: Final = ("peak_min", "peak_min_large", "large_mm")
"""Parameters that say whether a body is a nodule, not how far it reaches."""
_SAID_EVERY: Final = 100  # new outlines
_SIZE_MM_USUAL: Final = 8.0  # where the filter has no answer near the point


@dataclass(frozen=True, eq=False)
class Outlined:
    """A crop continued along k with what the node made of it: `hu` and the `truth` (readers' mask) of one shape, `own` the
    mask in it, None where the outliner saw nothing nodule-like; `prompt` (k, j, i) in voxels."""

    hu: npt.NDArray[np.int16]
    truth: npt.NDArray[np.bool_]
    own: MaskCrop | None
    prompt: tuple[float, float, float]

    @property
    def dice(self) -> float:
        """Dice of the own mask against the readers', over the crop's own slices and their continuation; 0 without an outline."""
        if self.own is None:
            return 0.0
        whole = whole_mask(self.own, self.truth.shape)
        return 2 * int((whole & self.truth).sum()) / (int(whole.sum()) + int(self.truth.sum()))


def whole_mask(mask: MaskCrop, shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """A cropped mask on the whole grid."""
    whole = np.zeros(tuple(shape), bool)
    whole[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
    return whole


def prompt_of(crop: Crop, seed: int) -> tuple[float, float, float]:
    """(k, j, i): the middle of the crop's mask, moved by up to 3 mm, every distance within the ball equally likely by volume."""
    digest = hashlib.sha256(f"{seed}:{crop.key}".encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    direction = drawn.normal(size=3)
    moved = direction / np.linalg.norm(direction) * PROMPT_MM_MAX * drawn.uniform() ** (1 / 3)
    k, j, i = (float(at) for at in np.argwhere(crop.mask).mean(axis=0) + moved / np.array(crop.spacing_mm))
    return k, j, i


class Outlining(Protocol):
    """Makes the mask at a point of a crop that is continued along k."""

    @property
    def stamp(self) -> str:
        """Changes with anything that changes a mask."""

    def mask(self, crop: Crop, hu: npt.NDArray[np.int16], prompt: Point) -> MaskCrop | None: ...


def outline_crops(
    crops: Sequence[Crop], outlining: Outlining, cache: Path, seed: int, say: Progress
) -> Mapping[str, Outlined]:
    """The own outline of every crop, by key; made once and kept in the folder `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    outlined: dict[str, Outlined] = {}
    fresh = 0
    for crop in crops:
        kept = cache / f"{crop.key}-{outlining.stamp}-{seed}.npz"
        fresh += not kept.exists()
        outlined[crop.key] = _outlined(crop, outlining, kept, seed)
        if fresh >= _SAID_EVERY:
            say(f"outlines {len(outlined)} of {len(crops)}, point {seed}")
            fresh = 0
    return outlined


def _outlined(crop: Crop, outlining: Outlining, kept: Path, seed: int) -> Outlined:
    more = int(np.ceil(_CONTINUED_MM / crop.spacing_mm[0]))
    hu = np.pad(crop.hu, ((more, more), (0, 0), (0, 0)), mode="edge")
    truth = np.pad(crop.mask, ((more, more), (0, 0), (0, 0)))
    k, j, i = prompt_of(crop, seed)
    prompt = (k + more, j, i)
    if kept.exists():
        with np.load(kept) as arrays:
            start, voxels = arrays["start"], arrays["voxels"]
        own = MaskCrop((int(start[0]), int(start[1]), int(start[2])), voxels) if voxels.size else None
        return Outlined(hu, truth, own, prompt)
    own = outlining.mask(crop, hu, prompt)
    beside = kept.with_name(f".{kept.name}")  # a file of the name is whole or not there
    np.savez_compressed(
        beside, start=own.start if own else (0, 0, 0), voxels=own.voxels if own else np.zeros((0, 0, 0), bool)
    )
    beside.replace(kept)
    return Outlined(hu, truth, own, prompt)


class OutlinerOutlining:
    """Outliners as a reading uses them, with the size that the dot filter sees at the point.

    Args:
        by_fold: the outliner for the crops of a fold, made without the patients of that fold; -1 for all others.
        parameters: the digest of those that the outliners compute with beside their weights.
    """

    def __init__(self, by_fold: Mapping[int, Outliner], parameters: str = "") -> None:
        self._by_fold = by_fold
        self._filter = DotFilter(_SCALES_MM, _PLACES, choose_device("cpu"))
        made = [f"{fold}{o.algorithm.sha256}" for fold, o in by_fold.items()]
        outliners = _together([parameters, *made, *(file.read_text(encoding="utf-8") for file in _CODE)])
        self.stamp = f"{_together([repr((_SCALES_MM, _PLACES))])[:8]}-{outliners[:8]}"

    def mask(self, crop: Crop, hu: npt.NDArray[np.int16], prompt: Point) -> MaskCrop | None:
        """See Outlining."""
        volume = volume_of(crop, hu)
        lungs = _lungs(hu, crop.spacing_mm, prompt)
        spots = self._filter.places(volume, lungs, _silent)
        at, spacing = np.array(prompt), np.array(crop.spacing_mm)
        near = [s for s in spots if np.linalg.norm((s.centre - at) * spacing) <= max(_NEAR_MM, s.scale_mm / 2)]
        strongest = max(near, key=lambda s: s.response, default=None)
        spot = Spot(prompt, strongest.response, strongest.scale_mm) if strongest else Spot(prompt, 0.0, _SIZE_MM_USUAL)
        outliner = self._by_fold.get(crop.fold, self._by_fold.get(_ANY_FOLD))
        if outliner is None:
            names = {each.algorithm.name for each in self._by_fold.values()}
            raise NoSuchData(f"no outliner for fold {crop.fold}", ", ".join(names), "give one for each fold")
        return outliner.outline(volume, lungs, [spot], _silent)[0]


class ShippedOutlining(OutlinerOutlining):
    """One outliner for all crops. Only for one that learned nothing from them."""

    def __init__(self, entry: Entry) -> None:
        super().__init__({_ANY_FOLD: build_part(entry, choose_device("cpu"))}, parameters_digest(entry.parameters))


class FoldsOutlining(OutlinerOutlining):
    """An outliner that learned from the crops: each crop by the entry of its own fold, whose weights never saw its patient.
    Nothing is turned away as too unlikely: all crops are nodules, and that judgement belongs to the detection.

    Args:
        entries: by fold.
    """

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        by_fold: dict[int, Outliner] = {}
        digests: list[str] = []
        for fold, entry in sorted(entries.items()):
            outline = {name: value for name, value in entry.parameters.items() if name not in _JUDGEMENT}
            open_to_all = {name: 0.0 for name in _JUDGEMENT if name in entry.parameters}
            lenient = entry.model_copy(update={"parameters": {**outline, **open_to_all}})
            by_fold[fold] = build_part(lenient, choose_device("cpu"))
            digests.append(parameters_digest(outline))
        super().__init__(by_fold, digests[0] if len(set(digests)) == 1 else "".join(digests))


def fold_entries(entry: Entry, folder: Path, crops: Iterable[Crop]) -> Mapping[int, Entry]:
    """An entry with the weights of each fold of the crops, `<entry>.<fold>.safetensors` in a folder.

    Raises:
        NoSuchData: a fold has none.
        InSample: they were trained on a patient of it.
        ModelRefused: nobody knows whom they were trained on.
    """
    patients: dict[int, set[str]] = {}
    for crop in crops:
        patients.setdefault(crop.fold, set()).add(crop.patient)
    found: dict[int, Entry] = {}
    for fold, members in sorted(patients.items()):
        file = folder / f"{entry.name}.{fold}.safetensors"
        if not file.is_file():
            raise NoSuchData(f"no weights {file.name} for fold {fold}", str(folder), "train the outliner's folds first")
        need_unseen(file, members, fold)
        found[fold] = with_weights(entry, file)
    return found


def _together(texts: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(texts)).encode()).hexdigest()


def _lungs(hu: npt.NDArray[np.int16], spacing_mm: Sequence[float], prompt: Sequence[float]) -> Lungs:
    """The lung in a crop: its air, closed by a centimetre, and all of it where that leaves the point outside. Sides and
    wholeness of a real volume's lungs are not known here."""
    air = ndi.gaussian_filter(hu.astype(np.float32), 1.0) < _AIR_HU_MAX
    lung = np.ones(hu.shape, bool)
    if air.any():
        near = ndi.distance_transform_edt(~air, sampling=spacing_mm) <= _CLOSING_MM
        if not near.all():
            lung = ndi.distance_transform_edt(near, sampling=spacing_mm) > _CLOSING_MM
            lung |= air
    if not lung[tuple(round(at) for at in prompt)]:
        lung = np.ones(hu.shape, bool)
    return Lungs(np.where(lung, np.uint8(RIGHT), np.uint8(0)), float(lung.sum()), (0.0, 0.0), 0.0, 0.0)


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""
