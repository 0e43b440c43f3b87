"""The crops that training and evaluation learn from, and who never comes out of them."""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from inference.errors import NoSuchData
from inference.training.crops import Crop, load_candidates, load_cubes, load_native, volume_of

Loader = Callable[..., Sequence[Crop]]
LOADERS: tuple[Loader, ...] = (load_native, load_cubes, load_candidates)


@pytest.fixture(scope="module")
def everything(shared_data: Path) -> dict[Loader, Sequence[Crop]]:
    return {load: load(shared_data) for load in LOADERS}


def patients(crops: Sequence[Crop]) -> set[str]:
    return {crop.patient for crop in crops}


def test_the_sets_have_the_numbers_that_their_description_says(everything: dict[Loader, Sequence[Crop]]) -> None:
    assert [len(everything[load]) for load in LOADERS] == [722, 82, 64]
    assert len(patients(everything[load_native])) == 394
    hits = [crop.ratings["hit"] for crop in everything[load_candidates]]
    assert (hits.count(1), hits.count(0)) == (4, 60)


def test_who_is_held_out_comes_out_of_no_set(everything: dict[Loader, Sequence[Crop]], shared_data: Path) -> None:
    """The patients of the whole scans are in the crop sets too, and the sets share patients."""
    whole = {
        json.loads(truth.read_text()).get("patient_id", truth.parent.name)
        for truth in shared_data.glob("ct/lidc-idri-*/truth.json")
    }
    whole = {"-".join(name.upper().split("-")[:3]) for name in whole}
    assert len(whole) == 5
    shared = patients(everything[load_native]) & patients(everything[load_cubes])
    assert len(shared) > 20
    for held_out in (whole, shared, {"lidc-idri-0002 "}):
        keys = {name.strip().upper() for name in held_out}
        assert any(keys & patients(everything[load]) for load in LOADERS)  # else nothing is tested
        for load in LOADERS:
            left = load(shared_data, frozenset(held_out))
            assert not keys & patients(left)
            gone = sum(crop.patient in keys for crop in everything[load])
            assert len(left) == len(everything[load]) - gone
    assert not load_candidates(shared_data, {"LIDC-IDRI-0002"})


def test_what_remains_keeps_its_own_pixels_mask_and_ratings(
    everything: dict[Loader, Sequence[Crop]], shared_data: Path
) -> None:
    """Leaving somebody out must not shift arrays against the table."""
    for load in (load_native, load_cubes):
        full = {crop.key: crop for crop in everything[load]}
        for crop in load(shared_data, {everything[load][0].patient})[::37]:
            same = full[crop.key]
            assert np.array_equal(crop.hu, same.hu)
            assert np.array_equal(crop.mask, same.mask)
            assert (crop.fold, crop.ratings, crop.spacing_mm) == (same.fold, same.ratings, same.spacing_mm)


def test_a_patient_is_in_one_fold_in_all_sets_and_nobody_of_the_test_split_is_here(
    everything: dict[Loader, Sequence[Crop]],
) -> None:
    folds: dict[str, set[int]] = {}
    for crop in (crop for load in LOADERS for crop in everything[load]):
        folds.setdefault(crop.patient, set()).add(crop.fold)
    assert all(len(each) == 1 for each in folds.values())
    for patient in folds:
        assert int(hashlib.sha1(f"nodule-split-1:{patient}".encode()).hexdigest(), 16) / 2**160 >= 0.25


def test_masks_are_those_of_the_table(everything: dict[Loader, Sequence[Crop]], shared_data: Path) -> None:
    """The volume of a mask on its grid is the table's, and at least half of the readers marked each voxel of it."""
    with (shared_data / "nodules" / "lidc_native_dev.csv").open(newline="") as file:
        volumes = {row["id"]: float(row["vol_mm3_mask50"]) for row in csv.DictReader(file)}
    for crop in everything[load_native][::23]:
        assert crop.mask.sum() * np.prod(crop.spacing_mm) == pytest.approx(volumes[crop.key], rel=0.01)
        votes = np.unpackbits(crop.readers[..., None], axis=-1).sum(axis=-1)
        if crop.ratings["readers"] <= 4:
            assert np.array_equal(crop.mask, 2 * votes >= crop.ratings["readers"])
    assert all(crop.mask.any() for crop in everything[load_cubes])


def test_hu_is_hu_and_a_crop_is_a_volume(everything: dict[Loader, Sequence[Crop]]) -> None:
    crop = everything[load_native][0]
    assert -1200 <= crop.hu.min() < -700
    assert crop.hu.max() <= 1800
    volume = volume_of(crop)
    assert volume.spacing_mm == pytest.approx(crop.spacing_mm)
    assert volume.hu.shape == crop.mask.shape
    assert volume.affine @ [1, 0, 0, 1] == pytest.approx([0, 0, crop.spacing_mm[0], 1])  # k is towards the head
    assert volume.series_instance_uid == ""


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_without_the_crops_is_said_by_name(load: Loader, tmp_path: Path) -> None:
    with pytest.raises(NoSuchData, match="nodules"):
        load(tmp_path)
