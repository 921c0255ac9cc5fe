"""Kernels of max-unpooling and of the gradients of pooling and unpooling.

Arrays are flat, as in `pool`. Whatever the winners hold, nothing outside an array is touched. Where
bits are only moved, arrays are viewed as unsigned integers.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import AHEAD, LINE, at, compiled, fetch, put, stream
from tinyml_backends.numba_backend.pool import pair, row_of_pairs
from tinyml_backends.numba_backend.vectors import (
    HALF,
    NARROW,
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
def scatter_pairs(
    y: Any, winners: Any, out: Any, g: Any, nought: Any, past_cache: bool, start: int, stop: int
) -> None:
    """As `scatter` for the windows of `Plan.is_pair`, without adding; ``nought`` is written as 0.

    An item is a row of ``y``; each row of ``out`` is written once, from left to right. With
    ``past_cache``, two rows at a time are written in the cache and streamed from there.
    """
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    zero = out.dtype.type(0)
    both = 2 * w * c
    size = out.itemsize
    desk = np.empty(both + 2 * LINE if past_cache else 0, out.dtype)
    begin = -(desk.ctypes.data // size) % (LINE // size)
    for row in range(start, stop):
        of = row * ow * c
        to = row_of_pairs(row, oh, h) * w * c
        if past_cache:
            # at the desk, every element stands as far from a line's begin as in ``out``
            at_desk = begin + (out.ctypes.data // size + to) % (LINE // size)
            _spread(y, winners, of, desk, at_desk, at_desk + w * c, w, c, ow, nought)
            _carry(desk, at_desk, out, to, both)
        else:
            _spread(y, winners, of, out, to, to + w * c, w, c, ow, nought)
        if h > 2 * oh and row % oh == oh - 1:
            for i in range(to + both, (row // oh + 1) * h * w * c):
                put(out, i, zero)


@compiled
def _spread(
    y: Any,
    winners: Any,
    of: int,
    out: Any,
    top: int,
    low: int,
    w: int,
    c: int,
    ow: int,
    nought: Any,
) -> None:
    """Two rows of ``out`` from one of ``y``, and zeros behind the last window."""
    zero = out.dtype.type(0)
    n = ow if c == 1 else c
    for o in range(1 if c == 1 else ow):
        here, shift = of + o * c, 2 * o * c
        if n >= 16:
            for e in range(0, n, 16):
                e = min(e, n - 16)
                _put_quads(WIDE, y, winners, here + e, out, top + shift, low + shift, c, e, nought)
        elif n >= 8:
            for e in range(0, n, 8):
                e = min(e, n - 8)
                _put_quads(HALF, y, winners, here + e, out, top + shift, low + shift, c, e, nought)
        elif n >= 4:
            for e in range(0, n, 4):
                e = min(e, n - 4)
                _put_quads(
                    NARROW, y, winners, here + e, out, top + shift, low + shift, c, e, nought
                )
        else:
            for e in range(n):
                _put_quads(ONE, y, winners, here + e, out, top + shift, low + shift, c, e, nought)
    for to in (top, low):
        for i in range(to + 2 * ow * c, to + w * c):
            put(out, i, zero)


@compiled
def _put_quads(
    lanes: Any,
    y: Any,
    winners: Any,
    of: int,
    out: Any,
    top: int,
    low: int,
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
        store_zipped(out, low + 2 * e, lower, lower_right)
    else:
        store(out, top + e, upper)
        store(out, top + c + e, upper_right)
        store(out, low + e, lower)
        store(out, low + c + e, lower_right)


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
def gather_pairs(gradient: Any, winners: Any, out: Any, g: Any, start: int, stop: int) -> None:
    """As `gather`, for the windows of `Plan.is_pair`."""
    h, w, c, oh, ow = g[1], g[2], g[3], g[5], g[6]
    n = ow if c == 1 else c
    for row in range(start, stop):
        of = row_of_pairs(row, oh, h) * w * c
        to = row * ow * c
        for line in range(0, 2 * w * c, LINE // gradient.itemsize):
            fetch(gradient, of + AHEAD // gradient.itemsize + line)
        for o in range(1 if c == 1 else ow):
            top, here = of + 2 * o * c, to + o * c
            if n >= 16:
                for e in range(0, n, 16):
                    _get_quads(WIDE, gradient, top, w * c, c, winners, out, here, min(e, n - 16))
            elif n >= 8:
                for e in range(0, n, 8):
                    _get_quads(HALF, gradient, top, w * c, c, winners, out, here, min(e, n - 8))
            elif n >= 4:
                for e in range(0, n, 4):
                    _get_quads(NARROW, gradient, top, w * c, c, winners, out, here, min(e, n - 4))
            else:
                for e in range(n):
                    _get_quads(ONE, gradient, top, w * c, c, winners, out, here, e)


@compiled
def _get_quads(
    lanes: Any, x: Any, top: int, row: int, c: int, winners: Any, out: Any, to: int, e: int
) -> None:
    """The cells that the ``e``-th window and its neighbours chose."""
    number = load(lanes, winners, to + e)
    left, right = pair(lanes, x, top, c, e)
    upper = choose(equals(number, 1), right, left)
    left, right = pair(lanes, x, top + row, c, e)
    lower = choose(equals(number, 3), right, left)
    chosen = choose(equals(number, 0), upper, choose(equals(number, 1), upper, lower))
    store(out, to + e, chosen)


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
