"""Kernels of max-pooling: an item is a row of the output, of all planes.

Arrays are flat. A position along a row holds C neighbouring elements: the channels where they come
last, one element otherwise, so that one kernel serves both layouts. `plans` says what the numbers
``g`` and ``spans`` are. The last of several vectors in a row may repeat some of the one before.
"""

from typing import Any

from tinyml_backends.numba_backend.compiled import AHEAD, LINE, compiled, fetch, lines_of
from tinyml_backends.numba_backend.vectors import (
    HALF,
    NARROW,
    ONE,
    WIDE,
    beats,
    choose,
    evens,
    full,
    load,
    odds,
    store,
)


@compiled
def max_pool(x: Any, values: Any, winners: Any, g: Any, spans: Any, start: int, stop: int) -> None:
    """Any window: its cells compete in row-major order, neighbouring windows side by side."""
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    kd, kh, kw, sd, sh, sw = g[7], g[8], g[9], g[10], g[11], g[12]
    pd, ph, pw, dd, dh, dw = g[13], g[14], g[15], g[16], g[17], g[18]
    # outputs of a row whose windows lie inside it; with steps of 1 or 2 they are read as vectors
    low = min(spans[0], ow)
    high = max(low, spans[2 * kw - 1])
    if c > 1 or sw > 2 or sw > kw:  # `_read` needs a second cell behind the first of `x`
        low = high = ow
    lines = lines_of(x, sh * w * c)
    for row in range(start, stop):
        plane, rest = row // (od * oh), row % (od * oh)
        z, y = rest // oh * sd - pd, rest % oh * sh - ph
        # cells inside the input, along each axis
        i0, i1 = max(0, -(z // dd)), min(kd, (d - 1 - z) // dd + 1)
        j0, j1 = max(0, -(y // dh)), min(kh, (h - 1 - y) // dh + 1)
        corner = (((plane * d + z) * h + y) * w - pw) * c
        to = row * ow * c
        for line in range(lines):
            fetch(x, corner, AHEAD + line * LINE)
        o = 0
        while o < ow:
            of = corner + o * sw * c
            k0, k1 = 0, kw
            if o < low or o >= high:
                first = o * sw - pw
                k0, k1 = max(0, -(first // dw)), min(kw, (w - 1 - first) // dw + 1)
            box = (i0, i1, j0, j1, k0, k1)
            steps = (dd * h * w * c, dh * w * c, dw * c)
            n, s = (c, 1) if c > 1 else (1, sw)  # neighbours to treat, and the step between them
            if low <= o < high:
                n = high - o
            here = to + o * c
            if n >= 16:
                for e in range(0, n, 16):
                    e = min(e, n - 16)
                    _compete(WIDE, x, of + e * s, s, values, winners, here + e, box, steps, kh, kw)
            elif n >= 8:
                for e in range(0, n, 8):
                    e = min(e, n - 8)
                    _compete(HALF, x, of + e * s, s, values, winners, here + e, box, steps, kh, kw)
            elif n >= 4:
                for e in range(0, n, 4):
                    e = min(e, n - 4)
                    _compete(
                        NARROW, x, of + e * s, s, values, winners, here + e, box, steps, kh, kw
                    )
            else:
                for e in range(n):
                    _compete(ONE, x, of + e * s, 1, values, winners, here + e, box, steps, kh, kw)
            o += n if c == 1 else 1


@compiled
def _compete(
    lanes: Any,
    x: Any,
    of: int,
    s: int,
    values: Any,
    winners: Any,
    to: int,
    box: Any,
    steps: Any,
    kh: int,
    kw: int,
) -> None:
    """The winners of as many windows as there are lanes, ``s`` elements from one to the next."""
    i0, i1, j0, j1, k0, k1 = box
    first = of + i0 * steps[0] + j0 * steps[1] + k0 * steps[2]
    leader = _read(lanes, x, first, s)
    number = full(lanes, winners, (i0 * kh + j0) * kw + k0)
    for i in range(i0, i1):
        for j in range(j0, j1):
            for k in range(k0, k1):
                value = _read(lanes, x, of + i * steps[0] + j * steps[1] + k * steps[2], s)
                wins = beats(value, leader)
                leader = choose(wins, value, leader)
                number = choose(wins, full(lanes, winners, (i * kh + j) * kw + k), number)
    store(values, to, leader)
    store(winners, to, number)


@compiled
def _read(lanes: Any, x: Any, of: int, s: int) -> Any:
    """Every ``s``-th element, ``s`` being 1 or 2, without reaching behind the last of ``x``."""
    if s == 1:
        return load(lanes, x, of)
    if of + 2 * len(lanes) <= len(x):
        return evens(lanes, x, of)
    return odds(lanes, x, of - 1)
