"""Orientation between our volumes and a bundle's world, beside MONAI's own transforms."""

from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import AffineBoxToWorldCoordinated
from monai.transforms.compose import Compose
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.spatial.dictionary import Orientationd
from monai.transforms.utility.dictionary import EnsureChannelFirstd

from inference.bundle_gaps import LayerOutputs, trainable_layers
from inference.bundle_world import MARGIN_MM, World, image_of
from inference.volume import Volume

from .balls import volume_of

TURNS = {
    "axial": np.diag([0.7, 0.8, 2.0]),
    "axial, feet first and mirrored": np.diag([-0.7, 0.8, -2.0]),
    "coronal": np.array([[0.7, 0, 0], [0, 0, 2.0], [0, -0.8, 0]]),
    "sagittal, a little oblique": np.array([[0, 0.05, 2.0], [0.7, 0, 0], [0, -0.8, 0.1]]),
}
"""Columns, rows and slices to LPS mm."""


def made(turned: str, shape: tuple[int, int, int] = (5, 6, 7)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = TURNS[turned][:, ::-1]
    affine[:3, 3] = (-120.0, 40.0, 300.0)
    return volume_of(np.random.default_rng(2).integers(-1000, 400, shape).astype(np.int16), affine)


@pytest.mark.filterwarnings("ignore:monai.transforms.spatial.dictionary Orientationd:FutureWarning")
@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL"])
def test_an_image_is_what_monai_loads_from_a_file_of_the_same_volume(tmp_path: Path, turned: str, axes: str) -> None:
    volume = made(turned)
    to_ras = np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), to_ras), tmp_path / "ct.nii")
    keys = {"keys": "image"}
    load = Compose([LoadImaged(**keys), EnsureChannelFirstd(**keys), Orientationd(**keys, axcodes=axes)])
    theirs = load({"image": tmp_path / "ct.nii"})["image"]
    ours = image_of(volume, np.ones(volume.hu.shape), World(axes=axes))
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert ours.dtype == theirs.dtype
    assert np.allclose(ours.affine, theirs.affine, atol=1e-4)


@pytest.mark.parametrize(("image_is_ras", "boxes_turned"), product((True, False), repeat=2))
def test_boxes_lie_at_their_lps_place_whatever_the_two_switches_say(image_is_ras: bool, boxes_turned: bool) -> None:
    volume = made("axial, feet first and mirrored")
    world = World("RAS", image_is_ras, boxes_turned)
    hu = np.zeros_like(volume.hu)
    hu[3, 1, 5] = 100
    image = image_of(volume_of(hu, volume.affine), np.ones(hu.shape), world)
    voxel = np.argwhere(image[0].numpy() == 100)[0]
    boxes = torch.tensor([[*(voxel - 1.0), *(voxel + 1.0)]])
    place = AffineBoxToWorldCoordinated("box", "image", affine_lps_to_ras=boxes_turned)
    box = place({"box": boxes, "image": image})["box"].numpy()[0]
    centre = world.to_lps(((box[:3] + box[3:]) / 2)[None])[0]
    assert centre == pytest.approx(volume.affine[:3] @ (3, 1, 5, 1), abs=1e-3)


def test_only_the_lungs_and_a_margin_around_them_are_shown() -> None:
    volume = made("axial", (60, 90, 100))
    inside = np.zeros(volume.hu.shape, np.uint8)
    inside[30:33, 40:50, 45:55] = 1
    image = image_of(volume, inside, World())
    margin = [int(np.ceil(MARGIN_MM / mm)) for mm in (0.7, 0.8, 2.0)]
    assert image.shape[1:] == (10 + 2 * margin[0], 10 + 2 * margin[1], 3 + 2 * margin[2])
    at = np.argwhere(image[0].numpy() == volume.hu[31, 45, 50])
    lps = at @ image.affine.numpy()[:3, :3].T + image.affine.numpy()[:3, 3]
    assert np.abs(lps * (-1, -1, 1) - volume.affine[:3] @ (31, 45, 50, 1)).sum(axis=1).min() < 1e-6


def test_a_backbone_is_cut_behind_the_last_layer_that_is_asked_for() -> None:
    names = ("conv1", "layer1", "layer2", "layer3")
    model = torch.nn.Sequential()
    for name in names:
        model.add_module(name, torch.nn.Linear(2, 2))
    cut = LayerOutputs(model, {"layer1": "0", "layer2": "1"})
    assert list(cut.state_dict()) == [f"{name}.{part}" for name in names[:3] for part in ("weight", "bias")]
    given = cut(torch.ones(1, 2))
    assert list(given) == ["0", "1"]
    assert torch.equal(given["1"], model[:3](torch.ones(1, 2)))
    with pytest.raises(ValueError, match="layer9"):
        LayerOutputs(model, {"layer9": "0"})


def test_a_backbone_that_was_never_trained_is_trained_whole() -> None:
    assert trainable_layers(False, 2, 5, 3) == 5
    assert trainable_layers(True, 2, 5, 3) == 2
    assert trainable_layers(True, None, 5, 3) == 3
