"""U-Net, and the what-where autoencoder."""

from collections.abc import Sequence

import numpy as np

from tinyml.graph import Graph, Node
from tinyml.layers import (
    BatchNorm2D,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Layer,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
)
from tinyml.layers.base import Dim
from tinyml.net import Sequential
from tinyml_backends.arguments import generator, integer, lengths


def unet(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    depth: int = 3,
    channels: int = 32,
    rng: int | np.random.Generator | None = 0,
) -> Graph:
    """U-Net: assigns a class to every pixel; each decoder sees its encoder's features.

    Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015, with padding, so that the output has the input's shape, and with
    batch norm after each convolution.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width; the latter multiples of 2 to the power of ``depth``.
    n_classes : int
    depth : int
        Number of poolings.
    channels : int
        Filters of the first level; they double at each pooling.
    rng : int, numpy.random.Generator or None
        Source of the initial weights.

    Raises
    ------
    ValueError
        If height or width is no multiple, or a number is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import unet
    >>> unet((1, 16, 24), 2, depth=2, channels=4)(np.zeros((1, 1, 16, 24), np.float32)).shape
    (1, 2, 16, 24)
    """
    integer("depth", depth, 1)
    integer("channels", channels, 1)
    integer("n_classes", n_classes, 1)
    dim = lengths("input_dim", input_dim, 3)
    if any(n % 2**depth for n in dim[1:]):
        raise ValueError(
            f"input_dim is {input_dim}; {depth} poolings need a height and width that are "
            f"multiples of {2**depth}"
        )
    rng = generator(rng)
    net = Graph("unet", dim)

    def twice(name: str, node: Node, filters: int) -> Node:
        for number in (1, 2):
            assert node.dim is not None
            conv = Conv2D(f"{name}_conv{number}", node.dim, filters, 3, padding=1, rng=rng)
            net.add(conv, node)
            net.add(BatchNorm2D(f"{name}_norm{number}", conv.out_dim))
            node = net.add(ReLU(f"{name}_relu{number}"))
        return node

    node, skips = net.input, []
    for level in range(1, depth + 1):
        node = twice(f"encoder{level}", node, channels * 2 ** (level - 1))
        skips.append(node)
        assert node.dim is not None
        node = net.add(MaxPool2D(f"pool{level}", node.dim, 2, 2), node)
    node = twice("bottom", node, channels * 2**depth)
    for level in range(depth, 0, -1):
        filters = channels * 2 ** (level - 1)
        assert node.dim is not None
        node = net.add(ConvTranspose2D(f"up{level}", node.dim, filters, 2, 2, rng=rng), node)
        node = net.add(Concat(f"concat{level}"), skips.pop(), node)
        node = twice(f"decoder{level}", node, filters)
    assert node.dim is not None
    net.add(Conv2D("classes", node.dim, n_classes, 1, rng=rng), node)
    return net


def autoencoder(
    input_dim: tuple[int, int, int],
    *,
    channels: Sequence[int] = (16, 32),
    rng: int | np.random.Generator | None = 0,
) -> Sequential:
    """What-where autoencoder: pooling keeps what, the switches where, and unpooling needs both.

    Zhao, Mathieu, Goroshin and LeCun, "Stacked What-Where Auto-encoders", 2015: each encoder is a
    3×3 convolution, ReLU and 2×2 pooling, each decoder unpooling with the switches of its encoder
    and a 3×3 transposed convolution.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width. The output has the same shape, also if they are odd.
    channels : sequence of int
        Filters of each encoder.
    rng : int, numpy.random.Generator or None
        Source of the initial weights.

    Raises
    ------
    ValueError
        If there is no encoder, or the image is too small for the poolings.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import autoencoder
    >>> autoencoder((1, 8, 9), channels=(4, 8))(np.zeros((2, 1, 8, 9), np.float32)).shape
    (2, 1, 8, 9)
    """
    rng = generator(rng)
    dim: Dim = lengths("input_dim", input_dim, 3)
    channels = lengths("channels", channels, len(channels)) if len(channels) else ()
    if not channels or min(dim[1:]) < 2 ** len(channels):
        raise ValueError(
            f"input_dim is {input_dim} and channels {tuple(channels)}; there must be one encoder "
            "or more, and a height and width of 2 to the power of their number"
        )
    layers: list[Layer] = []
    back: list[list[Layer]] = []
    for level, filters in enumerate(channels, 1):
        conv = Conv2D(f"encoder{level}", dim, filters, 3, padding=1, rng=rng)
        pool = MaxPool2D(f"pool{level}", conv.out_dim, 2, 2)
        layers += [conv, ReLU(f"relu{level}"), pool]
        unpool = MaxUnpool2D(f"unpool{level}", pool.out_dim, 2, 2, pool=pool)
        up = ConvTranspose2D(f"decoder{level}", unpool.out_dim, dim[0], 3, padding=1, rng=rng)
        back.append([unpool, up, *([ReLU(f"decoder_relu{level}")] if level > 1 else [])])
        dim = pool.out_dim
    for decoder in reversed(back):
        layers += decoder
    return Sequential(layers, name="autoencoder")
