"""The geometry of a call, as the numbers that kernels read, worked out once."""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyml_backends.generic.average import is_global
from tinyml_backends.geometry import Window

Numbers = NDArray[np.int64]


class Plan(NamedTuple):
    """A window on an input of some shape, with one to three spatial axes made three."""

    g: Numbers
    """Input D, H, W and C; output D, H, W; then size, stride, padding in front and dilation, three
    each. C is the number of channels where they come last, else 1."""
    spans: Numbers
    """For each cell along the last axis, the outputs whose cell lies inside the input, as pairs."""
    down: tuple[int, ...]
    """As many elements as a common window has rows: a kernel is compiled for the length of a tuple.
    Windows of 2 or 3 columns, and as many rows or one, are common."""
    across: tuple[int, ...]
    """As many elements as a common window has columns, none for any other."""
    apart: tuple[int, ...]
    """As many elements, one or two, as there are from a cell to the neighbouring window's."""
    are_many: bool
    """Whether common windows inside the input, or channels, lie side by side in such numbers that
    to read all their cells as vectors is quicker than to read one cell of each."""
    offsets: Numbers
    """Flat distance of each cell of the window from its first."""
    pooled: tuple[int, ...]
    """Shape of one stacked output, without the axis of planes."""
    shape: tuple[int, ...]
    """Shape of one stacked input."""
    winner_dtype: "np.dtype[np.unsignedinteger]"
    """Of the window's winners."""
    overlaps: bool
    """Whether two windows may hold the same input cell."""
    is_halved: bool
    """Whether windows with a left and a right half, of a column each, lie side by side along all
    axes, from the first cell on."""
    is_pair: bool
    """Whether the windows are 2×2 of stride 2, side by side from the first cell on, in 2-D."""
    is_global: bool
    """Whether one window holds the whole input and nothing else."""
    rows_in: int
    """Rows of one input."""
    rows_out: int
    """Rows of one output."""


@lru_cache(maxsize=1024)
def plan_of(window: Window, shape: tuple[int, ...]) -> Plan:
    """Plan for stacked inputs of ``shape``, without the axis of planes."""
    axes = window.axes
    spatial, channels = shape[:axes], shape[axes:]
    outputs = window.output_shape(spatial)
    (d, h, w), out = _three(spatial), _three(outputs)
    size, stride = _three(window.size), _three(window.stride)
    padding, dilation = _three(window.padding_before, 0), _three(window.dilation)
    c = prod(channels)
    numbers = [d, h, w, c, *out, *size, *stride, *padding, *dilation]
    spans = np.array([[out[2], 0]] * size[2], np.int64)  # of a cell that no window has inside
    for cell in window.cells_along(axes - 1, spatial):
        spans[cell.number] = cell.outputs[-1].start, cell.outputs[-1].stop
    steps = (dilation[0] * h * w * c, dilation[1] * w * c, dilation[2] * c)
    offsets = np.zeros((), np.int64)
    for cells, step in zip(size, steps, strict=True):
        offsets = offsets[..., None] + np.arange(cells, dtype=np.int64) * step
    rows, columns = size[1:]
    is_common = columns in (2, 3) and rows in (1, columns) and dilation[1:] == (1, 1)
    is_halved = (
        window.size == window.stride
        and columns == 2
        and dilation == (1, 1, 1)
        and padding == (0, 0, 0)
        and all(n * k <= cells for n, k, cells in zip(out, size, (d, h, w), strict=True))
    )
    apart = 2 if c == 1 and stride[2] == 2 else 1
    most = spans[-1, 1] - spans[0, 0]  # windows in a row that lie inside
    return Plan(
        np.array(numbers, np.int64),
        spans.reshape(-1),
        (0,) * rows if is_common else (),
        (0,) * columns if is_common else (),
        (0,) * apart,
        is_common and (c if c > 1 else most if stride[2] == apart else 1) >= prod(size),
        offsets.reshape(-1),
        (*outputs, *channels),
        tuple(shape),
        window.winner_dtype,
        window.overlaps,
        is_halved,
        is_halved and window.size == (2, 2),
        is_global(window, spatial),
        d * h,
        out[0] * out[1],
    )


def _three(values: tuple[int, ...], missing: int = 1) -> tuple[int, ...]:
    return (*[missing] * (3 - len(values)), *values)


@lru_cache(maxsize=256)
def divisors(
    window: Window, input_shape: tuple[int, ...], count_include_pad: bool, divisor: int | None
) -> tuple[Numbers, Numbers, Numbers]:
    """Divisor of each window as a product of three vectors, one for each axis."""
    out = _three(window.output_shape(input_shape))
    if divisor is not None:
        counts = [[divisor] * out[0], [1] * out[1], [1] * out[2]]
    else:
        counts = [[1]] * (3 - window.axes) + [
            window.counts(axis, starts, input_shape, padding=count_include_pad)
            for axis, starts in enumerate(window.starts(input_shape))
        ]
    depth, height, width = (np.array(along, np.int64) for along in counts)
    return depth, height, width
