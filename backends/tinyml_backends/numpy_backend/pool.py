"""Max-pooling of pairs of rows and columns, in blocks and threads.

A window of 2×2 with stride 2 needs no geometry: an even plane is a row of pairs of rows, so that a
stack of planes is cut anywhere between two pairs. A block of them is pooled along the rows first:
two neighbours are one integer of twice their width in memory, which NumPy narrows to its low half
several times as fast as it copies every second element. Then each row meets the one behind it,
every second time in vain; that costs less than to sort the rows first.
"""

from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic import pool
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.threads import GENERIC, cut, laid_out, scratch, share
from tinyml_backends.numpy_backend.unpool import is_pairs, starts_of, take_winners


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

        share(planes, cut(len(x), x, GENERIC))
        return out
    columns = values.shape[-1]
    pairs = x.reshape(-1, 4 * columns)
    values, winners = values.reshape(-1, columns), winners.reshape(-1, columns)

    def rows(here: slice) -> None:
        _pool(np.ascontiguousarray(pairs[here]), window, values[here], winners[here])

    share(rows, cut(len(pairs), x))
    return out


def _pool(pairs: Array, window: Window, values: Array, winners: Array) -> None:
    desk = laid_out(_Desk, pairs.size // 2, values.shape[1], pairs.dtype)
    desk.take(pairs.reshape(-1))
    np.greater(desk.right, desk.left, out=desk.right_wins)
    np.maximum(desk.right, desk.left, out=desk.right)
    np.greater(desk.lower, desk.upper, out=desk.lower_wins)
    np.maximum(desk.lower, desk.upper, out=desk.maxima)
    # the winner is that of the upper row, or that of the lower one and 2 more
    np.bitwise_or(desk.winner_in_row, 2, out=desk.winner_in_lower)
    np.multiply(desk.winner_below, desk.is_lower, out=desk.is_lower)
    np.maximum(desk.winner_above, desk.is_lower, out=desk.winners)
    values.reshape(-1).view(desk.row)[...] = desk.rows_of_maxima
    winners.reshape(-1).view(desk.row_of_winners)[...] = desk.rows_of_winners
    if pairs.dtype.kind == "f":
        _mend(pairs, window, values, winners, desk.maxima[: values.size])


class _Desk:
    """Where a block is pooled: left and right cells of its pairs of columns, row after row.

    An upper row of these stands in ``upper`` where the lower one stands in ``lower``; so do rows
    that belong to different windows, which `rows_of_maxima` leaves out.
    """

    def __init__(self, pairs: int, columns: int, dtype: "np.dtype[Any]") -> None:
        size, behind = dtype.itemsize, pairs - columns
        *halves, flags, more = scratch(pairs * size, pairs * size, pairs, behind)
        self.left, self.right = (half.view(dtype) for half in halves)
        winners = halves[1][:pairs]  # whose memory is free once the maxima are found
        self.right_wins, self.winner_in_row = flags.view(bool), flags
        self.upper, self.lower = self.right[:-columns], self.right[columns:]
        self.maxima = self.left[:-columns]
        self.lower_wins, self.is_lower = more.view(bool), more
        self.winner_in_lower, self.winner_below = winners, winners[columns:]
        self.winner_above, self.winners = flags[:-columns], winners[:-columns]
        self.row, self.row_of_winners = np.dtype(f"V{columns * size}"), np.dtype(f"V{columns}")
        self.rows_of_maxima = self.left.view(self.row)[::2]
        self.rows_of_winners = winners.view(self.row_of_winners)[::2]
        if size < 8:  # there is no integer for a pair of those
            self.pair = np.dtype(f"u{2 * size}")
            self.low, self.high = self.left.view(f"u{size}"), self.right[:-1].view(f"u{size}")

    def take(self, x: Array) -> None:
        """Copy left and right cells of a block."""
        if x.itemsize == 8:
            self.left[...], self.right[...] = x[::2], x[1::2]
            return
        self.low[...] = x.view(self.pair)
        self.high[...] = x[1:-1].view(self.pair)  # from the first right cell on
        self.right[-1] = x[-1]


def _mend(pairs: Array, window: Window, values: Array, winners: Array, spare: Array) -> None:
    """Pool a block with NaNs anew; where 0.0 may have met −0.0, take the zero of the winner."""
    least = np.minimum.reduce(np.absolute(values.reshape(-1), out=spare))
    if least > 0:
        return
    bits, columns = pairs.view(f"i{pairs.itemsize}"), values.shape[1]
    if np.isnan(least):
        plane = pairs.reshape(1, -1, 2 * columns)
        pool.max_pool(np, plane, window, (values[np.newaxis], winners[np.newaxis]))
    elif bits.min() == np.iinfo(bits.dtype).min:
        some = starts_of(-(-len(pairs) // 12), columns)  # those of all would take a block's memory
        take_winners(pairs, winners, values, some)
