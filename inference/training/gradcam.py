"""Where a network looked: Grad-CAM (Selvaraju et al., ICCV 2017) on a layer of a network with one output, as map and picture."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

_ENLARGED: Final = 6
_HEAT: Final = np.array([230, 159, 0], np.float32)  # orange of Okabe and Ito
_OPACITY: Final = 0.6


def grad_cam(network: nn.Module, layer: nn.Module, x: torch.Tensor) -> npt.NDArray[np.float32]:
    """The map of one cube: (1, 1, k, j, i) to [k, j, i], 0 to 1, large where the layer's channels raised the output.

    The channels of the layer are weighted by the mean of the output's gradient in them; what lowers the output is cut off.
    """
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, made: seen.append(made))
    try:
        network.eval()
        with torch.enable_grad():
            output = network(x.clone().requires_grad_())
            (gradient,) = torch.autograd.grad(output.sum(), seen[-1])
    finally:
        handle.remove()
    weight = gradient.mean(dim=(2, 3, 4), keepdim=True)
    heat = functional.relu((weight * seen[-1].detach()).sum(dim=1, keepdim=True))
    full = functional.interpolate(heat, size=x.shape[2:], mode="trilinear", align_corners=False)[0, 0]
    top = float(full.max())
    return np.asarray((full / top if top > 0 else full).numpy(), np.float32)


def sheet(
    rows: Sequence[Sequence[npt.NDArray[np.float32]]], heats: Sequence[Sequence[npt.NDArray[np.float32]]]
) -> Image.Image:
    """Rows of cubes, the middle slice of each plain and with its map in orange beside it; no text, no name.

    Args:
        rows: cubes [k, j, i] of one side, 0 to 1; a row may be shorter than another.
        heats: their maps, 0 to 1.
    """
    side = rows[0][0].shape[0]
    wide = max(len(row) for row in rows)
    picture = np.zeros((len(rows) * side, 2 * wide * side, 3), np.float32)
    for r, (cubes, maps) in enumerate(zip(rows, heats, strict=True)):
        for c, (cube, heat) in enumerate(zip(cubes, maps, strict=True)):
            grey = np.repeat(255 * np.clip(cube[side // 2], 0, 1)[:, :, None], 3, axis=2)
            share = _OPACITY * heat[side // 2][:, :, None]
            down, across = slice(r * side, (r + 1) * side), 2 * c * side
            picture[down, across : across + side] = grey
            picture[down, across + side : across + 2 * side] = (1 - share) * grey + share * _HEAT
    fine = picture.astype(np.uint8).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    return Image.fromarray(fine)
