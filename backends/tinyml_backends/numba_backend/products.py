"""Kernels of batches of matrix products, which sum vectors in registers for several rows at once.

An element of a product has the same bits however products and rows are divided among threads.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.direct import (
    HAS_WIDE_REGISTERS,
    LANES,
    add_all,
    add_outer,
    add_products,
    put_sums,
    store_all,
    zeros,
)

#: Rows that `multiply` sums at once, at most; and two vectors of columns, or one.
ROWS = 12 if HAS_WIDE_REGISTERS else 6
PAIR, SINGLE = (0, 0), (0,)
WIDTH = 2 * LANES
#: So many products are summed one by one. A longer sum is a sum of such sums, with less rounding.
DEPTH = 128
#: Rows of the left and of the right operand that `add_outer_products` sums at once.
LEFT, RIGHT = ((0,) * 6, (0,) * 4) if HAS_WIDE_REGISTERS else ((0,) * 4, (0,) * 3)


@compiled
def multiply(
    left: Any,
    right: Any,
    out: Any,
    panels: Any,
    blocks: int,
    begin: int,
    rows: int,
    depth: int,
    columns: int,
    block: Any,
    start: int,
    stop: int,
) -> None:
    """Products of ``left``, from block ``begin`` on, and ``right``; an item is one of them.

    ``left`` is (items, blocks, depth, rows of a block), ``right`` (items, depth, columns) and
    ``out`` (items, rows, columns). The number of columns is a multiple of `LANES`. ``panels`` is a
    scratch buffer for depth · columns elements.
    """
    for item in range(start, stop):
        for j in range(0, columns, WIDTH):
            wide = min(WIDTH, columns - j)
            to, of = j * depth, item * depth * columns + j
            for k in range(depth):
                for i in range(wide):
                    put(panels, to + k * wide + i, at(right, of + k * columns + i))
        for first in range(0, rows, len(block)):
            count = min(len(block), rows - first)
            weights = ((item * blocks + begin) * len(block) + first) * depth
            to = (item * rows + first) * columns
            for k in range(0, depth, DEPTH):
                part = k, min(k + DEPTH, depth), count, columns
                for j in range(0, columns - LANES, WIDTH):
                    panel = j * depth
                    _multiply(left, weights, panels, panel, out, to + j, part, block, PAIR)
                if columns % WIDTH:
                    j = columns - LANES
                    _multiply(left, weights, panels, j * depth, out, to + j, part, block, SINGLE)


@inlined
def _multiply(
    left: Any,
    weights: int,
    panels: Any,
    panel: int,
    out: Any,
    to: int,
    part: Any,
    block: Any,
    vectors: Any,
) -> None:
    """Part of the sums of a block of rows, for one or two vectors of columns."""
    begin, end, count, pitch = part
    totals = zeros(block, vectors, out)
    for k in range(begin, end):
        of, weight = panel + k * len(vectors) * LANES, weights + k * len(block)
        totals = add_products(totals, vectors, panels, of, LANES, left, weight)
    if begin == 0:
        store_all(out, to, pitch, LANES, totals, vectors, count)
    else:
        add_all(out, to, pitch, LANES, totals, vectors, count)


@compiled
def add_outer_products(
    left: Any,
    right: Any,
    out: Any,
    begin: int,
    end: int,
    rows: int,
    columns: int,
    depth: int,
    start: int,
    stop: int,
) -> None:
    """Add the products of ``left`` and the transpose of ``right``; an item is one of them.

    ``left`` is (items, end − begin, depth), ``right`` (items, columns, depth) and ``out`` (items,
    rows, columns), from row ``begin`` to row ``end``. The depth is a multiple of `LANES`. The
    operands are followed by rows that are read, though not added: less than ``len(LEFT)`` and
    ``len(RIGHT)``.
    """
    sums = np.empty(len(LEFT) * len(RIGHT), out.dtype)
    count = end - begin
    for item in range(start, stop):
        for r in range(0, count, len(LEFT)):
            for c in range(0, columns, len(RIGHT)):
                totals = zeros(LEFT, RIGHT, out)
                of, to = (item * columns + c) * depth, (item * count + r) * depth
                for k in range(0, depth, LANES):
                    totals = add_outer(totals, RIGHT, right, of + k, depth, left, to + k, depth)
                put_sums(sums, 0, len(RIGHT), totals, RIGHT, len(LEFT))
                for i in range(min(len(LEFT), count - r)):
                    for j in range(min(len(RIGHT), columns - c)):
                        place = (item * rows + begin + r + i) * columns + c + j
                        put(out, place, at(out, place) + at(sums, i * len(RIGHT) + j))
