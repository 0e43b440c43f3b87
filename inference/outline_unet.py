"""The networks that outline a nodule: which voxels around a point belong to the body that lies there.

Both see the same: HU on a small grid around the point, and where the point is. `SliceUNet` is a 2.5-D U-Net (Ronneberger,
Fischer, Brox, MICCAI 2015) that marks one slice from it and its neighbours, `volume_unet` is MONAI's 3-D U-Net (Kerfoot
et al., STACOM 2018). Knows grids and tensors, no volumes and no files.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import torch
from monai.networks.nets.unet import UNet
from torch import nn
from torch.nn import functional

NEIGHBOURS: Final = 2
"""Slices on either side that the 2.5-D network sees with each."""
_STACK: Final = 2 * NEIGHBOURS + 1
_PROMPTS: Final = 3  # distance in the slice, along the stack, and the step of the stack
_REACH: Final = 32.0  # grid steps that a prompt channel of 1 stands for
_HU_MIDDLE, _HU_WIDTH = -500.0, 500.0
_HU_RANGE: Final = (-1024.0, 300.0)  # bone, calcium and contrast look alike
_SLICES_AT_ONCE: Final = {"cpu": 16, "cuda": 512}  # bounds the memory, whatever the nodule's size

Tensor = torch.Tensor


class _Block(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised over the batch."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class SliceUNet(nn.Module):
    """(n, channels, rows, columns) to logits (n, 1, rows, columns) of the middle slice; rows and columns divisible by 8."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        sources = [_STACK + _PROMPTS, *widths[:-1]]
        self.down = nn.ModuleList(_Block(i, o) for i, o in zip(sources, widths, strict=True))
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(_Block(fine + coarse, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Logits."""
        passed: list[Tensor] = []
        for level, block in enumerate(self.down):
            values = block(values if level == 0 else functional.max_pool2d(values, 2))
            passed.append(values)
        values = passed.pop()
        for block in self.up:
            values = block(torch.cat([passed.pop(), functional.interpolate(values, scale_factor=2.0)], dim=1))
        logits: Tensor = self.head(values)
        return logits


def volume_unet(widths: Sequence[int]) -> nn.Module:
    """(n, channels, slices, rows, columns) to logits (n, 1, ...); all three divisible by 2 ** (levels - 1).

    Without residual units, as is MONAI's default: with them the last level is one normalised channel, which hardly learns.
    """
    return UNet(
        spatial_dims=3,
        in_channels=1 + _PROMPTS,
        out_channels=1,
        channels=tuple(widths),
        strides=(2,) * (len(widths) - 1),
        norm="batch",
    )


ARCHITECTURES: Final[dict[int, Callable[[Sequence[int]], nn.Module]]] = {2: SliceUNet, 3: volume_unet}
"""By the dimensions that they convolve: the catalogue's parameter `dimensions`."""


def grid_inputs(hu: Tensor, offset: Tensor, step: Tensor) -> Tensor:
    """What both networks see.

    Args:
        hu: (n, slices, rows, columns), HU; rows and columns are of one length, the point is in the middle of both.
        offset: (n, slices): places of the slices along the stack, from the point, in steps of the rows.
        step: (n,): distance of two slices in steps of the rows.
    Returns:
        (n, 1 + prompts, slices, rows, columns).
    """
    count, depth, side, _ = hu.shape
    values = (hu.clamp(*_HU_RANGE) - _HU_MIDDLE) / _HU_WIDTH
    at = torch.arange(side, dtype=hu.dtype, device=hu.device) - (side - 1) / 2
    radius = (at[:, None] ** 2 + at[None, :] ** 2).sqrt() / _REACH
    shape = (count, depth, side, side)
    along = (offset / _REACH)[:, :, None, None].expand(shape)
    thick = (step / 4)[:, None, None, None].expand(shape)
    return torch.stack([values, radius.expand(shape), along, thick], dim=1)


def stacked(inputs: Tensor) -> Tensor:
    """Of `grid_inputs` with `NEIGHBOURS` slices more at either end: (n * slices, channels, rows, columns) for `SliceUNet`."""
    count, _, deep, side, _ = inputs.shape
    depth = deep - 2 * NEIGHBOURS
    hu = torch.stack([inputs[:, 0, at : at + depth] for at in range(_STACK)], dim=2)
    prompts = inputs[:, 1:, NEIGHBOURS : NEIGHBOURS + depth].transpose(1, 2)
    return torch.cat([hu, prompts], dim=2).reshape(count * depth, _STACK + _PROMPTS, side, side)


def without_neighbours(inputs: Tensor) -> Tensor:
    """`grid_inputs` without the slices that are neighbours only, for the 3-D network."""
    return inputs[:, :, NEIGHBOURS : inputs.shape[2] - NEIGHBOURS]


def probabilities(network: nn.Module, dimensions: int, inputs: Tensor) -> Tensor:
    """Of grids (n, channels, slices, rows, columns) with `NEIGHBOURS` slices more at either end: (n, slices, rows, columns)."""
    with torch.inference_mode():
        if dimensions == 2:
            slices = stacked(inputs)
            count = _SLICES_AT_ONCE[slices.device.type]
            parts = [network(slices[at : at + count]) for at in range(0, len(slices), count)]
            return torch.cat(parts).float().sigmoid().reshape(len(inputs), -1, *slices.shape[2:])
        found: Tensor = network(without_neighbours(inputs))[:, 0].float().sigmoid()
        return found
