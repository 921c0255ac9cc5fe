"""The results that kernels must equal: plain loops over planes, pixels and window cells.

Written from the definitions, without any of the library's geometry. Arrays are (planes, *spatial);
a geometry is a dict of per-axis tuples ``size, stride, padding, dilation`` and ``ceil_mode``.
"""

import itertools
import math

import numpy as np


def output_shape(shape, size, stride, padding, dilation, ceil_mode):
    """Pooled spatial shape, or None if windows do not fit or one would have no input cell."""
    lengths = []
    for n, k, s, (before, after), d in zip(shape, size, stride, padding, dilation, strict=True):
        free = n + before + after - d * (k - 1) - 1
        count = (math.ceil(free / s) if ceil_mode else free // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        if count < 1:
            return None
        for i in range(count):
            if not any(0 <= i * s - before + c * d < n for c in range(k)):
                return None
        lengths.append(count)
    return tuple(lengths)


def windows(shape, size, stride, padding, dilation, ceil_mode):
    """Each output position in row-major order, and its window's cells inside the input.

    A cell is (number in the window, position in the input).
    """
    for output in np.ndindex(output_shape(shape, size, stride, padding, dilation, ceil_mode)):
        cells = []
        for number, cell in enumerate(itertools.product(*map(range, size))):
            place = tuple(
                i * s - before + c * d
                for i, s, (before, _), c, d in zip(
                    output, stride, padding, cell, dilation, strict=True
                )
            )
            if all(0 <= p < n for p, n in zip(place, shape, strict=True)):
                cells.append((number, place))
        yield output, cells


def max_pool(x, **geometry):
    """Values, winners, and positions of the maxima in their planes."""
    shape = x.shape[1:]
    pooled = (len(x), *output_shape(shape, **geometry))
    values = np.empty(pooled, x.dtype)
    winners = np.empty(pooled, np.int64)
    planes = np.empty(pooled, np.int64)
    for p in range(len(x)):
        for output, cells in windows(shape, **geometry):
            best = None
            for number, place in cells:
                candidate = x[p][place]
                if best is None or candidate > x[p][best[1]] or candidate != candidate:
                    best = (number, place)
            values[p][output] = x[p][best[1]]
            winners[p][output] = best[0]
            planes[p][output] = np.ravel_multi_index(best[1], shape)
    return values, winners, planes


def max_unpool(y, winners, shape, **geometry):
    out = np.zeros((len(y), *shape), y.dtype)
    for p in range(len(y)):
        for output, cells in windows(shape, **geometry):
            out[p][dict(cells)[int(winners[p][output])]] = y[p][output]
    return out


def max_unpool_gradient(gradient, winners, **geometry):
    out = np.zeros(winners.shape, gradient.dtype)
    for p in range(len(gradient)):
        written_by = {}
        for output, cells in windows(gradient.shape[1:], **geometry):
            written_by[dict(cells)[int(winners[p][output])]] = output
        for place, output in written_by.items():
            out[p][output] = gradient[p][place]
    return out


def max_pool_gradient(gradient, winners, shape, **geometry):
    wide = np.dtype(np.float32) if gradient.dtype == np.float16 else gradient.dtype
    out = np.zeros((len(gradient), *shape), wide)
    with np.errstate(all="ignore"):
        for p in range(len(gradient)):
            for output, cells in windows(shape, **geometry):
                place = dict(cells)[int(winners[p][output])]
                out[p][place] = out[p][place] + wide.type(gradient[p][output])
        return out.astype(gradient.dtype)


def avg_pool(x, *, count_include_pad=True, divisor_override=None, **geometry):
    """Means; terms are added one at a time in row-major order, float16 in float32."""
    shape = x.shape[1:]
    wide = _wide(x.dtype)
    out = np.empty((len(x), *output_shape(shape, **geometry)), x.dtype)
    divisors = {
        o: _divisor(o, cells, shape, count_include_pad, divisor_override, **geometry)
        for o, cells in windows(shape, **geometry)
    }
    with np.errstate(all="ignore"):
        for p in range(len(x)):
            for output, cells in windows(shape, **geometry):
                total = wide.type(0)
                for _, place in cells:
                    total = total + wide.type(x[p][place])
                out[p][output] = wide.type(_quotient(total, divisors[output])).astype(x.dtype)
    return out


def _wide(dtype):
    if dtype.kind == "f":
        return np.dtype(np.float32) if dtype == np.float16 else dtype
    return np.dtype(np.int64 if dtype.kind == "i" else np.uint64)


def _quotient(total, divisor):
    if isinstance(total, np.floating):
        return total / type(total)(divisor)
    magnitude = abs(int(total)) // abs(divisor)
    return magnitude if (int(total) < 0) == (divisor < 0) else -magnitude


def _divisor(output, cells, shape, count_include_pad, divisor_override, **geometry):
    if divisor_override is not None:
        return divisor_override
    if not count_include_pad:
        return len(cells)
    count = 1
    for i, n, k, s, (before, after), d in zip(
        output,
        shape,
        *(geometry[name] for name in ("size", "stride", "padding", "dilation")),
        strict=True,
    ):
        count *= sum(-before <= i * s - before + c * d < n + after for c in range(k))
    return count


def adaptive_windows(shape, output_size):
    """Each output position, and the input positions of its window."""
    for output in np.ndindex(tuple(output_size)):
        yield (
            output,
            list(
                itertools.product(
                    *(
                        range(i * n // m, math.ceil((i + 1) * n / m))
                        for i, n, m in zip(output, shape, output_size, strict=True)
                    )
                )
            ),
        )


def adaptive_max_pool(x, output_size):
    values = np.empty((len(x), *output_size), x.dtype)
    indices = np.empty(values.shape, np.int64)
    for p in range(len(x)):
        for output, places in adaptive_windows(x.shape[1:], output_size):
            best = places[0]
            for place in places[1:]:
                if x[p][place] > x[p][best] or x[p][place] != x[p][place]:
                    best = place
            values[p][output] = x[p][best]
            indices[p][output] = np.ravel_multi_index(best, x.shape[1:])
    return values, indices


def avg_pool_gradient(
    gradient, shape, *, count_include_pad=True, divisor_override=None, **geometry
):
    """Divided gradients, added to the cells one window at a time in row-major order."""
    wide = _wide(gradient.dtype)
    out = np.zeros((len(gradient), *shape), wide)
    with np.errstate(all="ignore"):
        for p in range(len(gradient)):
            for output, cells in windows(shape, **geometry):
                divisor = _divisor(
                    output, cells, shape, count_include_pad, divisor_override, **geometry
                )
                term = wide.type(_quotient(wide.type(gradient[p][output]), divisor))
                for _, place in cells:
                    out[p][place] = out[p][place] + term
        return out.astype(gradient.dtype)
