"""All shape arithmetic of pooling and convolution, for any number of spatial axes.

Along one axis, cell ``k`` of the window at output position ``i`` is input cell

    i · stride − padding_before + k · dilation

and everything below follows from this line. Cells of a window are numbered in row-major order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, product
from math import gcd, prod
from typing import NamedTuple

import numpy as np

from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, padding_per_axis, per_axis


class Cell(NamedTuple):
    """One cell of the window, and its positions in arrays of planes, whose axis 0 is the planes."""

    number: int
    """Row-major number inside the window."""
    outputs: tuple[slice, ...]
    """The output positions whose windows have their cell ``number`` inside the input."""
    inputs: tuple[slice, ...]
    """The input positions of that cell, one for each position of ``outputs``."""


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a pooling or a convolution; build it with `Window.of`.

    Attributes
    ----------
    size, stride, dilation : tuple of int
        For each spatial axis, in cells.
    padding : tuple of (int, int)
        Cells before and after the input, for each spatial axis.
    ceil_mode : bool
        Whether the number of outputs is rounded up; a last window that would start in the
        padding after the input is then left out.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def of(
        cls,
        axes: int,
        size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
    ) -> "Window":
        """Window for ``axes`` spatial axes from the arguments a user writes.

        Parameters
        ----------
        axes : int
            Number of spatial axes.
        size, stride, dilation : int or sequence of int
            One value, or one for each axis, at least 1. ``stride=None`` means ``size``.
        padding : int, sequence of int, or sequence of (before, after)
            One value, one for each axis, or one pair for each axis, at least 0.
        ceil_mode : bool
            Round the number of outputs up instead of down.

        Raises
        ------
        TypeError
            If a value is not an integer.
        ValueError
            If a value is too small, or if there are too few or too many values.

        Examples
        --------
        >>> window = Window.of(2, size=3, stride=2, padding=1)
        >>> window.output_shape((5, 6))
        (3, 3)
        >>> print(window)
        size (3, 3), stride (2, 2), padding ((1, 1), (1, 1))
        """
        sizes = per_axis("size", size, axes, minimum=1)
        return cls(
            size=sizes,
            stride=sizes if stride is None else per_axis("stride", stride, axes, minimum=1),
            padding=padding_per_axis(padding, axes),
            dilation=per_axis("dilation", dilation, axes, minimum=1),
            ceil_mode=bool(ceil_mode),
        )

    def __str__(self) -> str:
        """Size and stride, and the rest where it is not the default."""
        text = f"size {self.size}, stride {self.stride}"
        if any(map(any, self.padding)):
            text += f", padding {self.padding}"
        if any(step != 1 for step in self.dilation):
            text += f", dilation {self.dilation}"
        return text + (", ceil_mode" if self.ceil_mode else "")

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def count(self) -> int:
        """Number of cells in the window."""
        return prod(self.size)

    @property
    def padding_before(self) -> tuple[int, ...]:
        """Padding before each axis."""
        return tuple(before for before, _ in self.padding)

    @property
    def extent(self) -> tuple[int, ...]:
        """Distance from the window's first cell to its last, plus one, for each axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.size, strict=True))

    @property
    def overlaps(self) -> bool:
        """Whether two windows may hold the same input cell."""
        return any(s < e for s, e in zip(self.stride, self.extent, strict=True))

    @property
    def winner_dtype(self) -> "np.dtype[np.unsignedinteger]":
        """Smallest unsigned dtype that holds every cell number."""
        return _unsigned(self.count - 1)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the output.

        Raises
        ------
        ValueError
            If the window is larger than the padded input.
        """
        return _output_shape(self, tuple(input_shape))

    def pooled_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """As `output_shape`, but every window must hold an input cell, as pooling requires.

        Raises
        ------
        ValueError
            If the window is larger than the padded input, or some window would hold only padding.
        """
        _check_holds_input(self, tuple(input_shape))
        return self.output_shape(input_shape)

    def unpooled_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """Smallest spatial input shape whose output shape, without ceil_mode, is ``output_shape``.

        Raises
        ------
        ValueError
            If the padding is so large that a length would be less than 1.
        """
        shape = self.unpooled_lengths(output_shape)
        if min(shape) < 1:
            raise ValueError(
                f"padding {self.padding} leaves an unpooled shape of {shape} for the pooled shape "
                f"{tuple(output_shape)}: every length must be at least 1"
            )
        return shape

    def unpooled_lengths(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """As `unpooled_shape`, but not checked: large padding can make a length less than 1."""
        return tuple(
            (n - 1) * s + e - sum(p)
            for n, s, e, p in zip(output_shape, self.stride, self.extent, self.padding, strict=True)
        )

    def cells(self, input_shape: Sequence[int]) -> tuple[Cell, ...]:
        """All cells of the window that lie inside the input for at least one output, ascending.

        Within one `Cell` no input cell occurs twice, so whole slices can be read and written.
        """
        small = self.count <= 1024  # results for large windows would fill the cache's memory
        return (_cells if small else _cells.__wrapped__)(self, tuple(input_shape))

    def cells_along(
        self, axis: int, input_shape: Sequence[int], *, only_first: bool = False
    ) -> tuple[Cell, ...]:
        """As `cells`, but for one axis only, with whole slices for the axes before it.

        With ``only_first`` each output appears only with the first of its cells inside the input.
        """
        return _cells_along(self, axis, input_shape[axis], only_first)

    def starts(self, input_shape: Sequence[int]) -> tuple[range, ...]:
        """Input position of each window's cell 0, for each axis; negative in the padding before."""
        return tuple(
            range(-before, n * s - before, s)
            for n, s, before in zip(
                self.output_shape(input_shape), self.stride, self.padding_before, strict=True
            )
        )

    def inputs_for(self, outputs: slice, input_shape: Sequence[int]) -> tuple[slice, "Window"]:
        """Input rows that some output rows need, and the window to run on only these rows.

        Rows are positions along the first spatial axis. The padding of the returned window may be
        negative, where input cells at an end belong to none of its windows.
        """
        return _inputs_for(self, outputs.start, outputs.stop, tuple(input_shape))

    def outputs_touching(self, inputs: slice, input_shape: Sequence[int]) -> tuple[slice, "Window"]:
        """Output rows whose windows hold cells of some input rows, and the window for these rows.

        The converse of `inputs_for`. The slice of output rows may be empty.
        """
        return _outputs_touching(self, inputs.start, inputs.stop, tuple(input_shape))

    def counts(
        self, axis: int, starts: Iterable[int], input_shape: Sequence[int], *, padding: bool
    ) -> list[int]:
        """Number of cells, along one axis, of each of the windows that start at ``starts``.

        Only cells inside the input count, or with ``padding`` also those in the padding. With
        ceil_mode the last window may extend beyond the padding; cells there never count.
        """
        before, after = self.padding[axis] if padding else (0, 0)
        step, last = self.dilation[axis], self.size[axis] - 1
        end = input_shape[axis] + after - 1
        return [
            min(last, (end - start) // step) - max(0, -((start + before) // step)) + 1
            for start in starts
        ]

    def stays_inside(self, input_shape: Sequence[int]) -> bool:
        """Whether every cell of every window lies inside the input."""
        return all(
            starts[0] >= 0 and starts[-1] + extent <= length
            for starts, extent, length in zip(
                self.starts(input_shape), self.extent, input_shape, strict=True
            )
        )


def pitches(shape: Sequence[int]) -> tuple[int, ...]:
    """Flat distance between neighbours along each axis of a contiguous plane."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


@lru_cache(maxsize=1024)
def _unsigned(largest: int) -> "np.dtype[np.unsignedinteger]":
    return np.min_scalar_type(largest)


@lru_cache(maxsize=1024)
def _output_shape(window: Window, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(input_shape) != window.axes:
        raise ValueError(
            f"the input has {len(input_shape)} spatial axes {input_shape}; "
            f"a window of {window} needs {window.axes}"
        )
    return tuple(_output_length(window, axis, length) for axis, length in enumerate(input_shape))


def _output_length(window: Window, axis: int, length: int) -> int:
    before, after = window.padding[axis]
    stride, extent = window.stride[axis], window.extent[axis]
    free = length + before + after - extent
    n = (free + (stride - 1 if window.ceil_mode else 0)) // stride + 1
    if window.ceil_mode and (n - 1) * stride >= length + before:
        n -= 1
    if n < 1:
        raise ValueError(
            f"a window of {window} spans {extent} cells of spatial axis {axis}, "
            f"more than the padded input's {length + before + after}"
        )
    return n


@lru_cache(maxsize=1024)
def _inputs_for(
    window: Window, first: int, stop: int, input_shape: tuple[int, ...]
) -> tuple[slice, Window]:
    start, end = _rows_of(window, first, stop)
    length = input_shape[0]
    inputs = slice(min(max(start, 0), length), max(min(end, length), 0))
    before = min(max(-start, 0), end - start)
    after = end - start - before - (inputs.stop - inputs.start)
    return inputs, _unrounded(window, input_shape, (before, after))


@lru_cache(maxsize=1024)
def _outputs_touching(
    window: Window, first: int, stop: int, input_shape: tuple[int, ...]
) -> tuple[slice, Window]:
    before, stride = window.padding[0][0], window.stride[0]
    rows = window.output_shape(input_shape)[0]
    lowest = max(0, (first - window.extent[0] + before) // stride + 1)
    highest = max(lowest, min(rows, -(-(stop + before) // stride)))
    if lowest == highest:
        return slice(lowest, highest), window
    start, end = _rows_of(window, lowest, highest)
    return slice(lowest, highest), _unrounded(window, input_shape, (first - start, end - stop))


def _rows_of(window: Window, first: int, stop: int) -> tuple[int, int]:
    """First input row of the windows of some output rows, and one more than their last."""
    start = first * window.stride[0] - window.padding[0][0]
    return start, start + (stop - first - 1) * window.stride[0] + window.extent[0]


def _unrounded(window: Window, input_shape: tuple[int, ...], rows: tuple[int, int]) -> Window:
    """Same windows, with padding up to the end of the last one, so that no length is rounded."""
    outputs = window.output_shape(input_shape)
    others = [
        (before, (n - 1) * stride + extent - before - length)
        for (before, _), n, stride, extent, length in zip(
            window.padding, outputs, window.stride, window.extent, input_shape, strict=True
        )
    ][1:]
    return replace(window, padding=(rows, *others), ceil_mode=False)


@lru_cache(maxsize=1024)
def _check_holds_input(window: Window, input_shape: tuple[int, ...]) -> None:
    for axis, starts in enumerate(window.starts(input_shape)):
        # Only windows that start before the input, or end after it, can miss it. One that starts
        # before and reaches it misses it where dilation steps over it, which repeats.
        starts_before = min(len(starts), -(starts[0] // starts.step))
        period = window.dilation[axis] // gcd(window.dilation[axis], starts.step)
        for i in chain(range(min(starts_before, period)), [len(starts) - 1]):
            if window.counts(axis, [starts[i]], input_shape, padding=False)[0] < 1:
                raise ValueError(
                    f"padding {window.padding[axis]} of spatial axis {axis} is too large: with "
                    f"{window} on {input_shape[axis]} input cells the window at output position "
                    f"{i} would hold none of them"
                )


@lru_cache(maxsize=256)
def _cells(window: Window, input_shape: tuple[int, ...]) -> tuple[Cell, ...]:
    along = [window.cells_along(axis, input_shape) for axis in range(window.axes)]
    return tuple(
        Cell(
            sum(c.number * pitch for c, pitch in zip(cells, pitches(window.size), strict=True)),
            (slice(None), *(c.outputs[-1] for c in cells)),
            (slice(None), *(c.inputs[-1] for c in cells)),
        )
        for cells in product(*along)
    )


@lru_cache(maxsize=256)
def _cells_along(window: Window, axis: int, length: int, only_first: bool) -> tuple[Cell, ...]:
    outputs = _output_length(window, axis, length)
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
    window: Window, axis: int, number: int, outputs: int, length: int, only_first: bool
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
