"""Max-pooling indices of either convention, to winners and back.

Data from outside is checked here, in the pass that converts it, and nowhere else.
"""

from math import prod
from types import ModuleType
from typing import Literal

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic.unpool import FlatPositions
from tinyml_backends.geometry import Window

Convention = Literal["window", "plane"]


def winners_from_indices(
    xp: ModuleType,
    indices: Array,
    convention: Convention,
    window: Window,
    input_shape: tuple[int, ...],
) -> tuple[Array, int]:
    """Winners, and the flat position of the first bad index, or -1 where all are good."""
    limit = window.count if convention == "window" else prod(input_shape)
    bad = (indices < 0) | (indices >= limit)
    index = xp.where(bad, 0, indices).astype(np.int64)
    starts = _along_axes(xp, window.starts(input_shape))
    if convention == "window":
        for start, cell, step, length in zip(
            starts, _digits(index, window.size), window.dilation, input_shape, strict=True
        ):
            position = cell * step + start
            bad |= (position < 0) | (position >= length)
        winners = index
    else:
        winners = xp.zeros(index.shape, np.int64)
        for start, position, step, size in zip(
            starts, _digits(index, input_shape), window.dilation, window.size, strict=True
        ):
            distance = position - start
            cell = distance // step
            bad |= (distance < 0) | (distance % step != 0) | (cell >= size)
            winners = winners * size + cell
    first_bad = int(bad.reshape(-1).argmax()) if bool(bad.any()) else -1
    return winners.astype(window.winner_dtype), first_bad


def indices_from_winners(
    xp: ModuleType,
    winners: Array,
    convention: Convention,
    window: Window,
    input_shape: tuple[int, ...],
) -> Array:
    """Int64 indices of the convention, shaped like ``winners``."""
    if convention == "window":
        return winners.astype(np.int64)
    return FlatPositions(xp, window, input_shape).in_plane(winners).astype(np.int64, copy=False)


def _along_axes(xp: ModuleType, starts: tuple[range, ...]) -> list[Array]:
    """One array for each range, shaped to broadcast along its own spatial axis."""
    return [
        xp.arange(r.start, r.stop, r.step, dtype=np.int64).reshape(
            -1, *[1] * (len(starts) - 1 - axis)
        )
        for axis, r in enumerate(starts)
    ]


def _digits(index: Array, shape: tuple[int, ...]) -> list[Array]:
    """Coordinates of flat row-major indices."""
    digits = []
    for length in reversed(shape):
        digits.append(index % length)
        index = index // length
    return digits[::-1]
