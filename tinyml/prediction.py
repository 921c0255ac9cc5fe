"""Prediction for images of any size, with what a checkpoint says about its inputs and classes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.arrays import asarray, to_numpy
from tinyml.fields import fields_and_grid
from tinyml.functional import softmax
from tinyml.layers.base import Layer
from tinyml.progress import Progress
from tinyml.training import eval_mode
from tinyml_backends.arguments import integer

#: Bytes that the activations of a tile may take, and the least side of a tile.
_TILE_BYTES, _LEAST_SIDE = 1 << 28, 64
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """What a model does, and how its inputs are scaled: what prediction needs beside the model.

    Attributes
    ----------
    kind : "classify" or "segment"
        Whether an image, or each of its pixels, has a class.
    classes : tuple of str
        Names of the classes, in the order of the model's outputs.
    mean, deviation : tuple of float
        For each channel: pixels are scaled to ``(pixel − mean) / deviation``.
    dtype : str
        Of the pixels before scaling, for example "uint8"; others are refused.
    size : (int, int) or None
        Height and width that images are resized to before they are classified.
    """

    kind: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    dtype: str
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("classify", "segment"):
            raise ValueError(f"kind is {self.kind!r}; it must be 'classify' or 'segment'")
        if not 1 <= len(self.classes) <= 256:
            raise ValueError(f"classes has {len(self.classes)} names; it must have 1 to 256")
        if len(self.mean) != len(self.deviation) or not self.mean or 0 in self.deviation:
            raise ValueError(
                f"mean is {self.mean} and deviation {self.deviation}; they must have a number for "
                "each channel, and no deviation may be 0"
            )

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    def as_info(self) -> dict[str, Any]:
        """As `tinyml.save` takes it, ``info=task.as_info()``."""
        return {"task": asdict(self)}

    @classmethod
    def of_info(cls, info: dict[str, Any]) -> "Task":
        """Task of the ``info`` that a checkpoint has.

        Raises
        ------
        ValueError
            If it has none, or it is not valid.
        """
        values = info.get("task")
        if not isinstance(values, dict):
            raise ValueError("the checkpoint does not say what its model does, info has no task")
        try:
            lists: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
            }
            return cls(**lists)
        except TypeError as error:
            raise ValueError(f"the checkpoint's task is not valid: {error}") from None

    def scaled(self, image: Pixels) -> NDArray[np.float32]:
        """Image (channels, height, width) as the model takes it."""
        mean, deviation = (
            np.asarray(values, np.float64)[:, None, None] for values in (self.mean, self.deviation)
        )
        return ((image - mean) / deviation).astype(np.float32)

    def check(self, image: Pixels) -> None:
        """Raise ValueError for an image of other channels or another dtype."""
        if image.ndim != 3:
            raise ValueError(
                f"the image has the shape {image.shape}; it must have (channels, height, width)"
            )
        if len(image) != self.channels:
            raise ValueError(
                f"the image has {len(image)} channels; the model takes images of {self.channels}"
            )
        if image.dtype != np.dtype(self.dtype):
            raise ValueError(
                f"the image is {image.dtype}; the model was trained on {self.dtype}, whose pixels "
                "have another scale"
            )

    def check_outputs(self, count: int) -> None:
        """Raise ValueError if a model has another number of outputs than there are classes."""
        if count != len(self.classes):
            raise ValueError(
                f"the model has {count} outputs, and classes {len(self.classes)} names; they must "
                "have the same number"
            )


def classify(model: Layer, task: Task, images: Sequence[Pixels]) -> NDArray[np.float64]:
    """Probabilities of the classes for each image, (images, classes).

    Parameters
    ----------
    model : Layer
    task : Task
    images : sequence of array, (channels, height, width)
        All of the size that the model was trained with.

    Raises
    ------
    ValueError
        If an image has other channels or another dtype, or the model has not one output for each
        class.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import lenet
    >>> from tinyml.prediction import Task, classify
    >>> task = Task("classify", ("a", "b"), (0.0,), (255.0,), "uint8", (8, 8))
    >>> classify(lenet((1, 8, 8), 2), task, [np.zeros((1, 8, 8), np.uint8)])
    array([[0.5, 0.5]])
    """
    for image in images:
        task.check(image)
    x = np.stack([task.scaled(image) for image in images])
    with eval_mode(model):
        logits = to_numpy(model(asarray(x, model.device)))
    task.check_outputs(logits.shape[1])
    probabilities: NDArray[np.float64] = softmax(logits, 1, dtype=np.float64)
    return probabilities


def segment(
    model: Layer, task: Task, image: Pixels, *, tile: int | None = None
) -> NDArray[np.uint8]:
    """Class of each pixel of an image, (height, width).

    A large image is predicted in tiles. Around each there is as much of the image as the model's
    `receptive_field` needs, and a tile begins where the windows of all poolings begin, so that the
    result is that of the whole image. A model whose outputs depend on the whole image gets it
    whole.

    Parameters
    ----------
    model : Layer
        Gives scores (1, classes, height, width).
    task : Task
    image : array, (channels, height, width)
    tile : int, optional
        Side of a tile, by default so large that a tile's activations take 256 MB.

    Raises
    ------
    ValueError
        If the image has other channels, another dtype, or is too small for the model, or the model
        has not one output for each class.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import segnet
    >>> from tinyml.prediction import Task, segment
    >>> task = Task("segment", ("background", "cell"), (0.0,), (255.0,), "uint8")
    >>> model = segnet((1, 64, 64), 2, depth=2, channels=2)
    >>> segment(model, task, np.zeros((1, 90, 70), np.uint8), tile=32).shape
    (90, 70)
    """
    task.check(image)
    found = np.empty(image.shape[1:], np.uint8)
    for part, scores in tiled_scores(model, task, image, tile=tile):
        task.check_outputs(len(scores))
        found[part] = scores.argmax(0)
    return found


def tiled_scores(
    model: Layer, task: Task, image: Pixels, *, tile: int | None = None
) -> Iterator[tuple[tuple[slice, slice], Pixels]]:
    """Part of the image, and the model's scores (classes, height, width) there, for each tile.

    The parameters and errors are those of `segment`.
    """
    channels, *size = image.shape
    fields, grid = fields_and_grid(model)
    padded = _fitting(model, channels, size, grid)
    sides, margins = padded, [0, 0]
    if inf not in [field.margin for field in fields]:
        margins = [-(-int(f.margin) // g) * g for f, g in zip(fields, grid, strict=True)]
        side = _side(model, channels, margins, grid, max(padded)) if tile is None else tile
        sides = [-(-integer("tile", side, 1) // g) * g for g in grid]
    tiles = [
        [range(start, min(start + side, n)) for start in range(0, n, side)]
        for n, side in zip(padded, sides, strict=True)
    ]
    count = len(tiles[0]) * len(tiles[1])
    with Progress(total=count, desc="predicting", unit="tile", leave=False) as bar:
        for rows in tiles[0]:
            for columns in tiles[1]:
                outer = [
                    range(max(0, inner.start - margin), min(n, inner.stop + margin))
                    for inner, margin, n in zip((rows, columns), margins, padded, strict=True)
                ]
                x = task.scaled(_cut(image, outer))
                with eval_mode(model):
                    scores = to_numpy(model(asarray(x[None], model.device)))[0]
                    model.forget()
                part = [
                    slice(inner.start, min(inner.stop, n))
                    for inner, n in zip((rows, columns), size, strict=True)
                ]
                inside = [
                    slice(one.start - around.start, one.stop - around.start)
                    for one, around in zip(part, outer, strict=True)
                ]
                if all(one.start < one.stop for one in part):
                    yield (part[0], part[1]), scores[:, inside[0], inside[1]]
                bar.update()


def _fitting(model: Layer, channels: int, size: list[int], grid: tuple[int, ...]) -> list[int]:
    """The size, or the next larger multiple of the grid, that the model keeps."""
    for height, width in (size, [-(-n // g) * g for n, g in zip(size, grid, strict=True)]):
        try:
            dim = model.output_dim((channels, height, width))
        except ValueError as error:
            reason = str(error)
            continue
        if dim is not None and tuple(dim[1:]) == (height, width):
            return [height, width]
        reason = f"its output has the shape {dim}"
    raise ValueError(
        f"the image has {size[0]}×{size[1]} pixels, which {model!r} cannot take: {reason}"
    )


def _side(
    model: Layer, channels: int, margins: list[int], grid: tuple[int, ...], longest: int
) -> int:
    """Side of the largest tile whose activations take no more than `_TILE_BYTES`."""
    side = longest
    while side > _LEAST_SIDE:
        outer = [-(-side // g) * g + 2 * margin for g, margin in zip(grid, margins, strict=True)]
        if model.summary((channels, *outer)).activation_bytes <= _TILE_BYTES:
            break
        side = -(-side // 2)
    return side


def _cut(image: Pixels, part: list[range]) -> Pixels:
    """Part of an image; beyond its end, the last row and column are repeated."""
    rows, columns = part
    inside = image[:, rows.start : rows.stop, columns.start : columns.stop]
    beyond = [(0, len(r) - n) for r, n in zip(part, inside.shape[1:], strict=True)]
    return np.pad(inside, [(0, 0), *beyond], mode="edge")
