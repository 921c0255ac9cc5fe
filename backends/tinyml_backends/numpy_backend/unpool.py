"""Max-unpooling and its gradients for pairs of rows and columns, in blocks and threads.

One flat index into a block of pairs of rows says where every value belongs. Windows of 2×2 that
tile the planes begin at the same places in each block, so that those are computed once.
"""

from functools import lru_cache

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic import unpool
from tinyml_backends.generic.unpool import Duplicates
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.pool import is_pairs
from tinyml_backends.numpy_backend.threads import GENERIC_HELD_BYTES, cut, scratch, share


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

        share(planes, cut(len(y), out, GENERIC_HELD_BYTES))
        return out
    columns = y.shape[-1]
    y, winners = y.reshape(-1, columns), winners.reshape(-1, columns)
    pairs, parts = out.reshape(-1, 4 * columns), cut(len(y), out)

    def rows(here: slice) -> None:
        values = y[here]
        positions, spare = _positions(winners[here], parts.ranges[0].stop, values.nbytes)
        if duplicates == "sum":
            total = spare.view(y.dtype).reshape(values.shape)
            values = np.add(values, y.dtype.type(0), out=total)
        target = pairs[here].reshape(-1)
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

        share(planes, cut(len(gradient), gradient, GENERIC_HELD_BYTES))
        return out
    columns = winners.shape[-1]
    winners, values = winners.reshape(-1, columns), out.reshape(-1, columns)
    pairs, parts = gradient.reshape(-1, 4 * columns), cut(len(winners), gradient)

    def rows(here: slice) -> None:
        positions, _ = _positions(winners[here], parts.ranges[0].stop)
        # none is outside; where NumPy is to refuse such a one, it takes into a buffer first
        pairs[here].reshape(-1).take(positions, out=values[here], mode="wrap")

    share(rows, parts)
    return out


def _positions(winners: Array, most: int, spare: int = 0) -> tuple[Array, Array]:
    """Flat positions of winners in a block of pairs of rows; of others than 0 to 3, in the window.

    They are the thread's scratch memory, as are the ``spare`` bytes of the second result. ``most``
    is the largest number of pairs in a block.
    """
    (rows, columns), size = winners.shape, winners.size
    dtype = np.min_scalar_type(2 * columns + 1)
    *memory, rest = scratch(8 * size, spare, dtype.itemsize * size, size)
    cells, offsets = rest.reshape(winners.shape), memory[2].view(dtype).reshape(winners.shape)
    np.bitwise_and(np.right_shift(winners, 1, out=cells), 1, out=offsets)
    offsets *= dtype.type(2 * columns - 2)
    offsets += np.bitwise_and(winners, 3, out=cells)
    starts = _starts if most * columns <= 1 << 18 else _starts.__wrapped__
    positions = memory[0].view(np.intp).reshape(winners.shape)
    return np.add(starts(most, columns)[:rows], offsets, out=positions), memory[1]


@lru_cache(maxsize=8)
def _starts(rows: int, columns: int) -> Array:
    """Flat positions where the windows begin."""
    row, column = np.arange(rows, dtype=np.intp), np.arange(columns, dtype=np.intp)
    return (row * (4 * columns))[:, np.newaxis] + 2 * column
