"""Kernels of `winograd`: the transforms of inputs, outputs and gradients, in float32.

A tile of the input is 6×6 cells, and overlaps its neighbours by two; one of the output is 4×4. All
arrays are flat. ``planes`` and ``products`` are (36, channels, pitch): the tiles of the tile rows,
and what is left up to the next multiple of a vector.
"""

from functools import partial
from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, put

#: Outputs along a side of a tile, and inputs that they read.
TILE, INPUTS = 4, 6
PLANES = INPUTS * INPUTS

#: A multiplication and an addition may become one instruction, which rounds once.
fused = partial(compiled, fastmath={"contract"})
inlined = partial(compiled, forceinline=True, fastmath={"contract"})

_FLOAT = np.float32
#: The points A and B, and their products with whole numbers and halves.
A, A2, A_HALF = _FLOAT(0.5**0.5), _FLOAT(2**0.5), _FLOAT(0.125**0.5)
B, B2, B_HALF = _FLOAT(2**0.5), _FLOAT(8**0.5), _FLOAT(0.5**0.5)
HALF, TWO, MIDDLE, FOUR = _FLOAT(0.5), _FLOAT(2), _FLOAT(2.5), _FLOAT(4)
THIRD, SIXTH, G_A, G_B = _FLOAT(1 / 3), _FLOAT(1 / 6), _FLOAT(2**0.5 / 3), _FLOAT(2**0.5 / 6)
#: Filters' channels whose weights or gradients are transformed at once.
WIDTH = 256


@inlined
def _of_inputs(d0: Any, d1: Any, d2: Any, d3: Any, d4: Any, d5: Any) -> Any:
    """``Bᵀ d`` of docs/convolution.md."""
    even_a, odd_a = d4 - TWO * d2, A * d3 - A2 * d1
    even_b, odd_b = d4 - HALF * d2, B * d3 - B_HALF * d1
    first, last = d0 - MIDDLE * d2 + d4, d1 - MIDDLE * d3 + d5
    return first, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, last


@inlined
def _of_products(m0: Any, m1: Any, m2: Any, m3: Any, m4: Any, m5: Any) -> Any:
    """``Aᵀ m``."""
    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    last = A_HALF * odd_a + B2 * odd_b + m5
    return m0 + even_a + even_b, A * odd_a + B * odd_b, HALF * even_a + TWO * even_b, last


@inlined
def _of_gradients(g0: Any, g1: Any, g2: Any, g3: Any) -> Any:
    """``A g``."""
    even_a, odd_a = g0 + HALF * g2, A * g1 + A_HALF * g3
    even_b, odd_b = g0 + TWO * g2, B * g1 + B2 * g3
    return g0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, g3


@inlined
def _of_weights(w0: Any, w1: Any, w2: Any) -> Any:
    """``G w``, in float64."""
    even_a, odd_a = -2 / 3 * w0 - 1 / 3 * w2, 2 / 3 * 0.5**0.5 * w1
    even_b, odd_b = 1 / 6 * w0 + 1 / 3 * w2, 1 / 6 * 2**0.5 * w1
    return w0, even_a - odd_a, even_a + odd_a, even_b + odd_b, even_b - odd_b, w2


@inlined
def _of_sums(m0: Any, m1: Any, m2: Any, m3: Any, m4: Any, m5: Any) -> Any:
    """``Gᵀ m``."""
    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    middle, last = G_B * odd_b - G_A * odd_a, m5 + THIRD * (even_b - even_a)
    return m0 + SIXTH * (even_b - FOUR * even_a), middle, last


@inlined
def _three(array: Any, index: int, step: int) -> Any:
    """Three elements, ``step`` apart."""
    return at(array, index), at(array, index + step), at(array, index + 2 * step)


@inlined
def _six(array: Any, index: int, step: int) -> Any:
    """Six elements, ``step`` apart."""
    return (*_three(array, index, step), *_three(array, index + 3 * step, step))


@inlined
def _put_six(array: Any, index: int, step: int, values: Any) -> None:
    for i in range(INPUTS):
        put(array, index + i * step, values[i])


