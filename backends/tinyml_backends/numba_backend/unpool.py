"""Kernels of max-unpooling and of the gradients of pooling and unpooling.

Arrays are flat, as in `pool`. Invalid winners never lead to an access outside of an array. Where
values are only copied, their arrays are viewed as unsigned integers.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.rows import (
    Row,
    corner_of,
    expand_rows,
    geometry,
    load_cells,
    nothing,
    reduce_rows,
    steps_of,
    store_columns,
)
from tinyml_backends.numba_backend.vectors import (
    WIDE,
    broadcast,
    equals,
    load,
    prefetch,
    select,
    store,
)


@compiled
def scatter(
    y: Any,
    winners: Any,
    out: Any,
    numbers: Any,
    zero: Any,
    offsets: Any,
    sums: bool,
    start: int,
    stop: int,
) -> None:
    """Any window: zeros, then each value at its winner's cell, in row-major order of the windows.

    An item is a row of ``out``. With ``sums``, the values of a cell are added; otherwise the last
    one stays. A value that equals ``zero`` is written as 0: if ``zero`` has the bits of −0.0, all
    zeros become +0.0.
    """
    g = geometry(numbers)
    c, rows = g.channels, g.in_d * g.in_h
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // rows
        before = plane * rows
        end = min(stop, before + rows)
        low, high = row * g.in_w * c, end * g.in_w * c
        for i in range(low, high):
            put(out, i, out.dtype.type(0))
        d0, d1, h0, h1 = touching(g, row - before, end - before)
        for d in range(d0, d1):
            for h in range(h0, h1):
                of = ((plane * g.out_d + d) * g.out_h + h) * g.out_w * c
                corner = corner_of(Row(plane, d, h), g)[2]
                for o in range(g.out_w):
                    for e in range(c):
                        number = min(np.intp(at(winners, of + o * c + e)), len(offsets) - 1)
                        cell = corner + o * g.stride_w * c + e + at(offsets, number)
                        if low <= cell < high:
                            value = at(y, of + o * c + e)
                            value = out.dtype.type(0) if value == zero else value
                            put(out, cell, at(out, cell) + value if sums else value)
        row = end


@compiled
def scatter_tiled(
    y: Any, winners: Any, out: Any, numbers: Any, zero: Any, start: int, stop: int
) -> None:
    """Like `scatter`, for the windows of `Plan.is_tiling`."""
    expand_rows(_scatter, nothing, (y, out, winners, zero), geometry(numbers), start, stop)


@inlined
def _scatter(lanes: Any, arrays: Any, values: Any, g: Any, first: int, of: int, cell: int) -> None:
    """Write one row of the cells of neighbouring windows: the values, or zeros."""
    y, out, winners, zero = arrays
    zeros, number = broadcast(lanes, out, 0), load(lanes, winners, of)
    value = load(lanes, y, of)
    value = select(equals(value, zero), zeros, value)
    left = select(equals(number, first), value, zeros)
    right = select(equals(number, first + 1), value, zeros)
    store_columns(out, cell, left, right, g.channels, ())


@compiled
def touching(g: Any, first: int, end: int) -> Any:
    """Ranges of the outputs, along depth and height, whose windows may hold cells of some rows."""
    low, high = first // g.in_h, (end - 1) // g.in_h
    d0, d1 = _outputs(low, high, g.size_d, g.stride_d, g.padding_d, g.dilation_d, g.out_d)
    if low < high:
        return d0, d1, 0, g.out_h
    low, high = first % g.in_h, (end - 1) % g.in_h
    h0, h1 = _outputs(low, high, g.size_h, g.stride_h, g.padding_h, g.dilation_h, g.out_h)
    return d0, d1, h0, h1


@compiled
def _outputs(
    first: int, last: int, size: int, stride: int, padding: int, dilation: int, outputs: int
) -> Any:
    """Range of the outputs along an axis whose windows extend over inputs ``first`` to ``last``."""
    low = (first + padding - dilation * (size - 1) + stride - 1) // stride
    return max(0, low), min(outputs, (last + padding) // stride + 1)


@compiled
def gather(
    gradient: Any,
    winners: Any,
    out: Any,
    numbers: Any,
    offsets: Any,
    spans: Any,
    fixed: Any,
    start: int,
    stop: int,
) -> None:
    """Gradient at each winner's cell; an item is a row of ``out``.

    If ``fixed`` has the size of the window, all cells of neighbouring windows are loaded as
    vectors, and one cell of each window is selected.
    """
    g, arrays = geometry(numbers), (gradient, out, winners, offsets)
    reduce_rows(_gather, _gather_each, nothing, arrays, g, spans, fixed, start, stop)


@compiled
def _gather_each(arrays: Any, values: Any, g: Any, row: Any, to: int, first: int, end: int) -> None:
    """Gather for the windows ``first`` to ``end`` of a row, whose first output is ``to``."""
    gradient, out, winners, offsets = arrays
    c, corner = g.channels, corner_of(row, g)[2]
    for o in range(first, end):
        for e in range(c):
            number = min(np.intp(at(winners, to + o * c + e)), len(offsets) - 1)
            cell = corner + o * g.stride_w * c + e + at(offsets, number)
            put(out, to + o * c + e, at(gradient, min(max(cell, 0), len(gradient) - 1)))


@inlined
def _gather(arrays: Any, values: Any, g: Any, fixed: Any, o: int, cell: int, to: int) -> None:
    """Select the winners of neighbouring windows; ``cell`` and ``to`` belong to the first one."""
    gradient, out, winners, _ = arrays
    step_d, step_h, step_w = steps_of(g)
    rows, columns = len(fixed.rows), len(fixed.columns)
    winner = load(WIDE, winners, to)
    # an invalid winner selects the last cell
    last = cell + (g.size_d - 1) * step_d + (rows - 1) * step_h + (columns - 1) * step_w
    chosen = load_cells(WIDE, fixed.step, gradient, last)
    for d in range(g.size_d):
        for h in range(rows):
            of, number = cell + d * step_d + h * step_h, (d * rows + h) * columns
            prefetch(WIDE, gradient, of, fixed.step)
            for w in range(columns):
                value = load_cells(WIDE, fixed.step, gradient, of + w * step_w)
                chosen = select(equals(winner, number + w), value, chosen)
    store(out, to, chosen)


@compiled
def gather_last(
    gradient: Any, winners: Any, out: Any, numbers: Any, offsets: Any, start: int, stop: int
) -> None:
    """Like `gather`, but zero for a value that a later window overwrote.

    The windows are visited in descending order, and the cells that they chose are marked. So if the
    cell of a window is already marked, its value was overwritten. Windows from ``stop`` on are also
    visited if they may hold the same cells.
    """
    g = geometry(numbers)
    c, rows = g.channels, g.out_d * g.out_h
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // rows
        before = plane * rows
        first, end = row - before, min(stop - before, rows)
        # the cells of these windows: some depths, or some rows if there is only one depth
        d0 = max(0, first // g.out_h * g.stride_d - g.padding_d)
        d1 = (end - 1) // g.out_h * g.stride_d - g.padding_d + g.dilation_d * (g.size_d - 1)
        d1 = min(g.in_d - 1, d1)
        h0, h1 = 0, g.in_h - 1
        last = min(g.out_d - 1, (d1 + g.padding_d) // g.stride_d) * g.out_h + g.out_h - 1
        if g.out_d == 1:
            h0 = max(0, first * g.stride_h - g.padding_h)
            h1 = (end - 1) * g.stride_h - g.padding_h + g.dilation_h * (g.size_h - 1)
            h1 = min(g.in_h - 1, h1)
            last = min(g.out_h - 1, (h1 + g.padding_h) // g.stride_h)
        plane_of_cells = plane * g.in_d * g.in_h
        low = (plane_of_cells + d0 * g.in_h + h0) * g.in_w * c
        high = (plane_of_cells + d1 * g.in_h + h1 + 1) * g.in_w * c
        marks = np.zeros(high - low, np.uint8)
        for r in range(last, first - 1, -1):
            to = (before + r) * g.out_w * c
            corner = corner_of(Row(plane, r // g.out_h, r % g.out_h), g)[2]
            for o in range(g.out_w - 1, -1, -1):
                for e in range(c):
                    place = to + o * c + e
                    number = min(np.intp(at(winners, place)), len(offsets) - 1)
                    cell = corner + o * g.stride_w * c + e + at(offsets, number)
                    value = out.dtype.type(0)
                    if low <= cell < high and at(marks, cell - low) == 0:
                        put(marks, cell - low, np.uint8(1))
                        value = at(gradient, cell)
                    if r < end:
                        put(out, place, value)
        row = before + end


@compiled
def place(
    y: Any, indices: Any, out: Any, bad: Any, inside: int, pooled: int, start: int, stop: int
) -> None:
    """Each value at the cell of its plane that its index names, in order; an item is a plane.

    ``bad`` receives the flat position of each plane's first invalid index, or -1.
    """
    for plane in range(start, stop):
        for i in range(plane * inside, (plane + 1) * inside):
            put(out, i, out.dtype.type(0))
        found = -1
        for i in range(plane * pooled, (plane + 1) * pooled):
            index = np.intp(at(indices, i))
            if 0 <= index < inside:
                put(out, plane * inside + index, at(y, i))
            elif found < 0:
                found = i
        bad[plane] = found
