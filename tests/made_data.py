"""A data folder in the form of the public one, made of balls and a phantom: nobody's nodules, readable by every desk."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from inference.phantom import ChestPhantom, NoduleWish, chest_phantom
from tests.unit.inference.made import ct_dataset, write

NATIVE = (9, 44, 44)
SPACING_MM = (1.5, 0.8, 0.8)


def _ball(
    draw: np.random.Generator, shape: Sequence[int], spacing_mm: Sequence[float], radius_mm: float, hu: float
) -> Any:
    """HU and mask of a ball in lung, in the middle."""
    grid = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    mask = z**2 + y**2 + x**2 < radius_mm**2
    return np.where(mask, hu, -850) + draw.normal(0, 25, shape), mask


def write_nodules(data: Path, patients: int = 40, seed: int = 5) -> None:
    """`nodules/`: a native crop for each patient and a cube for every fourth; large ones are rated malignant, faint ones
    non-solid, dense ones calcified."""
    draw = np.random.default_rng(seed)
    folder = data / "nodules"
    folder.mkdir(parents=True)
    kinds = [("solid", 30.0, 5.0, 6), ("faint", -500.0, 1.5, 6), ("dense", 500.0, 5.0, 3)]
    rows, native, cubes = [], [], []
    for n in range(patients):
        radius_mm = float(draw.uniform(2.5, 5.5))
        _, hu, texture, calcification = kinds[(n // 2) % 3]
        native.append(_ball(draw, NATIVE, SPACING_MM, radius_mm, hu))
        marked = 4.0 if n % 3 == 0 else 1.0
        rows.append(
            {
                "id": f"P-{n}_R_1",
                "patient": f"P-{n}",
                "fold": n % 5,
                "mal_mean": 4.5 if radius_mm > 4 else 1.5,
                "subtlety_mean": 5,
                "texture_mean": texture,
                "spiculation_mean": marked,
                "lobulation_mean": marked,
                "margin_mean": 5,
                "sphericity_mean": 5,
                "calcification_mode": calcification,
                "n_readers": 4,
            }
        )
        if n % 4 == 0:
            cubes.append((rows[-1], *_ball(draw, (51, 51, 51), (1, 1, 1), radius_mm, hu)))
    np.savez(
        folder / "lidc_native_dev.npz",
        id=np.array([row["id"] for row in rows]),
        shape=np.array([NATIVE] * patients, np.int16),
        offset=np.cumsum([0, *(hu.size for hu, _ in native)]),
        hu8=(np.concatenate([hu.ravel() for hu, _ in native]) // 8).astype(np.int16),
        mask50=np.packbits(np.concatenate([mask.ravel() for _, mask in native])),
        readers=np.concatenate([mask.ravel() * np.uint8(15) for _, mask in native]),
        spacing=np.array([SPACING_MM] * patients),
        origin=np.zeros((patients, 3)),
    )
    np.savez(
        folder / "lidc_cube51_dev.npz",
        hu8=(np.stack([hu for _, hu, _ in cubes]) // 8).astype(np.int16),
        mask=np.packbits(np.stack([mask for _, _, mask in cubes])),
    )
    _table(folder / "lidc_native_dev.csv", rows)
    _table(folder / "lidc_cube51_dev.csv", [{**row, "id": f"{row['patient']}_C_1"} for row, _, _ in cubes])
    np.savez(folder / "ct_candidates_dev.npz", hu8=np.full((1, 32, 32, 32), -100, np.int16))
    _table(folder / "ct_candidates_dev.csv", [{"patient": "P-1", "label": 0, "hit_readers": ""}])


def write_scan(
    data: Path, name: str, patient: str, wished: Sequence[NoduleWish], seed: int = 1, **header: Any
) -> ChestPhantom:
    """`ct/<name>`: a phantom's chest as a series whose header says nothing of a phantom, with truth.json and masks."""
    chest = chest_phantom(wished, seed=seed, spacing_mm=(2.5, 1.2, 1.2), shape=(122, 304, 304))
    folder = data / "ct" / name
    (folder / "dicom").mkdir(parents=True)
    (folder / "truth").mkdir()
    for k, plane in enumerate(chest.hu):
        at = [f"{float(x):.4f}" for x in (chest.affine @ [k, 0, 0, 1])[:3]]
        image = ct_dataset(
            k,
            plane,
            **{
                "SOPInstanceUID": f"1.2.{seed}.{k + 1}",
                "SeriesInstanceUID": f"1.2.{seed}",
                "StudyInstanceUID": f"1.{seed}",
                "PatientID": patient,
                "ImagePositionPatient": at,
                "PixelSpacing": ["1.2", "1.2"],
                "BodyPartExamined": "CHEST",
                "Manufacturer": "GE MEDICAL SYSTEMS",
                "ConvolutionKernel": "STANDARD",
                "PatientSex": "F",
                "PatientAge": "061Y",
                **header,
            },
        )
        write(image, folder / "dicom" / f"{k:03}.dcm")
    nodules = []
    for number, nodule in enumerate(chest.nodules, start=1):
        middle = np.linalg.solve(chest.affine, [*nodule.centre_lps_mm, 1.0])[:3]
        grid = [(np.arange(n) - at) * mm for n, at, mm in zip(chest.hu.shape, middle, chest.spacing_mm, strict=True)]
        z, y, x = np.meshgrid(*grid, indexing="ij", sparse=True)
        mask = z**2 + y**2 + x**2 <= (nodule.diameter_mm / 2) ** 2
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ chest.affine[:, [2, 1, 0, 3]]
        image = nibabel.Nifti1Image(mask.T.astype(np.uint8), affine)  # type: ignore[attr-defined,no-untyped-call]
        nibabel.save(image, folder / f"truth/nodule_{number:02}.nii.gz")  # type: ignore[attr-defined]
        nodules.append(
            {
                "id": number,
                "centre_lps_mm": list(nodule.centre_lps_mm),
                "n_readers": 4,
                "diameter_mm": nodule.diameter_mm,
                "equiv_sphere_diameter_mm": nodule.diameter_mm,
                "texture": 5.0,
                "mask": f"truth/nodule_{number:02}.nii.gz",
            }
        )
    truth = {
        "series_instance_uid": f"1.2.{seed}",
        "patient_id": patient,
        "nodules": nodules,
        "complete_labelling": True,
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return chest


def _table(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
