"""ENet: a small network that assigns a class to every pixel of an image."""

from typing import Any

import numpy as np

from tinyml.graph import Graph, Node
from tinyml.layers import (
    Add,
    BatchNorm2D,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Dropout2D,
    MaxPool2D,
    MaxUnpool2D,
    PadChannels2D,
    PReLU,
)
from tinyml.layers.base import Dim
from tinyml.layers.convolution import Convolution
from tinyml_backends.arguments import generator, integer, lengths

Kernels = tuple[tuple[int, int], ...]

_SQUARE, _ASYMMETRIC = ((3, 3),), ((5, 1), (1, 5))

#: Bottlenecks 2.1 to 2.8, and 3.1 to 3.8: sizes of the kernels, and their dilation.
_CONTEXT: tuple[tuple[Kernels, int], ...] = (
    (_SQUARE, 1),
    (_SQUARE, 2),
    (_ASYMMETRIC, 1),
    (_SQUARE, 4),
    (_SQUARE, 1),
    (_SQUARE, 8),
    (_ASYMMETRIC, 1),
    (_SQUARE, 16),
)


def enet(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    channels: int = 16,
    dropout: tuple[float, float] = (0.01, 0.1),
    rng: int | np.random.Generator | None = 0,
) -> Graph:
    """ENet: assigns a class to every pixel, with few weights.

    Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time
    Semantic Segmentation", 2016, arXiv:1606.02147. Where the paper leaves a choice: convolutions
    before a batch norm have no bias; batch norm and PReLU follow the initial block, and stand also
    between the two asymmetric convolutions; a PReLU has one slope a channel; dropout drops whole
    channels before the addition, with its second probability from bottleneck 2.0 to the end; the
    upsampling bottlenecks reduce the channels, apply batch norm and then unpool; the last layer has
    2×2 kernels.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width; the latter multiples of 8.
    n_classes : int
    channels : int
        Channels after the initial block; a multiple of 4 that exceeds the input's channels. The
        encoder ends with 8 times as many.
    dropout : (float, float)
        Chance to drop a channel in training, before bottleneck 2.0 and from there on.
    rng : int, numpy.random.Generator or None
        Source of the initial weights and of dropout.

    Returns
    -------
    Graph
        Takes (samples, channels, height, width) and gives logits (samples, n_classes, height,
        width). Each bottleneck is a graph too.

    Raises
    ------
    ValueError
        If height or width is no multiple of 8, ``channels`` does not fit, or a number is out of
        range.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import enet
    >>> enet((1, 16, 24), 2, channels=4)(np.zeros((2, 1, 16, 24), np.float32)).shape
    (2, 2, 16, 24)
    """
    integer("n_classes", n_classes, 1)
    dim = lengths("input_dim", input_dim, 3)
    if any(n % 8 for n in dim[1:]):
        raise ValueError(
            f"input_dim is {input_dim}; three poolings need a height and width that are multiples "
            "of 8"
        )
    if integer("channels", channels, 1) % 4 or channels <= dim[0]:
        raise ValueError(
            f"channels is {channels}; it must be a multiple of 4 that exceeds the input's {dim[0]} "
            "channels"
        )
    try:
        early, late = dropout
    except (TypeError, ValueError):
        raise ValueError(f"dropout is {dropout!r}; it must be two probabilities") from None
    rng = generator(rng)
    net = Graph("enet", dim)
    wide, widest = 4 * channels, 8 * channels

    dim = _dim(net.add(_initial(dim, channels, rng)))
    first = MaxPool2D("pool", dim, 2, 2)
    dim = _dim(net.add(_bottleneck("bottleneck1_0", dim, wide, early, rng, pool=first)))
    for number in range(1, 5):
        net.add(_bottleneck(f"bottleneck1_{number}", dim, wide, early, rng))
    second = MaxPool2D("pool", dim, 2, 2)
    dim = _dim(net.add(_bottleneck("bottleneck2_0", dim, widest, late, rng, pool=second)))
    for stage in (2, 3):
        for number, (kernels, dilation) in enumerate(_CONTEXT, 1):
            name = f"bottleneck{stage}_{number}"
            net.add(_bottleneck(name, dim, widest, late, rng, kernels=kernels, dilation=dilation))
    dim = _dim(net.add(_bottleneck("bottleneck4_0", dim, wide, late, rng, unpool=second)))
    for number in (1, 2):
        net.add(_bottleneck(f"bottleneck4_{number}", dim, wide, late, rng))
    dim = _dim(net.add(_bottleneck("bottleneck5_0", dim, channels, late, rng, unpool=first)))
    net.add(_bottleneck("bottleneck5_1", dim, channels, late, rng))
    net.add(ConvTranspose2D("classes", dim, n_classes, 2, 2, rng=rng))
    return net


