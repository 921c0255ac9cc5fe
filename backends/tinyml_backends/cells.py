"""The cells of a window as slices of its input and its outputs."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from tinyml_backends.caches import cached

if TYPE_CHECKING:
    from tinyml_backends.geometry import Window


#: With its slices and their numbers, in two dimensions.
BYTES_OF_A_CELL = 800


class Cell(NamedTuple):
    """One cell of the window, and its positions in arrays of planes, whose axis 0 is the planes."""

    number: int
    """Row-major number inside the window."""
    outputs: tuple[slice, ...]
    """The output positions whose windows have their cell ``number`` inside the input."""
    inputs: tuple[slice, ...]
    """The input positions of that cell, one for each position of ``outputs``."""


def pitches(shape: Sequence[int]) -> tuple[int, ...]:
    """Flat distance between neighbours along each axis of a contiguous plane."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


@cached(lambda cells: BYTES_OF_A_CELL * len(cells))
def cells(window: "Window", input_shape: tuple[int, ...]) -> tuple[Cell, ...]:
    """As `Window.cells`."""
    along = [cells_along(window, axis, input_shape[axis], False) for axis in range(window.axes)]
    return tuple(
        Cell(
            sum(c.number * pitch for c, pitch in zip(of_axes, pitches(window.size), strict=True)),
            (slice(None), *(c.outputs[-1] for c in of_axes)),
            (slice(None), *(c.inputs[-1] for c in of_axes)),
        )
        for of_axes in product(*along)
    )


@cached(lambda cells: BYTES_OF_A_CELL * len(cells))
def cells_along(window: "Window", axis: int, length: int, only_first: bool) -> tuple[Cell, ...]:
    """As `Window.cells_along`, for an axis of ``length`` cells."""
    outputs = window.output_length(axis, length)
    before, stride, step = window.padding[axis][0], window.stride[axis], window.dilation[axis]
    # only cells that lie inside the input for some output: a large window may be mostly padding
    lowest = max(0, -(((outputs - 1) * stride - before) // step))
    highest = min(window.size[axis] - 1, (length - 1 + before) // step)
    found = (
        (number, *_inside(window, axis, number, outputs, length, only_first))
        for number in range(lowest, highest + 1)
    )
    lead = (slice(None),) * (axis + 1)
    return tuple(Cell(k, (*lead, o), (*lead, i)) for k, o, i in found if o.start < o.stop)


def _inside(
    window: "Window", axis: int, number: int, outputs: int, length: int, only_first: bool
) -> tuple[slice, slice]:
    """Outputs whose cell ``number`` lies inside the input, and these cells, along one axis."""
    stride, step = window.stride[axis], window.dilation[axis]
    offset = number * step - window.padding_before[axis]
    first = max(0, -(offset // stride))
    stop = min(outputs, (length - 1 - offset) // stride + 1)
    if only_first and number > 0:  # cell number - 1 must lie before the input
        stop = min(stop, -((offset - step) // stride))
    return slice(first, stop), slice(
        first * stride + offset, (stop - 1) * stride + offset + 1, stride
    )
