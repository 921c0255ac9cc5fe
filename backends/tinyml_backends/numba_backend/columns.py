"""Kernels of convolution's columns, for float32 and float64.

An item is a plane, one channel of one sample. It is copied to a scratch buffer with its padding:
then a row of the columns is a row of the buffer, from some cell on. Rows are short, so kernels use
vectors explicitly (see `vectors`).
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.rows import geometry, load_cells
from tinyml_backends.numba_backend.vectors import ONE, WIDE, add, load, store

#: Fewer lanes, for the rest of a row.
HALF, QUARTER = (0,) * 8, (0,) * 4


@inlined
def reach_of(g: Any) -> Any:
    """Depth, height and width of the padded input that windows read."""
    return (
        (g.out_d - 1) * g.stride_d + (g.size_d - 1) * g.dilation_d + 1,
        (g.out_h - 1) * g.stride_h + (g.size_h - 1) * g.dilation_h + 1,
        (g.out_w - 1) * g.stride_w + (g.size_w - 1) * g.dilation_w + 1,
    )


@inlined
def _inside(reach: int, padding: int, cells: int) -> Any:
    """Range of the positions in the padded input that are cells of the input."""
    return max(0, padding), min(reach, padding + cells)


@inlined
def copy_plane(
    x: Any, plane: int, padded: Any, begin: int, wide: int, g: Any, is_back: bool
) -> None:
    """Copy a plane to the padded buffer, from ``begin`` on in rows of ``wide`` cells; or back."""
    deep, high, reach = reach_of(g)
    d0, d1 = _inside(deep, g.padding_d, g.in_d)
    h0, h1 = _inside(high, g.padding_h, g.in_h)
    w0, w1 = _inside(reach, g.padding_w, g.in_w)
    for d in range(d0, d1):
        for h in range(h0, h1):
            row = (plane * g.in_d + d - g.padding_d) * g.in_h + h - g.padding_h
            of, to = row * g.in_w + w0 - g.padding_w, begin + (d * high + h) * wide + w0
            for i in range(w1 - w0):
                if is_back:
                    put(x, of + i, at(padded, to + i))
                else:
                    put(padded, to + i, at(x, of + i))


@compiled
def patches(x: Any, cols: Any, numbers: Any, step: Any, start: int, stop: int) -> None:
    """Each window of each plane, cell by cell.

    ``step`` is that of `Fixed`. A vector may extend beyond its row, where the next row overwrites
    it.
    """
    g = geometry(numbers)
    deep, high, wide = reach_of(g)
    padded = np.zeros(deep * high * wide + 2 * len(WIDE), x.dtype)
    rows = g.size_d * g.size_h * g.size_w * g.out_d * g.out_h
    end = stop * rows * g.out_w
    to = start * rows * g.out_w
    for plane in range(start, stop):
        copy_plane(x, plane, padded, 0, wide, g, False)
        for kd in range(g.size_d):
            for kh in range(g.size_h):
                for kw in range(g.size_w):
                    for d in range(g.out_d):
                        of_d = (d * g.stride_d + kd * g.dilation_d) * high
                        for h in range(g.out_h):
                            of_h = of_d + h * g.stride_h + kh * g.dilation_h
                            of = of_h * wide + kw * g.dilation_w
                            _copy_row(padded, of, cols, to, end, g, step)
                            to += g.out_w


@inlined
def _copy_row(padded: Any, of: int, cols: Any, to: int, end: int, g: Any, step: Any) -> None:
    whole = g.out_w if g.stride_w == len(step) else 0
    for i in range(0, whole, len(WIDE)):
        if to + i + len(WIDE) <= end:
            store(cols, to + i, load_cells(WIDE, step, padded, of + i * len(step)))
        else:
            for j in range(i, g.out_w):
                put(cols, to + j, at(padded, of + j * g.stride_w))
    for i in range(whole, g.out_w):
        put(cols, to + i, at(padded, of + i * g.stride_w))


@compiled
def add_patches(cols: Any, out: Any, numbers: Any, start: int, stop: int) -> None:
    """Add the columns of each plane to it, cell by cell."""
    g = geometry(numbers)
    deep, high, wide = reach_of(g)
    padded = np.zeros(deep * high * wide, out.dtype)
    of = start * g.size_d * g.size_h * g.size_w * g.out_d * g.out_h * g.out_w
    for plane in range(start, stop):
        copy_plane(out, plane, padded, 0, wide, g, False)
        for kd in range(g.size_d):
            for kh in range(g.size_h):
                for kw in range(g.size_w):
                    for d in range(g.out_d):
                        to_d = (d * g.stride_d + kd * g.dilation_d) * high
                        for h in range(g.out_h):
                            to_h = to_d + h * g.stride_h + kh * g.dilation_h
                            to = to_h * wide + kw * g.dilation_w
                            _add_row(cols, of, padded, to, g)
                            of += g.out_w
        copy_plane(out, plane, padded, 0, wide, g, True)


@inlined
def _add_row(cols: Any, of: int, padded: Any, to: int, g: Any) -> None:
    done = 0
    if g.stride_w == 1:
        done = _add_vectors(WIDE, cols, of, padded, to, done, g.out_w)
        done = _add_vectors(HALF, cols, of, padded, to, done, g.out_w)
        done = _add_vectors(QUARTER, cols, of, padded, to, done, g.out_w)
        done = _add_vectors(ONE, cols, of, padded, to, done, g.out_w)
    for i in range(done, g.out_w):
        place = to + i * g.stride_w
        put(padded, place, at(padded, place) + at(cols, of + i))


@inlined
def _add_vectors(
    lanes: Any, cols: Any, of: int, padded: Any, to: int, done: int, width: int
) -> Any:
    while done + len(lanes) <= width:
        total = add(load(lanes, padded, to + done), load(lanes, cols, of + done))
        store(padded, to + done, total)
        done += len(lanes)
    return done
