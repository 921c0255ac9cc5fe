"""Average pooling and its gradient."""

from math import prod
from types import ModuleType

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic.chunks import chunks_of
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros


def avg_pool(
    backend: Arrays,
    x: Array,
    window: Window,
    count_include_pad: bool,
    divisor: int | None,
    *,
    out: Array | None = None,
) -> Array:
    """Mean of each window: its cells are added one at a time in row-major order, then divided.

    The divisor is ``divisor`` or, if that is None, the number of the window's cells in the padded
    input (``count_include_pad``) or in the input. float16 is summed in float32; integers are summed
    in 64 bits, and their mean is truncated toward zero. A single window that is the whole input is
    an exception: its floats are summed in float64, in any order.
    """
    xp = backend.xp
    spatial, channels = x.shape[1 : window.axes + 1], x.shape[window.axes + 1 :]
    outputs = window.output_shape(spatial)
    of_rows, in_row = _divisors(xp, window, spatial, count_include_pad, divisor, len(channels))
    axes = tuple(range(1, window.axes + 1))
    if out is None:
        out = empty(xp, (len(x), *outputs, *channels), x.dtype)
    if is_global(window, spatial):
        out[...] = quotient(x.sum(axes, dtype=_exact(x.dtype), keepdims=True), of_rows * in_row)
        return out
    for planes, rows in chunks_of(x, outputs[0], backend.chunk_bytes):
        inputs, local = window.inputs_for(rows, spatial)
        source, target = x[planes, inputs], out[planes, rows]
        total, shape = xp.zeros(target.shape, wide(x.dtype)), source.shape[1 : window.axes + 1]
        if local.has_few_outputs(shape):
            for output, region in local.regions(shape):
                _sum_in_order(backend, source[:, *region], total[:, *output], window.axes)
        else:
            for cell in local.cells(shape):
                total[cell.outputs] += source[cell.inputs]
        target[...] = quotient(total, of_rows[rows] * in_row)
    return out


def avg_pool_gradient(
    backend: Arrays,
    gradient: Array,
    window: Window,
    input_shape: tuple[int, ...],
    count_include_pad: bool,
    divisor: int | None,
    *,
    out: Array | None = None,
) -> Array:
    """Each window's gradient, divided as in `avg_pool`, added to all cells of the window.

    The terms of a cell are added in row-major order of the windows, float16 in float32.
    """
    xp = backend.xp
    channels = gradient.shape[window.axes + 1 :]
    of_rows, in_row = _divisors(xp, window, input_shape, count_include_pad, divisor, len(channels))
    dtype = wide(gradient.dtype)
    out = zeros(xp, (len(gradient), *input_shape, *channels), gradient.dtype, out)
    if is_global(window, input_shape):
        out[...] = quotient(gradient.astype(dtype), of_rows * in_row)
        return out
    for planes, rows in chunks_of(out, input_shape[0], backend.chunk_bytes):
        outputs, local = window.outputs_touching(rows, input_shape)
        if outputs.start == outputs.stop:
            continue
        terms = quotient(gradient[planes, outputs].astype(dtype), of_rows[outputs] * in_row)
        target = out[planes, rows]
        total, shape = xp.zeros(target.shape, dtype), target.shape[1 : window.axes + 1]
        if local.has_few_outputs(shape):
            for output, region in local.regions(shape):
                term = terms[:, *output]
                total[:, *region] += term.reshape(len(term), *[1] * window.axes, *term.shape[1:])
        else:
            for cell in reversed(local.cells(shape)):
                total[cell.inputs] += terms[cell.outputs]
        target[...] = total
    return out


def _sum_in_order(backend: Arrays, cells: Array, total: Array, axes: int) -> None:
    """Add cells (planes, …, *channels) to ``total`` (planes, *channels), one after the other.

    A sum of an array library adds in another order. A cumulative one adds in this order on NumPy;
    elsewhere only integers are summed here, in any order.
    """
    rows = cells.shape[1]
    step = max(1, backend.chunk_bytes * rows // max(1, cells.size * total.dtype.itemsize))
    for row in range(0, rows, step):
        some = cells[:, row : row + step]
        shape = (len(some), prod(some.shape[1 : axes + 1]), *some.shape[axes + 1 :])
        terms = backend.xp.empty((shape[0], shape[1] + 1, *shape[2:]), total.dtype)
        terms[:, 0], terms[:, 1:] = total, some.reshape(shape)
        total[...] = backend.xp.cumsum(terms, axis=1, out=terms)[:, -1]


def wide(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """Dtype in which means of ``dtype`` are summed: float32 for float16, 64 bits for integers."""
    if dtype.kind == "f":
        return np.dtype("f4") if dtype.itemsize == 2 else dtype
    return np.dtype("i8" if dtype.kind == "i" else "u8")


def wide_sum(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """Dtype in which gradients are summed: float32 for float16; integers keep theirs and wrap."""
    return wide(dtype) if dtype.kind == "f" else dtype


def _exact(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """Dtype for the sum of a whole plane, which may be taken in any order."""
    return np.dtype("f8") if dtype.kind == "f" else wide(dtype)


def quotient(total: Array, divisor: Array) -> Array:
    """``total / divisor``; integers are truncated toward zero."""
    if total.dtype.kind == "f":
        return total / divisor.astype(total.dtype)
    if total.dtype.kind == "u":
        return total // divisor.astype(total.dtype)
    down = total // divisor
    return down + ((down < 0) & (down * divisor != total))


def _divisors(
    xp: ModuleType,
    window: Window,
    input_shape: tuple[int, ...],
    count_include_pad: bool,
    divisor: int | None,
    trailing: int,
) -> tuple[Array, Array]:
    """Divisor of each window, as two factors: one for its row, one for its place in the row.

    Both are shaped to broadcast, also over the ``trailing`` axes of channels.
    """
    counts = [
        [divisor if axis == 0 else 1] * len(starts)
        if divisor is not None
        else window.counts(axis, starts, input_shape, padding=count_include_pad)
        for axis, starts in enumerate(window.starts(input_shape))
    ]
    of_rows, *others = (xp.asarray(along, dtype=np.int64) for along in counts)
    in_row = xp.ones((), np.int64)
    for along in others:
        in_row = in_row[..., None] * along
    in_row = in_row.reshape((*in_row.shape, *[1] * trailing))
    return of_rows.reshape(-1, *[1] * in_row.ndim), in_row


def is_global(window: Window, input_shape: tuple[int, ...]) -> bool:
    """Whether one window holds the whole input and nothing else."""
    return (
        window.size == tuple(input_shape)
        and window.stays_inside(input_shape)
        and set(window.output_shape(input_shape)) == {1}
    )
