"""Networks that assign a class to an image or a vector: MLP, LeNet and VGG."""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyml.layers import (
    AdaptiveAvgPool2D,
    BatchNorm2D,
    Conv2D,
    ConvTranspose2D,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
)
from tinyml.layers.base import Dim
from tinyml.net import Sequential
from tinyml_backends.arguments import generator, integer, lengths

Rng = int | np.random.Generator | None

#: Filters of the convolutions of each of the five levels, in multiples of the first level's, and
#: how many convolutions there are: Simonyan and Zisserman's configurations A, B, D and E.
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (1, 2, 4, 8, 8)


def mlp(
    input_dim: int | Dim,
    n_classes: int,
    *,
    hidden: Sequence[int] = (128,),
    dropout: float = 0.0,
    rng: Rng = 0,
) -> Sequential:
    """Multilayer perceptron: linear layers with ReLU between them.

    Parameters
    ----------
    input_dim : int or tuple of int
        Values of a sample, or its shape, which is flattened.
    n_classes : int
        Outputs.
    hidden : sequence of int
        Outputs of each hidden layer.
    dropout : float
        Chance to drop a hidden value in training; with 0 there are no dropout layers.
    rng : int, numpy.random.Generator or None
        Source of the initial weights and of dropout.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import mlp
    >>> mlp((1, 8, 8), 10, hidden=(32, 16))(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 10)
    """
    rng = generator(rng)
    dim = (input_dim,) if isinstance(input_dim, int | np.integer) else tuple(input_dim)
    layers: list[Layer] = [Flatten("flatten")] if len(dim) > 1 else []
    return Sequential([*layers, *_dense(prod(dim), hidden, n_classes, dropout, rng)], name="mlp")


def lenet(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    channels: tuple[int, int] = (6, 16),
    hidden: Sequence[int] = (120, 84),
    size: int = 5,
    dropout: float = 0.0,
    rng: Rng = 0,
) -> Sequential:
    """LeNet-5 with ReLU and max-pooling, and convolutions that keep the shape.

    LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition",
    Proceedings of the IEEE 86(11), 1998.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width; at least 4×4.
    n_classes : int
    channels : (int, int)
        Filters of the two convolutions.
    hidden : sequence of int
        Outputs of the linear layers before the last one.
    size : int
        Height and width of the kernels.
    dropout, rng
        As of `mlp`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import lenet
    >>> lenet((1, 8, 8), 10)(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 10)
    """
    rng = generator(rng)
    layers: list[Layer] = []
    dim: Dim = lengths("input_dim", input_dim, 3)
    if min(dim[1:]) < 4:
        raise ValueError(f"input_dim is {input_dim}; two poolings need a height and width of 4")
    for number, filters in enumerate(channels, 1):
        conv = Conv2D(f"conv{number}", dim, filters, size, padding="same", rng=rng)
        pool = MaxPool2D(f"pool{number}", conv.out_dim, 2, 2)
        layers += [conv, ReLU(f"relu{number}"), pool]
        dim = pool.out_dim
    layers.append(Flatten("flatten"))
    return Sequential([*layers, *_dense(prod(dim), hidden, n_classes, dropout, rng)], name="lenet")


def vgg11(input_dim: tuple[int, int, int], n_classes: int, **options: object) -> Sequential:
    """VGG with 8 convolutions and 3 linear layers; the options are those of `vgg16`."""
    return _vgg(11, input_dim, n_classes, **options)  # type: ignore[arg-type]


def vgg13(input_dim: tuple[int, int, int], n_classes: int, **options: object) -> Sequential:
    """VGG with 10 convolutions and 3 linear layers; the options are those of `vgg16`."""
    return _vgg(13, input_dim, n_classes, **options)  # type: ignore[arg-type]


def vgg16(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    batch_norm: bool = False,
    rng: Rng = 0,
) -> Sequential:
    """VGG with 13 convolutions and 3 linear layers.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015. Layers, sizes and their order are torchvision's, so that weights can be carried over
    in order.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width; at least 32×32.
    n_classes : int
    width : int
        Filters of the first convolution; the last ones have eight times as many.
    hidden : int
        Outputs of the two hidden linear layers.
    dropout : float
        Chance to drop their values in training.
    batch_norm : bool
        Whether batch norm follows each convolution.
    rng : int, numpy.random.Generator or None
        Source of the initial weights and of dropout.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import vgg16
    >>> net = vgg16((3, 32, 32), 10, width=4, hidden=8)
    >>> net.eval()(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 10)
    """
    options = {"width": width, "hidden": hidden, "dropout": dropout, "batch_norm": batch_norm}
    return _vgg(16, input_dim, n_classes, rng=rng, **options)  # type: ignore[arg-type]


