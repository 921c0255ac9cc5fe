"""Pooling and unpooling, with the generic kernels as defaults.

Kernels run on stacks of planes: axis 0 counts the planes (one for each sample and channel), and the
spatial axes follow. Where channels come last, axis 0 counts the samples and one more axis holds the
channels. Callers have checked shapes and dtypes. ``out``, where given, is contiguous, shares no
memory with the inputs, and is written whole and returned.
"""

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract.arrays import Arrays
from tinyml_backends.conventions import Convention, Duplicates
from tinyml_backends.generic import adaptive, average, indices, pool, unpool
from tinyml_backends.geometry import Window

#: Element types of pooling, unpooling and their gradients; the result has the input's.
DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)


class Pooling(Arrays):
    """Kernels of the pooling family."""

    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """Values and winners of each window of ``x``.

        Winners are row-major cell numbers in ``window.winner_dtype``. The first maximum wins; the
        last NaN wins over every number; padding never wins. A value has the bits of its cell.
        """
        return pool.max_pool(self.xp, x, window, out, chunk_bytes=self.chunk_bytes)

    def max_pool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        *,
        out: Array | None = None,
    ) -> Array:
        """Sum of the gradients of the windows that each input cell won.

        A sum starts at +0.0 and takes its terms one at a time in row-major order of the windows;
        float16 is summed in float32 and rounded once; integers wrap.
        """
        arguments = gradient, winners, window, input_shape, out
        return unpool.max_pool_gradient(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def max_unpool(
        self,
        y: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """Each value at its winner's cell of a plane of ``input_shape``, zero elsewhere.

        Of several windows that chose one cell, the last in row-major order writes it ("last"), or
        they are summed as in `max_pool_gradient` ("sum").
        """
        arguments = y, winners, window, input_shape, duplicates, out
        return unpool.max_unpool(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def max_unpool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """Gradient at each winner's cell; with "last", 0 for a value that was overwritten."""
        arguments = gradient, winners, window, duplicates, out
        return unpool.max_unpool_gradient(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def first_duplicate(
        self, winners: Array, window: Window, input_shape: tuple[int, ...]
    ) -> tuple[int, int, int] | None:
        """First cell that two windows chose, flat, and the first two that did, flat; or None."""
        arguments = winners, window, input_shape
        return unpool.first_duplicate(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def unpool_plane_indices(
        self, y: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """Each value at any cell of its plane, by flat index; the last writer of a cell wins.

        The second result is the flat position of the first bad index, or -1.
        """
        arguments = y, indices, input_shape
        return unpool.unpool_plane_indices(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def avg_pool(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool,
        divisor: int | None,
        *,
        out: Array | None = None,
    ) -> Array:
        """Mean of each window, its cells added one at a time in row-major order, then divided.

        float16 is summed in float32; integers in 64 bits, and the mean is truncated toward zero.
        """
        arguments = x, window, count_include_pad, divisor, out
        return average.avg_pool(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def avg_pool_gradient(
        self,
        gradient: Array,
        window: Window,
        input_shape: tuple[int, ...],
        count_include_pad: bool,
        divisor: int | None,
        *,
        out: Array | None = None,
    ) -> Array:
        """Each window's gradient, divided, added to all of its cells."""
        arguments = gradient, window, input_shape, count_include_pad, divisor, out
        return average.avg_pool_gradient(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def adaptive_max_pool(self, x: Array, output_shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Maxima of adaptive windows, and their int64 positions in the plane."""
        return adaptive.adaptive_max_pool(self.xp, x, output_shape)

    def adaptive_max_pool_gradient(
        self, gradient: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """Sum of the gradients of the windows that each cell won; the first bad index, or -1."""
        return adaptive.adaptive_max_pool_gradient(self.xp, gradient, indices, input_shape)

    def adaptive_avg_pool(self, x: Array, output_shape: tuple[int, ...]) -> Array:
        """Mean of each adaptive window."""
        return adaptive.adaptive_avg_pool(self.xp, x, output_shape)

    def adaptive_avg_pool_gradient(self, gradient: Array, input_shape: tuple[int, ...]) -> Array:
        """Each window's gradient, divided by its size, added to all of its cells."""
        return adaptive.adaptive_avg_pool_gradient(self.xp, gradient, input_shape)

    def winners_from_indices(
        self,
        indices_: Array,
        convention: Convention,
        window: Window,
        input_shape: tuple[int, ...],
    ) -> tuple[Array, int]:
        """Winners from indices of any integer dtype, and the flat position of the first bad one.

        The position is -1 where every index names an input cell of its own window.
        """
        arguments = indices_, convention, window, input_shape
        return indices.winners_from_indices(self.xp, *arguments, chunk_bytes=self.chunk_bytes)

    def indices_from_winners(
        self, winners: Array, convention: Convention, window: Window, input_shape: tuple[int, ...]
    ) -> Array:
        """Int64 indices of ``convention``, shaped like ``winners``."""
        return indices.indices_from_winners(self.xp, winners, convention, window, input_shape)
