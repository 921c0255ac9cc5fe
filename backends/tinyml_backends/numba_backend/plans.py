"""The geometry of a call in the form that kernels read, computed once for each window and shape."""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyml_backends.caches import cached
from tinyml_backends.generic.average import is_global
from tinyml_backends.geometry import Window

Numbers = NDArray[np.int64]


class Geometry(NamedTuple):
    """A window on an input with three spatial axes: missing ones are added with length 1.

    ``channels`` is the number of channels where they come last, else 1.
    """

    in_d: int
    in_h: int
    in_w: int
    channels: int
    out_d: int
    out_h: int
    out_w: int
    size_d: int
    size_h: int
    size_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    padding_d: int
    padding_h: int
    padding_w: int
    dilation_d: int
    dilation_h: int
    dilation_w: int


class Fixed(NamedTuple):
    """Sizes that are constants in the machine code, as lengths of tuples.

    A kernel is compiled for each combination of lengths. The common windows have 2 or 3 columns, as
    many rows or one row, and no dilation along rows and columns.
    """

    rows: tuple[int, ...]
    """As many elements as a common window has rows, none for any other window."""
    columns: tuple[int, ...]
    """As many elements as a common window has columns, none for any other window."""
    step: tuple[int, ...]
    """Two elements if the width has stride 2 and ``channels`` is 1, else one: how far apart the
    lanes of a vector lie in the input."""


class Plan(NamedTuple):
    """What kernels and their callers need to know about a window on an input of some shape."""

    numbers: Numbers
    """The `Geometry` as an array: Numba takes less time to unpack one argument than nineteen."""
    spans: Numbers
    """For each column of the window, the first output whose cell lies inside the input, and the
    one after the last."""
    fixed: Fixed
    """The sizes that kernels are compiled for."""
    fills_vectors: bool
    """Whether the window is common, and a row has at least as many windows inside the input (or an
    input as many channels) as a window has cells. Then loading all cells of neighbouring windows as
    vectors is faster than loading one cell of each window."""
    offsets: Numbers
    """Flat distance of each cell of the window from the first one."""
    pooled: tuple[int, ...]
    """Shape of one stacked output, without the axis of planes."""
    shape: tuple[int, ...]
    """Shape of one stacked input."""
    winner_dtype: "np.dtype[np.unsignedinteger]"
    """Dtype of the winners."""
    overlaps: bool
    """Whether two windows may hold the same input cell."""
    is_tiling: bool
    """Whether the windows have two columns and tile the input from its first cell on; cells may be
    left over at the ends."""
    is_2x2_tiling: bool
    """Whether ``is_tiling`` is true of 2×2 windows on images."""
    is_global: bool
    """Whether one window holds the whole input and nothing else."""
    rows_in: int
    """Rows of one input."""
    rows_out: int
    """Rows of one output."""


@cached(lambda plan: 2000 + plan.spans.nbytes + plan.offsets.nbytes)
def plan_of(window: Window, shape: tuple[int, ...]) -> Plan:
    """Plan for stacked inputs of ``shape``, without the axis of planes."""
    axes = window.axes
    spatial, channels = shape[:axes], shape[axes:]
    outputs = window.output_shape(spatial)
    (d, h, w), out = _three(spatial), _three(outputs)
    size, stride = _three(window.size), _three(window.stride)
    padding, dilation = _three(window.padding_before, 0), _three(window.dilation)
    c = prod(channels)
    geometry = Geometry(d, h, w, c, *out, *size, *stride, *padding, *dilation)
    spans = np.array([[out[2], 0]] * size[2], np.int64)  # empty: always outside
    for cell in window.cells_along(axes - 1, spatial):
        spans[cell.number] = cell.outputs[-1].start, cell.outputs[-1].stop
    steps = (dilation[0] * h * w * c, dilation[1] * w * c, dilation[2] * c)
    offsets = np.zeros((), np.int64)
    for cells, step in zip(size, steps, strict=True):
        offsets = offsets[..., None] + np.arange(cells, dtype=np.int64) * step
    rows, columns = size[1:]
    is_common = columns in (2, 3) and rows in (1, columns) and dilation[1:] == (1, 1)
    is_tiling = (
        window.size == window.stride
        and columns == 2
        and dilation == (1, 1, 1)
        and padding == (0, 0, 0)
        and all(n * k <= cells for n, k, cells in zip(out, size, (d, h, w), strict=True))
    )
    step = 2 if c == 1 and stride[2] == 2 else 1
    inside = spans[-1, 1] - spans[0, 0]  # windows of a row that lie inside the input
    neighbours = c if c > 1 else inside if stride[2] == step else 1
    return Plan(
        numbers=np.array(geometry, np.int64),
        spans=spans.reshape(-1),
        fixed=Fixed((0,) * rows * is_common, (0,) * columns * is_common, (0,) * step),
        fills_vectors=is_common and neighbours >= prod(size),
        offsets=offsets.reshape(-1),
        pooled=(*outputs, *channels),
        shape=tuple(shape),
        winner_dtype=window.winner_dtype,
        overlaps=window.overlaps,
        is_tiling=is_tiling,
        is_2x2_tiling=is_tiling and window.size == (2, 2),
        is_global=is_global(window, spatial),
        rows_in=d * h,
        rows_out=out[0] * out[1],
    )


def _three(values: tuple[int, ...], missing: int = 1) -> tuple[int, ...]:
    return (*[missing] * (3 - len(values)), *values)


@cached(lambda of_axes: 1000 + sum(along.nbytes for along in of_axes))
def divisors(
    window: Window, input_shape: tuple[int, ...], count_include_pad: bool, divisor: int | None
) -> tuple[Numbers, Numbers, Numbers]:
    """Three vectors, one for each axis: a window's divisor is the product of an element of each."""
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
