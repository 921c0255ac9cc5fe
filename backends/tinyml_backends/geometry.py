"""All shape arithmetic of pooling and convolution, for any number of spatial axes.

Along one axis, cell ``k`` of the window at output position ``i`` is input cell

    i · stride − padding_before + k · dilation

and everything below follows from this line. Cells of a window are numbered in row-major order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, product
from math import gcd, prod

import numpy as np

from tinyml_backends import cells as of_window
from tinyml_backends.arguments import (
    IntPerAxis,
    PaddingPerAxis,
    boolean,
    padding_per_axis,
    per_axis,
)

#: Every number of a cell fits in 64 bits.
MOST_CELLS = 2**63


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
        if prod(sizes) > MOST_CELLS:
            raise ValueError(f"size is {size!r}; a window may have at most {MOST_CELLS} cells")
        return cls(
            size=sizes,
            stride=sizes if stride is None else per_axis("stride", stride, axes, minimum=1),
            padding=padding_per_axis(padding, axes),
            dilation=per_axis("dilation", dilation, axes, minimum=1),
            ceil_mode=boolean("ceil_mode", ceil_mode),
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

    def output_length(self, axis: int, length: int) -> int:
        """As `output_shape`, along one axis."""
        return _output_length(self, axis, length)

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

    def transposed_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of a transposed convolution's result.

        Raises
        ------
        ValueError
            If the padding is so large that a length would be less than 1.
        """
        shape = self.unpooled_lengths(output_shape)
        if min(shape) < 1:
            raise ValueError(
                f"padding {self.padding} leaves an output of shape {shape}: every length must be "
                "at least 1"
            )
        return shape

    def unpooled_lengths(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """As `unpooled_shape`, but not checked: large padding can make a length less than 1."""
        return tuple(
            (n - 1) * s + e - sum(p)
            for n, s, e, p in zip(output_shape, self.stride, self.extent, self.padding, strict=True)
        )

    def clipped(self, input_shape: Sequence[int]) -> "Window":
        """The window without the cells beyond the padded input that ``ceil_mode`` allows.

        The window itself, if it has none. Along a clipped axis there is one output, whose cells
        keep their positions; `renumber` converts the cell numbers.
        """
        return _clipped(self, tuple(input_shape)) if self.ceil_mode else self

    def cells(self, input_shape: Sequence[int]) -> tuple[of_window.Cell, ...]:
        """All cells of the window that lie inside the input for at least one output, ascending.

        Within one `Cell` no input cell occurs twice, so whole slices can be read and written.
        """
        return of_window.cells(self, tuple(input_shape))

    def regions(
        self, input_shape: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each output position, in row-major order, and the input cells of its window."""
        along = [
            [
                slice(start + max(0, -(start // step)) * step, min(length, start + extent), step)
                for start in starts
            ]
            for starts, length, step, extent in zip(
                self.starts(input_shape), input_shape, self.dilation, self.extent, strict=True
            )
        ]
        return zip(np.ndindex(*map(len, along)), product(*along), strict=True)

    def has_few_outputs(self, input_shape: Sequence[int]) -> bool:
        """Whether a window has more cells than there are windows, so that `regions` are fewer."""
        return self.count > max(64, prod(self.output_shape(input_shape)))

    def cells_along(
        self, axis: int, input_shape: Sequence[int], *, only_first: bool = False
    ) -> tuple[of_window.Cell, ...]:
        """As `cells`, but for one axis only, with whole slices for the axes before it.

        With ``only_first`` each output appears only with the first of its cells inside the input.
        """
        return of_window.cells_along(self, axis, input_shape[axis], only_first)

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
def _clipped(window: Window, input_shape: tuple[int, ...]) -> Window:
    size, padding = list(window.size), list(window.padding)
    for axis, length in enumerate(input_shape):
        (before, after), step = padding[axis], window.dilation[axis]
        if window.extent[axis] > length + before + after:
            last = (length + before + after - 1) // step
            size[axis] = last + 1
            padding[axis] = before, last * step + 1 - before - length
    return replace(window, size=tuple(size), padding=tuple(padding))


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
