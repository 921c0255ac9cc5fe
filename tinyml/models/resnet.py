"""ResNet: networks of blocks whose input is added to their output."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyml.graph import Graph
from tinyml.layers import (
    Add,
    BatchNorm2D,
    Conv2D,
    Flatten,
    GlobalAvgPool2D,
    Linear,
    MaxPool2D,
    ReLU,
)
from tinyml.layers.base import Dim
from tinyml_backends.arguments import generator, integer, lengths


def resnet18(input_dim: tuple[int, int, int], n_classes: int, **options: Any) -> Graph:
    """ResNet of 8 blocks of two convolutions; the options are those of `resnet50`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import resnet18
    >>> resnet18((1, 32, 32), 10, width=4)(np.zeros((2, 1, 32, 32), np.float32)).shape
    (2, 10)
    """
    return _resnet("resnet18", input_dim, n_classes, (2, 2, 2, 2), 1, **options)


def resnet34(input_dim: tuple[int, int, int], n_classes: int, **options: Any) -> Graph:
    """ResNet of 16 blocks of two convolutions; the options are those of `resnet50`."""
    return _resnet("resnet34", input_dim, n_classes, (3, 4, 6, 3), 1, **options)


def resnet50(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    width: int = 64,
    rng: int | np.random.Generator | None = 0,
) -> Graph:
    """ResNet of 16 blocks of three convolutions, the stride in the second one.

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Layers and
    their order are torchvision's, so that weights can be carried over in order.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width.
    n_classes : int
    width : int
        Filters of the first convolution.
    rng : int, numpy.random.Generator or None
        Source of the initial weights.

    Returns
    -------
    Graph
        Each block is a graph too.
    """
    return _resnet("resnet50", input_dim, n_classes, (3, 4, 6, 3), 4, width=width, rng=rng)


def _resnet(
    name: str,
    input_dim: tuple[int, int, int],
    n_classes: int,
    blocks: Sequence[int],
    expansion: int,
    *,
    width: int = 64,
    rng: int | np.random.Generator | None = 0,
) -> Graph:
    rng = generator(rng)
    integer("width", width, 1)
    net = Graph(name, lengths("input_dim", input_dim, 3))
    conv = Conv2D("conv", input_dim, width, 7, 2, 3, bias=False, rng=rng)
    net.add(conv)
    net.add(BatchNorm2D("norm", conv.out_dim))
    net.add(ReLU("relu"))
    dim = net.add(MaxPool2D("pool", conv.out_dim, 3, 2, padding=1)).dim
    for level, count in enumerate(blocks, 1):
        for number in range(1, count + 1):
            stride = 2 if level > 1 and number == 1 else 1
            filters = width * 2 ** (level - 1)
            assert dim is not None
            block = _block(f"block{level}_{number}", dim, filters, stride, expansion, rng)
            dim = net.add(block).dim
    assert dim is not None
    net.add(GlobalAvgPool2D("average", dim))
    net.add(Flatten("flatten"))
    net.add(Linear("classes", dim[0], n_classes, rng=rng))
    return net


def _block(
    name: str, input_dim: Dim, filters: int, stride: int, expansion: int, rng: np.random.Generator
) -> Graph:
    """Convolutions whose result is added to the input, or to a 1×1 convolution of it."""
    block = Graph(name, input_dim)
    # (filters, size, stride) of each convolution
    kernels = [(filters, 3, stride), (filters, 3, 1)]
    if expansion > 1:
        kernels = [(filters, 1, 1), (filters, 3, stride), (filters * expansion, 1, 1)]
    dim, node = input_dim, block.input
    for number, (count, size, step) in enumerate(kernels, 1):
        conv = Conv2D(f"conv{number}", dim, count, size, step, size // 2, bias=False, rng=rng)
        block.add(conv)
        node = block.add(BatchNorm2D(f"norm{number}", conv.out_dim))
        if number < len(kernels):
            block.add(ReLU(f"relu{number}"))
        dim = conv.out_dim
    shortcut = block.input
    if stride > 1 or input_dim[0] != dim[0]:
        conv = Conv2D("conv_shortcut", input_dim, dim[0], 1, stride, bias=False, rng=rng)
        block.add(conv, block.input)
        shortcut = block.add(BatchNorm2D("norm_shortcut", conv.out_dim))
    block.add(Add("add"), node, shortcut)
    block.add(ReLU("relu"))
    return block
