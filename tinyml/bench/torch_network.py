"""A network of tinyml, rebuilt in PyTorch with the same weights."""

from collections.abc import Sequence
from typing import Any

from tinyml.arrays import to_numpy
from tinyml.bench.cases import Unsupported
from tinyml.layers import (
    BatchNorm2D,
    Conv2D,
    Flatten,
    Layer,
    Linear,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
)


def torch_network(layers: Sequence[Layer]) -> Any:
    """``torch.nn.Module`` of layers one after another, with copies of their weights.

    Raises
    ------
    Unsupported
        If a layer has no counterpart in PyTorch.
    """
    from torch import nn

    unpooled = {layer.pool for layer in layers if isinstance(layer, MaxUnpool2D)}

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList(_module(layer, layer in unpooled) for layer in layers)

        def forward(self, x: Any) -> Any:
            pooled = {}
            for layer, step in zip(layers, self.steps, strict=True):
                if layer in unpooled:
                    shape = x.shape
                    x, indices = step(x)
                    pooled[layer.name] = indices, shape
                elif isinstance(layer, MaxUnpool2D) and layer.pool:
                    indices, shape = pooled.pop(layer.pool.name)
                    x = step(x, indices, output_size=shape)
                else:
                    x = step(x)
            return x

    return Network()


def _module(layer: Layer, with_indices: bool) -> Any:
    import torch
    from torch import nn

    if isinstance(layer, Conv2D | MaxPool2D | MaxUnpool2D):
        window = layer.window
        geometry = window.size, window.stride, tuple(before for before, _ in window.padding)
    if isinstance(layer, Conv2D):
        filters, channels = layer.weight.tensor.shape[:2]
        options = (window.dilation, layer.groups, layer.bias is not None)
        module = nn.Conv2d(channels * layer.groups, filters, *geometry, *options)
    elif isinstance(layer, BatchNorm2D):
        module = nn.BatchNorm2d(len(layer.scale.tensor), layer.epsilon)
    elif isinstance(layer, ReLU):
        module = nn.ReLU()
    elif isinstance(layer, Flatten):
        module = nn.Flatten()
    elif isinstance(layer, Linear):
        module = nn.Linear(layer.input_dim[0], layer.out_dim[0], layer.bias is not None)
    elif isinstance(layer, MaxPool2D):
        module = nn.MaxPool2d(*geometry, window.dilation, with_indices)
    elif isinstance(layer, MaxUnpool2D) and layer.pool:
        module = nn.MaxUnpool2d(*geometry)
    else:
        raise Unsupported(f"layer {layer.name!r} is a {layer.type}, which has no counterpart here")
    theirs = [*module.parameters(), *module.buffers()]
    for tensor, ours in zip(theirs, [*layer.parameters, *layer.buffers], strict=False):
        tensor.data = torch.from_numpy(to_numpy(ours.tensor)).clone()
    return module