def _initial(dim: Dim, channels: int, rng: np.random.Generator) -> Graph:
    """A convolution with stride 2, and beside its channels those of a pooling of the image."""
    block = Graph("initial", dim)
    conv = Conv2D("conv", dim, channels - dim[0], 3, 2, 1, bias=False, rng=rng)
    filtered = block.add(conv, block.input)
    pooled = block.add(MaxPool2D("pool", dim, 2, 2), block.input)
    node = block.add(Concat("concat"), filtered, pooled)
    block.add(BatchNorm2D("norm", _dim(node)))
    block.add(PReLU("prelu", channels))
    return block


def _bottleneck(
    name: str,
    dim: Dim,
    filters: int,
    dropout: float,
    rng: np.random.Generator,
    *,
    kernels: Kernels = _SQUARE,
    dilation: int = 1,
    pool: MaxPool2D | None = None,
    unpool: MaxPool2D | None = None,
) -> Graph:
    """Convolutions with a quarter of the filters, whose result is added to the input.

    The input is first pooled with ``pool``, or unpooled with the switches of ``unpool``.
    """
    block = Graph(name, dim)
    inner = filters // 4
    step = 1 if pool is None else 2
    project = Conv2D("project", dim, inner, step, step, bias=False, rng=rng)
    node = _normed(block, project, block.input, prelu=True)
    for number, size in enumerate(kernels, 1):
        options: dict[str, Any] = {"bias": False, "rng": rng}
        conv: Convolution
        if unpool is None:
            options |= {"padding": "same", "dilation": dilation}
            conv = Conv2D(f"conv{number}", _dim(node), inner, size, **options)
        else:
            options |= {"padding": 1, "output_padding": 1}
            conv = ConvTranspose2D(f"conv{number}", _dim(node), inner, size, 2, **options)
        node = _normed(block, conv, node, prelu=True)
    expand = Conv2D("expand", _dim(node), filters, 1, bias=False, rng=rng)
    node = _normed(block, expand, node)
    node = block.add(Dropout2D("dropout", dropout, rng=rng), node)

    main = block.input
    if pool is not None:
        main = block.add(pool, main)
        main = block.add(PadChannels2D("pad", _dim(main), filters), main)
    elif unpool is not None:
        reduce = Conv2D("reduce", dim, filters, 1, bias=False, rng=rng)
        main = _normed(block, reduce, main)
        main = block.add(MaxUnpool2D("unpool", _dim(main), 2, 2, pool=unpool), main)
    block.add(Add("add"), main, node)
    block.add(PReLU("prelu", filters))
    return block


def _normed(block: Graph, conv: Convolution, node: Node, *, prelu: bool = False) -> Node:
    """Add a convolution, its batch norm and, if wanted, a PReLU."""
    block.add(conv, node)
    node = block.add(BatchNorm2D(f"norm_{conv.name}", conv.out_dim))
    return block.add(PReLU(f"prelu_{conv.name}", conv.n_filters)) if prelu else node


def _dim(node: Node) -> Dim:
    assert node.dim is not None
    return node.dim
