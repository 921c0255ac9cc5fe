"""Rows of windows: which of their cells lie inside the input, and loops over rows for kernels."""

from typing import Any, NamedTuple

from numba import types

from tinyml_backends.numba_backend.compiled import Code, inlined, instruction, put
from tinyml_backends.numba_backend.plans import Geometry
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    load,
    load_alternating,
    store,
    store_alternating,
)

_GEOMETRY = types.NamedUniTuple(types.int64, len(Geometry._fields), Geometry)


class Row(NamedTuple):
    """A row of windows: its plane, and its place along depth and height."""

    plane: int
    depth: int
    height: int


@instruction(lambda numbers: _GEOMETRY(numbers))
def geometry(code: Code, numbers: Any) -> Any:
    """The `Geometry` in `Plan.numbers`, as values: an array would be reread after each store."""
    index = code.context.get_constant
    fields = [
        code.builder.load(code.pointer(0, numbers, index(types.intp, field)))
        for field in range(len(Geometry._fields))
    ]
    return code.context.make_tuple(code.builder, _GEOMETRY, fields)


@inlined
def row_at(number: int, g: Any) -> Any:
    """The row of windows with a number that counts through all planes."""
    plane, rest = number // (g.out_d * g.out_h), number % (g.out_d * g.out_h)
    return Row(plane, rest // g.out_h, rest % g.out_h)


@inlined
def row_after(row: Any, g: Any) -> Any:
    """The next row, without the divisions of `row_at`: they take longer than a short row."""
    plane, depth, height = row.plane, row.depth, row.height + 1
    if height == g.out_h:
        depth, height = depth + 1, 0
    if depth == g.out_d:
        plane, depth = plane + 1, 0
    return Row(plane, depth, height)


@inlined
def corner_of(row: Any, g: Any) -> Any:
    """Depth, height and flat index of the row's first cell, which may lie in the padding."""
    d = row.depth * g.stride_d - g.padding_d
    h = row.height * g.stride_h - g.padding_h
    return d, h, (((row.plane * g.in_d + d) * g.in_h + h) * g.in_w - g.padding_w) * g.channels


@inlined
def steps_of(g: Any) -> Any:
    """Flat distances between the cells of a window, along depth, height and width."""
    row = g.in_w * g.channels
    return g.dilation_d * g.in_h * row, g.dilation_h * row, g.dilation_w * g.channels


@inlined
def inside_along(first: int, size: int, dilation: int, cells: int) -> Any:
    """Range of the ``size`` cells of a window along an axis that lie inside the input."""
    low, high = 0, size
    if first < 0:
        low = -(first // dilation)
    if first + (size - 1) * dilation >= cells:
        high = (cells - 1 - first) // dilation + 1
    return low, high


@inlined
def inside_of(row: Any, g: Any, spans: Any) -> Any:
    """Range of the windows of a row that lie wholly inside the input; it may be empty."""
    d, h, _ = corner_of(row, g)
    if (
        d < 0
        or h < 0
        or d + (g.size_d - 1) * g.dilation_d >= g.in_d
        or h + (g.size_h - 1) * g.dilation_h >= g.in_h
    ):
        return g.out_w, g.out_w
    return spans[0], spans[2 * g.size_w - 1]


@inlined
def load_cells(lanes: Any, step: Any, x: Any, cell: int) -> Any:
    """One cell of each of neighbouring windows; these cells are ``len(step)`` elements apart."""
    return load(lanes, x, cell) if len(step) == 1 else load_alternating(lanes, x, cell)[0]


@inlined
def store_columns(out: Any, cell: int, left: Any, right: Any, c: int, streamed: Any) -> None:
    """Store the left and the right cells of one row of neighbouring windows of two columns.

    If the tuple ``streamed`` is not empty and ``c`` is 1, non-temporal stores are used.
    """
    if c == 1:
        store_alternating(out, cell, left, right, streamed)
    else:
        store(out, cell, left)
        store(out, cell + c, right)


@inlined
def nothing(arrays: Any, row: Any) -> Any:
    """The ``values_of`` of kernels that need no values of a row."""
    return ()


@inlined
def reduce_rows(
    vector: Any,
    each: Any,
    values_of: Any,
    arrays: Any,
    g: Any,
    spans: Any,
    fixed: Any,
    start: int,
    stop: int,
) -> None:
    """Reduce each window of some rows to an output; common windows are vectorised where possible.

    ``arrays`` are the input, the output and whatever else the functions need, and
    ``values_of(arrays, row)`` are the values that a row of windows needs. For neighbouring windows
    with all cells inside the input, ``vector(arrays, values, g, fixed, o, cell, to)`` is called
    with the first window, its first cell and its output; for others
    ``each(arrays, values, g, row, to, first, end)`` with the row's first output and a range of
    windows.
    """
    x, c = arrays[0], g.channels
    step_d, step_h, step_w = steps_of(g)
    reach = (g.size_d - 1) * step_d + (g.size_h - 1) * step_h + (g.size_w - 1) * step_w
    reach += len(WIDE) * len(fixed.step)  # elements that vectors read from the first cell on
    windows = max(1, spans[2 * g.size_w - 1] - spans[0])
    n, group = (windows, windows) if c == 1 else (c, 1)  # neighbours, and the windows they cover
    row = row_at(start, g)
    for number in range(start, stop):
        first, end = inside_of(row, g, spans) if len(fixed.columns) > 0 else (0, 0)
        corner, to = corner_of(row, g)[2], number * g.out_w * c
        values = values_of(arrays, row)
        if first > 0:
            each(arrays, values, g, row, to, 0, first)
        for o in range(first, end, group):
            for v in range(0, n, len(WIDE)):
                i = min(v, max(0, n - len(WIDE)))
                cell, place = corner + o * g.stride_w * c + i * len(fixed.step), to + o * c + i
                if cell + reach <= len(x) and place + len(WIDE) <= stop * g.out_w * c:
                    vector(arrays, values, g, fixed, o, cell, place)
                elif c == 1:
                    each(arrays, values, g, row, to, first + v, min(end, first + v + len(WIDE)))
                else:
                    each(arrays, values, g, row, to, o, o + 1)
        if end < g.out_w:
            each(arrays, values, g, row, to, end, g.out_w)
        row = row_after(row, g)


@inlined
def expand_rows(vector: Any, values_of: Any, arrays: Any, g: Any, start: int, stop: int) -> None:
    """Write the cells of windows that tile the input and have two columns, row by row of the cells.

    ``arrays`` are an array with an element for each window, the output, and whatever else is
    needed; ``values_of`` is as in `reduce_rows`. ``vector(lanes, arrays, values, g, first, of,
    cell)`` writes two cells of each of neighbouring windows; the cells' numbers are ``first`` and
    ``first + 1``. ``of`` and ``cell`` are the flat indices of the first window and its left cell.
    """
    y, out, c = arrays[0], arrays[1], g.channels
    n = g.out_w if c == 1 else c  # neighbours to treat at once
    step = 2 if c == 1 else 1
    reach = 2 * len(WIDE) if c == 1 else c + len(WIDE)
    plane, d, h = start // (g.in_d * g.in_h), start // g.in_h % g.in_d, start % g.in_h
    for number in range(start, stop):
        row = Row(plane, d // g.size_d, h // g.size_h)
        to = used = number * g.in_w * c
        if row.depth < g.out_d and row.height < g.out_h:
            used += 2 * g.out_w * c
            begin = ((plane * g.out_d + row.depth) * g.out_h + row.height) * g.out_w * c
            first = (d % g.size_d * g.size_h + h % g.size_h) * 2
            values = values_of(arrays, row)
            for o in range(1 if c == 1 else g.out_w):
                of, cell = begin + o * c, to + 2 * o * c
                for v in range(0, n, len(WIDE)):
                    i = min(v, max(0, n - len(WIDE)))
                    if (
                        of + i + len(WIDE) <= len(y)
                        and cell + i * step + reach <= stop * g.in_w * c
                    ):
                        vector(WIDE, arrays, values, g, first, of + i, cell + i * step)
                        continue
                    for i in range(v, min(n, v + len(WIDE))):
                        vector(ONE, arrays, values, g, first, of + i, cell + i * step)
        for i in range(used, (number + 1) * g.in_w * c):
            put(out, i, out.dtype.type(0))
        h += 1
        if h == g.in_h:
            d, h = d + 1, 0
        if d == g.in_d:
            plane, d = plane + 1, 0
