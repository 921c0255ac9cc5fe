"""The strongest activations of a layer over a data set, and the part of the image that each saw."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyml.arrays import asarray, to_numpy
from tinyml.layers.base import Layer
from tinyml.progress import Progress
from tinyml.visualize.boxes import Box, Boxes
from tinyml.visualize.deconvolution import check_channel
from tinyml.visualize.run import Run, check_image
from tinyml_backends.arguments import integer
from tinyml_backends.arrays import Array


class TopActivation(NamedTuple):
    """An activation, and where it is."""

    channel: int
    image: int
    """Number of the image in the data set."""
    position: tuple[int, ...]
    """In the layer's output: row and column."""
    value: float
    box: Box
    """Rows and columns of the image that the activation depends on: ``image[:, *box]``."""


class _Found(NamedTuple):
    """Activations of each channel: arrays (channels, activations)."""

    values: NDArray[Any]
    images: NDArray[Any]
    places: NDArray[Any]
    """Position in the layer's output, row-major."""
    sizes: NDArray[Any]
    """Which of the sizes of images so far the image has."""


class _Size(NamedTuple):
    """What all images of one size share."""

    boxes: Boxes
    spatial: tuple[int, ...]
    """Spatial shape of the layer's output."""


def top_activations(
    model: Layer,
    images: Array | Iterable[Array],
    layer: str | Layer,
    channels: Sequence[int] | None = None,
    top: int = 9,
    *,
    batch_size: int = 16,
) -> dict[int, list[TopActivation]]:
    """Find the strongest activations of each channel of a layer over a data set.

    In one pass over the data, whose memory does not grow with it. Of each image only the strongest
    position of a channel counts, so that the images differ.

    Parameters
    ----------
    model : Layer
        A network with one input. Nothing of it changes.
    images : array of floats, (samples, channels, …), or iterable of such arrays
        All images, or batches of them, which may be of different sizes; scaled as the model was
        trained with. A batch is moved to the model's device.
    layer : str or Layer
        As of `deconvnet`.
    channels : sequence of int, optional
        By default all.
    top : int
        Activations of a channel.
    batch_size : int
        Images at a time, where ``images`` is an array.

    Returns
    -------
    dict of int to list of TopActivation
        For each channel, the strongest first; fewer than ``top`` if there are fewer images.

    Raises
    ------
    ValueError, TypeError
        As `deconvnet`; also if a number is below 1 or there are no images.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.data import load_digits
    >>> from tinyml.models import lenet
    >>> from tinyml.visualize import top_activations
    >>> images = load_digits().images[:50, None] / np.float32(16)
    >>> found = top_activations(lenet((1, 8, 8), 10), images, "relu1", [3], top=2)
    >>> [(best.image, best.position) for best in found[3]]
    [(26, (4, 3)), (1, (4, 4))]
    >>> found[3][0].box
    (slice(2, 7, None), slice(1, 6, None))
    """
    integer("top", top, 1)
    run = Run(model)
    node = run.node(layer)
    device = model.device
    best: list[_Found] = []
    chosen: list[int] = []
    sizes: dict[tuple[int, ...], _Size] = {}
    count = 0
    for batch in _batches(images, integer("batch_size", batch_size, 1)):
        check_image(model, batch)
        activation = run.forward(asarray(batch, device), node)[node]
        if not best:
            given = range(activation.shape[1]) if channels is None else channels
            chosen = [check_channel(channel, activation.shape[1]) for channel in given]
        size = tuple(batch.shape[1:])
        if size not in sizes:
            sizes[size] = _Size(Boxes(run.flat, node, run.shapes), tuple(activation.shape[2:]))
        best = [
            _strongest([*best, _of_batch(activation, chosen, count, [*sizes].index(size))], top)
        ]
        count += len(batch)
    if not best:
        raise ValueError("images are empty; there must be at least one")
    rows = zip(chosen, *(array.tolist() for array in best[0]), strict=True)
    return {
        channel: [
            _activation(channel, [*sizes.values()], *found) for found in zip(*row, strict=True)
        ]
        for channel, *row in rows
    }


def _activation(
    channel: int, sizes: list[_Size], value: float, image: int, place: int, size: int
) -> TopActivation:
    boxes, spatial = sizes[size]
    position = tuple(map(int, np.unravel_index(place, spatial))) if spatial else ()
    return TopActivation(channel, image, position, value, boxes(position))


def _of_batch(activation: Array, channels: list[int], first: int, size: int) -> _Found:
    """The strongest position of each channel in each sample of a batch."""
    samples, count = activation.shape[:2]
    values = activation.reshape(samples, count, -1)
    maxima, places = to_numpy(values.max(-1)).T[channels], to_numpy(values.argmax(-1)).T[channels]
    images = np.broadcast_to(np.arange(first, first + samples), maxima.shape)
    return _Found(maxima, images, places, np.full(maxima.shape, size))


def _strongest(found: list[_Found], top: int) -> _Found:
    """The strongest of all; of equal values the first image's."""
    joined = [np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True)]
    order = np.argsort(-joined[0], axis=1, kind="stable")[:, :top]
    return _Found(*(np.take_along_axis(array, order, 1) for array in joined))


def _batches(images: Array | Iterable[Array], size: int) -> Iterator[Array]:
    if hasattr(images, "shape"):
        array: Array = images
        starts = Progress(range(0, len(array), size), desc="images", unit="batch", leave=False)
        yield from (array[start : start + size] for start in starts)
    else:
        yield from Progress(images, desc="images", unit="batch", leave=False)
