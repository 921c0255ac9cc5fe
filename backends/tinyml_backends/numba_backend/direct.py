"""Direct kernels of convolution with few channels and filters, for float32 and float64.

A matrix product of so few rows takes little longer than making its columns. Here, vectors of
neighbouring outputs are summed in registers. `conv` sums one for each of several filters and rows:
an input that is loaded is used for all these filters, and a weight for all these rows.
`conv_weight` sums one for each of several filters and each column of the window. ``block`` is a
tuple as long as there are such filters, ``rows`` and ``columns`` as there are such rows and
columns: a kernel is compiled for each combination of these numbers.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types

from tinyml_backends.numba_backend.columns import copy_plane, reach_of
from tinyml_backends.numba_backend.compiled import Code, at, compiled, inlined, instruction, put
from tinyml_backends.numba_backend.rows import geometry
from tinyml_backends.numba_backend.vectors import (
    Vector,
    broadcast_value,
    shuffled,
    vector_pointer,
)

HAS_WIDE_REGISTERS = bool(get_host_cpu_features().get("avx512f"))
#: Lanes of a vector, which fills a register of float32; and the most that are summed at once.
LANES, SUMS = (16, 20) if HAS_WIDE_REGISTERS else (8, 12)


class Sizes(NamedTuple):
    """Numbers of a convolution; channels and filters are those of one group."""

    samples: int
    groups: int
    channels: int
    filters: int


def _vectors(array: Any, block: Any, each: Any) -> Any:
    """The type of as many vectors as the product of two tuples' lengths."""
    return types.UniTuple(Vector(array.dtype, LANES), block.count * each.count)


def _tuple(code: Code, kind: Any, vectors: list[Any]) -> Any:
    return code.context.make_tuple(code.builder, kind, vectors)


def _unpacked(code: Code, vectors: Any, count: int) -> list[Any]:
    return [code.builder.extract_value(vectors, i) for i in range(count)]


def _loaded(code: Code, argument: int, array: Any, index: Any) -> Any:
    """A vector of the elements of argument number ``argument`` from ``index`` on."""
    pointer, align = vector_pointer(code, argument, array, index, LANES)
    return code.builder.load(pointer, align=align)


def _fused(code: Code, left: Any, right: Any, total: Any) -> Any:
    """``left · right + total``, rounded once where the processor can."""
    product = code.builder.fmul(left, right, flags=("contract",))
    return code.builder.fadd(product, total, flags=("contract",))


def _after(code: Code, index: Any, step: Any, count: int) -> Any:
    """``index + count · step``."""
    return code.builder.add(index, code.builder.mul(step, step.type(count)))


@instruction(
    lambda block, rows, array, index: _vectors(array, block, rows)(block, rows, array, types.intp)
)
def broadcasts(code: Code, block: Any, rows: Any, array: Any, index: Any) -> Any:
    """A vector of each of the elements from ``index`` on, for each row."""
    vectors = []
    for i in range(code.types[0].count):
        value = code.builder.load(code.pointer(2, array, _after(code, index, index.type(1), i)))
        vectors += [broadcast_value(code, value, LANES)] * code.types[1].count
    return _tuple(code, _vectors(code.types[2], code.types[0], code.types[1]), vectors)


