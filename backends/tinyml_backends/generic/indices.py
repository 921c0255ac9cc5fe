"""Max-pooling indices of either convention, to winners and back.

Data from outside is checked here, in the pass that converts it, and nowhere else.
"""

from math import prod
from types import ModuleType
from typing import Literal

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic.blocks import blocks_of, slice_of
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
    winners = xp.empty(indices.shape, window.winner_dtype)
    per_row = prod(indices.shape[1:]) // max(1, indices.shape[1])
    to_winners = _from_window if convention == "window" else _from_plane
    for planes, rows in blocks_of(winners, indices.shape[1]):
        here = planes, slice_of(rows)
        found, bad = to_winners(xp, indices[here], rows, window, input_shape)
        if bool(bad.any()):
            first = int(bad.reshape(-1).argmax())
            plane, rest = divmod(first, len(rows) * per_row)
            plane += planes.start
            return winners, plane * indices.shape[1] * per_row + rows.start * per_row + rest
        winners[here] = found
    return winners, -1


def _from_window(
    xp: ModuleType, indices: Array, rows: range, window: Window, input_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    bad = (indices < 0) | (indices >= window.count)
    if window.stays_inside(input_shape):
        return indices.astype(window.winner_dtype), bad
    index = xp.where(bad, 0, indices).astype(np.int64)
    digits = _digits(index, window.size)
    for start, cell, step, length in zip(
        _starts(xp, window, input_shape, rows), digits, window.dilation, input_shape, strict=True
    ):
        position = cell * step + start
        bad |= (position < 0) | (position >= length)
    return index.astype(window.winner_dtype), bad


def _from_plane(
    xp: ModuleType, indices: Array, rows: range, window: Window, input_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    bad = (indices < 0) | (indices >= prod(input_shape))
    index = xp.where(bad, 0, indices).astype(np.int64)
    winners = xp.zeros(index.shape, np.int64)
    digits = _digits(index, input_shape)
    for start, position, step, size in zip(
        _starts(xp, window, input_shape, rows), digits, window.dilation, window.size, strict=True
    ):
        distance = position - start
        cell = distance // step if step > 1 else distance
        bad |= (distance < 0) | (cell >= size)
        if step > 1:
            bad |= cell * step != distance
        winners = winners * size + cell
    return winners.astype(window.winner_dtype), bad


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
    return (
        FlatPositions(xp, window, (0, *input_shape)).in_plane(winners).astype(np.int64, copy=False)
    )


def _starts(
    xp: ModuleType, window: Window, input_shape: tuple[int, ...], rows: range
) -> list[Array]:
    """Start of each window along each axis, for some output rows, shaped to broadcast."""
    first, *others = window.starts(input_shape)
    ranges = (first[rows.start : rows.stop], *others)
    return [
        xp.arange(r.start, r.stop, r.step, dtype=np.int64).reshape(
            -1, *[1] * (len(ranges) - 1 - axis)
        )
        for axis, r in enumerate(ranges)
    ]


def _digits(index: Array, shape: tuple[int, ...]) -> list[Array]:
    """Coordinates of flat row-major indices."""
    digits = []
    for length in reversed(shape[1:]):
        quotient = index // length
        digits.append(index - quotient * length)
        index = quotient
    digits.append(index)
    return digits[::-1]
