"""What MONAI's RetinaNet asks of torchvision, for machines that have none or one that does not load.

Inference needs two small parts: which layers of a backbone may be trained (of no effect here), and the backbone cut off
behind the last layer whose output is used. Boxes and their suppression are MONAI's own. Names of weights stay the same.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from monai.apps.detection.networks import retinanet_network
from monai.networks.blocks import backbone_fpn_utils
from monai.utils.module import optional_import


class LayerOutputs(torch.nn.ModuleDict):
    """The children of a model in their order, up to the last one that is asked for; gives the outputs that are.

    Args:
        model: its children are applied one after another, as in a ResNet.
        return_layers: name of a child to the name of its output.
    """

    def __init__(self, model: torch.nn.Module, return_layers: Mapping[str, str]) -> None:
        children = dict(model.named_children())
        missing = set(return_layers) - set(children)
        if missing:
            raise ValueError(f"the model has no {', '.join(sorted(missing))}")
        names = list(children)
        last = max(names.index(name) for name in return_layers)
        super().__init__({name: children[name] for name in names[: last + 1]})
        self._outputs = dict(return_layers)

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by their names, from the first layer to the last."""
        given = {}
        for name, layer in self.items():
            values = layer(values)
            if name in self._outputs:
                given[self._outputs[name]] = values
        return given


def trainable_layers(is_trained: bool, asked: int | None, max_value: int, default_value: int) -> int:
    """How many layers of a backbone may be trained: all of one that was never trained, else what is asked for."""
    if not is_trained:
        return max_value
    return default_value if asked is None else asked


def fill_gaps() -> None:
    """Give MONAI the two parts where torchvision can't be imported; where it can, MONAI has taken it already."""
    _, there = optional_import("torchvision.models.detection.backbone_utils", name="_validate_trainable_layers")
    if there:
        return
    retinanet_network._validate_trainable_layers = trainable_layers
    backbone_fpn_utils.torchvision_models = SimpleNamespace(
        _utils=SimpleNamespace(IntermediateLayerGetter=LayerOutputs)
    )
