"""Deconvnet and its relatives: an activation sent back to the image. See docs/deconvnet.md."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyml.arrays import to_numpy
from tinyml.layers.base import Layer, scope_of
from tinyml.visualize.run import Run, check_image
from tinyml_backends import owner_of
from tinyml_backends.arguments import integer
from tinyml_backends.arrays import Array

Position = Literal["max", "all"] | tuple[int, ...]


class Choice(NamedTuple):
    """One activation of each sample of a batch; or with no positions, one channel of each."""

    channels: NDArray[np.intp]
    positions: NDArray[np.intp] | None
    """(samples, spatial axes)"""


def deconvnet(
    model: Layer,
    x: Array,
    layer: str | Layer,
    channel: int | None = None,
    position: Position = "max",
    rule: str = "deconvnet",
) -> Array:
    """Send an activation back through the network to the image, to see what caused it.

    The way back uses the same weights, transposed; max-pooling is undone with the switches of the
    forward pass. What a rectifier (`ReLU`, `LeakyReLU`, `PReLU`, `ELU`, `GELU`, `SiLU`) does to the
    signal is the rule. All other layers give their gradient.

    Parameters
    ----------
    model : Layer
        A network with one input. Nothing of it changes, also during a training.
    x : array of floats, (samples, channels, …)
        Images, scaled as the model was trained with.
    layer : str or Layer
        The layer whose output is looked at; "block1_1.conv1" is in a network inside the network.
    channel : int, optional
        By default the strongest, for each sample.
    position : "max", "all" or tuple of int
        The strongest position of the channel in each sample, the whole channel, or (row, column).
    rule : "deconvnet", "gradient", "guided" or "desalinet"
        "deconvnet" keeps the signal's positive values: Zeiler and Fergus, "Visualizing and
        Understanding Convolutional Networks", ECCV 2014. "gradient" multiplies by the derivative:
        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014,
        arXiv:1312.6034. "guided" does both: Springenberg et al., "Striving for Simplicity", ICLR
        2015 workshop. "desalinet" also does both: Mahendran and Vedaldi, "Salient Deconvolutional
        Networks", ECCV 2016; it differs from "guided" only at local response normalisation.

    Returns
    -------
    array, of the shape, dtype and library of ``x``
        For "gradient" the gradient of the activation, or of the channel's sum. For the other rules
        the signal starts with the activation itself.

    Raises
    ------
    ValueError
        If the layer, the channel, the position or the rule does not exist, the image does not fit
        the model, the model takes several inputs, or a layer cannot be reversed.
    TypeError
        If ``x`` is no array of floats.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import lenet
    >>> from tinyml.visualize import deconvnet
    >>> model = lenet((1, 8, 8), 10)
    >>> image = np.random.default_rng(0).random((1, 1, 8, 8))
    >>> seen = deconvnet(model, image, "conv1", channel=2, position=(4, 4))
    >>> seen.shape, [index.tolist() for index in np.nonzero(seen[0, 0].any(0))]
    ((1, 1, 8, 8), [[2, 3, 4, 5, 6]])
    """
    check_image(model, x)
    run = Run(model)
    node = run.node(layer)
    run.check_reversible(node, rule)
    activation = run.forward(x, node)[node]
    return reconstruction(run, activation, node, chosen(activation, channel, position), rule, x)


def reconstruction(
    run: Run, activation: Array, node: int, choice: Choice, rule: str, x: Array
) -> Array:
    """Signal at the input for the chosen activations of a node, after a forward pass of ``x``."""
    seed = np.zeros(activation.shape, activation.dtype)
    for sample, channel in enumerate(choice.channels.tolist()):
        at = (...,) if choice.positions is None else tuple(choice.positions[sample])
        values = to_numpy(activation[sample, channel : channel + 1])
        seed[sample, channel, *at] = 1 if rule == "gradient" else values[0, *at]
    with scope_of(x):
        signal = owner_of(x).asarray(seed)
    return run.reverse(signal, node, rule).astype(x.dtype, copy=False)


def chosen(activation: Array, channel: int | None, position: Position) -> Choice:
    """Activation of each sample that arguments of `deconvnet` mean.

    Raises
    ------
    ValueError
        If the channel or the position does not exist.
    """
    samples, count, *spatial = activation.shape
    numbers = np.arange(samples)
    if channel is not None:
        channel = check_channel(channel, count)
    values = activation.reshape(samples, count, -1)
    if isinstance(position, str):
        if position not in ("max", "all"):
            raise ValueError(
                f"position is {position!r}; it must be 'max', 'all' or {len(spatial)} ints"
            )
        maxima, places = to_numpy(values.max(-1)), to_numpy(values.argmax(-1))
        channels = maxima.argmax(1) if channel is None else np.full(samples, channel)
        if position == "all":
            return Choice(channels, None)
        flat = places[numbers, channels]
    else:
        at = _check_position(position, tuple(spatial))
        flat = np.full(samples, np.ravel_multi_index(at, spatial) if spatial else 0)
        there = to_numpy(values[:, :, int(flat[0])]) if samples else np.zeros((0, count))
        channels = there.argmax(1) if channel is None else np.full(samples, channel)
    positions = np.stack(np.unravel_index(flat, spatial), 1) if spatial else flat[:, None][:, :0]
    return Choice(channels, positions)


def check_channel(channel: int, count: int) -> int:
    """``channel`` as an int; ValueError if there are only ``count`` channels."""
    number = integer("channel", channel, 0)
    if number >= count:
        raise ValueError(f"channel is {channel}; the layer has {count}, 0 to {count - 1}")
    return number


def _check_position(position: object, spatial: tuple[int, ...]) -> tuple[int, ...]:
    given = tuple(position) if isinstance(position, tuple | list) else (position,)
    if len(given) != len(spatial):
        raise ValueError(
            f"position is {position!r}; it must be 'max', 'all' or {len(spatial)} ints, since the "
            f"layer's output has the spatial shape {spatial}"
        )
    at = tuple(integer("position", i, 0) for i in given)
    if any(i >= n for i, n in zip(at, spatial, strict=True)):
        raise ValueError(f"position is {position}; the layer's output has {spatial} positions")
    return at
