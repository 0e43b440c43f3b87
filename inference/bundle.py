"""Nodules by a MONAI bundle as it was published: a folder of the layout of the model zoo's `lung_nodule_ct_detection`.

How much of it is executed. From `configs/inference.json`, by MONAI's own parser: `imports`, `preprocessing`, the network,
its anchors and `detector` with all `detector_ops` (box selection, sliding window), `inferer` with the code it names in the
bundle's `scripts`, and `postprocessing`. From `models/model.pt` the weights, from `configs/metadata.json` nothing but that
it is there. Not executed: `initialize`, `run` and `evaluator`, with data sets, loaders and handlers; the node gives its
own volume in place of files, and takes the boxes in place of a result file.

What the node decides in place of the bundle. `LoadImaged`, `EnsureChannelFirstd` and `Orientationd`: the volume is given in
the orientation that they ask for (`bundle_world`). `whether_raw_luna16`: true, for a series of a PACS is resampled by
nobody else. The device, and the precision with it. Only the lungs with 20 mm around them are read. The window is the
bundle's, or smaller where image or memory are, so that memory has a bound whatever the series: this changes what the
normalisation of the heads sees, and scores a little. Boxes are then confined to the lungs, and of several on one body the
strongest counts. torchvision is not needed (`bundle_gaps`), nibabel and ignite neither.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data.box_utils import convert_box_mode
from monai.data.meta_tensor import MetaTensor

from config.catalogue import Entry
from inference.bundle_config import open_bundle
from inference.bundle_world import image_of
from inference.device import CPU, memory_format, mixed_precision, within_memory
from inference.findings import Algorithm
from inference.lungs import Lungs
from inference.reader import Progress, Spot
from inference.volume import Volume

_SIDE_MIN: Final = 4
"""A window has no side of fewer multiples of what the network divides by: edges would be all that it sees."""

Boxes = npt.NDArray[np.float64]


class BundleDetector:
    """A bundle as a detector; parameters of the catalogue: `score_min` (the operating threshold), `candidates_max`,
    `cpu_window_voxels_max` (a window took 0.4 to 0.55 KiB of memory a voxel in float32, half of that in bfloat16)."""

    def __init__(self, entry: Entry, device: torch.device) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self._score_min = entry.number("score_min")
        self._candidates_max = int(entry.number("candidates_max"))
        self._cpu_voxels_max = int(entry.number("cpu_window_voxels_max"))
        self._device = device
        self._bundle = open_bundle(entry)

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        """The boxes with the highest scores, at most `candidates_max`, whose centre lies in the lungs."""
        image = self._bundle.prepare({"image": image_of(volume, lungs.labels, self._bundle.world)})["image"]
        size = tuple(image.shape[1:])
        pick = partial(self._boxes, image, progress)
        found = within_memory(pick, self._rungs(size))
        boxes, scores = self._finished(found, image)
        return self._spots(boxes, scores, volume, lungs)

    def is_strong(self, spot: Spot) -> bool:
        """Whether the score reaches the operating threshold."""
        return spot.response >= self._score_min

    def _rungs(self, size: Sequence[int]) -> list[tuple[torch.device, tuple[int, ...]]]:
        """Device and window, from the bundle's own to the smallest on the CPU."""
        whole = windows(self._bundle.window, size, self._bundle.divisible)
        small = [window for window in whole if math.prod(window) <= self._cpu_voxels_max] or whole[-1:]
        there = [] if self._device.type == "cpu" else [(self._device, window) for window in whole]
        return [*there, *((CPU, window) for window in small)]

    def _boxes(
        self, image: torch.Tensor, progress: Progress, device: torch.device, window: tuple[int, ...]
    ) -> Mapping[str, torch.Tensor]:
        """What the bundle's inferer finds on an image, on the CPU."""
        bundle = self._bundle
        bundle.network.to(device, memory_format=memory_format(device))
        bundle.detector.anchors = None  # they are kept, on the device where they were made
        padded = _padded(image, bundle.divisible)
        sides = zip(padded.shape[1:], window, strict=True)
        total = math.prod(steps(side, part, bundle.overlap) for side, part in sides)
        network = _Watched(bundle.network, device, partial(progress, "detect"), total)
        with torch.inference_mode():
            found = bundle.inferer_of(window)([padded.to(device)], network)[0]
        return {name: values.cpu() for name, values in found.items()}

    def _finished(self, found: Mapping[str, torch.Tensor], image: torch.Tensor) -> tuple[Boxes, Boxes]:
        """Boxes (n, 6) as centre and size in mm of LPS, and their scores, after the bundle's own last steps."""
        done = self._bundle.finish({**found, "image": image})
        boxes = done[self._bundle.detector.target_box_key]
        if not len(boxes):
            return np.zeros((0, 6)), np.zeros(0)
        boxes = convert_box_mode(boxes, src_mode=self._bundle.box_mode, dst_mode="cccwhd")
        placed = np.asarray(boxes, np.float64)
        placed[:, :3] = self._bundle.world.to_lps(placed[:, :3])
        return placed, np.asarray(done[self._bundle.detector.pred_score_key], np.float64)

    def _spots(self, boxes: Boxes, scores: Boxes, volume: Volume, lungs: Lungs) -> list[Spot]:
        """Boxes in the lungs as places on the source grid, one for each body, strongest first."""
        spots: list[Spot] = []
        kept: list[Boxes] = []
        to_voxel = np.linalg.inv(volume.affine)
        for place in sorted(range(len(boxes)), key=lambda n: (-scores[n], *boxes[n])):
            if len(spots) == self._candidates_max:
                break
            box = boxes[place]
            centre = to_voxel[:3, :3] @ box[:3] + to_voxel[:3, 3]
            voxel = np.round(centre).astype(int)
            outside = (voxel < 0).any() or (voxel >= lungs.labels.shape).any()
            if outside or not lungs.labels[tuple(voxel)] or any(on_one_body(box, other) for other in kept):
                continue
            kept.append(box)
            k, j, i = (float(at) for at in centre)
            score = float(scores[place])
            spots.append(Spot((k, j, i), score, float(np.prod(box[3:]) ** (1 / 3)), confidence=score))
        return spots


