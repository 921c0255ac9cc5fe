"""Max-pooling of pairs of rows and columns, in blocks and threads.

A window of 2×2 with stride 2 needs no geometry: an even plane is a row of pairs of rows, so that a
stack of planes is cut anywhere between two pairs. In memory two neighbours are one integer of twice
their width, and come apart by arithmetic at several times the speed of a strided copy.
"""

import sys

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic import pool
from tinyml_backends.geometry import Window
from tinyml_backends.numpy_backend.threads import share

#: Bytes of cells in a block. Its temporaries outgrow a core's L2 cache, but one NumPy call on fewer
#: is over before another thread, waiting for the interpreter's lock, has woken up.
BLOCK_BYTES = 1 << 20


def is_pairs(window: Window, shape: tuple[int, ...]) -> bool:
    """Whether windows of 2×2 tile planes of ``shape``, channels first."""
    return (
        len(shape) == 2
        and window.size == window.stride == (2, 2)
        and window.padding == ((0, 0), (0, 0))
        and window.dilation == (1, 1)
        and shape[0] % 2 == shape[1] % 2 == 0
    )


def max_pool(
    x: Array, window: Window, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """As `generic.pool.max_pool`."""
    if out is None:
        shape = (len(x), *window.output_shape(x.shape[1 : window.axes + 1]))
        shape += x.shape[window.axes + 1 :]
        out = np.empty(shape, x.dtype), np.empty(shape, window.winner_dtype)
    values, winners = out
    if not is_pairs(window, x.shape[1:]):

        def planes(start: int, stop: int) -> None:
            here = slice(start, stop)
            pool.max_pool(np, x[here], window, (values[here], winners[here]))

        share(planes, len(x), in_block(x))
        return out
    columns = values.shape[-1]
    pairs = x.reshape(-1, 2, 2 * columns)
    pooled = values.reshape(-1, columns), winners.reshape(-1, columns)

    def rows(start: int, stop: int) -> None:
        here = slice(start, stop)
        _pool(np.ascontiguousarray(pairs[here]), window, *(array[here] for array in pooled))

    share(rows, len(pairs), in_block(pairs))
    return out


def in_block(array: Array) -> int:
    """Entries of the first axis in a block."""
    size: int = array.nbytes
    return max(1, BLOCK_BYTES * len(array) // max(1, size))


def _pool(pairs: Array, window: Window, values: Array, winners: Array) -> None:
    upper, lower = split_rows(pairs)
    # a maximum has the bits of the winning cell, unless that is a zero or a NaN
    left, right = _split_columns(np.maximum(upper, lower))
    np.maximum(left, right, out=values)
    if values.dtype.kind == "f" and _is_special(pairs, values):
        x, y, numbers = (array[np.newaxis] for array in (pairs, values, winners))
        pool.max_pool(np, x.reshape(1, -1, pairs.shape[2]), window, (y, numbers))
        return
    below_left, below_right = _split_columns((lower > upper).view(np.uint8))
    # of two equal columns the right one is first where only its winner is in the upper row
    to_right = below_left > below_right
    to_right |= right > left
    to_right &= right >= left
    np.bitwise_xor(below_left, below_right, out=winners)
    winners &= to_right.view(np.uint8)
    winners ^= below_left
    winners += winners
    winners |= to_right.view(np.uint8)


def split_rows(pairs: Array) -> tuple[Array, Array]:
    """Upper and lower rows, each contiguous, copied as if a row were one element."""
    rows = pairs.view(f"V{pairs.shape[2] * pairs.itemsize}")
    return rows[:, 0].copy().view(pairs.dtype), rows[:, 1].copy().view(pairs.dtype)


def _split_columns(rows: Array) -> tuple[Array, Array]:
    """Even and odd columns, each contiguous."""
    size = rows.itemsize
    if size == 8 or sys.byteorder != "little":
        return rows[:, ::2].copy(), rows[:, 1::2].copy()
    wide, narrow = rows.view(f"u{2 * size}"), f"u{size}"
    left, right = wide.astype(narrow), (wide >> 8 * size).astype(narrow)
    return left.view(rows.dtype), right.view(rows.dtype)


def _is_special(x: Array, maxima: Array) -> bool:
    """Whether there is a NaN, or a −0.0 that may have met 0.0; as an integer it is the smallest."""
    if np.count_nonzero(maxima == 0):
        bits = x.view(f"i{x.itemsize}")
        if bits.min() == np.iinfo(bits.dtype).min:
            return True
    return bool(np.count_nonzero(maxima != maxima))
