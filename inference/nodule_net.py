"""Nodules in two stages: the dot filter names places, a small 3-D network says how much each is like a nodule.

Two views of a place, 32 mm at 1 mm and 72 mm at 3 mm, each through a stem of its own (convolution, batch normalisation,
ReLU, as in VGG); their features meet in one hidden layer. The logit is the mean over the eight flips, so that it does not
hang on which way up the grid lies; places that two flips find hopeless don't get the other six. It is a score, no probability.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from config.catalogue import Entry
from inference.detect import DotFilter, Faint
from inference.device import mixed_precision, on_device
from inference.errors import ModelRefused
from inference.findings import Algorithm
from inference.grids import on
from inference.lungs import Lungs
from inference.patches import HU_RANGE, NEAR, WIDE, View, flips_of, order_of, patch_at, patches_at
from inference.reader import Progress, Spot
from inference.volume import Volume
from inference.weights import load_tensors

MIDDLE_HU: Final = -600.0
SCALE_HU: Final = 400.0
FLIPS: Final = ((), (2, 3, 4), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4))
_FIRST_FLIPS: Final = 2  # of all places; the others only of the best of them


def _layer(channels: int, out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv3d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm3d(out),
        nn.ReLU(inplace=True),
    ]


class NoduleNet(nn.Module):
    """Logits (n,) of two views: `near` (n, 1, 32, 32, 32) and `wide` (n, 1, 24, 24, 24), as `normalised` gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Sequential(
            *_layer(1, 24, 5, 2),
            *_layer(24, 32),
            nn.MaxPool3d(2),
            *_layer(32, 56),
            *_layer(56, 56),
            nn.MaxPool3d(2),
            *_layer(56, 96),
        )
        self.wide = nn.Sequential(
            *_layer(1, 16, 5, 2),
            *_layer(16, 24),
            nn.MaxPool3d(2),
            *_layer(24, 48),
            nn.MaxPool3d(2),
            *_layer(48, 64),
        )
        self.head = nn.Sequential(nn.Linear(2 * 96 + 2 * 64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))

    def forward(self, near: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
        """Each view's features are summed up by their mean and their largest value."""
        features = [
            part
            for grid in (self.near(near), self.wide(wide))
            for part in (grid.mean(dim=(2, 3, 4)), grid.amax(dim=(2, 3, 4)))
        ]
        logits: torch.Tensor = self.head(torch.cat(features, dim=1))[:, 0]
        return logits


def normalised(hu: npt.NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
    """HU of patches (n, k, j, i) as the network takes them (n, 1, k, j, i), about -1 to 2.5."""
    values = torch.as_tensor(hu, dtype=torch.float32).clamp(*HU_RANGE)
    return ((values - MIDDLE_HU) / SCALE_HU)[:, None]


def channels_last(net: NoduleNet) -> NoduleNet:
    """The network with its channels last in memory: 1.5 times faster on a CPU, and what tensor cores want."""
    laid: NoduleNet = net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return laid


def flipped_mean(
    net: NoduleNet, near: torch.Tensor, wide: torch.Tensor, flips: Sequence[tuple[int, ...]] = FLIPS
) -> torch.Tensor:
    """The mean logit over flips."""
    return torch.stack([net(near.flip(flip), wide.flip(flip)).float() for flip in flips]).mean(dim=0)


FIRST_STAGE: Final = ("scales_mm", "places_max", "faint_hu_max", "faint_scale_mm_min", "faint_max")
"""The parameters of the filter that names the places; a network is trained on the places of the same filter."""


def first_stage(entry: Entry, device: torch.device) -> DotFilter:
    """The filter that names the places. Raises ConfigurationError: the entry lacks one of the parameters `FIRST_STAGE`."""
    faint = Faint(entry.number("faint_hu_max"), entry.number("faint_scale_mm_min"), int(entry.number("faint_max")))
    return DotFilter(entry.numbers("scales_mm"), int(entry.number("places_max")), device, faint)


class NoduleNetDetector:
    """Both stages. Parameters of the catalogue: `scales_mm` and `places_max` of the filter, `faint_hu_max`, `faint_scale_mm_min`
    and `faint_max` of its second look (`Faint`), `batch` (places at a time), `closer_max` (how many places get all flips),
    `response_weight` and `response_usual` (the logarithm of the filter's answer counts with the logit), `size_weight` (so does
    that of the diameter, below `large_mm`; 0 where an entry has none), `whole_share` (an outline narrower than that share of its
    place is not of what answered: one vessel of a hilum; 0 where an entry has none), `confidence_min`, and
    `confidence_min_large` from a diameter of `large_mm` on: large places are few, and fewer of them are vessels. The best
    `candidates_max` places are kept.
    """

    def __init__(self, entry: Entry, device: torch.device, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        """`tensors` in place of the entry's own weights: to measure with those that never saw a patient.

        Raises:
            ModelRefused: weights are missing, or not those of this network.
        """
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self._filter = first_stage(entry, device)
        self._candidates_max = int(entry.number("candidates_max"))
        self._batch = int(entry.number("batch"))
        self._closer_max = int(entry.number("closer_max"))
        self._response_weight = entry.number("response_weight")
        self._response_usual = entry.number("response_usual")
        self._size_weight = entry.number("size_weight", 0.0)
        self._whole_share = entry.number("whole_share", 0.0)
        self._confidence_min = entry.number("confidence_min")
        self._confidence_min_large = entry.number("confidence_min_large")
        self._large_mm = entry.number("large_mm")
        self._net = network_of(load_tensors(entry) if tensors is None else tensors, entry.name)
        self._device = device

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        """All strong places and the best of the others, those left out that are part of a larger one, by confidence."""
        places = without_parts(volume, self.score(volume, lungs, progress), self.is_strong)
        return [spot for n, spot in enumerate(places) if n < self._candidates_max or self.is_strong(spot)]

    def score(self, volume: Volume, lungs: Lungs, progress: Progress) -> list[Spot]:
        """All places of the filter with the network's confidence, the best first."""
        spots = self._filter.places(volume, lungs, progress)
        if not spots:
            return []
        near, wide = on_device(partial(_patches, volume, spots), self._device)
        logits = self._logits(near, wide, FLIPS[:_FIRST_FLIPS], progress)
        ranked = sorted(range(len(spots)), key=lambda n: (-self._score(spots[n], logits[n]), *spots[n].centre))
        best = ranked[: self._closer_max]
        closer = self._logits(near[best], wide[best], FLIPS[_FIRST_FLIPS:], progress)
        for n, logit in zip(best, closer, strict=True):
            logits[n] += (logit - logits[n]) * (len(FLIPS) - _FIRST_FLIPS) / len(FLIPS)
        scored = [
            replace(s, confidence=self._confidence(s, z), body_mm_min=self._whole_share * s.scale_mm)
            for s, z in zip(spots, logits, strict=True)
        ]
        return sorted(scored, key=_by_confidence)

    def is_strong(self, spot: Spot) -> bool:
        """Whether the confidence reaches the operating point of its size."""
        least = self._confidence_min_large if spot.scale_mm >= self._large_mm else self._confidence_min
        return spot.confidence is not None and spot.confidence >= least

    def _score(self, spot: Spot, logit: float) -> float:
        score = logit + self._response_weight * math.log(spot.response / self._response_usual)
        if self._size_weight:  # of the smallest places most are vessels
            score += self._size_weight * math.log(min(spot.scale_mm / self._large_mm, 1.0))
        return score

    def _confidence(self, spot: Spot, logit: float) -> float:
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, self._score(spot, logit)))))

    def _logits(
        self, near: torch.Tensor, wide: torch.Tensor, flips: Sequence[tuple[int, ...]], progress: Progress
    ) -> list[float]:
        """Of patches (n, k, j, i) along the patient's axes."""
        found: list[float] = []
        for first in range(0, len(near), self._batch):
            progress("detect", first, len(near))
            part = slice(first, first + self._batch)
            found += on_device(partial(self._run, near[part], wide[part], flips), self._device)
        return found

    @torch.inference_mode()
    def _run(
        self, near: torch.Tensor, wide: torch.Tensor, flips: Sequence[tuple[int, ...]], device: torch.device
    ) -> list[float]:
        net = self._net.to(device)
        with mixed_precision(device):
            logits = flipped_mean(net, normalised(near.to(device)), normalised(wide.to(device)), flips)
        return [float(z) for z in logits.cpu()]