def _padded(image: torch.Tensor, divisible: Sequence[int]) -> torch.Tensor:
    """An image [c, x, y, z] with zeros at its ends, as the detector would pad it: what counts as small is counted with them."""
    more = [-side % d for side, d in zip(image.shape[1:], divisible, strict=True)]
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    return torch.nn.functional.pad(plain, [pad for length in reversed(more) for pad in (0, length)])


def on_one_body(one: Boxes, other: Boxes) -> bool:
    """Whether two boxes (centre, size; mm) are of one nodule or mass: the centres of two bodies that don't overlap lie at
    least their radii apart."""
    return bool((((one[:3] - other[:3]) / ((one[3:] + other[3:]) / 2)) ** 2).sum() < 1)


def windows(whole: Sequence[int], image: Sequence[int], divisible: Sequence[int]) -> list[tuple[int, ...]]:
    """Windows to read an image with, each about half of the one before: the longest side goes first.

    Args:
        whole: the window that one would like; no side is longer than the image needs.
        divisible: what every side is a multiple of.
    """
    sides = [max(1, min(side // d, -(-length // d))) for side, length, d in zip(whole, image, divisible, strict=True)]
    found = [tuple(side * d for side, d in zip(sides, divisible, strict=True))]
    while max(sides) > _SIDE_MIN:
        longest = sides.index(max(sides))
        sides[longest] = max(_SIDE_MIN, -(-sides[longest] // 2))
        found.append(tuple(side * d for side, d in zip(sides, divisible, strict=True)))
    return found


def steps(length: int, window: int, overlap: float) -> int:
    """How many windows cover a length."""
    if length <= window:
        return 1
    return 1 + math.ceil((length - window) / max(1, int(window * (1 - overlap))))


class _Watched(torch.nn.Module):
    """The network as the bundle calls it, window by window: computed in the device's precision, answered in float32 (boxes
    of a large image lose voxels in 16 bit), and counted."""

    def __init__(self, network: torch.nn.Module, device: torch.device, progress: Any, total: int) -> None:
        super().__init__()
        self._network, self._device, self._progress, self._total = network, device, progress, total
        self._done = 0
        self.eval()

    def forward(self, images: torch.Tensor) -> Any:
        self._progress(self._done, self._total)
        with mixed_precision(self._device):
            heads = self._network(images.to(memory_format=memory_format(self._device)))
        self._done = min(self._done + len(images), self._total)
        self._progress(self._done, self._total)
        if isinstance(heads, dict):
            return {name: [level.float() for level in levels] for name, levels in heads.items()}
        return [level.float() for level in heads]
