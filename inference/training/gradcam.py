"""Where a network looked: Grad-CAM (Selvaraju et al., ICCV 2017) on a layer of a network with one output."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional


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
