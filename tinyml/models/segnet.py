"""SegNet: an encoder that pools, and a decoder that unpools with the encoder's switches."""

import numpy as np

from tinyml.layers import BatchNorm2D, Conv2D, Layer, MaxPool2D, MaxUnpool2D, ReLU
from tinyml.models.classifiers import vgg_features
from tinyml.net import Sequential
from tinyml_backends.arguments import generator, integer, lengths


def segnet(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    depth: int = 3,
    channels: int = 64,
    size: int = 3,
    rng: int | np.random.Generator | None = 0,
) -> Sequential:
    """Network that assigns a class to every pixel of an image.

    Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
    for Image Segmentation", IEEE TPAMI 39(12), 2017, in the form of its SegNet-Basic: each encoder
    is convolution, batch norm, ReLU and 2×2 pooling, each decoder is unpooling with the switches of
    its encoder, convolution and batch norm, and a 1×1 convolution gives the classes.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width of the image. The output has the same height and width, also if
        they are odd.
    n_classes : int
    depth : int
        Number of encoders, and of decoders.
    channels : int
        Filters of each convolution.
    size : int
        Height and width of the kernels of these convolutions; odd.
    rng : int, numpy.random.Generator or None
        Source of the initial weights; the same seed gives the same weights on every backend.

    Returns
    -------
    Sequential
        Takes (samples, channels, height, width) and gives logits (samples, n_classes, height,
        width).

    Raises
    ------
    ValueError
        If ``size`` is even, another number is below 1, or the image is too small for ``depth``.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import segnet
    >>> model = segnet((1, 21, 30), n_classes=2, depth=2, channels=4)
    >>> model(np.zeros((1, 1, 21, 30), np.float32)).shape
    (1, 2, 21, 30)
    """
    for name, value in (("n_classes", n_classes), ("depth", depth), ("channels", channels)):
        integer(name, value, 1)
    if integer("size", size, 1) % 2 == 0:
        raise ValueError(f"size is {size}; it must be odd, so that a convolution keeps the shape")
    if min(lengths("input_dim", input_dim, 3)[1:]) < 2**depth:
        raise ValueError(
            f"input_dim is {input_dim}; {depth} poolings need a height and width of at least "
            f"{2**depth}"
        )
    rng = generator(rng)

    def convolution(name: str, dim: tuple[int, ...]) -> list[Layer]:
        conv = Conv2D(f"conv_{name}", dim, channels, size, padding=size // 2, bias=False, rng=rng)
        return [conv, BatchNorm2D(f"norm_{name}", conv.out_dim)]

    layers: list[Layer] = []
    pools: list[MaxPool2D] = []
    dim: tuple[int, ...] = input_dim
    for level in range(1, depth + 1):
        layers += [*convolution(f"encoder{level}", dim), ReLU(f"relu{level}")]
        pools.append(MaxPool2D(f"pool{level}", (channels, *dim[1:]), 2, 2))
        layers.append(pools[-1])
        dim = pools[-1].out_dim
    for level in range(depth, 0, -1):
        unpool = MaxUnpool2D(f"unpool{level}", dim, 2, 2, pool=pools[level - 1])
        layers += [unpool, *convolution(f"decoder{level}", unpool.out_dim)]
        dim = unpool.out_dim
    layers.append(Conv2D("classes", dim, n_classes, 1, rng=rng))
    return Sequential(layers, name="segnet")


def segnet_vgg16(
    input_dim: tuple[int, int, int],
    n_classes: int,
    *,
    width: int = 64,
    rng: int | np.random.Generator | None = 0,
) -> Sequential:
    """SegNet in the paper's full form: the convolutions of VGG16, and their mirror image.

    Badrinarayanan, Kendall and Cipolla, as of `segnet`. The encoder's layers are those of
    `vgg16` with batch norm, under the same names. A decoder unpools with the switches of its
    pooling layer, and has as many convolutions as its encoder, with batch norm and ReLU; the very
    last one gives the classes, without either. All kernels are 3×3.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width; at least 32×32. The output has the same height and width.
    n_classes : int
    width : int
        Filters of the first convolution; the middle ones have eight times as many.
    rng : int, numpy.random.Generator or None
        Source of the initial weights.

    Returns
    -------
    Sequential
        Takes (samples, channels, height, width) and gives logits (samples, n_classes, height,
        width).

    Raises
    ------
    ValueError
        If a number is below 1, or the image is too small.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import segnet_vgg16
    >>> segnet_vgg16((3, 33, 40), 2, width=2)(np.zeros((1, 3, 33, 40), np.float32)).shape
    (1, 2, 33, 40)
    """
    integer("n_classes", n_classes, 1)
    integer("width", width, 1)
    dim = lengths("input_dim", input_dim, 3)
    if min(dim[1:]) < 32:
        raise ValueError(f"input_dim is {input_dim}; five poolings need a height and width of 32")
    rng = generator(rng)
    encoder = vgg_features(16, dim, width, True, rng)
    decoder: list[Layer] = []
    dim = encoder[-1].out_dim
    for layer in reversed(encoder):
        if isinstance(layer, MaxPool2D):
            unpool = MaxUnpool2D(f"un{layer.name}", dim, 2, 2, pool=layer)
            decoder.append(unpool)
            dim = unpool.out_dim
        elif isinstance(layer, Conv2D):
            name = layer.name.removeprefix("conv")
            last = layer is encoder[0]
            filters = n_classes if last else layer.input_channel
            conv = Conv2D(
                "classes" if last else f"decoder_conv{name}", dim, filters, 3, padding=1, rng=rng
            )
            dim = conv.out_dim
            decoder.append(conv)
            if not last:
                decoder += [BatchNorm2D(f"decoder_norm{name}", dim), ReLU(f"decoder_relu{name}")]
    return Sequential([*encoder, *decoder], name="segnet_vgg16")
