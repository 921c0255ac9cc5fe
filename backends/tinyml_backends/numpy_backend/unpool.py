"""Max-unpooling and its gradients for pairs of rows and columns, in blocks and threads.

One flat index into a block of pairs of rows says where every value belongs. Windows of 2×2 that
tile the planes begin at the same places in each block, so that those are computed once.
"""

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.conventions import Duplicates
from tinyml_backends.generic import unpool
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.threads import GENERIC, cut, laid_out, scratch, share

#: Columns of the longest row: a block holds two rows at least.
LONGEST_ROW = 1 << 15


def is_pairs(window: Window, shape: tuple[int, ...]) -> bool:
    """Whether windows of 2×2 tile planes of ``shape``, channels first, in rows that are not huge.

    Arithmetic on pairs supposes that the left one is in the low bits.
    """
    return (
        len(shape) == 2
        and sys.byteorder == "little"
        and window.size == window.stride == (2, 2)
        and window.padding == ((0, 0), (0, 0))
        and window.dilation == (1, 1)
        and shape[0] % 2 == shape[1] % 2 == 0
        and shape[1] <= LONGEST_ROW
    )


def max_unpool(
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    duplicates: Duplicates,
    out: Array | None = None,
) -> Array:
    """As `generic.unpool.max_unpool`; the sum is also the gradient of pooling."""
    if out is None:
        out = empty(np, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype)
    if not is_pairs(window, out.shape[1:]):

        def planes(here: slice) -> None:
            arrays = y[here], winners[here]
            unpool.max_unpool(np, *arrays, window, input_shape, duplicates, out[here])

        share(planes, cut(len(y), out, GENERIC))
        return out
    columns = y.shape[-1]
    y, winners = y.reshape(-1, columns), winners.reshape(-1, columns)
    pairs, parts = out.reshape(-1, 4 * columns), cut(len(y), out)
    starts = starts_of(parts.most, columns)

    def rows(here: slice) -> None:
        values, target = y[here].reshape(-1), pairs[here].reshape(-1)
        desk = laid_out(_Desk, len(values), columns, y.dtype)
        positions = desk.find(winners[here], starts)
        if duplicates == "sum":
            values = np.add(values, 0, out=desk.values)
        target.fill(0)
        target[positions] = values

    share(rows, parts)
    return out


def max_unpool_gradient(
    gradient: Array,
    winners: Array,
    window: Window,
    duplicates: Duplicates,
    out: Array | None = None,
) -> Array:
    """As `generic.unpool.max_unpool_gradient`."""
    if out is None:
        out = empty(np, winners.shape, gradient.dtype)
    if not is_pairs(window, gradient.shape[1:]):

        def planes(here: slice) -> None:
            arrays = gradient[here], winners[here]
            unpool.max_unpool_gradient(np, *arrays, window, duplicates, out[here])

        share(planes, cut(len(gradient), gradient, GENERIC))
        return out
    columns = winners.shape[-1]
    winners, values = winners.reshape(-1, columns), out.reshape(-1, columns)
    pairs, parts = gradient.reshape(-1, 4 * columns), cut(len(winners), gradient)
    starts = starts_of(parts.most, columns)
    share(lambda i: take_winners(pairs[i], winners[i], values[i], starts), parts)
    return out


def take_winners(pairs: Array, winners: Array, out: Array, starts: Array) -> None:
    """Copy the winning cells of pairs of rows, of as many at once as there are starts for."""
    columns = out.shape[1]
    for i in range(0, len(out), len(starts) // columns):
        here = slice(i, i + len(starts) // columns)
        target = out[here].reshape(-1)
        positions = laid_out(_Desk, len(target), columns, out.dtype).find(winners[here], starts)
        # none is outside; where NumPy is to refuse such a one, it takes into a buffer first
        pairs[here].reshape(-1).take(positions, out=target, mode="wrap")


class _Desk:
    """Where the positions of a block's winners are found; its values may be copied there too."""

    def __init__(self, count: int, columns: int, dtype: "np.dtype[Any]") -> None:
        offset = np.min_scalar_type(2 * columns + 1)
        sizes = np.dtype(np.intp).itemsize, dtype.itemsize, offset.itemsize, 1
        positions, values, offsets, self.cells = scratch(*(count * size for size in sizes))
        self.positions, self.values = positions.view(np.intp), values.view(dtype)
        self.offsets, self.row_below = offsets.view(offset), offset.type(2 * columns - 2)

    def find(self, winners: Array, starts: Array) -> Array:
        """Flat positions of winners, whose low two bits count, in windows that begin there."""
        cells, offsets = np.bitwise_and(winners.reshape(-1), 3, out=self.cells), self.offsets
        np.right_shift(cells, 1, out=offsets)
        np.multiply(offsets, self.row_below, out=offsets)
        np.add(offsets, cells, out=offsets)
        self.positions[...] = offsets
        return np.add(self.positions, starts[: len(cells)], out=self.positions)


@lru_cache(maxsize=8)
def starts_of(rows: int, columns: int) -> Array:
    """Flat positions where the windows of so many pairs of rows begin."""
    row, column = np.arange(rows, dtype=np.intp), np.arange(columns, dtype=np.intp)
    return ((row * (4 * columns))[:, np.newaxis] + 2 * column).reshape(-1)
