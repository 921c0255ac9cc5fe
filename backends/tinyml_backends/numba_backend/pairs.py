"""Kernels for windows of 2×2 with stride 2 that lie side by side: the windows of `Plan.is_pair`.

Sixteen neighbouring windows are treated at once. Arrays are flat and hold rows of H × W × C cells,
C being 1 where the channels come first; an item is a row of windows. With ``past_cache``, results
do not stay in the cache. The last vector in a row of windows repeats some of the one before. Where
there is none before, it reaches into the rows behind, and what it writes there is written again
when their turn comes.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import compiled, inlined, put
from tinyml_backends.numba_backend.desk import carry, make_desk, place, rows_at_once
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    beats,
    choose,
    equals,
    evens,
    fetch_ahead,
    fetch_pairs_ahead,
    full,
    load,
    odds,
    store,
    store_zipped,
)


@compiled
def max_pool(
    x: Any, values: Any, winners: Any, g: Any, past_cache: bool, start: int, stop: int
) -> None:
    """As `pool.max_pool`."""
    last = _last_row(g, start, stop)
    _pool(WIDE, x, values, winners, g, past_cache, start, last)
    _pool(ONE, x, values, winners, g, past_cache, last, stop)


@compiled
def scatter(
    y: Any, winners: Any, out: Any, g: Any, nought: Any, past_cache: bool, start: int, stop: int
) -> None:
    """As `unpool.scatter` without adding; ``nought`` is written as 0."""
    last = _last_row(g, start, stop)
    _scatter(WIDE, y, winners, out, g, nought, past_cache, start, last)
    _scatter(ONE, y, winners, out, g, nought, past_cache, last, stop)


@compiled
def gather(
    gradient: Any, winners: Any, out: Any, g: Any, past_cache: bool, start: int, stop: int
) -> None:
    """As `unpool.gather`."""
    last = _last_row(g, start, stop)
    _gather(WIDE, gradient, winners, out, g, past_cache, start, last)
    _gather(ONE, gradient, winners, out, g, past_cache, last, stop)


@inlined
def _last_row(g: Any, start: int, stop: int) -> Any:
    """The row of windows from which on wide vectors would reach beyond the row ``stop``."""
    c, ow = g[3], g[6]
    beyond = len(WIDE) - (ow if c == 1 else c)
    return max(start, stop - max(0, beyond + ow * c - 1) // (ow * c))


@compiled
def _pool(
    lanes: Any,
    x: Any,
    values: Any,
    winners: Any,
    g: Any,
    past_cache: bool,
    start: int,
    stop: int,
) -> None:
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    n = ow if c == 1 else c
    end = max(0, n - len(lanes))
    rows = rows_at_once(ow * c, past_cache, stop - start)
    desk = make_desk(values, rows * ow * c) if past_cache else values
    for first in range(start, stop, rows):
        behind, begin = min(stop, first + rows), first * ow * c
        shift = place(desk, values, begin) - begin if past_cache else 0
        for row in range(first, behind):
            top = _row_of_cells(row, oh, h) * w * c
            for o in range(1 if c == 1 else ow):
                of, to = top + 2 * o * c, (row * ow + o) * c
                for i in range(0, n, len(lanes)):
                    e = min(i, end)
                    a, b = _pair(lanes, x, of, c, e)
                    wins = beats(b, a)
                    upper = choose(wins, b, a)
                    number = choose(wins, full(lanes, winners, 1), full(lanes, winners, 0))
                    a, b = _pair(lanes, x, of + w * c, c, e)
                    wins = beats(b, a)
                    lower = choose(wins, b, a)
                    other = choose(wins, full(lanes, winners, 3), full(lanes, winners, 2))
                    wins = beats(lower, upper)
                    store(desk, shift + to + e, choose(wins, lower, upper))
                    store(winners, to + e, choose(wins, other, number))
        if past_cache:
            carry(desk, shift + begin, values, begin, (behind - first) * ow * c)


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
    n = ow if c == 1 else c
    end, zero, zeros = max(0, n - len(lanes)), out.dtype.type(0), full(lanes, out, 0)
    rows = rows_at_once(4 * ow * c, past_cache, stop - start)
    most = (_row_of_cells(rows, oh, h) + h - 2 * oh) * w * c
    desk = make_desk(out, most) if past_cache else out
    for first in range(start, stop, rows):
        behind, begin = min(stop, first + rows), _row_of_cells(first, oh, h) * w * c
        shift = place(desk, out, begin) - begin if past_cache else 0
        for row in range(first, behind):
            to = shift + _row_of_cells(row, oh, h) * w * c
            of = row * ow * c
            if c == 1:
                for i in range(0, ow, len(lanes)):
                    e = min(i, end)
                    value, number = load(lanes, y, of + e), load(lanes, winners, of + e)
                    value = choose(equals(value, nought), zeros, value)
                    left = choose(equals(number, 0), value, zeros)
                    right = choose(equals(number, 1), value, zeros)
                    store_zipped(desk, to + 2 * e, left, right)
                    left = choose(equals(number, 2), value, zeros)
                    right = choose(equals(number, 3), value, zeros)
                    store_zipped(desk, to + w + 2 * e, left, right)
            else:
                for half in range(2):
                    for o in range(ow):
                        cell = to + (half * w + 2 * o) * c
                        for i in range(0, c, len(lanes)):
                            e = min(i, end)
                            value = load(lanes, y, of + o * c + e)
                            number = load(lanes, winners, of + o * c + e)
                            value = choose(equals(value, nought), zeros, value)
                            left = choose(equals(number, 2 * half), value, zeros)
                            right = choose(equals(number, 2 * half + 1), value, zeros)
                            store(desk, cell + e, left)
                            store(desk, cell + c + e, right)
            for top in (to, to + w * c):
                for i in range(top + 2 * ow * c, top + w * c):
                    put(desk, i, zero)
            to += 2 * w * c
            if h > 2 * oh and row % oh == oh - 1:
                for i in range(to, to + (h - 2 * oh) * w * c):
                    put(desk, i, zero)
        if past_cache:
            carry(desk, shift + begin, out, begin, _row_of_cells(behind, oh, h) * w * c - begin)


@compiled
def _gather(
    lanes: Any,
    gradient: Any,
    winners: Any,
    out: Any,
    g: Any,
    past_cache: bool,
    start: int,
    stop: int,
) -> None:
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    n = ow if c == 1 else c
    end = max(0, n - len(lanes))
    rows = rows_at_once(ow * c, past_cache, stop - start)
    desk = make_desk(out, rows * ow * c) if past_cache else out
    for first in range(start, stop, rows):
        behind, begin = min(stop, first + rows), first * ow * c
        shift = place(desk, out, begin) - begin if past_cache else 0
        for row in range(first, behind):
            top = _row_of_cells(row, oh, h) * w * c
            for o in range(1 if c == 1 else ow):
                of, to = top + 2 * o * c, (row * ow + o) * c
                for i in range(0, n, len(lanes)):
                    e = min(i, end)
                    number = load(lanes, winners, to + e)
                    left, right = _pair(lanes, gradient, of, c, e)
                    upper = choose(equals(number, 1), right, left)
                    left, right = _pair(lanes, gradient, of + w * c, c, e)
                    lower = choose(equals(number, 3), right, left)
                    chosen = choose(equals(number, 0), upper, lower)
                    chosen = choose(equals(number, 1), upper, chosen)
                    store(desk, shift + to + e, chosen)
        if past_cache:
            carry(desk, shift + begin, out, begin, (behind - first) * ow * c)


@inlined
def _pair(lanes: Any, x: Any, of: int, c: int, e: int) -> Any:
    """The left and the right cells of the ``e``-th pair and its neighbours."""
    if c == 1:
        fetch_pairs_ahead(lanes, x, of + 2 * e)
        return evens(lanes, x, of + 2 * e), odds(lanes, x, of + 2 * e)
    fetch_ahead(lanes, x, of + e)
    fetch_ahead(lanes, x, of + c + e)
    return load(lanes, x, of + e), load(lanes, x, of + c + e)


@inlined
def _row_of_cells(row: int, oh: int, h: int) -> int:
    """First row of cells of a row of windows; a division costs as much as a vector."""
    return 2 * row if h == 2 * oh else 2 * row + row // oh * (h - 2 * oh)