def vgg19(input_dim: tuple[int, int, int], n_classes: int, **options: object) -> Sequential:
    """VGG with 16 convolutions and 3 linear layers; the options are those of `vgg16`."""
    return _vgg(19, input_dim, n_classes, **options)  # type: ignore[arg-type]


def _vgg(
    depth: int,
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    batch_norm: bool = False,
    rng: Rng = 0,
) -> Sequential:
    rng = generator(rng)
    integer("width", width, 1)
    dim: Dim = lengths("input_dim", input_dim, 3)
    if min(dim[1:]) < 32:
        raise ValueError(f"input_dim is {input_dim}; five poolings need a height and width of 32")
    layers = vgg_features(depth, dim, width, batch_norm, rng)
    dim = layers[-1].out_dim
    layers += [AdaptiveAvgPool2D("average", dim, 7), Flatten("flatten")]
    dense = _dense(49 * dim[0], (hidden, hidden), n_classes, dropout, rng)
    return Sequential([*layers, *dense], name=f"vgg{depth}")


def vgg_features(
    depth: int, dim: Dim, width: int, batch_norm: bool, rng: np.random.Generator
) -> list[Layer]:
    """The convolutions and poolings of a VGG of ``depth`` layers with weights."""
    layers: list[Layer] = []
    for level, (count, factor) in enumerate(zip(_VGG[depth], _WIDTHS, strict=True), 1):
        for number in range(1, count + 1):
            name = f"{level}_{number}"
            conv = Conv2D(f"conv{name}", dim, factor * width, 3, padding=1, rng=rng)
            norm = [BatchNorm2D(f"norm{name}", conv.out_dim)] if batch_norm else []
            layers += [conv, *norm, ReLU(f"relu{name}")]
            dim = conv.out_dim
        pool = MaxPool2D(f"pool{level}", dim, 2, 2)
        layers.append(pool)
        dim = pool.out_dim
    return layers


def inverse_vgg(vgg: Sequential) -> Sequential:
    """From an image through the features of a VGG, and back to an image.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014: the way
    back has the layers in reverse. An unpooling layer is tied to its pooling layer, and a
    transposed convolution shares the weights of its convolution, without a bias. All Parameters
    are those of ``vgg``; the layers are others, so that both can be used at the same time.

    Parameters
    ----------
    vgg : Sequential
        What `vgg11` to `vgg19` return, without batch norm.

    Raises
    ------
    ValueError
        If a layer of the features has no inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import inverse_vgg, vgg11
    >>> inverse = inverse_vgg(vgg11((3, 32, 32), 10, width=4, hidden=8))
    >>> inverse(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 3, 32, 32)
    """
    features: list[Layer] = []
    for layer in vgg.replica().layers:
        if isinstance(layer, AdaptiveAvgPool2D):
            break
        features.append(layer)
    back: list[Layer] = []
    for layer in reversed(features):
        name = f"inverse_{layer.name}"
        if isinstance(layer, MaxPool2D):
            unpool = MaxUnpool2D(name, layer.out_dim, layer.size, layer.stride, pool=layer)
            back.append(unpool)
        elif isinstance(layer, ReLU):
            back.append(ReLU(name))
        elif isinstance(layer, Conv2D):
            conv = ConvTranspose2D(
                name,
                layer.out_dim,
                layer.input_channel,
                layer.size,
                layer.stride,
                layer.window.padding,
                bias=False,
            )
            conv.weight = layer.weight
            back.append(conv)
        else:
            raise ValueError(
                f"vgg has {layer!r}, which has no inverse; build it without batch norm"
            )
    return Sequential([*features, *back], name=f"inverse_{vgg.name}")


def _dense(
    inputs: int, hidden: Sequence[int], outputs: int, dropout: float, rng: np.random.Generator
) -> list[Layer]:
    """Linear layers with ReLU, and dropout if any, between them."""
    layers: list[Layer] = []
    for number, width in enumerate(hidden, 1):
        layers += [Linear(f"linear{number}", inputs, width, rng=rng), ReLU(f"hidden{number}")]
        if dropout:
            layers.append(Dropout(f"dropout{number}", dropout, rng=rng))
        inputs = width
    return [*layers, Linear("classes", inputs, outputs, rng=rng)]
