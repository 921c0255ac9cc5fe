"""Kernels for windows of 2×2 with stride 2 that lie side by side: the windows of `Plan.is_pair`.

Neighbouring windows are treated side by side in vectors. Arrays are flat and hold rows of H × W × C
cells, C being 1 where the channels come first; an item is a row of windows.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import (
    AHEAD,
    LINE,
    at,
    compiled,
    fetch,
    lines_of,
    put,
    stream,
)
from tinyml_backends.numba_backend.vectors import (
    HALF,
    NARROW,
    ONE,
    WIDE,
    beats,
    choose,
    equals,
    evens,
    full,
    load,
    odds,
    store,
    store_zipped,
)


@compiled
def max_pool(x: Any, values: Any, winners: Any, g: Any, start: int, stop: int) -> None:
    """As `pool.max_pool`."""
    lanes, last = _lanes(g, start, stop)
    if lanes == 16:
        _pool(WIDE, x, values, winners, g, start, last)
    elif lanes == 8:
        _pool(HALF, x, values, winners, g, start, last)
    elif lanes == 4:
        _pool(NARROW, x, values, winners, g, start, last)
    _pool(ONE, x, values, winners, g, last, stop)


@compiled
def scatter(
    y: Any, winners: Any, out: Any, g: Any, nought: Any, past_cache: bool, start: int, stop: int
) -> None:
    """As `unpool.scatter` without adding; ``nought`` is written as 0.

    Each row of ``out`` is written from left to right. With ``past_cache``, two rows at a time are
    written in the cache and streamed from there.
    """
    lanes, last = _lanes(g, start, stop)
    if lanes == 16:
        _scatter(WIDE, y, winners, out, g, nought, past_cache, start, last)
    elif lanes == 8:
        _scatter(HALF, y, winners, out, g, nought, past_cache, start, last)
    elif lanes == 4:
        _scatter(NARROW, y, winners, out, g, nought, past_cache, start, last)
    _scatter(ONE, y, winners, out, g, nought, past_cache, last, stop)


@compiled
def gather(gradient: Any, winners: Any, out: Any, g: Any, start: int, stop: int) -> None:
    """As `unpool.gather`."""
    lanes, last = _lanes(g, start, stop)
    if lanes == 16:
        _gather(WIDE, gradient, winners, out, g, start, last)
    elif lanes == 8:
        _gather(HALF, gradient, winners, out, g, start, last)
    elif lanes == 4:
        _gather(NARROW, gradient, winners, out, g, start, last)
    _gather(ONE, gradient, winners, out, g, last, stop)


@compiled
def _lanes(g: Any, start: int, stop: int) -> Any:
    """Lanes of the vectors, and the row of windows from which on one is treated at a time.

    The last vector in a row of windows repeats some of the one before. Where there is none before,
    it reaches into the rows behind, and what it writes there is written again when their turn
    comes; it must not reach beyond ``stop``. Channels that come last are never left.
    """
    c, ow = g[3], g[6]
    n = 2 * ow - 1 if c == 1 else c
    lanes = 16 if n >= 16 else 8 if n >= 8 else 4 if n >= 4 else 1
    return lanes, start if lanes == 1 else max(start, stop - (lanes - 1) // (ow * c))


@compiled
def _pool(lanes: Any, x: Any, values: Any, winners: Any, g: Any, start: int, stop: int) -> None:
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    n = ow if c == 1 else c
    end, lines = max(0, n - len(lanes)), lines_of(x, 2 * w * c)
    for row in range(start, stop):
        of = _row_of_cells(row, oh, h) * w * c
        to = row * ow * c
        for line in range(lines):
            fetch(x, of, AHEAD + line * LINE)
        for o in range(1 if c == 1 else ow):
            for e in range(0, n, len(lanes)):
                first = min(e, end)
                _choose_quads(
                    lanes, x, of + 2 * o * c, w * c, c, values, winners, to + o * c, first
                )


@compiled
def _choose_quads(
    lanes: Any, x: Any, top: int, row: int, c: int, values: Any, winners: Any, to: int, e: int
) -> None:
    """The ``e``-th window and its neighbours: the winners of both rows meet."""
    a, b = _pair(lanes, x, top, c, e)
    wins = beats(b, a)
    upper = choose(wins, b, a)
    number = choose(wins, full(lanes, winners, 1), full(lanes, winners, 0))
    a, b = _pair(lanes, x, top + row, c, e)
    wins = beats(b, a)
    lower = choose(wins, b, a)
    other = choose(wins, full(lanes, winners, 3), full(lanes, winners, 2))
    wins = beats(lower, upper)
    store(values, to + e, choose(wins, lower, upper))
    store(winners, to + e, choose(wins, other, number))


@compiled
def _scatter(
    lanes: Any,
    y: Any,
    winners: Any,
    out: Any,
    g: Any,
    nought: Any,
    past_cache: bool,
    start: int,
    stop: int,
) -> None:
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    zero, size = out.dtype.type(0), out.itemsize
    both = 2 * w * c
    desk = np.empty(both + 3 * LINE if past_cache else 0, out.dtype)
    mask = LINE // size - 1
    begin, place = -(desk.ctypes.data // size) & mask, out.ctypes.data // size
    for row in range(start, stop):
        of = row * ow * c
        to = _row_of_cells(row, oh, h) * w * c
        if past_cache:
            # at the desk, every element stands as far from a line's begin as in ``out``
            at_desk = begin + (place + to & mask)
            _put_rows(lanes, y, winners, of, desk, at_desk, w, c, ow, nought)
            _carry(desk, at_desk, out, to, both)
        else:
            _put_rows(lanes, y, winners, of, out, to, w, c, ow, nought)
        if h > 2 * oh and row % oh == oh - 1:
            for i in range(to + both, (row // oh + 1) * h * w * c):
                put(out, i, zero)


@compiled
def _put_rows(
    lanes: Any,
    y: Any,
    winners: Any,
    of: int,
    out: Any,
    to: int,
    w: int,
    c: int,
    ow: int,
    nought: Any,
) -> None:
    """Two rows of ``out`` from one of ``y``, and zeros behind the last window."""
    zero = out.dtype.type(0)
    n = ow if c == 1 else c
    end = max(0, n - len(lanes))
    for o in range(1 if c == 1 else ow):
        for e in range(0, n, len(lanes)):
            first = min(e, end)
            _put_quads(
                lanes, y, winners, of + o * c + first, out, to + 2 * o * c, w * c, c, first, nought
            )
    for top in (to, to + w * c):
        for i in range(top + 2 * ow * c, top + w * c):
            put(out, i, zero)


@compiled
def _put_quads(
    lanes: Any,
    y: Any,
    winners: Any,
    of: int,
    out: Any,
    top: int,
    row: int,
    c: int,
    e: int,
    nought: Any,
) -> None:
    """The four cells of the ``e``-th window and of its neighbours."""
    zero = full(lanes, out, 0)
    value, number = load(lanes, y, of), load(lanes, winners, of)
    value = choose(equals(value, nought), zero, value)
    upper = choose(equals(number, 0), value, zero)
    upper_right = choose(equals(number, 1), value, zero)
    lower = choose(equals(number, 2), value, zero)
    lower_right = choose(equals(number, 3), value, zero)
    if c == 1:
        store_zipped(out, top + 2 * e, upper, upper_right)
        store_zipped(out, top + row + 2 * e, lower, lower_right)
    else:
        store(out, top + e, upper)
        store(out, top + c + e, upper_right)
        store(out, top + row + e, lower)
        store(out, top + row + c + e, lower_right)


@compiled
def _carry(desk: Any, of: int, out: Any, to: int, count: int) -> None:
    """Copy ``count`` elements to ``out``, whole lines past the cache."""
    size = out.itemsize
    here = out.ctypes.data + to * size
    head = min(count, (-here % LINE) // size)
    lines = (count - head) * size // LINE
    for i in range(head):
        put(out, to + i, at(desk, of + i))
    source = desk.ctypes.data + (of + head) * size
    for line in range(lines):
        stream(np.uintp(here + head * size + line * LINE), np.uintp(source + line * LINE))
    for i in range(head + lines * LINE // size, count):
        put(out, to + i, at(desk, of + i))


@compiled
def _gather(
    lanes: Any, gradient: Any, winners: Any, out: Any, g: Any, start: int, stop: int
) -> None:
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    n = ow if c == 1 else c
    end, lines = max(0, n - len(lanes)), lines_of(gradient, 2 * w * c)
    for row in range(start, stop):
        of = _row_of_cells(row, oh, h) * w * c
        to = row * ow * c
        for line in range(lines):
            fetch(gradient, of, AHEAD + line * LINE)
        for o in range(1 if c == 1 else ow):
            for e in range(0, n, len(lanes)):
                first = min(e, end)
                _get_quads(
                    lanes, gradient, of + 2 * o * c, w * c, c, winners, out, to + o * c, first
                )


@compiled
def _get_quads(
    lanes: Any, x: Any, top: int, row: int, c: int, winners: Any, out: Any, to: int, e: int
) -> None:
    """The cells that the ``e``-th window and its neighbours chose."""
    number = load(lanes, winners, to + e)
    left, right = _pair(lanes, x, top, c, e)
    upper = choose(equals(number, 1), right, left)
    left, right = _pair(lanes, x, top + row, c, e)
    lower = choose(equals(number, 3), right, left)
    chosen = choose(equals(number, 0), upper, choose(equals(number, 1), upper, lower))
    store(out, to + e, chosen)


@compiled
def _pair(lanes: Any, x: Any, of: int, c: int, e: int) -> Any:
    """The left and the right cells of the ``e``-th pair and its neighbours."""
    if c == 1:
        return evens(lanes, x, of + 2 * e), odds(lanes, x, of + 2 * e)
    return load(lanes, x, of + e), load(lanes, x, of + c + e)


@compiled
def _row_of_cells(row: int, oh: int, h: int) -> int:
    """First row of cells of a row of windows; a division costs as much as a vector."""
    return 2 * row if h == 2 * oh else 2 * row + row // oh * (h - 2 * oh)
