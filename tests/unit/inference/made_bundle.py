"""A MONAI bundle of the layout and architecture of the model zoo's lung_nodule_ct_detection, with weights that are set by
hand: the first convolution answers to a ball of some millimetres, all else passes that on to the head of the finest level.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.apps.detection.networks import retinanet_network
from monai.networks.nets import resnet

from config.catalogue import Entry
from inference.bundle_digest import bundle_digest
from inference.bundle_gaps import fill_gaps

SPACING_MM: Final = (0.703125, 0.703125, 1.25)
ANCHOR_MM: Final = tuple(side * mm for side, mm in zip((6, 8, 4), SPACING_MM, strict=True))
"""The only one of the three anchors that the planted head answers with."""

_DISABLED: Final = "_disabled_"


def configuration(window: tuple[int, int, int] = (512, 512, 192)) -> dict[str, Any]:
    """What stands in configs/inference.json: names, switches and numbers as they are published."""
    image = {"keys": "image"}
    boxes = {"box_keys": "box", "box_ref_image_keys": "image"}
    zoo = "monai.apps.detection"
    return {
        "whether_raw_luna16": False,
        "whether_resampled_luna16": "$(not @whether_raw_luna16)",
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "data_list_file_path": "$@bundle_root + '/LUNA16_datasplit/dataset_fold0.json'",
        "dataset_dir": "/no/such/folder",
        "test_datalist": "$monai.data.load_decathlon_datalist(@data_list_file_path, base_dir=@dataset_dir)",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "amp": True,
        "spatial_dims": 3,
        "num_classes": 1,
        "force_sliding_window": False,
        "size_divisible": [16, 16, 8],
        "infer_patch_size": list(window),
        "anchor_generator": {
            "_target_": f"{zoo}.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
            "feature_map_scales": [1, 2, 4],
            "base_anchor_shapes": [[6, 8, 4], [8, 6, 5], [10, 10, 6]],
        },
        "backbone": "$monai.networks.nets.resnet.resnet50("
        "spatial_dims=3,n_input_channels=1,conv1_t_stride=[2,2,1],conv1_t_size=[7,7,7])",
        "feature_extractor": f"${zoo}.networks.retinanet_network."
        "resnet_fpn_feature_extractor(@backbone,3,False,[1,2],None)",
        "network_def": {
            "_target_": "RetinaNet",
            "spatial_dims": "@spatial_dims",
            "num_classes": "@num_classes",
            "num_anchors": 3,
            "feature_extractor": "@feature_extractor",
            "size_divisible": "@size_divisible",
            "use_list_output": False,
        },
        "network": "$@network_def.to(@device)",
        "detector": {
            "_target_": "RetinaNetDetector",
            "network": "@network",
            "anchor_generator": "@anchor_generator",
            "debug": False,
            "spatial_dims": "@spatial_dims",
            "num_classes": "@num_classes",
            "size_divisible": "@size_divisible",
        },
        "detector_ops": [
            "$@detector.set_target_keys(box_key='box', label_key='label')",
            (
                "$@detector.set_box_selector_parameters("
                "score_thresh=0.02,topk_candidates_per_level=1000,nms_thresh=0.22,detections_per_img=300)"
            ),
            (
                "$@detector.set_sliding_window_inferer("
                "roi_size=@infer_patch_size,overlap=0.25,sw_batch_size=1,mode='constant',device='cpu')"
            ),
        ],
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image, _DISABLED: "@whether_raw_luna16"},
                {
                    "_target_": "LoadImaged",
                    **image,
                    "reader": "itkreader",
                    "affine_lps_to_ras": True,
                    _DISABLED: "@whether_resampled_luna16",
                },
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "RAS"},
                {"_target_": "Spacingd", **image, "pixdim": list(SPACING_MM), _DISABLED: "@whether_resampled_luna16"},
                {
                    "_target_": "ScaleIntensityRanged",
                    **image,
                    "a_min": -1024.0,
                    "a_max": 300.0,
                    "b_min": 0.0,
                    "b_max": 1.0,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", **image},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "$@test_datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
        "inferer": {
            "_target_": "scripts.detection_inferer.RetinaNetInferer",
            "detector": "@detector",
            "force_sliding_window": "@force_sliding_window",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "ClipBoxToImaged", **boxes, "label_keys": "label", "remove_empty": True},
                {"_target_": "AffineBoxToWorldCoordinated", **boxes, "affine_lps_to_ras": True},
                {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
                {"_target_": "DeleteItemsd", "keys": ["image"]},
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            },
            {"_target_": "scripts.detection_saver.DetectionSaver", "output_dir": "@output_dir"},
        ],
        "evaluator": {
            "_target_": "scripts.evaluator.DetectionEvaluator",
            "_requires_": "@detector_ops",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "val_handlers": "@handlers",
            "amp": "@amp",
        },
        "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)"],
        "run": ["$@evaluator.run()"],
    }


_INFERER: Final = '''
"""The detector on a list of images; windows where an image is larger than one."""
import math

from monai.inferers.inferer import Inferer


class RetinaNetInferer(Inferer):
    def __init__(self, detector, force_sliding_window=False):
        super().__init__()
        self.detector = detector
        self.forced = force_sliding_window
        self.voxels = None if detector.inferer is None else math.prod(detector.inferer.roi_size)

    def __call__(self, inputs, network, *args, **kwargs):
        self.detector.network = network
        self.detector.training = network.training
        large = self.voxels is not None and any(image[0].numel() >= self.voxels for image in inputs)
        return self.detector(inputs, *args, use_inferer=self.forced or large, **kwargs)
'''

_TRAINER: Final = '''
"""Part of the package that reading needs nothing of, though it is imported with it."""
from monai.engines.trainer import Trainer
from monai.utils import IgniteInfo, min_version, optional_import

Engine, _ = optional_import("ignite.engine", IgniteInfo.OPT_IMPORT_VERSION, min_version, "Engine")


class DetectionTrainer(Trainer):
    pass
'''


def write_bundle(folder: Path, weights: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
    """A bundle in a new folder."""
    for part in ("configs", "models", "scripts", "docs"):
        (folder / part).mkdir(parents=True)
    (folder / "configs/inference.json").write_text(json.dumps(config or configuration(), indent=2))
    metadata = {"version": "0.6.8", "name": "Lung nodule CT detection", "monai_version": "1.4.0"}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    (folder / "scripts/__init__.py").write_text("from .trainer import DetectionTrainer\n")
    (folder / "scripts/trainer.py").write_text(_TRAINER)
    (folder / "scripts/detection_inferer.py").write_text(_INFERER)
    (folder / "docs/README.md").write_text("# Made for a test\n")
    torch.save(weights, folder / "models/model.pt")
    return folder


def entry_of(folder: Path, **changes: Any) -> Entry:
    """The catalogue's entry of a bundle."""
    fields: dict[str, Any] = {
        "name": "lung-nodule-ct",
        "version": "0.6.8",
        "task": "detector",
        "kind": "monai-bundle",
        "licence": "Apache-2.0",
        "validation": "demonstration",
        "text": "A RetinaNet made for a test.",
        "sha256": bundle_digest(folder),
        "weights": folder.name,
        "lungs": "lungs-air",
        "outliner": "outline-seeded",
        "parameters": {"score_min": 0.5, "candidates_max": 20, "cpu_window_voxels_max": 4_000_000},
    }
    return Entry.model_validate(fields | changes).model_copy(update={"folder": folder.parent})


