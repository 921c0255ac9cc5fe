"""Kernel of max-pooling; its items are the rows of the output, counted through all planes.

Arrays are flat. A position along a row holds C neighbouring elements: the channels where they come
last, one element otherwise, so that one kernel serves both layouts. `Plan` describes ``numbers``,
``spans`` and ``fixed``.

The last vector in a row of windows repeats some windows of the one before. In a row of fewer
windows than lanes it reaches into the next row, whose results are written later.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import compiled, inlined
from tinyml_backends.numba_backend.rows import (
    corner_of,
    geometry,
    inside_along,
    load_cells,
    row_after,
    row_at,
    steps_of,
)
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    broadcast,
    exceeds,
    prefetch,
    select,
    store,
)


@compiled
def max_pool(
    x: Any,
    values: Any,
    winners: Any,
    numbers: Any,
    spans: Any,
    rows: Any,
    columns: Any,
    step: Any,
    start: int,
    stop: int,
) -> None:
    """Max-pooling with any window. Neighbouring windows are compared as SIMD vectors.

    ``rows``, ``columns`` and ``step`` are the fields of `plans.Fixed`. Passed as one argument, they
    make LLVM's code for 3×3 windows a third slower.
    """
    g = geometry(numbers)
    c = g.channels
    low, high = spans[0], spans[2 * g.size_w - 1]  # outputs of a row whose windows lie inside it
    step_d, step_h, step_w = steps_of(g)
    steps, arrays, size = (step_d, step_h, step_w), (x, values, winners), (g.size_h, g.size_w)
    row = row_at(start, g)
    for number in range(start, stop):
        d, h, corner = corner_of(row, g)
        d0, d1 = inside_along(d, g.size_d, g.dilation_d, g.in_d)
        h0, h1 = inside_along(h, g.size_h, g.dilation_h, g.in_h)
        row = row_after(row, g)
        o = 0
        while o < g.out_w:
            of, to = corner + o * g.stride_w * c, (number * g.out_w + o) * c
            w0, w1 = inside_along(o * g.stride_w - g.padding_w, g.size_w, g.dilation_w, g.in_w)
            box = (d0, d1, h0, h1, w0, w1)
            is_common = len(columns) > 0 and low <= o < high and h1 - h0 == len(rows)
            n = c  # neighbours to treat at once
            if c == 1 and low <= o < high and g.stride_w == len(step):
                n = high - o
            reach = (d1 - 1) * step_d + (h1 - 1) * step_h + (w1 - 1) * step_w
            reach += len(WIDE) * len(step)  # elements that are read from the first cell on
            for v in range(0, n, len(WIDE)):
                i = min(v, max(0, n - len(WIDE)))
                cell = of + i * len(step)
                if cell + reach > len(x) or to + i + len(WIDE) > stop * g.out_w * c:
                    for i in range(v, min(n, v + len(WIDE))):
                        cell = of + i * len(step)
                        _pool_any(ONE, ONE, arrays, cell, to + i, steps, box, size)
                elif is_common:
                    whole = (d0, d1, 0, len(rows), 0, len(columns))
                    known = (len(rows), len(columns))
                    _pool(WIDE, step, arrays, cell, to + i, steps, whole, known)
                else:
                    _pool_any(WIDE, step, arrays, cell, to + i, steps, box, size)
            o += n if c == 1 else 1


@inlined
def _pool(
    lanes: Any, step: Any, arrays: Any, of: int, to: int, steps: Any, box: Any, size: Any
) -> None:
    """Write maxima and winners of as many windows as there are lanes.

    ``of`` and ``to`` are the flat indices of the first window's first cell and of its output.
    ``box`` has, for each axis, the range of the window's cells inside the input. The winner of each
    row of a window is found before the rows are compared, so that comparisons in one row do not
    depend on those in the row before.
    """
    _, values, winners = arrays
    d0, d1, h0, h1, _, _ = box
    best, number = _best_of_row(lanes, step, arrays, of, (d0, h0), steps, box, size)
    for h in range(h0 + 1, h1):
        other, other_number = _best_of_row(lanes, step, arrays, of, (d0, h), steps, box, size)
        wins = exceeds(other, best)
        best, number = select(wins, other, best), select(wins, other_number, number)
    for d in range(d0 + 1, d1):
        for h in range(h0, h1):
            other, other_number = _best_of_row(lanes, step, arrays, of, (d, h), steps, box, size)
            wins = exceeds(other, best)
            best, number = select(wins, other, best), select(wins, other_number, number)
    store(values, to, best)
    store(winners, to, number)


@inlined
def _best_of_row(
    lanes: Any, step: Any, arrays: Any, of: int, row: Any, steps: Any, box: Any, size: Any
) -> Any:
    """The maxima in one row of the windows, and their numbers."""
    x, _, winners = arrays
    (d, h), step_w, (w0, w1) = row, steps[2], box[4:]
    cell, number = of + d * steps[0] + h * steps[1], (d * size[0] + h) * size[1]
    prefetch(lanes, x, cell, step)
    best = load_cells(lanes, step, x, cell + w0 * step_w)
    best_number = broadcast(lanes, winners, number + w0)
    for w in range(w0 + 1, w1):
        value = load_cells(lanes, step, x, cell + w * step_w)
        wins = exceeds(value, best)
        best = select(wins, value, best)
        best_number = select(wins, broadcast(lanes, winners, number + w), best_number)
    return best, best_number


@compiled
def _pool_any(
    lanes: Any, step: Any, arrays: Any, of: int, to: int, steps: Any, box: Any, size: Any
) -> None:
    """Like `_pool`, but not inlined: its loops would need registers that common windows use."""
    _pool(lanes, step, arrays, of, to, steps, box, size)
