"""Max-unpooling of 2×2 tiles and its gradients with NumPy, in chunks and threads.

The position of a value in a chunk is the position of its tile's first cell plus an offset that its
winner gives. The positions of the first cells are the same in all chunks and are computed once.
"""

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.conventions import Duplicates
from tinyml_backends.generic import unpool
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.chunks import GENERIC, chunks_of
from tinyml_backends.numpy_backend.scratch import buffer_set, buffers
from tinyml_backends.threads import run

#: Columns of the longest row: a chunk has at least two rows, and should not be too large.
LONGEST_ROW = 1 << 15


def is_2x2_tiling(window: Window, shape: tuple[int, ...]) -> bool:
    """Whether 2×2 windows tile planes of ``shape``, channels first, in rows that are not too long.

    The machine must be little-endian: the kernels read two cells as one integer whose low bits are
    the left cell.
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
    backend: Arrays,
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    duplicates: Duplicates,
    *,
    out: Array | None = None,
) -> Array:
    """As `Backend.max_unpool`."""
    if out is None:
        out = empty(np, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype)
    if not is_2x2_tiling(window, out.shape[1:]):

        def unpool_planes(chunk: slice) -> None:
            arguments = y[chunk], winners[chunk], window, input_shape, duplicates
            unpool.max_unpool(backend, *arguments, out=out[chunk])

        run(unpool_planes, *chunks_of(len(y), out, GENERIC))
        return out
    columns = y.shape[-1]
    y, winners = y.reshape(-1, columns), winners.reshape(-1, columns)
    tile_rows, chunks = out.reshape(-1, 4 * columns), chunks_of(len(y), out)
    cells = first_cells(chunks.largest, columns)

    def unpool_tiles(chunk: slice) -> None:
        values, destination = y[chunk].reshape(-1), tile_rows[chunk].reshape(-1)
        b = buffer_set(_Buffers, len(values), columns, y.dtype)
        positions = b.find(winners[chunk], cells)
        if duplicates == "sum":
            values = np.add(values, 0, out=b.values)
        destination.fill(0)
        destination[positions] = values

    run(unpool_tiles, *chunks)
    return out


def max_unpool_gradient(
    backend: Arrays,
    gradient: Array,
    winners: Array,
    window: Window,
    duplicates: Duplicates,
    *,
    out: Array | None = None,
) -> Array:
    """As `Backend.max_unpool_gradient`."""
    if out is None:
        out = empty(np, winners.shape, gradient.dtype)
    if not is_2x2_tiling(window, gradient.shape[1:]):

        def gather_planes(chunk: slice) -> None:
            arguments = gradient[chunk], winners[chunk], window, duplicates
            unpool.max_unpool_gradient(backend, *arguments, out=out[chunk])

        run(gather_planes, *chunks_of(len(gradient), gradient, GENERIC))
        return out
    columns = winners.shape[-1]
    winners, values = winners.reshape(-1, columns), out.reshape(-1, columns)
    tile_rows, chunks = gradient.reshape(-1, 4 * columns), chunks_of(len(winners), gradient)
    cells = first_cells(chunks.largest, columns)
    run(lambda chunk: take_winners(tile_rows[chunk], winners[chunk], values[chunk], cells), *chunks)
    return out


def take_winners(tile_rows: Array, winners: Array, out: Array, cells: Array) -> None:
    """Copy the winners' cells, for as many rows of tiles at a time as ``cells`` has."""
    columns = out.shape[1]
    step = len(cells) // columns
    for i in range(0, len(out), step):
        some = slice(i, i + step)
        destination = out[some].reshape(-1)
        b = buffer_set(_Buffers, len(destination), columns, out.dtype)
        positions = b.find(winners[some], cells)
        # no position is outside; with mode="raise" NumPy would copy through a buffer
        tile_rows[some].reshape(-1).take(positions, out=destination, mode="wrap")


class _Buffers:
    """Scratch buffers for the positions of a chunk's winners, and for its values."""

    def __init__(self, count: int, columns: int, dtype: "np.dtype[Any]") -> None:
        offset = np.min_scalar_type(2 * columns + 1)
        sizes = np.dtype(np.intp).itemsize, dtype.itemsize, offset.itemsize, 1
        positions, values, offsets, self.winners = buffers(*(count * size for size in sizes))
        self.positions, self.values = positions.view(np.intp), values.view(dtype)
        #: Winner 2 is the first cell of the next row, ``2 * columns`` after winner 0.
        self.offsets, self.more_if_lower = offsets.view(offset), offset.type(2 * columns - 2)

    def find(self, winners: Array, cells: Array) -> Array:
        """Flat positions of the winners' cells, in tiles whose first cells are ``cells``.

        The offset of winner w is ``w + (w >> 1) * (2 * columns - 2)``. Only the two low bits of a
        winner are used, so that every position is inside its tile.
        """
        winners = np.bitwise_and(winners.reshape(-1), 3, out=self.winners)
        offsets = self.offsets
        np.right_shift(winners, 1, out=offsets)
        np.multiply(offsets, self.more_if_lower, out=offsets)
        np.add(offsets, winners, out=offsets)
        self.positions[...] = offsets
        return np.add(self.positions, cells[: len(winners)], out=self.positions)


@lru_cache(maxsize=8)
def first_cells(rows: int, columns: int) -> Array:
    """Flat positions of the first cells of all tiles, in ``rows`` rows of ``columns`` tiles."""
    row, column = np.arange(rows, dtype=np.intp), np.arange(columns, dtype=np.intp)
    return ((row * (4 * columns))[:, np.newaxis] + 2 * column).reshape(-1)
