"""Kernels of average pooling and its gradient, for float32 and float64; arrays as in `pool`.

``counts`` are three vectors, one for each axis. The divisor of a window is the product of one
element of each: see `plans.divisors`.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.rows import (
    corner_of,
    expand_rows,
    geometry,
    inside_along,
    load_cells,
    reduce_rows,
    steps_of,
    store_columns,
)
from tinyml_backends.numba_backend.unpool import touching
from tinyml_backends.numba_backend.vectors import (
    WIDE,
    add,
    broadcast,
    divide,
    load,
    prefetch,
    store,
)


@compiled
def avg_pool(
    x: Any, out: Any, numbers: Any, spans: Any, counts: Any, fixed: Any, start: int, stop: int
) -> None:
    """The cells of each window, added to +0.0 in row-major order, then divided.

    An item is a row of ``out``. If ``fixed`` has the size of the window, neighbouring windows are
    summed as vectors.
    """
    g, arrays = geometry(numbers), (x, out, counts, spans)
    reduce_rows(_average, _average_each, _divisors, arrays, g, spans, fixed, start, stop)


@inlined
def _divisors(arrays: Any, row: Any) -> Any:
    """The divisors of a row of windows: one factor for all, and a vector with one for each."""
    along_d, along_h, along_w = arrays[2]
    return along_d[row.depth] * along_h[row.height], along_w


@inlined
def _average(arrays: Any, divisors: Any, g: Any, fixed: Any, o: int, cell: int, to: int) -> None:
    """Average neighbouring windows; ``cell`` and ``to`` are the first one's cell and output."""
    x, out, _, _ = arrays
    step_d, step_h, step_w = steps_of(g)
    total = broadcast(WIDE, x, 0)
    for d in range(g.size_d):
        for h in range(len(fixed.rows)):
            first = cell + d * step_d + h * step_h
            prefetch(WIDE, x, first, fixed.step)
            for w in range(len(fixed.columns)):
                total = add(total, load_cells(WIDE, fixed.step, x, first + w * step_w))
    divisor = broadcast(WIDE, out, divisors[0] * divisors[1][o])
    store(out, to, divide(total, divisor))


@compiled
def _average_each(
    arrays: Any, divisors: Any, g: Any, row: Any, to: int, first: int, end: int
) -> None:
    """Average the windows ``first`` to ``end`` of a row, whose first output is ``to``."""
    x, out, _, spans = arrays
    c, (step_d, step_h, step_w) = g.channels, steps_of(g)
    d, h, corner = corner_of(row, g)
    d0, d1 = inside_along(d, g.size_d, g.dilation_d, g.in_d)
    h0, h1 = inside_along(h, g.size_h, g.dilation_h, g.in_h)
    for i in range(to + first * c, to + end * c):
        put(out, i, out.dtype.type(0))
    for i in range(d0, d1):
        for j in range(h0, h1):
            for k in range(g.size_w):
                low, high = max(first, spans[2 * k]), min(end, spans[2 * k + 1])
                of = corner + i * step_d + j * step_h + k * step_w + low * g.stride_w * c
                _add(x, of, g.stride_w, out, to + low * c, 1, c, high - low)
    for o in range(first, end):
        divisor = out.dtype.type(divisors[0] * divisors[1][o])
        for i in range(to + o * c, to + (o + 1) * c):
            put(out, i, at(out, i) / divisor)


@compiled
def avg_pool_gradient(
    gradient: Any, out: Any, numbers: Any, spans: Any, counts: Any, start: int, stop: int
) -> None:
    """Each window's gradient, divided, added to its cells in row-major order of the windows.

    An item is a row of ``out``.
    """
    g, along_d, along_h, along_w = geometry(numbers), counts[0], counts[1], counts[2]
    c, rows = g.channels, g.in_d * g.in_h
    terms = np.empty(g.out_w * c, out.dtype)
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // rows
        before = plane * rows
        end = min(stop, before + rows)
        for i in range(row * g.in_w * c, end * g.in_w * c):
            put(out, i, out.dtype.type(0))
        d0, d1, h0, h1 = touching(g, row - before, end - before)
        for d in range(d0, d1):
            for h in range(h0, h1):
                of = ((plane * g.out_d + d) * g.out_h + h) * g.out_w * c
                for o in range(g.out_w):
                    divisor = out.dtype.type(along_d[d] * along_h[h] * along_w[o])
                    for e in range(o * c, (o + 1) * c):
                        put(terms, e, at(gradient, of + e) / divisor)
                for i in range(g.size_d):
                    for j in range(g.size_h):
                        z = d * g.stride_d - g.padding_d + i * g.dilation_d
                        y = h * g.stride_h - g.padding_h + j * g.dilation_h
                        target = before + z * g.in_h + y
                        if y < 0 or y >= g.in_h or target < row or target >= end:
                            continue
                        # backwards, so that the terms of a cell are added in order of the windows
                        for k in range(g.size_w - 1, -1, -1):
                            low, high = spans[2 * k], spans[2 * k + 1]
                            x = k * g.dilation_w - g.padding_w + low * g.stride_w
                            cell = (target * g.in_w + x) * c
                            _add(terms, low * c, 1, out, cell, g.stride_w, c, high - low)
        row = end


@compiled
def avg_pool_gradient_tiled(
    gradient: Any, out: Any, numbers: Any, counts: Any, start: int, stop: int
) -> None:
    """Like `avg_pool_gradient`, for `Plan.is_tiling`: a cell has at most one term."""
    expand_rows(_spread, _divisor, (gradient, out, counts), geometry(numbers), start, stop)


@inlined
def _divisor(arrays: Any, row: Any) -> Any:
    """The divisor of all windows in a row: it is the same if windows tile the input."""
    along_d, along_h, along_w = arrays[2]
    return along_d[row.depth] * along_h[row.height] * along_w[0]


@inlined
def _spread(lanes: Any, arrays: Any, divisor: Any, g: Any, first: int, of: int, cell: int) -> None:
    """Write neighbouring windows' gradients, divided, to the cells of one of their rows."""
    gradient, out, _ = arrays
    term = divide(load(lanes, gradient, of), broadcast(lanes, out, divisor))
    term = add(broadcast(lanes, out, 0), term)
    store_columns(out, cell, term, term, g.channels, ())


@compiled
def _add(terms: Any, of: int, s: int, out: Any, to: int, t: int, c: int, positions: int) -> None:
    """Add C elements at every ``s``-th position to those at every ``t``-th; ``s`` or ``t`` is 1."""
    if s * t == 1:
        _accumulate(terms, of, 1, out, to, 1, positions * c)
    elif c > 1:
        for o in range(positions):
            _accumulate(terms, of + o * s * c, 1, out, to + o * t * c, 1, c)
    elif s == 2:  # LLVM vectorises the loop if the step is a constant
        _accumulate(terms, of, 2, out, to, 1, positions)
    elif t == 2:
        _accumulate(terms, of, 1, out, to, 2, positions)
    else:
        _accumulate(terms, of, s, out, to, t, positions)


@compiled
def _accumulate(terms: Any, of: int, s: int, out: Any, to: int, t: int, count: int) -> None:
    for i in range(count):
        put(out, to + i * t, at(out, to + i * t) + at(terms, of + i * s))