@fused
def weights(
    weight: Any,
    planes: Any,
    filters: int,
    channels: int,
    is_turned: bool,
    block: int,
    start: int,
    stop: int,
) -> None:
    """Transform blocks of filters, as the left operands of `products.multiply`.

    ``weight`` is (filters, channels, 9); or, to be turned, (channels, filters, 9).
    """
    blocks, count = -(-filters // block), channels * block
    values, columns = np.zeros(9 * WIDTH), np.zeros(18 * WIDTH)
    for b in range(start, stop):
        for first in range(0, count, WIDTH):
            wide = min(WIDTH, count - first)
            for i in range(wide):
                c, f = (first + i) // block, b * block + (first + i) % block
                of = 9 * (c * filters + f if is_turned else f * channels + c)
                for k in range(9):
                    if f < filters:
                        cell = at(weight, of + (8 - k if is_turned else k))
                        put(values, k * WIDTH + i, np.float64(cell))
                    else:
                        put(values, k * WIDTH + i, 0.0)
            for k in range(3):
                for i in range(wide):
                    column = _of_weights(*_three(values, k * WIDTH + i, 3 * WIDTH))
                    _put_six(columns, k * WIDTH + i, 3 * WIDTH, column)
            for k in range(INPUTS):
                to = (INPUTS * k * blocks + b) * count + first
                for i in range(wide):
                    row = _of_weights(*_three(columns, 3 * k * WIDTH + i, WIDTH))
                    _put_six(planes, to + i, blocks * count, row)


@fused
def inputs(
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
    pitch: int,
) -> None:
    """Transform the tile rows from ``first`` on, which count through all samples.

    ``per_image`` is the number of tile rows of an image, ``across`` that of the tiles in a row.
    """
    wide = across * TILE + 2
    plane = channels * pitch
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
                _put_six(buffer, below + j, wide, _of_inputs(*_six(buffer, j, wide)))
            for i in range(INPUTS):
                of = below + i * wide
                to = INPUTS * i * plane + c * pitch + r * across
                for t in range(across):
                    cells = _six(buffer, of + TILE * t, 1)
                    _put_six(planes, to + t, plane, _of_inputs(*cells))


@fused
def outputs(
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
    pitch: int,
) -> bool:
    """Transform the products of the filters from ``begin`` to ``end`` back, and add the bias.

    Returns whether all outputs are finite.
    """
    plane = (end - begin) * pitch
    finite = True
    for f in range(begin, end):
        added = at(bias, f)
        for r in range(rows):
            sample, row = divmod(first + r, per_image)
            of = (f - begin) * pitch + r * across
            for j in range(INPUTS):
                s = of + j * plane
                for t in range(across):
                    of_column = _of_products(*_six(products, s + t, INPUTS * plane))
                    for i in range(TILE):
                        put(buffer, (INPUTS * i + j) * across + t, of_column[i])
            base = (sample * filters + f) * height
            total = _FLOAT(0)
            for i in range(min(TILE, height - row * TILE)):
                to = (base + row * TILE + i) * width
                s = INPUTS * i * across
                for t in range(across):
                    y0, y1, y2, y3 = _of_products(*_six(buffer, s + t, across))
                    y0, y1, y2, y3 = y0 + added, y1 + added, y2 + added, y3 + added
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


@fused
def gradients(
    gradient: Any,
    planes: Any,
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
    pitch: int,
) -> None:
    """Adjoint of `outputs` without the bias: gradients of outputs to those of the products."""
    plane = (end - begin) * pitch
    wide = across * TILE
    for f in range(begin, end):
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
                column = at(buffer, j), at(buffer, wide + j), at(buffer, 2 * wide + j)
                last = at(buffer, 3 * wide + j)
                _put_six(buffer, below + j, wide, _of_gradients(*column, last))
            for i in range(INPUTS):
                of = below + i * wide
                to = INPUTS * i * plane + (f - begin) * pitch + r * across
                for t in range(across):
                    s = of + TILE * t
                    row_of = at(buffer, s), at(buffer, s + 1), at(buffer, s + 2)
                    _put_six(planes, to + t, plane, _of_gradients(*row_of, at(buffer, s + 3)))


@fused
def of_sums(sums: Any, weight: Any, start: int, stop: int) -> None:
    """Adjoint of `weights`: the gradients of weights from those of the transformed ones.

    ``sums`` is (36, filters · channels); an item is `WIDTH` of the filters' channels.
    """
    items = len(weight) // 9
    columns = np.zeros(18 * WIDTH, np.float32)
    for first in range(start * WIDTH, min(stop * WIDTH, items), WIDTH):
        wide = min(WIDTH, items - first)
        for k in range(INPUTS):
            for i in range(wide):
                column = _of_sums(*_six(sums, k * items + first + i, INPUTS * items))
                for j in range(3):
                    put(columns, (INPUTS * j + k) * WIDTH + i, column[j])
        for j in range(3):
            for i in range(wide):
                row = _of_sums(*_six(columns, INPUTS * j * WIDTH + i, WIDTH))
                for k in range(3):
                    put(weight, 9 * (first + i) + 3 * j + k, row[k])
