"""Kernels of max-unpooling and of the gradients of pooling and unpooling.

Arrays are flat, as in `pool`. Whatever the winners hold, nothing outside an array is touched. Where
bits are only moved, arrays are viewed as unsigned integers.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.rows import (
    corner_of,
    fetch_cells_ahead,
    inside_of,
    load_cells,
    reach_of,
    row_at,
    row_behind,
    side_by_side,
    steps_of,
    unpacked,
)
from tinyml_backends.numba_backend.vectors import (
    ONE,
    WIDE,
    choose,
    equals,
    full,
    load,
    store,
    store_zipped,
)


@compiled
def scatter(
    y: Any,
    winners: Any,
    out: Any,
    g: Any,
    offsets: Any,
    nought: Any,
    add: bool,
    start: int,
    stop: int,
) -> None:
    """Any window: zeros, then each value at its winner's cell, in row-major order of the windows.

    An item is a row of ``out``. With ``add``, values are summed; otherwise the last one stays.
    ``nought`` is written as 0.
    """
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    sd, sh, sw, pd, ph, pw = g[10], g[11], g[12], g[13], g[14], g[15]
    zero = out.dtype.type(0)
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // (d * h)
        end = min(stop, (plane + 1) * d * h)
        low, high = row * w * c, end * w * c
        for i in range(low, high):
            put(out, i, zero)
        before = plane * d * h
        z0, z1, y0, y1 = touching(g, row - before, end - before)
        for z in range(z0, z1):
            for v in range(y0, y1):
                of = ((plane * od + z) * oh + v) * ow * c
                corner = (((plane * d + z * sd - pd) * h + v * sh - ph) * w - pw) * c
                for o in range(ow):
                    for e in range(c):
                        number = min(np.intp(at(winners, of + o * c + e)), len(offsets) - 1)
                        cell = corner + o * sw * c + e + at(offsets, number)
                        if low <= cell < high:
                            value = at(y, of + o * c + e)
                            value = zero if value == nought else value
                            put(out, cell, at(out, cell) + value if add else value)
        row = end


@compiled
def scatter_halves(
    y: Any, winners: Any, out: Any, g: Any, nought: Any, start: int, stop: int
) -> None:
    """As `scatter`, for windows of two columns that lie side by side along all axes."""
    d, h, w, c, od, oh, ow, kd, kh = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]
    n = ow if c == 1 else c  # neighbours to treat side by side
    ahead = 2 * len(WIDE) if c == 1 else c + len(WIDE)
    for row in range(start, stop):
        plane, z, v = row // (d * h), row // h % d, row % h
        to, behind = row * w * c, row * w * c
        if z < od * kd and v < oh * kh:
            behind += 2 * ow * c
            begin = ((plane * od + z // kd) * oh + v // kh) * ow * c
            first = (z % kd * kh + v % kh) * 2
            for o in range(1 if c == 1 else ow):
                for i in range(0, n, len(WIDE)):
                    e = min(i, max(0, n - len(WIDE)))
                    of, cell = begin + o * c + e, to + 2 * o * c + e * (2 if c == 1 else 1)
                    if of + len(WIDE) <= len(y) and cell + ahead <= stop * w * c:
                        _put_halves(WIDE, y, winners, of, out, cell, c, first, nought)
                        continue
                    for e in range(i, min(n, i + len(WIDE))):
                        of, cell = begin + o * c + e, to + 2 * o * c + e * (2 if c == 1 else 1)
                        _put_halves(ONE, y, winners, of, out, cell, c, first, nought)
        for i in range(behind, (row + 1) * w * c):
            put(out, i, out.dtype.type(0))


@inlined
def _put_halves(
    lanes: Any,
    y: Any,
    winners: Any,
    of: int,
    out: Any,
    to: int,
    c: int,
    first: int,
    nought: Any,
) -> None:
    """Neighbouring values at the left or the right cells of one row of their windows."""
    zeros = full(lanes, out, 0)
    value, number = load(lanes, y, of), load(lanes, winners, of)
    value = choose(equals(value, nought), zeros, value)
    left = choose(equals(number, first), value, zeros)
    right = choose(equals(number, first + 1), value, zeros)
    if c == 1:
        store_zipped(out, to, left, right)
    else:
        store(out, to, left)
        store(out, to + c, right)


@compiled
def touching(g: Any, first: int, end: int) -> Any:
    """Outputs, along depth and height, whose windows reach the rows ``first`` to ``end``."""
    h = g[1]
    z0, z1 = _outputs(g, 0, first // h, (end - 1) // h)
    if first // h < (end - 1) // h:
        return z0, z1, 0, g[5]
    y0, y1 = _outputs(g, 1, first % h, (end - 1) % h)
    return z0, z1, y0, y1


@compiled
def _outputs(g: Any, axis: int, first: int, last: int) -> Any:
    """Outputs along an axis whose windows reach the inputs ``first`` to ``last``."""
    size, stride, padding, dilation = g[7 + axis], g[10 + axis], g[13 + axis], g[16 + axis]
    low = (first + padding - dilation * (size - 1) + stride - 1) // stride
    return max(0, low), min(g[4 + axis], (last + padding) // stride + 1)


@compiled
def gather(
    gradient: Any, winners: Any, out: Any, g: Any, offsets: Any, start: int, stop: int
) -> None:
    """Gradient at each winner's cell; an item is a row of ``out``."""
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    sd, sh, sw, pd, ph, pw = g[10], g[11], g[12], g[13], g[14], g[15]
    for row in range(start, stop):
        plane, rest = row // (od * oh), row % (od * oh)
        y = (plane * d + rest // oh * sd - pd) * h + rest % oh * sh - ph
        corner, to = (y * w - pw) * c, row * ow * c
        for o in range(ow):
            for e in range(c):
                number = min(np.intp(at(winners, to + o * c + e)), len(offsets) - 1)
                cell = corner + o * sw * c + e + at(offsets, number)
                put(out, to + o * c + e, at(gradient, min(max(cell, 0), len(gradient) - 1)))


@compiled
def gather_common(
    gradient: Any,
    winners: Any,
    out: Any,
    g: Any,
    spans: Any,
    offsets: Any,
    down: Any,
    across: Any,
    apart: Any,
    start: int,
    stop: int,
) -> None:
    """As `gather`, for common windows: all cells are read side by side, and one of each is chosen.

    That pays where no fewer windows, or channels, are side by side than a window has cells.
    """
    g = unpacked(g)
    c, ow, sw, steps, reach = g[3], g[6], g[12], steps_of(g), reach_of(g, apart)
    n, group = side_by_side(g, spans)
    row = row_at(start, g)
    for number in range(start, stop):
        first, behind = inside_of(row, g, spans)
        of, to = corner_of(row, g)[2], number * ow * c
        row = row_behind(row, g)
        _gather_each(gradient, winners, out, of, to, sw, c, offsets, 0, first)
        for o in range(first, behind, group):
            for v in range(0, n, len(WIDE)):
                e = min(v, max(0, n - len(WIDE)))
                cell, place = of + o * sw * c + e * len(apart), to + o * c + e
                if cell + reach <= len(gradient) and place + len(WIDE) <= stop * ow * c:
                    _choose(apart, gradient, cell, steps, winners, out, place, g[7], down, across)
                elif c == 1:
                    last = min(behind, first + v + len(WIDE))
                    _gather_each(gradient, winners, out, of, to, sw, c, offsets, first + v, last)
                else:
                    _gather_each(gradient, winners, out, of, to, sw, c, offsets, o, o + 1)
        _gather_each(gradient, winners, out, of, to, sw, c, offsets, behind, ow)


@compiled
def _gather_each(
    gradient: Any,
    winners: Any,
    out: Any,
    of: int,
    to: int,
    sw: int,
    c: int,
    offsets: Any,
    first: int,
    behind: int,
) -> None:
    """Some windows of a row, whose first cell and first output are ``of`` and ``to``."""
    for o in range(first, behind):
        for e in range(c):
            number = min(np.intp(at(winners, to + o * c + e)), len(offsets) - 1)
            cell = of + o * sw * c + e + at(offsets, number)
            put(out, to + o * c + e, at(gradient, min(max(cell, 0), len(gradient) - 1)))


@inlined
def _choose(
    apart: Any,
    gradient: Any,
    of: int,
    steps: Any,
    winners: Any,
    out: Any,
    to: int,
    depth: int,
    down: Any,
    across: Any,
) -> None:
    """The winners' cells of neighbouring windows, ``of`` the first cell of the first one."""
    which = load(WIDE, winners, to)
    last = (depth - 1) * steps[0] + (len(down) - 1) * steps[1] + (len(across) - 1) * steps[2]
    chosen = load_cells(WIDE, apart, gradient, of + last)  # also where there is no such cell
    for i in range(depth):
        for j in range(len(down)):
            row, number = of + i * steps[0] + j * steps[1], (i * len(down) + j) * len(across)
            fetch_cells_ahead(WIDE, apart, gradient, row)
            for k in range(len(across)):
                value = load_cells(WIDE, apart, gradient, row + k * steps[2])
                chosen = choose(equals(which, number + k), value, chosen)
    store(out, to, chosen)


@compiled
def gather_last(
    gradient: Any, winners: Any, out: Any, g: Any, offsets: Any, start: int, stop: int
) -> None:
    """As `gather`, but zero for a value that a later window overwrote.

    The windows come in descending order and mark the cells they chose: who finds a mark is too
    early. Windows behind ``stop`` take part as far as they reach the cells of those before it.
    """
    d, h, w, c, od, oh, ow = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    sd, sh, sw, pd, ph, pw = g[10], g[11], g[12], g[13], g[14], g[15]
    zero = out.dtype.type(0)
    row = start
    while row < stop:  # the rows of one plane at a time
        plane = row // (od * oh)
        before = plane * od * oh
        first, end = row - before, min(stop - before, od * oh)
        # the cells of these windows: some depths, or some rows where there is but one depth
        z0 = max(0, first // oh * sd - pd)
        z1 = min(d - 1, (end - 1) // oh * sd - pd + g[16] * (g[7] - 1))
        y0, y1 = 0, h - 1
        last = min(od - 1, (z1 + pd) // sd) * oh + oh - 1
        if od == 1:
            y0 = max(0, first * sh - ph)
            y1 = min(h - 1, (end - 1) * sh - ph + g[17] * (g[8] - 1))
            last = min(oh - 1, (y1 + ph) // sh)
        low, high = (z0 * h + y0) * w * c, (z1 * h + y1 + 1) * w * c
        marks = np.zeros(high - low, np.uint8)
        for r in range(last, first - 1, -1):
            to = (before + r) * ow * c
            corner = ((r // oh * sd - pd) * h + r % oh * sh - ph) * w - pw
            for o in range(ow - 1, -1, -1):
                for e in range(c):
                    place = to + o * c + e
                    number = min(np.intp(at(winners, place)), len(offsets) - 1)
                    cell = (corner + o * sw) * c + e + at(offsets, number)
                    value = zero
                    if low <= cell < high and at(marks, cell - low) == 0:
                        put(marks, cell - low, np.uint8(1))
                        value = at(gradient, plane * d * h * w * c + cell)
                    if r < end:
                        put(out, place, value)
        row = before + end


@compiled
def place(
    y: Any, indices: Any, out: Any, bad: Any, inside: int, pooled: int, start: int, stop: int
) -> None:
    """Each value at any cell of its plane, in order; an item is a plane.

    ``bad`` receives the flat position of each plane's first bad index, or -1.
    """
    zero = out.dtype.type(0)
    for plane in range(start, stop):
        for i in range(plane * inside, (plane + 1) * inside):
            put(out, i, zero)
        found = -1
        for i in range(plane * pooled, (plane + 1) * pooled):
            index = np.intp(at(indices, i))
            if 0 <= index < inside:
                put(out, plane * inside + index, at(y, i))
            elif found < 0:
                found = i
        bad[plane] = found