@instruction(
    lambda totals, rows, x, of, pitch, weights, index: totals(
        totals, rows, x, types.intp, types.intp, weights, types.intp
    )
)
def add_products(
    code: Code, totals: Any, rows: Any, x: Any, of: Any, pitch: Any, weights: Any, index: Any
) -> Any:
    """Add the products of the weights from ``index`` on and vectors of ``x``, ``pitch`` apart."""
    count = code.types[1].count
    sums = _unpacked(code, totals, code.types[0].count)
    inputs = [_loaded(code, 2, x, _after(code, of, pitch, row)) for row in range(count)]
    for i in range(len(sums) // count):
        value = code.builder.load(code.pointer(5, weights, _after(code, index, index.type(1), i)))
        weight = broadcast_value(code, value, LANES)
        for row in range(count):
            sums[i * count + row] = _fused(code, inputs[row], weight, sums[i * count + row])
    return _tuple(code, code.types[0], sums)


def _places(*kinds: Any) -> Any:
    """The signature of `store_all` and `add_all`."""
    out, _, _, _, totals, rows, _ = kinds
    place = types.intp
    return types.void(out, place, place, place, totals, rows, place)


def _store_all(code: Code, is_added: bool, *values: Any) -> None:
    out, index, pitch, line, totals, _, count = values
    lines = code.types[5].count
    for i, total in enumerate(_unpacked(code, totals, code.types[4].count)):
        with code.builder.if_then(code.builder.icmp_signed(">", count, count.type(i // lines))):
            place = _after(code, _after(code, index, pitch, i // lines), line, i % lines)
            pointer, align = vector_pointer(code, 0, out, place, LANES)
            if is_added:
                total = code.builder.fadd(code.builder.load(pointer, align=align), total)
            code.builder.store(total, pointer, align=align)


@instruction(_places)
def store_all(
    code: Code, out: Any, index: Any, pitch: Any, line: Any, totals: Any, rows: Any, count: Any
) -> None:
    """Store the vectors of the first ``count`` filters, ``pitch`` apart, in rows ``line`` apart."""
    _store_all(code, False, out, index, pitch, line, totals, rows, count)


@instruction(_places)
def add_all(
    code: Code, out: Any, index: Any, pitch: Any, line: Any, totals: Any, rows: Any, count: Any
) -> None:
    """Like `store_all`, but add them to what is there."""
    _store_all(code, True, out, index, pitch, line, totals, rows, count)


@instruction(
    lambda totals, columns, x, of, step, gradient, at, pitch: totals(
        totals, columns, x, types.intp, types.intp, gradient, types.intp, types.intp
    )
)
def add_outer(
    code: Code,
    totals: Any,
    columns: Any,
    x: Any,
    of: Any,
    step: Any,
    gradient: Any,
    at: Any,
    pitch: Any,
) -> Any:
    """Add the products of vectors of ``gradient``, and ``x``, ``pitch`` and ``step`` apart."""
    width = code.types[1].count
    sums = _unpacked(code, totals, code.types[0].count)
    inputs = [_loaded(code, 2, x, _after(code, of, step, k)) for k in range(width)]
    for f in range(len(sums) // width):
        slope = _loaded(code, 5, gradient, _after(code, at, pitch, f))
        for k in range(width):
            sums[f * width + k] = _fused(code, inputs[k], slope, sums[f * width + k])
    return _tuple(code, code.types[0], sums)


@instruction(lambda block, columns, array: _vectors(array, block, columns)(block, columns, array))
def zeros(code: Code, block: Any, columns: Any, array: Any) -> Any:
    """A vector of zeros for each filter and column."""
    kind = _vectors(code.types[2], code.types[0], code.types[1])
    element = code.context.get_data_type(code.types[2].dtype)
    zero = ir.Constant(ir.VectorType(element, LANES), [0.0] * LANES)
    return _tuple(code, kind, [zero] * kind.count)


@instruction(
    lambda out, index, pitch, totals, columns, count: types.void(
        out, types.intp, types.intp, totals, columns, types.intp
    )
)
def put_sums(
    code: Code, out: Any, index: Any, pitch: Any, totals: Any, columns: Any, count: Any
) -> None:
    """Sum of each vector of the first ``count`` filters, which are ``pitch`` elements apart."""
    width = code.types[4].count
    for i, total in enumerate(_unpacked(code, totals, code.types[3].count)):
        with code.builder.if_then(code.builder.icmp_signed(">", count, count.type(i // width))):
            half = LANES // 2
            while half:
                low, high = range(half), range(half, 2 * half)
                first, second = (shuffled(code, total, total, lanes) for lanes in (low, high))
                total, half = code.builder.fadd(first, second), half // 2
            place = _after(code, _after(code, index, pitch, i // width), index.type(1), i % width)
            value = code.builder.extract_element(total, ir.IntType(32)(0))
            code.builder.store(value, code.pointer(0, out, place))


@inlined
def _separate(padded: Any, row: int, line: Any, stride: int) -> None:
    """Reorder a row, so that the cells that neighbouring windows read are neighbours too."""
    part = len(line) // stride
    for i in range(len(line)):
        put(line, i, at(padded, row + i))
    for phase in range(stride):
        for i in range(part):
            put(padded, row + phase * part + i, at(line, i * stride + phase))


@compiled
def conv(
    x: Any,
    weights: Any,
    bias: Any,
    out: Any,
    numbers: Any,
    sizes: Any,
    block: Any,
    rows: Any,
    start: int,
    stop: int,
) -> None:
    """An item is a block of filters of a sample. There are at least ``len(rows)`` rows of outputs.

    ``weights`` are in the order groups, blocks of filters, channels, cells, filters of a block.
    """
    g = geometry(numbers)
    deep, high, reach = reach_of(g)
    part = -(-reach // g.stride_w)
    wide = part * g.stride_w
    size, cells = deep * high * wide, g.size_d * g.size_h * g.size_w
    padded = np.zeros(sizes.channels * size + LANES, x.dtype)
    line = np.empty(wide, x.dtype)
    short = np.empty(len(block) * len(rows) * LANES, x.dtype)
    blocks, pixels = -(-sizes.filters // len(block)), g.out_d * g.out_h * g.out_w
    steps, copied = -(-g.out_h // len(rows)), -1
    for item in range(start, stop):
        of_group, first = item // blocks, item % blocks * len(block)
        if of_group != copied:
            copied = of_group
            if g.stride_w > 1:  # the padding is elsewhere in rows that have been reordered
                for i in range(len(padded)):
                    put(padded, i, x.dtype.type(0))
            for c in range(sizes.channels):
                copy_plane(x, of_group * sizes.channels + c, padded, c * size, wide, g, False)
            if g.stride_w > 1:
                for row in range(0, sizes.channels * size, wide):
                    _separate(padded, row, line, g.stride_w)
        count = min(len(block), sizes.filters - first)
        of_bias = item % (sizes.groups * blocks) * len(block)
        of_weights = of_bias * sizes.channels * cells
        to = (of_group * sizes.filters + first) * pixels
        for step in range(g.out_d * steps):
            d = step // steps
            h = min(step % steps * len(rows), g.out_h - len(rows))
            corner = d * g.stride_d * high + h * g.stride_h
            for w in range(0, g.out_w, LANES):
                begin = min(w, max(0, g.out_w - LANES))
                totals = broadcasts(block, rows, bias, of_bias)
                k = of_weights
                for channel in range(sizes.channels):
                    for kd in range(g.size_d):
                        for kh in range(g.size_h):
                            depth = kd * g.dilation_d * high + kh * g.dilation_h
                            of = channel * size + (corner + depth) * wide + begin
                            for kw in range(g.size_w):
                                column, pitch = kw * g.dilation_w, g.stride_h * wide
                                cell = of + column % g.stride_w * part + column // g.stride_w
                                totals = add_products(totals, rows, padded, cell, pitch, weights, k)
                                k += len(block)
                place = to + (d * g.out_h + h) * g.out_w + begin
                if g.out_w >= LANES:
                    store_all(out, place, pixels, g.out_w, totals, rows, count)
                    continue
                store_all(short, 0, len(rows) * LANES, LANES, totals, rows, len(block))
                for f in range(count):
                    for r in range(len(rows)):
                        for i in range(g.out_w):
                            value = at(short, (f * len(rows) + r) * LANES + i)
                            put(out, place + f * pixels + r * g.out_w + i, value)


@compiled
def conv_weight(
    gradient: Any,
    x: Any,
    out: Any,
    numbers: Any,
    sizes: Any,
    together: int,
    block: Any,
    columns: Any,
    start: int,
    stop: int,
) -> None:
    """An item is a group of channels of ``together`` samples; ``out`` has its sums.

    Rows in the buffers are followed by zeros, so that vectors need not end with a row.
    """
    g = geometry(numbers)
    deep, high, wide = reach_of(g)
    width = -(-g.out_w // LANES) * LANES
    wide += width - g.out_w
    size, lines, cells = deep * high * wide, g.out_d * g.out_h, g.size_d * g.size_h * g.size_w
    padded = np.zeros(together * sizes.channels * size, x.dtype)
    slopes = np.zeros((together * sizes.filters + len(block)) * lines * width, x.dtype)
    for item in range(start, stop):
        group, first = item % sizes.groups, item // sizes.groups * together
        samples = min(together, sizes.samples - first)
        for s in range(samples):
            of_group = (first + s) * sizes.groups + group
            for c in range(sizes.channels):
                begin = (s * sizes.channels + c) * size
                copy_plane(x, of_group * sizes.channels + c, padded, begin, wide, g, False)
            for line in range(sizes.filters * lines):
                of = (of_group * sizes.filters * lines + line) * g.out_w
                to = (s * sizes.filters * lines + line) * width
                for i in range(g.out_w):
                    put(slopes, to + i, at(gradient, of + i))
        for f in range(0, sizes.filters, len(block)):
            for c in range(sizes.channels):
                for k in range(g.size_d * g.size_h):
                    kd, kh = k // g.size_h, k % g.size_h
                    depth = kd * g.dilation_d * high + kh * g.dilation_h
                    totals = zeros(block, columns, x)
                    for s in range(samples):
                        for line in range(lines):
                            corner = line // g.out_h * g.stride_d * high
                            corner += line % g.out_h * g.stride_h + depth
                            of = (s * sizes.channels + c) * size + corner * wide
                            to = ((s * sizes.filters + f) * lines + line) * width
                            for w in range(0, width, LANES):
                                totals = add_outer(
                                    totals,
                                    columns,
                                    padded,
                                    of + w,
                                    g.dilation_w,
                                    slopes,
                                    to + w,
                                    lines * width,
                                )
                    place = (item * sizes.filters + f) * sizes.channels + c
                    place = place * cells + k * g.size_w
                    pitch = sizes.channels * cells
                    put_sums(out, place, pitch, totals, columns, min(len(block), sizes.filters - f))