def planted_weights() -> dict[str, torch.Tensor]:
    """Weights of the published network that answer to balls of about 5 mm, and to nothing else of a lung."""
    fill_gaps()
    torch.manual_seed(7)
    backbone = resnet.resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    features = retinanet_network.resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = retinanet_network.RetinaNet(3, 1, 3, features, [16, 16, 8])
    tensors = network.state_dict()
    body, fpn = "feature_extractor.body.", "feature_extractor.fpn."
    for name, tensor in tensors.items():
        if name.endswith("bn3.weight") or name.startswith((fpn, "classification_head", "regression_head")):
            tensor.zero_()  # residuals say nothing, and neither does what is not set below
    tensors[body + "conv1.weight"].zero_()
    tensors[body + "conv1.weight"][0, 0] = torch.from_numpy(_ball_filter())
    tensors[body + "bn1.bias"][0] = -0.2
    tensors[body + "layer1.0.downsample.0.weight"].zero_()
    _pass(tensors[body + "layer1.0.downsample.0.weight"])
    _pass(tensors[fpn + "inner_blocks.0.weight"])
    _pass(tensors[fpn + "layer_blocks.0.weight"])
    for layer in range(0, 12, 3):
        _pass(tensors[f"classification_head.conv.{layer}.weight"])
        tensors[f"classification_head.conv.{layer + 1}.weight"][0] = 1.0
    tensors["classification_head.cls_logits.bias"].fill_(-12.0)
    tensors["classification_head.cls_logits.weight"][0, 0, 1, 1, 1] = 0.2
    return tensors


def _pass(weight: torch.Tensor) -> None:
    """The first channel comes out as it goes in."""
    weight[(0, 0, *(side // 2 for side in weight.shape[2:]))] = 1.0


def _ball_filter() -> np.ndarray[Any, np.dtype[np.float32]]:
    """7 x 7 x 7 voxels that sum to nothing: the mean within 2.2 mm less the mean beyond 3 mm."""
    offsets = np.arange(-3, 4)
    x, y, z = np.meshgrid(*(offsets * mm for mm in SPACING_MM), indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2)
    inner, outer = distance <= 2.2, distance > 3.0
    return (inner / inner.sum() - outer / outer.sum()).astype(np.float32)
