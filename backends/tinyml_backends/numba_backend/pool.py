"""Kernels of max-pooling: an item is a row of the output, of all planes.

Arrays are flat. A position along a row holds C neighbouring elements: the channels where they come
last, one element otherwise, so that one kernel serves both layouts. `plans` says what the numbers
``g`` and ``spans`` are. Selections are written without branches, which LLVM makes vector code of.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, put


@compiled
def max_pool(x: Any, values: Any, winners: Any, g: Any, spans: Any, start: int, stop: int) -> None:
    """Any window: its cells compete in row-major order, all windows of a row side by side."""
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    kd, kh, kw, sd, sh, sw = g[7], g[8], g[9], g[10], g[11], g[12]
    pd, ph, pw, dd, dh, dw = g[13], g[14], g[15], g[16], g[17], g[18]
    for row in range(start, stop):
        plane, rest = row // (od * oh), row % (od * oh)
        depth, height = rest // oh * sd - pd, rest % oh * sh - ph
        to = row * ow * c
        is_first = True
        for i in range(kd):
            z = depth + i * dd
            for j in range(kh):
                y = height + j * dh
                if z < 0 or z >= d or y < 0 or y >= h:
                    continue
                before = ow
                for k in range(kw):
                    low, high = spans[2 * k], spans[2 * k + 1]
                    of = (((plane * d + z) * h + y) * w + k * dw - pw) * c
                    number = winners.dtype.type((i * kh + j) * kw + k)
                    if is_first:  # the first cell inside the input has nobody to beat
                        end = min(high, before)
                        _begin(x, of, sw, c, values, winners, to, low, end, number)
                        low, before = max(low, before), min(low, before)
                    _compete(x, of, sw, c, values, winners, to, low, high, number)
                is_first = False


@compiled
def _begin(
    x: Any, of: int, s: int, c: int, values: Any, winners: Any, to: int, low: int, high: int, n: int
) -> None:
    """Let cell ``n`` lead the windows from ``low`` to ``high`` of a row."""
    for o in range(low, high):
        for e in range(c):
            put(values, to + o * c + e, at(x, of + o * s * c + e))
            put(winners, to + o * c + e, n)


@compiled
def _compete(
    x: Any, of: int, s: int, c: int, values: Any, winners: Any, to: int, low: int, high: int, n: int
) -> None:
    """Let cell ``n`` take the windows from ``low`` to ``high`` of a row where it wins."""
    count = (high - low) * c
    of, to = of + low * s * c, to + low * c
    if s == 1:
        _contest(x, of, 1, values, winners, to, count, n)
    elif c == 1 and s == 2:  # with the step as a constant, the loop is vectorised
        _contest(x, of, 2, values, winners, to, count, n)
    elif c == 1:
        _contest(x, of, s, values, winners, to, count, n)
    else:
        for o in range(high - low):
            _contest(x, of + o * s * c, 1, values, winners, to + o * c, c, n)


@compiled
def _contest(
    x: Any, of: int, step: int, values: Any, winners: Any, to: int, count: int, n: int
) -> None:
    for i in range(count):
        value, leader = at(x, of + i * step), at(values, to + i)
        wins = (value > leader) | (value != value)  # a NaN wins, the last one over the others
        put(values, to + i, value if wins else leader)
        put(winners, to + i, n if wins else at(winners, to + i))


@compiled
def max_pool_pairs(x: Any, values: Any, winners: Any, g: Any, start: int, stop: int) -> None:
    """As `max_pool`, for the windows of `Plan.is_pair`."""
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    for row in range(start, stop):
        of = (row // oh * h + row % oh * 2) * w * c
        to = row * ow * c
        if c == 1:
            _quads(x, of, of + w, 1, 2, values, winners, to, ow)
        else:
            for o in range(ow):
                corner = of + 2 * o * c
                _quads(x, corner, corner + w * c, c, 1, values, winners, to + o * c, c)


@compiled
def _quads(
    x: Any, top: int, low: int, right: int, step: int, values: Any, winners: Any, to: int, n: int
) -> None:
    """Windows of two cells from ``top`` on and two from ``low`` on; the rows' winners meet."""
    for i in range(n):
        a, b = at(x, top + i * step), at(x, top + right + i * step)
        take = (b > a) | (b != b)
        upper, upper_number = b if take else a, np.uint8(1) if take else np.uint8(0)
        a, b = at(x, low + i * step), at(x, low + right + i * step)
        take = (b > a) | (b != b)
        lower, lower_number = b if take else a, np.uint8(3) if take else np.uint8(2)
        take = (lower > upper) | (lower != lower)
        put(values, to + i, lower if take else upper)
        put(winners, to + i, lower_number if take else upper_number)
