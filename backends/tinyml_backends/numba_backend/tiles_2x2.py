"""Kernels for 2×2 windows with stride 2 that tile an image: the windows of `Plan.is_2x2_tiling`.

Arrays are flat and hold rows of H × W × C cells, where C is 1 if the channels come first. An item
is a row of windows. Sixteen neighbouring windows, or channels, are one vector. The last vector in
a row of windows repeats some of the one before. In a row of fewer than sixteen it extends into the
next rows, whose results are written later; the last rows are done window by window instead.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import compiled, inlined, put
from tinyml_backends.numba_backend.rows import geometry, store_columns
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    broadcast,
    equals,
    exceeds,
    load,
    load_alternating,
    prefetch,
    select,
    store,
)


@compiled
def max_pool(x: Any, values: Any, winners: Any, numbers: Any, start: int, stop: int) -> None:
    """Like `pool.max_pool`."""
    g, arrays = geometry(numbers), (x, values, winners)
    wide = _end_of_wide_rows(g, start, stop)
    _pool_rows(WIDE, arrays, g, start, wide)
    _pool_rows(ONE, arrays, g, wide, stop)


@compiled
def scatter(
    y: Any, winners: Any, out: Any, numbers: Any, zero: Any, streamed: Any, start: int, stop: int
) -> None:
    """Like `unpool.scatter` without adding.

    ``streamed`` is a tuple of one element if ``out`` is written with non-temporal stores, else an
    empty one. Then channels come first, and each row of ``out`` starts at a multiple of 16 bytes.
    """
    g = geometry(numbers)
    wide = _end_of_wide_rows(g, start, stop)
    _scatter_rows(WIDE, (y, winners, out, zero, streamed), g, start, wide)
    _scatter_rows(ONE, (y, winners, out, zero, ()), g, wide, stop)


@compiled
def gather(gradient: Any, winners: Any, out: Any, numbers: Any, start: int, stop: int) -> None:
    """Like `unpool.gather`."""
    g, arrays = geometry(numbers), (gradient, winners, out)
    wide = _end_of_wide_rows(g, start, stop)
    _gather_rows(WIDE, arrays, g, start, wide)
    _gather_rows(ONE, arrays, g, wide, stop)


@inlined
def _end_of_wide_rows(g: Any, start: int, stop: int) -> Any:
    """First row of windows that is too close to ``stop`` for full vectors."""
    length = g.out_w * g.channels
    beyond = len(WIDE) - (g.out_w if g.channels == 1 else g.channels)
    return max(start, stop - max(0, beyond + length - 1) // length)


@inlined
def _each_vector(lanes: Any, compute: Any, arrays: Any, g: Any, start: int, stop: int) -> None:
    """Call ``compute(lanes, arrays, g, window, cell)`` for all vectors in some rows of windows.

    ``window`` and ``cell`` are the flat indices of the vector's first window and of its first cell.
    """
    c = g.channels
    n = g.out_w if c == 1 else c
    for row in range(start, stop):
        top = _row_of_cells(row, g) * g.in_w * c
        for o in range(1 if c == 1 else g.out_w):
            for v in range(0, n, len(lanes)):
                i = min(v, max(0, n - len(lanes)))
                cell = top + 2 * o * c + (2 * i if c == 1 else i)
                compute(lanes, arrays, g, (row * g.out_w + o) * c + i, cell)


@inlined
def _row_of_cells(row: int, g: Any) -> int:
    """First row of cells of a row of windows; without a division if no rows are left over."""
    rest: int = g.in_h - 2 * g.out_h
    return 2 * row if rest == 0 else 2 * row + row // g.out_h * rest


@inlined
def _columns(lanes: Any, x: Any, cell: int, c: int) -> Any:
    """The left and the right cells of one row of neighbouring windows."""
    if c == 1:
        prefetch(lanes, x, cell, (0, 0))
        return load_alternating(lanes, x, cell)
    prefetch(lanes, x, cell, (0,))
    prefetch(lanes, x, cell + c, (0,))
    return load(lanes, x, cell), load(lanes, x, cell + c)


@compiled
def _pool_rows(lanes: Any, arrays: Any, g: Any, start: int, stop: int) -> None:
    _each_vector(lanes, _pool, arrays, g, start, stop)


@inlined
def _pool(lanes: Any, arrays: Any, g: Any, window: int, cell: int) -> None:
    x, values, winners = arrays
    left, right = _columns(lanes, x, cell, g.channels)
    wins = exceeds(right, left)
    upper = select(wins, right, left)
    number = select(wins, broadcast(lanes, winners, 1), broadcast(lanes, winners, 0))
    left, right = _columns(lanes, x, cell + g.in_w * g.channels, g.channels)
    wins = exceeds(right, left)
    lower = select(wins, right, left)
    other = select(wins, broadcast(lanes, winners, 3), broadcast(lanes, winners, 2))
    wins = exceeds(lower, upper)
    store(values, window, select(wins, lower, upper))
    store(winners, window, select(wins, other, number))


@compiled
def _scatter_rows(lanes: Any, arrays: Any, g: Any, start: int, stop: int) -> None:
    for row in range(start, stop):
        if g.channels == 1:
            _each_vector(lanes, _scatter, (*arrays, True, True), g, row, row + 1)
        else:  # vectors extend into the next cells: write the upper row before the lower
            _each_vector(lanes, _scatter, (*arrays, True, False), g, row, row + 1)
            _each_vector(lanes, _scatter, (*arrays, False, True), g, row, row + 1)
        _clear_rest(arrays[2], g, row)


@inlined
def _scatter(lanes: Any, arrays: Any, g: Any, window: int, cell: int) -> None:
    """Write the upper row of cells, the lower one, or both."""
    y, winners, out, zero, streamed, upper, lower = arrays
    c, zeros = g.channels, broadcast(lanes, out, 0)
    value, number = load(lanes, y, window), load(lanes, winners, window)
    value = select(equals(value, zero), zeros, value)
    if upper:
        left = select(equals(number, 0), value, zeros)
        right = select(equals(number, 1), value, zeros)
        store_columns(out, cell, left, right, c, streamed)
    if lower:
        left = select(equals(number, 2), value, zeros)
        right = select(equals(number, 3), value, zeros)
        store_columns(out, cell + g.in_w * c, left, right, c, streamed)


@inlined
def _clear_rest(out: Any, g: Any, row: int) -> None:
    """Write 0 to the cells that no window holds: at the end of each row, and below the last row."""
    length, used = g.in_w * g.channels, 2 * g.out_w * g.channels
    top = _row_of_cells(row, g) * length
    for first in (top, top + length):
        for i in range(first + used, first + length):
            put(out, i, out.dtype.type(0))
    if g.in_h > 2 * g.out_h and row % g.out_h == g.out_h - 1:
        for i in range(top + 2 * length, top + (g.in_h - 2 * g.out_h + 2) * length):
            put(out, i, out.dtype.type(0))


@compiled
def _gather_rows(lanes: Any, arrays: Any, g: Any, start: int, stop: int) -> None:
    _each_vector(lanes, _gather, arrays, g, start, stop)


@inlined
def _gather(lanes: Any, arrays: Any, g: Any, window: int, cell: int) -> None:
    gradient, winners, out = arrays
    number = load(lanes, winners, window)
    left, right = _columns(lanes, gradient, cell, g.channels)
    upper = select(equals(number, 1), right, left)
    left, right = _columns(lanes, gradient, cell + g.in_w * g.channels, g.channels)
    lower = select(equals(number, 3), right, left)
    chosen = select(equals(number, 0), upper, lower)
    store(out, window, select(equals(number, 1), upper, chosen))