def _patches(volume: Volume, spots: Sequence[Spot], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views of places, (n, k, j, i) along the patient's axes, so that nothing hangs on how the volume is stored: not all
    places get all flips."""
    order, flips = order_of(volume.affine), flips_of(volume.affine)
    centres = [spot.centre for spot in spots]

    hu = None if device.type == "cpu" else on(device, volume.hu)  # a CPU touches the boxes around the places alone

    def turned(view: View) -> torch.Tensor:
        if hu is None:
            each = [patch_at(volume.hu, volume.spacing_mm, centre, view) for centre in centres]
            patches = torch.from_numpy(np.stack(each))
        else:
            patches = patches_at(hu, volume.spacing_mm, centres, view)
        return patches.permute(0, *(axis + 1 for axis in order)).flip([axis + 1 for axis in flips])

    return turned(NEAR), turned(WIDE)


def network_of(tensors: Mapping[str, torch.Tensor], name: str) -> NoduleNet:
    """The network with these weights, to be used and not trained.

    Raises:
        ModelRefused: they are not those of this network.
    """
    net = NoduleNet()
    try:
        odd = net.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise ModelRefused("the weights are not of this network", name, str(error).splitlines()[-1].strip()) from error
    missing = [key for key in odd.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or odd.unexpected_keys:
        raise ModelRefused(f"the weights are not of this network: {(missing + odd.unexpected_keys)[0]}", name)
    return channels_last(net.eval())


_INSIDE_SHARE: Final = 0.6  # of a larger place's diameter: nearer to its middle a place is a part of it
_APART_MM_MIN: Final = 7.0  # nearer to each other two places are one, whatever their size
_BODY_MM_MIN: Final = 15.0  # smaller places may be neighbours that touch
_BODY_HU_MIN: Final = -350.0  # what runs through soft tissue alone stays in one body
_BODY_SHARE: Final = 0.95


def without_parts(volume: Volume, spots: Sequence[Spot], is_strong: Callable[[Spot], bool]) -> list[Spot]:
    """A mass is one finding: of strong spots on one body the largest stays, with the best confidence of them all.

    One lies on another's body when it is inside its ball, or when both are large and nothing but soft tissue lies between.
    """
    strong = sorted((s for s in spots if is_strong(s)), key=lambda s: (-s.scale_mm, -s.response, *s.centre))
    kept: list[Spot] = []
    for spot in strong:
        whole = next((n for n, larger in enumerate(kept) if _is_part(volume, spot, larger)), None)
        if whole is None:
            kept.append(spot)
        else:
            best = max(kept[whole].confidence or 0.0, spot.confidence or 0.0)
            kept[whole] = replace(kept[whole], confidence=best, parts=(*kept[whole].parts, spot))
    weak = [s for s in spots if not is_strong(s)]
    return sorted([*kept, *weak], key=_by_confidence)


def _by_confidence(spot: Spot) -> tuple[float, ...]:
    return (-(spot.confidence or 0.0), *spot.centre)


def _is_part(volume: Volume, spot: Spot, larger: Spot) -> bool:
    spacing = np.array(volume.spacing_mm)
    way = (np.array(spot.centre) - np.array(larger.centre)) * spacing
    distance = float(np.linalg.norm(way))
    if distance <= max(_INSIDE_SHARE * larger.scale_mm, _APART_MM_MIN):
        return True
    if spot.scale_mm < _BODY_MM_MIN or distance > (spot.scale_mm + larger.scale_mm) / 2 + spot.scale_mm / 4:
        return False
    steps = np.linspace(0, 1, max(2, int(distance)))[:, None]
    places = np.rint(np.array(larger.centre) + steps * way / spacing).astype(np.intp)
    return float(np.mean(volume.hu[tuple(places.T)] > _BODY_HU_MIN)) >= _BODY_SHARE
