"""Max-pooling of 2×2 tiles with NumPy, in chunks and threads.

Two rows of cells are one row of tiles. A stack of planes can be divided between any two rows of
tiles, because every plane has an even number of rows. In a chunk, the left and the right cells of
all tiles are compared first. To separate them, NumPy reads two neighbouring cells as one integer of
twice the width and narrows it to its low half. That is several times as fast as copying every
second element, and is possible for cells of up to 4 bytes. Then each row is compared with the next
one. Every second of these comparisons is between different rows of tiles and is not used; leaving
it out would cost more.
"""

from typing import Any

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic import pool
from tinyml_backends.geometry import Window
from tinyml_backends.numpy_backend.chunks import GENERIC, chunks_of
from tinyml_backends.numpy_backend.scratch import buffer_set, buffers
from tinyml_backends.numpy_backend.unpool import first_cells, is_2x2_tiling, take_winners
from tinyml_backends.threads import run

TILES = Window.of(2, size=2)


def max_pool(
    backend: Arrays, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """As `Backend.max_pool`."""
    out = out or pool.new_results(np, x, window)
    values, winners = out
    has_slow_maximum = x.dtype == np.float16  # in NumPy
    if has_slow_maximum or not is_2x2_tiling(window, x.shape[1:]):

        def pool_planes(chunk: slice) -> None:
            pool.max_pool(backend, x[chunk], window, out=(values[chunk], winners[chunk]))

        run(pool_planes, *chunks_of(len(x), x, GENERIC))
        return out
    columns = values.shape[-1]
    tile_rows = x.reshape(-1, 4 * columns)
    values, winners = values.reshape(-1, columns), winners.reshape(-1, columns)

    def pool_tiles(chunk: slice) -> None:
        rows = np.ascontiguousarray(tile_rows[chunk])
        _pool(backend, rows, values[chunk], winners[chunk])

    run(pool_tiles, *chunks_of(len(tile_rows), x))
    return out


def _pool(backend: Arrays, tile_rows: Array, values: Array, winners: Array) -> None:
    """Pool one chunk."""
    b = buffer_set(_Buffers, tile_rows.size // 2, values.shape[1], tile_rows.dtype)
    b.split(tile_rows.reshape(-1))
    np.greater(b.right, b.left, out=b.right_wins)
    np.maximum(b.right, b.left, out=b.right)  # from here on the larger of two cells in a row
    np.greater(b.lower, b.upper, out=b.lower_wins)
    np.maximum(b.lower, b.upper, out=b.maxima)
    # the winner is that of the upper row (0 or 1), or that of the lower row plus 2
    np.bitwise_or(b.winner_in_row, 2, out=b.winner_if_lower)
    np.multiply(b.winner_in_next_row, b.is_lower, out=b.is_lower)
    np.maximum(b.winner_in_upper, b.is_lower, out=b.winners)
    values.reshape(-1).view(b.row)[...] = b.rows_of_maxima
    winners.reshape(-1).view(b.row_of_winners)[...] = b.rows_of_winners
    if tile_rows.dtype.kind == "f":
        scratch = b.maxima[: values.size]
        _correct_special_values(backend, tile_rows, values, winners, scratch)


class _Buffers:
    """Scratch buffers for one chunk, and views of them.

    ``lower`` begins one row of cells after ``upper``. ``rows_of_maxima`` and ``rows_of_winners``
    leave out the results of comparisons between different rows of tiles.
    """

    def __init__(self, size: int, columns: int, dtype: "np.dtype[Any]") -> None:
        width, compared = dtype.itemsize, size - columns
        *halves, in_row, between_rows = buffers(size * width, size * width, size, compared)
        self.left, self.right = (half.view(dtype) for half in halves)
        self.right_wins, self.winner_in_row = in_row.view(bool), in_row
        self.upper, self.lower = self.right[:-columns], self.right[columns:]
        self.maxima = self.left[:-columns]
        self.lower_wins, self.is_lower = between_rows.view(bool), between_rows
        winners = halves[1][:size]  # reuses ``right``, which is not read after the maxima are known
        self.winner_if_lower, self.winner_in_next_row = winners, winners[columns:]
        self.winner_in_upper, self.winners = in_row[:-columns], winners[:-columns]
        self.row, self.row_of_winners = np.dtype(f"V{columns * width}"), np.dtype(f"V{columns}")
        self.rows_of_maxima = self.left.view(self.row)[::2]
        self.rows_of_winners = winners.view(self.row_of_winners)[::2]
        if width < 8:  # no integer is wide enough for two cells of 8 bytes
            self.two_cells = np.dtype(f"u{2 * width}")
            self.left_bits = self.left.view(f"u{width}")
            self.right_bits = self.right[:-1].view(f"u{width}")

    def split(self, x: Array) -> None:
        """Copy the even columns of a chunk to ``left``, and the odd columns to ``right``."""
        if x.itemsize == 8:
            self.left[...], self.right[...] = x[::2], x[1::2]
            return
        self.left_bits[...] = x.view(self.two_cells)
        self.right_bits[...] = x[1:-1].view(self.two_cells)  # low halves from the second cell on
        self.right[-1] = x[-1]


def _correct_special_values(
    backend: Arrays, tile_rows: Array, values: Array, winners: Array, scratch: Array
) -> None:
    """Pool a chunk with NaNs again; if 0.0 and −0.0 may be in one tile, copy the winners' cells."""
    least = np.minimum.reduce(np.absolute(values.reshape(-1), out=scratch))
    if least > 0:
        return
    bits, columns = tile_rows.view(f"i{tile_rows.itemsize}"), values.shape[1]
    if np.isnan(least):
        plane = tile_rows.reshape(1, -1, 2 * columns)
        pool.max_pool(backend, plane, TILES, out=(values[np.newaxis], winners[np.newaxis]))
    elif bits.min() == np.iinfo(bits.dtype).min:  # the bits of −0.0
        # a twelfth at a time: positions of all cells would need as much memory as the chunk
        cells = first_cells(-(-len(tile_rows) // 12), columns)
        take_winners(tile_rows, winners, values, cells)
