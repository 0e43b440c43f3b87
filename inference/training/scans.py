"""Whole CT scans with the truth of their readers, from a data folder: `ct/<scan>/{dicom/*.dcm, truth.json, truth/*.nii.gz}`.

Patients that are held out are known by `truth.json` alone: no image of theirs is opened.
"""

import gzip
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.decoder import decode_series
from inference.errors import NoSuchData
from inference.findings import MaskCrop, Point
from inference.training.crops import patient_key
from inference.volume import Volume

READERS_MIN: Final = 3  # fewer readers make an ignore zone
DILATE_MM: Final = 2.0
NEAR_MM_MIN: Final = 3.0
_MISPLACED_MM: Final = (
    5.0  # a mask whose middle lies farther from its nodule's centre is not of this grid (missing slices)
)
_NIFTI_TYPES: Final = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2"}


@dataclass(frozen=True, eq=False)
class Truth:
    """One marked place. `readers`: how many marked it, None where a target tumour has one outline. `mask` on the scan's grid,
    None where none was drawn or it is not of this grid. `ratings`: medians of the readers by name, as far as there are any."""

    number: int
    centre_lps_mm: Point
    diameter_mm: float
    readers: int | None
    mask: MaskCrop | None
    ratings: dict[str, float]

    @property
    def counts(self) -> bool:
        """Whether it is a nodule to be found; else an ignore zone, neither hit nor false positive."""
        return self.readers is None or self.readers >= READERS_MIN


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan. `complete`: every nodule in it is in `truth`, so that anything else is a false positive."""

    name: str
    patient: str
    volume: Volume
    truth: tuple[Truth, ...]
    complete: bool

    def hits(self, truth: Truth, centre_lps_mm: Point) -> bool:
        """The project's rule: the centre lies in the mask dilated by 2 mm, or within max(diameter / 2, 3 mm) of its centre."""
        if math.dist(centre_lps_mm, truth.centre_lps_mm) <= max(truth.diameter_mm / 2, NEAR_MM_MIN):
            return True
        return truth.mask is not None and self.distance_mm(truth.mask, centre_lps_mm) <= DILATE_MM

    def distance_mm(self, mask: MaskCrop, centre_lps_mm: Point) -> float:
        """From a point to the nearest voxel centre of a mask."""
        places = np.argwhere(mask.voxels) + mask.start
        lps = places @ self.volume.affine[:3, :3].T + self.volume.affine[:3, 3]
        return float(np.sqrt(((lps - centre_lps_mm) ** 2).sum(axis=1).min()))

    def marks_within(self, centre_lps_mm: Point, reach_mm: float) -> bool:
        """Whether any mark, also of a single reader, lies nearer than `reach_mm` to the point (its surface counts)."""
        for truth in self.truth:
            if math.dist(centre_lps_mm, truth.centre_lps_mm) - truth.diameter_mm / 2 < reach_mm:
                return True
            if truth.mask is not None and self.distance_mm(truth.mask, centre_lps_mm) < reach_mm:
                return True
        return False


def scan_folders(data: Path, held_out: Iterable[str] = ()) -> Sequence[Path]:
    """The folders of `data`/ct whose patient is not held out, by name."""
    out = {patient_key(patient) for patient in held_out}
    folders = sorted(file.parent for file in (data / "ct").glob("*/truth.json"))
    return [folder for folder in folders if patient_key(scan_facts(folder)["patient_id"]) not in out]


def load_scans(data: Path, held_out: Iterable[str] = (), slice_mm_max: float = 5.0) -> Iterator[Scan]:
    """Scans of chests with marked nodules, one after the other; those with thicker slices than `slice_mm_max` are left out."""
    for folder in scan_folders(data, held_out):
        if not scan_facts(folder).get("nodules"):
            continue
        scan = load_scan(folder)
        if scan.volume.spacing_mm[0] <= slice_mm_max:
            yield scan


