"""Kernel of convolution as a matrix product whose columns are made for a few outputs at a time.

The cells of the windows of some neighbouring outputs, a panel, are copied to a scratch buffer, and
multiplied by all weights while they are in the cache (Chetlur et al., "cuDNN: Efficient Primitives
for Deep Learning", 2014, call it implicit; there are no columns in memory).
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import at, compiled, inlined, put
from tinyml_backends.numba_backend.direct import (
    LANES,
    add_all,
    add_products,
    broadcasts,
    store_all,
    zeros,
)
from tinyml_backends.numba_backend.products import DEPTH, PAIR, WIDTH
from tinyml_backends.numba_backend.rows import geometry


@compiled
def conv(
    x: Any,
    weights: Any,
    bias: Any,
    out: Any,
    numbers: Any,
    sizes: Any,
    panels: int,
    block: Any,
    start: int,
    stop: int,
) -> None:
    """An item is so many ``panels`` of a group of a sample; the last one may have fewer.

    ``weights`` are in the order groups, blocks of filters, channels, cells, filters of a block.
    """
    g = geometry(numbers)
    cells, outputs = g.size_d * g.size_h * g.size_w, g.out_d * g.out_h * g.out_w
    depth, blocks = sizes.channels * cells, -(-sizes.filters // len(block))
    parts = -(-outputs // (panels * WIDTH))
    inputs = np.empty(panels * depth * WIDTH, x.dtype)
    places = np.empty(panels * cells * WIDTH, np.int64)
    starts = np.empty(panels * cells, np.int64)
    sums = np.empty(len(block) * WIDTH, x.dtype)
    for item in range(start, stop):
        of_group, first = item // parts, item % parts * panels * WIDTH
        count = min(panels, -(-(outputs - first) // WIDTH))
        _find(places, starts, first, count, g)
        for c in range(sizes.channels):
            plane = (of_group * sizes.channels + c) * g.in_d * g.in_h * g.in_w
            _gather(x, plane, inputs, c * cells, depth, places, starts, cells, count)
        of_bias = of_group % sizes.groups * blocks * len(block)
        for b in range(blocks):
            f = b * len(block)
            filters = min(len(block), sizes.filters - f)
            weight = (of_bias + f) * depth
            for p in range(count):
                to = (of_group * sizes.filters + f) * outputs + first + p * WIDTH
                wide = min(WIDTH, outputs - first - p * WIDTH)
                for k in range(0, depth, DEPTH):
                    if k == 0:
                        totals = broadcasts(block, PAIR, bias, of_bias + f)
                    else:
                        totals = zeros(block, PAIR, out)
                    for i in range(k, min(k + DEPTH, depth)):
                        of, each = (p * depth + i) * WIDTH, weight + i * len(block)
                        totals = add_products(totals, PAIR, inputs, of, LANES, weights, each)
                    if wide == WIDTH and depth <= DEPTH:
                        store_all(out, to, outputs, LANES, totals, PAIR, filters)
                    elif k == 0:
                        store_all(sums, 0, WIDTH, LANES, totals, PAIR, filters)
                    else:
                        add_all(sums, 0, WIDTH, LANES, totals, PAIR, filters)
                if wide < WIDTH or depth > DEPTH:
                    for i in range(filters):
                        for j in range(wide):
                            put(out, to + i * outputs + j, at(sums, i * WIDTH + j))


@inlined
def _find(places: Any, starts: Any, first: int, panels: int, g: Any) -> None:
    """Where in a plane each cell of the windows of some panels is, or −1.

    ``starts`` has the place of a panel's first cell, if the others follow it, else −1.
    """
    h, w = first // g.out_w, first % g.out_w
    d, h = h // g.out_h, h % g.out_h
    cells = g.size_d * g.size_h * g.size_w
    for i in range(panels * WIDTH):
        number = i // WIDTH * cells * WIDTH + i % WIDTH
        for kd in range(g.size_d):
            z = d * g.stride_d - g.padding_d + kd * g.dilation_d
            for kh in range(g.size_h):
                y = h * g.stride_h - g.padding_h + kh * g.dilation_h
                is_inside = d < g.out_d and 0 <= z < g.in_d and 0 <= y < g.in_h
                for kw in range(g.size_w):
                    column = w * g.stride_w - g.padding_w + kw * g.dilation_w
                    place = (z * g.in_h + y) * g.in_w + column
                    put(places, number, place if is_inside and 0 <= column < g.in_w else -1)
                    number += WIDTH
        w += 1
        if w == g.out_w:
            w, h = 0, h + 1
        if h == g.out_h:
            h, d = 0, d + 1
    for k in range(panels * cells):
        begin = at(places, k * WIDTH)
        for i in range(WIDTH):
            if at(places, k * WIDTH + i) != begin + i:
                begin = -1
        put(starts, k, begin)


@inlined
def _gather(
    x: Any,
    plane: int,
    inputs: Any,
    row: int,
    depth: int,
    places: Any,
    starts: Any,
    cells: int,
    panels: int,
) -> None:
    """Copy all cells of one channel."""
    for p in range(panels):
        to = (p * depth + row) * WIDTH
        for k in range(p * cells, (p + 1) * cells):
            begin = at(starts, k)
            if begin >= 0:
                for i in range(WIDTH):
                    put(inputs, to + i, at(x, plane + begin + i))
            else:
                for i in range(WIDTH):
                    place = at(places, k * WIDTH + i)
                    value = at(x, plane + max(place, 0))
                    put(inputs, to + i, value if place >= 0 else x.dtype.type(0))
            to += WIDTH
