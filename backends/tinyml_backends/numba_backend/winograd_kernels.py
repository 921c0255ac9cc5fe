"""Kernels of `winograd`: the transforms of inputs, outputs and gradients, in float32.

A tile of the input is 6×6 cells, and overlaps its neighbours by two; one of the output is 4×4. All
arrays are flat. ``planes`` and ``products`` are (36, channels, tile rows, tiles in a row).
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, put

#: Outputs along a side of a tile, and inputs that they read.
TILE, INPUTS = 4, 6
PLANES = INPUTS * INPUTS

_FLOAT = np.float32
#: The points A and B, and their products with whole numbers and halves.
A, A2, A_HALF = _FLOAT(0.5**0.5), _FLOAT(2**0.5), _FLOAT(0.125**0.5)
B, B2, B_HALF = _FLOAT(2**0.5), _FLOAT(8**0.5), _FLOAT(0.5**0.5)
HALF, TWO, MIDDLE = _FLOAT(0.5), _FLOAT(2), _FLOAT(2.5)


def _inputs(
    x: Any,
    planes: Any,
    buffer: Any,
    channels: int,
    height: int,
    width: int,
    padding_h: int,
    padding_w: int,
    first: int,
    rows: int,
    per_image: int,
    across: int,
) -> None:
    """Transform the tile rows from ``first`` on, which count through all samples.

    ``planes`` is (36, channels, rows · across). ``per_image`` is the number of tile rows of an
    image, ``across`` that of the tiles in a row.
    """
    wide = across * TILE + 2
    tiles = rows * across
    plane = channels * tiles
    for c in range(channels):
        for r in range(rows):
            sample, row = divmod(first + r, per_image)
            base = (sample * channels + c) * height
            top = row * TILE - padding_h
            for i in range(INPUTS):
                y = top + i
                to = i * wide
                if y < 0 or y >= height:
                    for j in range(wide):
                        put(buffer, to + j, _FLOAT(0))
                else:
                    begin, end = max(0, padding_w), min(wide, width + padding_w)
                    for j in range(begin):
                        put(buffer, to + j, _FLOAT(0))
                    of = (base + y) * width - padding_w
                    for j in range(begin, end):
                        put(buffer, to + j, at(x, of + j))
                    for j in range(end, wide):
                        put(buffer, to + j, _FLOAT(0))
            below = INPUTS * wide
            for j in range(wide):
                d0, d1, d2 = at(buffer, j), at(buffer, wide + j), at(buffer, 2 * wide + j)
                d3, d4 = at(buffer, 3 * wide + j), at(buffer, 4 * wide + j)
                d5 = at(buffer, 5 * wide + j)
                even_a, odd_a = d4 - TWO * d2, A * d3 - A2 * d1
                even_b, odd_b = d4 - HALF * d2, B * d3 - B_HALF * d1
                put(buffer, below + j, d0 - MIDDLE * d2 + d4)
                put(buffer, below + wide + j, even_a + odd_a)
                put(buffer, below + 2 * wide + j, even_a - odd_a)
                put(buffer, below + 3 * wide + j, even_b + odd_b)
                put(buffer, below + 4 * wide + j, even_b - odd_b)
                put(buffer, below + 5 * wide + j, d1 - MIDDLE * d3 + d5)
            for i in range(INPUTS):
                of = below + i * wide
                to = INPUTS * i * plane + c * tiles + r * across
                for t in range(across):
                    s = of + TILE * t
                    d0, d1, d2 = at(buffer, s), at(buffer, s + 1), at(buffer, s + 2)
                    d3, d4, d5 = at(buffer, s + 3), at(buffer, s + 4), at(buffer, s + 5)
                    even_a, odd_a = d4 - TWO * d2, A * d3 - A2 * d1
                    even_b, odd_b = d4 - HALF * d2, B * d3 - B_HALF * d1
                    put(planes, to + t, d0 - MIDDLE * d2 + d4)
                    put(planes, to + plane + t, even_a + odd_a)
                    put(planes, to + 2 * plane + t, even_a - odd_a)
                    put(planes, to + 3 * plane + t, even_b + odd_b)
                    put(planes, to + 4 * plane + t, even_b - odd_b)
                    put(planes, to + 5 * plane + t, d1 - MIDDLE * d3 + d5)


def _outputs(
    products: Any,
    out: Any,
    bias: Any,
    buffer: Any,
    filters: int,
    begin: int,
    end: int,
    height: int,
    width: int,
    first: int,
    rows: int,
    per_image: int,
    across: int,
) -> bool:
    """Transform the products of the filters from ``begin`` to ``end`` back, and add the bias.

    Returns whether all outputs are finite.
    """
    tiles = rows * across
    plane = (end - begin) * tiles
    finite = True
    for f in range(begin, end):
        added = at(bias, f)
        for r in range(rows):
            sample, row = divmod(first + r, per_image)
            of = (f - begin) * tiles + r * across
            for j in range(INPUTS):
                s = of + j * plane
                for t in range(across):
                    m0, m1 = at(products, s + t), at(products, s + INPUTS * plane + t)
                    m2 = at(products, s + 2 * INPUTS * plane + t)
                    m3 = at(products, s + 3 * INPUTS * plane + t)
                    m4 = at(products, s + 4 * INPUTS * plane + t)
                    m5 = at(products, s + 5 * INPUTS * plane + t)
                    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    put(buffer, j * across + t, m0 + even_a + even_b)
                    put(buffer, (6 + j) * across + t, A * odd_a + B * odd_b)
                    put(buffer, (12 + j) * across + t, HALF * even_a + TWO * even_b)
                    put(buffer, (18 + j) * across + t, A_HALF * odd_a + B2 * odd_b + m5)
            base = (sample * filters + f) * height
            total = _FLOAT(0)
            for i in range(min(TILE, height - row * TILE)):
                to = (base + row * TILE + i) * width
                s = INPUTS * i * across
                for t in range(across):
                    m0, m1 = at(buffer, s + t), at(buffer, s + across + t)
                    m2, m3 = at(buffer, s + 2 * across + t), at(buffer, s + 3 * across + t)
                    m4, m5 = at(buffer, s + 4 * across + t), at(buffer, s + 5 * across + t)
                    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    y0 = m0 + even_a + even_b + added
                    y1 = A * odd_a + B * odd_b + added
                    y2 = HALF * even_a + TWO * even_b + added
                    y3 = A_HALF * odd_a + B2 * odd_b + m5 + added
                    total += (y0 - y0) + (y1 - y1) + (y2 - y2) + (y3 - y3)  # NaN if one is infinite
                    o = to + TILE * t
                    if TILE * t + TILE <= width:
                        put(out, o, y0)
                        put(out, o + 1, y1)
                        put(out, o + 2, y2)
                        put(out, o + 3, y3)
                    else:
                        rest = width - TILE * t
                        put(out, o, y0)
                        if rest > 1:
                            put(out, o + 1, y1)
                        if rest > 2:
                            put(out, o + 2, y2)
            finite = finite and total == total
    return finite


def _gradients(
    gradient: Any,
    planes: Any,
    buffer: Any,
    filters: int,
    height: int,
    width: int,
    first: int,
    rows: int,
    per_image: int,
    across: int,
) -> None:
    """Adjoint of `_outputs` without the bias: gradients of outputs to those of the products."""
    tiles = rows * across
    plane = filters * tiles
    wide = across * TILE
    for f in range(filters):
        for r in range(rows):
            sample, row = divmod(first + r, per_image)
            base = (sample * filters + f) * height
            for i in range(TILE):
                y = row * TILE + i
                for j in range(wide):
                    put(buffer, i * wide + j, _FLOAT(0))
                if y < height:
                    for j in range(width):
                        put(buffer, i * wide + j, at(gradient, (base + y) * width + j))
            below = TILE * wide
            for j in range(wide):
                g0, g1 = at(buffer, j), at(buffer, wide + j)
                g2, g3 = at(buffer, 2 * wide + j), at(buffer, 3 * wide + j)
                even_a, odd_a = g0 + HALF * g2, A * g1 + A_HALF * g3
                even_b, odd_b = g0 + TWO * g2, B * g1 + B2 * g3
                put(buffer, below + j, g0)
                put(buffer, below + wide + j, even_a + odd_a)
                put(buffer, below + 2 * wide + j, even_a - odd_a)
                put(buffer, below + 3 * wide + j, even_b + odd_b)
                put(buffer, below + 4 * wide + j, even_b - odd_b)
                put(buffer, below + 5 * wide + j, g3)
            for i in range(INPUTS):
                of = below + i * wide
                to = INPUTS * i * plane + f * tiles + r * across
                for t in range(across):
                    s = of + TILE * t
                    g0, g1, g2, g3 = (
                        at(buffer, s),
                        at(buffer, s + 1),
                        at(buffer, s + 2),
                        at(buffer, s + 3),
                    )
                    even_a, odd_a = g0 + HALF * g2, A * g1 + A_HALF * g3
                    even_b, odd_b = g0 + TWO * g2, B * g1 + B2 * g3
                    put(planes, to + t, g0)
                    put(planes, to + plane + t, even_a + odd_a)
                    put(planes, to + 2 * plane + t, even_a - odd_a)
                    put(planes, to + 3 * plane + t, even_b + odd_b)
                    put(planes, to + 4 * plane + t, even_b - odd_b)
                    put(planes, to + 5 * plane + t, g3)


inputs = compiled(_inputs, fastmath={"contract"})
outputs = compiled(_outputs, fastmath={"contract"})
gradients = compiled(_gradients, fastmath={"contract"})
