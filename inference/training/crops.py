"""Crops of nodules and candidates with masks and ratings; patients that are held out never come out of it.

The one door through which training and evaluation get the crops. The three sets share patients, and the nodules of the whole
scans are in them too: who is held out is held out of all. Ids compare without case and outer blanks.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import NoSuchData
from inference.volume import Volume

_HU_STEP: Final = 8  # the files hold HU / 8
_NATIVE, _CUBES, _CANDIDATES = "lidc_native_dev", "lidc_cube51_dev", "ct_candidates_dev"
_RATINGS: Final = {
    "malignancy": "mal_mean",
    "subtlety": "subtlety_mean",
    "texture": "texture_mean",
    "spiculation": "spiculation_mean",
    "lobulation": "lobulation_mean",
    "margin": "margin_mean",
    "sphericity": "sphericity_mean",
    "calcification": "calcification_mode",
    "readers": "n_readers",
}


@dataclass(frozen=True, eq=False)
class Crop:
    """One crop.

    `hu` int16 [k, j, i], k towards the head, j the back, i the patient's left; `spacing_mm` along (k, j, i). `mask` bool of
    that shape: at least half of the readers (native), one reader (cubes), nobody (candidates). `readers` uint8: bit n is
    set where reader n marked the voxel (the mask in bit 0 where only one is known). `fold` 0 to 4 is the same for all crops
    of a patient. `ratings` are means of the readers, 1 to 5, but `calcification`: the mode, 6 absent (native only);
    candidates have `hit` (1 on a nodule, 0 far from any mark, -1 near one) and `hit_readers`. The shape of a native crop
    gives away where the nodule ends along k: nothing may learn from it.
    """

    key: str
    patient: str
    fold: int
    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    mask: npt.NDArray[np.bool_]
    readers: npt.NDArray[np.uint8]
    ratings: Mapping[str, float]


def patient_key(patient: str) -> str:
    """A patient id as ids are compared: without case and outer blanks."""
    return patient.strip().upper()


def load_native(data: Path, held_out: Iterable[str] = ()) -> Sequence[Crop]:
    """Nodules of 3 mm and more by 3 or more readers on their own grid; hardly any margin along k.

    Args:
        data: the data folder (it holds `nodules/`).
        held_out: ids of patients of whom nothing may be returned.
    Raises:
        NoSuchData: the files are missing, or table and arrays don't fit.
    """
    arrays, rows = _read(data, _NATIVE)
    sizes = np.diff(arrays["offset"])
    if len(sizes) != len(rows) or any(row["id"] != key for row, key in zip(rows, arrays["id"], strict=True)):
        raise NoSuchData("table and arrays don't fit", _NATIVE)
    masks = np.unpackbits(arrays["mask50"], count=len(arrays["hu8"])).astype(bool)
    crops = []
    for place, row in _kept(rows, held_out):
        part = slice(int(arrays["offset"][place]), int(arrays["offset"][place + 1]))
        shape = tuple(int(n) for n in arrays["shape"][place])
        k, j, i = (float(mm) for mm in arrays["spacing"][place])
        crops.append(
            Crop(
                key=row["id"],
                patient=row["patient"],
                fold=int(row["fold"]),
                hu=_hu(arrays["hu8"][part].reshape(shape)),
                spacing_mm=(k, j, i),
                mask=masks[part].reshape(shape),
                readers=arrays["readers"][part].reshape(shape),
                ratings=_ratings(row),
            )
        )
    return crops


def load_cubes(data: Path, held_out: Iterable[str] = ()) -> Sequence[Crop]:
    """Cubes of 51 mm at 1 mm around a nodule, with all that is around it; one reader's generous outline. As `load_native`."""
    arrays, rows = _read(data, _CUBES)
    if len(arrays["hu8"]) != len(rows):
        raise NoSuchData("table and arrays don't fit", _CUBES)
    masks = np.unpackbits(arrays["mask"], count=arrays["hu8"].size).astype(bool).reshape(arrays["hu8"].shape)
    return [
        Crop(
            key=row["id"],
            patient=row["patient"],
            fold=int(row["fold"]),
            hu=_hu(arrays["hu8"][place]),
            spacing_mm=(1.0, 1.0, 1.0),
            mask=masks[place],
            readers=masks[place].astype(np.uint8),
            ratings=_ratings(row),
        )
        for place, row in _kept(rows, held_out)
    ]


def load_candidates(data: Path, held_out: Iterable[str] = ()) -> Sequence[Crop]:
    """Cubes of 32 mm at 1 mm around what a reference detector marked; `ratings["hit"]` says what lies there. No masks.
    Padding of the scanner (-2000 HU) can occur. As `load_native`."""
    arrays, rows = _read(data, _CANDIDATES)
    if len(arrays["hu8"]) != len(rows):
        raise NoSuchData("table and arrays don't fit", _CANDIDATES)
    folds = _folds(data)
    nothing = np.zeros(arrays["hu8"].shape[1:], np.uint8)
    return [
        Crop(
            key=f"{row['patient']}_K_{place}",
            patient=row["patient"],
            fold=folds[patient_key(row["patient"])],
            hu=_hu(arrays["hu8"][place]),
            spacing_mm=(1.0, 1.0, 1.0),
            mask=nothing.astype(bool),
            readers=nothing,
            ratings={"hit": float(row["label"]), "hit_readers": float(row["hit_readers"] or 0)},
        )
        for place, row in _kept(rows, held_out)
    ]


def volume_of(crop: Crop, hu: npt.NDArray[np.int16] | None = None) -> Volume:
    """A crop as a volume that the reading takes, with its first voxel at the origin and without any id or UID.

    Args:
        hu: in place of the crop's own (padded, resampled in no way).
    """
    taken = crop.hu if hu is None else hu
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = crop.spacing_mm
    affine[3, 3] = 1.0
    return Volume(
        hu=taken,
        affine=affine,
        series_instance_uid="",
        modality="CT",
        sop_instance_uids=tuple(str(k) for k in range(len(taken))),
        thickness_mm=crop.spacing_mm[0],
    )


def _read(data: Path, name: str) -> tuple[Mapping[str, Any], list[dict[str, str]]]:
    folder = data / "nodules"
    try:
        with np.load(folder / f"{name}.npz") as arrays:
            return dict(arrays), _rows(data, name)
    except OSError as error:
        raise NoSuchData(
            f"can't be read: {error.strerror or error}", str(folder / name), "name the data folder that holds nodules/"
        ) from error


def _rows(data: Path, name: str) -> list[dict[str, str]]:
    with (data / "nodules" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _kept(rows: Sequence[dict[str, str]], held_out: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Places and rows of the patients that may be seen."""
    out = {patient_key(patient) for patient in held_out}
    return [(place, row) for place, row in enumerate(rows) if patient_key(row["patient"]) not in out]


def _folds(data: Path) -> Mapping[str, int]:
    """The fold of each patient of the two tables that have one."""
    return {patient_key(row["patient"]): int(row["fold"]) for name in (_NATIVE, _CUBES) for row in _rows(data, name)}


def _hu(eighths: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    hu: npt.NDArray[np.int16] = (eighths * np.int16(_HU_STEP)).astype(np.int16)
    hu.flags.writeable = False
    return hu


def _ratings(row: Mapping[str, str]) -> Mapping[str, float]:
    return {name: float(row[column]) for name, column in _RATINGS.items() if row.get(column)}
