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
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.threads import GENERIC_HELD_BYTES, cut, scratch, share


def is_pairs(window: Window, shape: tuple[int, ...]) -> bool:
    """Whether windows of 2×2 tile planes of ``shape``, channels first.

    Arithmetic on pairs supposes that the left one is in the low bits.
    """
    return (
        len(shape) == 2
        and sys.byteorder == "little"
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
        out = empty(np, shape, x.dtype), empty(np, shape, window.winner_dtype)
    values, winners = out
    if not is_pairs(window, x.shape[1:]) or x.dtype == np.float16:  # NumPy has no quick maximum

        def planes(here: slice) -> None:
            pool.max_pool(np, x[here], window, (values[here], winners[here]))

        share(planes, cut(len(x), x, GENERIC_HELD_BYTES))
        return out
    columns = values.shape[-1]
    pairs = x.reshape(-1, 2, 2 * columns)
    values, winners = values.reshape(-1, columns), winners.reshape(-1, columns)

    def rows(here: slice) -> None:
        _pool(np.ascontiguousarray(pairs[here]), window, values[here], winners[here])

    share(rows, cut(len(pairs), x))
    return out


def _pool(pairs: Array, window: Window, values: Array, winners: Array) -> None:
    values, winners = values.reshape(-1), winners.reshape(-1)
    count = len(values)
    memory, below = scratch(pairs.nbytes, 2 * count)
    upper, lower = _split_rows(pairs, memory)
    np.greater(lower, upper, out=below.view(bool))
    # a maximum has the bits of the winning cell, unless that is a zero or a NaN
    np.maximum(lower, upper, out=upper)
    left, right = _split_columns(upper, lower)
    np.maximum(right, left, out=values)
    right_wins, flags = memory[:count], memory[count : 2 * count]  # the upper rows are split
    flag = flags.view(bool)
    if values.dtype.kind == "f" and _is_special(pairs, values, flag):
        plane = pairs.reshape(1, -1, pairs.shape[2])
        shape = 1, len(pairs), -1
        pool.max_pool(np, plane, window, (values.reshape(shape), winners.reshape(shape)))
        return
    # of two equal columns the right one is first where only its winner is in the upper row
    rows, right_is_first = below.view(np.uint16), right_wins.view(bool)
    np.equal(rows, 1, out=right_is_first)
    right_is_first |= np.greater(right, left, out=flag)
    right_is_first &= np.greater_equal(right, left, out=flag)
    np.right_shift(rows, np.multiply(right_wins, 8, out=flags), out=winners, casting="unsafe")
    winners += winners
    winners |= right_wins


def _split_rows(pairs: Array, memory: Array) -> tuple[Array, Array]:
    """Upper and lower rows, copied to the halves of a memory as if a row were one element."""
    rows = pairs.view(f"V{pairs.shape[2] * pairs.itemsize}")
    memory.view(rows.dtype).reshape(2, -1)[...] = rows[:, :, 0].T
    cells = memory.view(pairs.dtype)
    half = len(cells) // 2
    return cells[:half], cells[half:]


def _split_columns(cells: Array, to: Array) -> tuple[Array, Array]:
    """Even and odd columns, copied to the halves of another array; the cells are lost."""
    size, half = cells.itemsize, len(to) // 2
    left, right = to[:half], to[half:]
    if size == 8:  # no integer holds two
        left[...], right[...] = cells[::2], cells[1::2]
    else:
        wide, narrow = cells.view(f"u{2 * size}"), f"u{size}"
        left.view(narrow)[...] = wide  # its low bits
        wide >>= 8 * size
        right.view(narrow)[...] = wide
    return left, right


def _is_special(x: Array, maxima: Array, flags: Array) -> bool:
    """Whether there is a NaN, or a −0.0 that may have met 0.0; as an integer it is the smallest."""
    if np.count_nonzero(np.equal(maxima, 0, out=flags)):
        bits = x.view(f"i{x.itemsize}")
        if bits.min() == np.iinfo(bits.dtype).min:
            return True
    return bool(np.count_nonzero(np.not_equal(maxima, maxima, out=flags)))
