"""Kernels of average pooling and its gradient, for float32 and float64; arrays as in `pool`."""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.rows import (
    corner_of,
    fetch_cells_ahead,
    inside_along,
    inside_of,
    load_cells,
    reach_of,
    row_at,
    row_behind,
    side_by_side,
    steps_of,
    unpacked,
)
from tinyml_backends.numba_backend.unpool import touching
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    full,
    load,
    over,
    plus,
    store,
    store_zipped,
)


@compiled
def avg_pool(
    x: Any, out: Any, g: Any, spans: Any, n0: Any, n1: Any, n2: Any, start: int, stop: int
) -> None:
    """Sums from +0.0 in row-major order of the window, then divided by n0[·] · n1[·] · n2[·].

    An item is a row of ``out``.
    """
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    kd, kh, kw, sd, sh, sw = g[7], g[8], g[9], g[10], g[11], g[12]
    pd, ph, pw, dd, dh, dw = g[13], g[14], g[15], g[16], g[17], g[18]
    for row in range(start, stop):
        plane, rest = row // (od * oh), row % (od * oh)
        depth, height = rest // oh * sd - pd, rest % oh * sh - ph
        to = row * ow * c
        for i in range(to, to + ow * c):
            put(out, i, out.dtype.type(0))
        for i in range(kd):
            z = depth + i * dd
            for j in range(kh):
                y = height + j * dh
                if z < 0 or z >= d or y < 0 or y >= h:
                    continue
                for k in range(kw):
                    low, high = spans[2 * k], spans[2 * k + 1]
                    of = (((plane * d + z) * h + y) * w + k * dw - pw + low * sw) * c
                    _add(x, of, sw, out, to + low * c, 1, c, high - low)
        count = n0[rest // oh] * n1[rest % oh]
        for o in range(ow):
            divisor = out.dtype.type(count * n2[o])
            for e in range(to + o * c, to + (o + 1) * c):
                put(out, e, at(out, e) / divisor)


@compiled
def avg_pool_common(
    x: Any,
    out: Any,
    g: Any,
    spans: Any,
    n0: Any,
    n1: Any,
    n2: Any,
    down: Any,
    across: Any,
    apart: Any,
    start: int,
    stop: int,
) -> None:
    """As `avg_pool`, for common windows: neighbouring ones are summed side by side."""
    g = unpacked(g)
    c, ow, sw, steps, reach = g[3], g[6], g[12], steps_of(g), reach_of(g, apart)
    n, group = side_by_side(g, spans)
    row = row_at(start, g)
    for number in range(start, stop):
        first, behind = inside_of(row, g, spans)
        of, to = corner_of(row, g)[2], number * ow * c
        count = n0[row[1]] * n1[row[2]]
        _average_each(x, out, g, row, to, count, n2, 0, first)
        for o in range(first, behind, group):
            divisor = full(WIDE, out, count * n2[o])
            for v in range(0, n, len(WIDE)):
                e = min(v, max(0, n - len(WIDE)))
                cell, place = of + o * sw * c + e * len(apart), to + o * c + e
                if cell + reach <= len(x) and place + len(WIDE) <= stop * ow * c:
                    total = _sum(apart, x, cell, steps, g[7], down, across)
                    store(out, place, over(total, divisor))
                elif c == 1:
                    last = min(behind, first + v + len(WIDE))
                    _average_each(x, out, g, row, to, count, n2, first + v, last)
                else:
                    _average_each(x, out, g, row, to, count, n2, o, o + 1)
        _average_each(x, out, g, row, to, count, n2, behind, ow)
        row = row_behind(row, g)


@inlined
def _sum(apart: Any, x: Any, of: int, steps: Any, depth: int, down: Any, across: Any) -> Any:
    """Sums of the cells of neighbouring windows, ``of`` the first cell of the first one."""
    total = full(WIDE, x, 0)
    for i in range(depth):
        for j in range(len(down)):
            row = of + i * steps[0] + j * steps[1]
            fetch_cells_ahead(WIDE, apart, x, row)
            for k in range(len(across)):
                total = plus(total, load_cells(WIDE, apart, x, row + k * steps[2]))
    return total


@compiled
def _average_each(
    x: Any, out: Any, g: Any, row: Any, to: int, count: int, n2: Any, first: int, behind: int
) -> None:
    """Some windows of a row, whose first output is ``to``."""
    c, steps = g[3], steps_of(g)
    front, top, corner = corner_of(row, g)
    i0, i1 = inside_along(front, g[7], g[16], g[0])
    j0, j1 = inside_along(top, g[8], g[17], g[1])
    for o in range(first, behind):
        k0, k1 = inside_along(o * g[12] - g[15], g[9], g[18], g[2])
        of, divisor = corner + o * g[12] * c, out.dtype.type(count * n2[o])
        for e in range(c):
            total = out.dtype.type(0)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    for k in range(k0, k1):
                        total += at(x, of + i * steps[0] + j * steps[1] + k * steps[2] + e)
            put(out, to + o * c + e, total / divisor)


@compiled
def avg_pool_gradient(
    gradient: Any, out: Any, g: Any, spans: Any, n0: Any, n1: Any, n2: Any, start: int, stop: int
) -> None:
    """Each window's gradient, divided, added to its cells in row-major order of the windows.

    An item is a row of ``out``.
    """
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    kd, kh, kw, sd, sh, sw = g[7], g[8], g[9], g[10], g[11], g[12]
    pd, ph, pw, dd, dh, dw = g[13], g[14], g[15], g[16], g[17], g[18]
    terms = np.empty(ow * c, out.dtype)
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // (d * h)
        before = plane * d * h
        end = min(stop, before + d * h)
        for i in range(row * w * c, end * w * c):
            put(out, i, out.dtype.type(0))
        z0, z1, y0, y1 = touching(g, row - before, end - before)
        for z in range(z0, z1):
            for v in range(y0, y1):
                of = ((plane * od + z) * oh + v) * ow * c
                count = n0[z] * n1[v]
                for o in range(ow):
                    divisor = out.dtype.type(count * n2[o])
                    for e in range(o * c, (o + 1) * c):
                        put(terms, e, at(gradient, of + e) / divisor)
                for i in range(kd):
                    for j in range(kh):
                        to = z * sd - pd + i * dd, v * sh - ph + j * dh
                        target = before + to[0] * h + to[1]
                        if to[1] < 0 or to[1] >= h or target < row or target >= end:
                            continue
                        for k in range(kw - 1, -1, -1):  # the windows of a cell in ascending order
                            low, high = spans[2 * k], spans[2 * k + 1]
                            cell = (target * w + k * dw - pw + low * sw) * c
                            _add(terms, low * c, 1, out, cell, sw, c, high - low)
        row = end


@compiled
def avg_pool_gradient_halves(
    gradient: Any, out: Any, g: Any, n0: Any, n1: Any, n2: Any, start: int, stop: int
) -> None:
    """As `avg_pool_gradient`, for windows of two columns that lie side by side along all axes.

    Each cell has one term, added to +0.0.
    """
    d, h, w, c, od, oh, ow, kd, kh = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]
    n = ow if c == 1 else c  # neighbours to treat side by side
    ahead = 2 * len(WIDE) if c == 1 else c + len(WIDE)
    for row in range(start, stop):
        plane, z, v = row // (d * h), row // h % d, row % h
        to, behind = row * w * c, row * w * c
        if z < od * kd and v < oh * kh:
            behind += 2 * ow * c
            begin = ((plane * od + z // kd) * oh + v // kh) * ow * c
            divisor = n0[z // kd] * n1[v // kh] * n2[0]  # all windows have as many cells
            for o in range(1 if c == 1 else ow):
                for i in range(0, n, len(WIDE)):
                    e = min(i, max(0, n - len(WIDE)))
                    of, cell = begin + o * c + e, to + 2 * o * c + e * (2 if c == 1 else 1)
                    if of + len(WIDE) <= len(gradient) and cell + ahead <= stop * w * c:
                        _share_out(WIDE, gradient, of, divisor, out, cell, c)
                        continue
                    for e in range(i, min(n, i + len(WIDE))):
                        of, cell = begin + o * c + e, to + 2 * o * c + e * (2 if c == 1 else 1)
                        _share_out(ONE, gradient, of, divisor, out, cell, c)
        for i in range(behind, (row + 1) * w * c):
            put(out, i, out.dtype.type(0))


@inlined
def _share_out(lanes: Any, gradient: Any, of: int, divisor: Any, out: Any, to: int, c: int) -> None:
    """An equal share of neighbouring windows' gradients for both cells of a row of theirs."""
    each = over(load(lanes, gradient, of), full(lanes, out, divisor))
    each = plus(full(lanes, out, 0), each)
    if c == 1:
        store_zipped(out, to, each, each)
    else:
        store(out, to, each)
        store(out, to + c, each)


@compiled
def _add(terms: Any, of: int, s: int, out: Any, to: int, t: int, c: int, positions: int) -> None:
    """Add C elements at every ``s``-th position to those at every ``t``-th, one of them 1."""
    if s * t == 1:
        _accumulate(terms, of, 1, out, to, 1, positions * c)
    elif c > 1:
        for o in range(positions):
            _accumulate(terms, of + o * s * c, 1, out, to + o * t * c, 1, c)
    elif s == 2:  # with the step as a constant, the loop is vectorised
        _accumulate(terms, of, 2, out, to, 1, positions)
    elif t == 2:
        _accumulate(terms, of, 1, out, to, 2, positions)
    else:
        _accumulate(terms, of, s, out, to, t, positions)


@compiled
def _accumulate(terms: Any, of: int, s: int, out: Any, to: int, t: int, count: int) -> None:
    for i in range(count):
        put(out, to + i * t, at(out, to + i * t) + at(terms, of + i * s))