def load_scan(folder: Path) -> Scan:
    """One scan: its longest gapless part, decoded into memory.

    Raises:
        NoSuchData: the folder has no truth.json.
        ReadingError: the series can't be a volume.
    """
    facts = scan_facts(folder)
    with tempfile.TemporaryDirectory(prefix="scan-") as out:
        mapped = decode_series(sorted((folder / "dicom").glob("*.dcm")), Path(out), "partial")
        hu = np.array(mapped.hu)
    hu.flags.writeable = False
    volume = Volume(**{**mapped.__dict__, "hu": hu})
    truth = tuple(_truth(folder, nodule, volume) for nodule in facts.get("nodules", ()))
    return Scan(folder.name, facts["patient_id"], volume, truth, bool(facts.get("complete_labelling")))


def scan_facts(folder: Path) -> dict[str, Any]:
    """What `truth.json` of a scan's folder says; no image is opened. Raises NoSuchData."""
    try:
        facts: dict[str, Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise NoSuchData("no truth.json can be read", str(folder), "name a folder of ct/") from error
    return facts


_RATINGS: Final = (
    "malignancy",
    "subtlety",
    "texture",
    "spiculation",
    "lobulation",
    "margin",
    "sphericity",
    "calcification",
)


def _truth(folder: Path, nodule: dict[str, Any], volume: Volume) -> Truth:
    centre = tuple(float(at) for at in nodule["centre_lps_mm"])
    mask = _mask_on(volume, folder / nodule["mask"]) if nodule.get("mask") else None
    if mask is not None:
        middle = volume.affine @ [*((np.argwhere(mask.voxels) + mask.start).mean(axis=0)), 1.0]
        if math.dist(middle[:3], centre) > _MISPLACED_MM:
            mask = None
    return Truth(
        number=int(nodule["id"]),
        centre_lps_mm=(centre[0], centre[1], centre[2]),
        diameter_mm=float(nodule.get("equiv_sphere_diameter_mm") or nodule["diameter_mm"]),
        readers=nodule.get("n_readers"),
        mask=mask,
        ratings={name: float(nodule[name]) for name in _RATINGS if nodule.get(name) is not None},
    )


def _mask_on(volume: Volume, file: Path) -> MaskCrop | None:
    """A NIfTI mask voxel by voxel on the volume's grid; None when nothing of it lies in the volume."""
    values, affine = read_nifti(file)
    lps = np.argwhere(values > 0) @ affine[:3, :3].T + affine[:3, 3]
    inverse = np.linalg.inv(volume.affine)
    kji = np.rint(lps @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
    kji = kji[((kji >= 0) & (kji < volume.hu.shape)).all(axis=1)]
    if not len(kji):
        return None
    start = kji.min(axis=0)
    voxels = np.zeros(kji.max(axis=0) - start + 1, bool)
    voxels[tuple((kji - start).T)] = True
    voxels.flags.writeable = False
    return MaskCrop((int(start[0]), int(start[1]), int(start[2])), voxels)


def read_nifti(file: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """The values [x, y, z] of a NIfTI-1 file (.nii, .nii.gz) and its sform affine to LPS mm (the file's own is RAS).

    Raises:
        NoSuchData: it is no little-endian NIfTI-1 with an sform.
    """
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    header = np.frombuffer(content[:348], np.uint8)
    size, code, sform = header[:4].view("<i4")[0], int(header[70:72].view("<i2")[0]), header[254:256].view("<i2")[0]
    if size != 348 or code not in _NIFTI_TYPES or sform <= 0:
        raise NoSuchData("no little-endian NIfTI-1 with an sform", file.name, "write the mask again")
    shape = tuple(int(n) for n in header[42:48].view("<i2"))
    offset = int(header[108:112].view("<f4")[0])
    values = np.frombuffer(content, "<" + _NIFTI_TYPES[code], int(np.prod(shape)), offset).reshape(shape, order="F")
    affine = np.eye(4)
    affine[:3] = header[280:328].view("<f4").reshape(3, 4)
    return values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
