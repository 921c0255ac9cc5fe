"""Kernels of max-pooling: an item is a row of the output, of all planes.

Arrays are flat. A position along a row holds C neighbouring elements: the channels where they come
last, one element otherwise, so that one kernel serves both layouts. `plans` says what the numbers
``g`` and ``spans`` are, and the tuples that only have a length.

The last of several vectors in a row of windows repeats some of the one before. Where there is none
before, it reaches into what lies behind, and what it writes there is written again when its turn
comes.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import compiled, inlined
from tinyml_backends.numba_backend.rows import (
    corner_of,
    fetch_cells_ahead,
    inside_along,
    load_cells,
    row_at,
    row_behind,
    steps_of,
    unpacked,
)
from tinyml_backends.numba_backend.vectors import ONE, WIDE, beats, choose, full, store


@compiled
def max_pool(
    x: Any,
    values: Any,
    winners: Any,
    g: Any,
    spans: Any,
    down: Any,
    across: Any,
    apart: Any,
    start: int,
    stop: int,
) -> None:
    """Any window: its cells compete in row-major order, neighbouring windows side by side."""
    g = unpacked(g)
    d, h, w, c, ow, kd, kh, kw, sw = g[0], g[1], g[2], g[3], g[6], g[7], g[8], g[9], g[12]
    pw, dd, dh, dw = g[15], g[16], g[17], g[18]
    low, high = spans[0], spans[2 * kw - 1]  # outputs of a row whose windows lie inside it
    steps, arrays = steps_of(g), (x, values, winners)
    row = row_at(start, g)
    for number in range(start, stop):
        front, top, corner = corner_of(row, g)
        i0, i1 = inside_along(front, kd, dd, d)
        j0, j1 = inside_along(top, kh, dh, h)
        row = row_behind(row, g)
        o = 0
        while o < ow:
            of, to = corner + o * sw * c, (number * ow + o) * c
            k0, k1 = inside_along(o * sw - pw, kw, dw, w)
            box = (i0, i1, j0, j1, k0, k1)
            is_common = len(across) > 0 and low <= o < high and j1 - j0 == len(down)
            n = c  # neighbours to treat side by side
            if c == 1 and low <= o < high and sw == len(apart):
                n = high - o
            reach = (i1 - 1) * steps[0] + (j1 - 1) * steps[1] + (k1 - 1) * steps[2]
            reach += len(WIDE) * len(apart)
            for v in range(0, n, len(WIDE)):
                e = min(v, max(0, n - len(WIDE)))
                cell = of + e * len(apart)
                if cell + reach > len(x) or to + e + len(WIDE) > stop * ow * c:
                    for i in range(v, min(n, v + len(WIDE))):
                        cell = of + i * len(apart)
                        _compete_anywhere(ONE, ONE, arrays, cell, to + i, steps, box, (kh, kw))
                elif is_common:
                    whole, size = (i0, i1, 0, len(down), 0, len(across)), (len(down), len(across))
                    _compete(WIDE, apart, arrays, cell, to + e, steps, whole, size)
                else:
                    _compete_anywhere(WIDE, apart, arrays, cell, to + e, steps, box, (kh, kw))
            o += n if c == 1 else 1


@inlined
def _compete(
    lanes: Any, apart: Any, arrays: Any, of: int, to: int, steps: Any, box: Any, size: Any
) -> None:
    """Find the winners of as many windows as there are lanes, ``of`` the first cell of the first.

    Each row of a window has a winner first, so that rows do not wait for one another.
    """
    _, values, winners = arrays
    i0, i1, j0, j1, _, _ = box
    leader, number = _best(lanes, apart, arrays, of, i0, j0, steps, box, size)
    for j in range(j0 + 1, j1):
        best, which = _best(lanes, apart, arrays, of, i0, j, steps, box, size)
        wins = beats(best, leader)
        leader, number = choose(wins, best, leader), choose(wins, which, number)
    for i in range(i0 + 1, i1):
        for j in range(j0, j1):
            best, which = _best(lanes, apart, arrays, of, i, j, steps, box, size)
            wins = beats(best, leader)
            leader, number = choose(wins, best, leader), choose(wins, which, number)
    store(values, to, leader)
    store(winners, to, number)


@inlined
def _best(
    lanes: Any, apart: Any, arrays: Any, of: int, i: int, j: int, steps: Any, box: Any, size: Any
) -> Any:
    """The winners in one row of the windows, and their numbers."""
    x, _, winners = arrays
    k0, k1 = box[4:]
    row, number = of + i * steps[0] + j * steps[1], (i * size[0] + j) * size[1]
    fetch_cells_ahead(lanes, apart, x, row)
    best = load_cells(lanes, apart, x, row + k0 * steps[2])
    which = full(lanes, winners, number + k0)
    for k in range(k0 + 1, k1):
        value = load_cells(lanes, apart, x, row + k * steps[2])
        wins = beats(value, best)
        best = choose(wins, value, best)
        which = choose(wins, full(lanes, winners, number + k), which)
    return best, which


@compiled
def _compete_anywhere(
    lanes: Any, apart: Any, arrays: Any, of: int, to: int, steps: Any, box: Any, size: Any
) -> None:
    """As `_compete`, but called: its loops would take registers from those that know their ends."""
    _compete(lanes, apart, arrays, of, to, steps, box, size)
