"""The contract every backend fulfils, with the generic kernels as its default.

A backend states its array library, makes arrays, and runs kernels on stacks of planes: axis 0
counts the planes (one for each sample and channel), and the spatial axes follow. Where channels
come last, axis 0 counts the samples and one more axis holds the channels. A backend overrides the
kernels it makes faster and inherits the rest. Callers have checked shapes and dtypes. ``out``,
where given, is contiguous, apart from the inputs, written whole and returned.
"""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic import adaptive, average, conv, indices, norm, pool, steps, unpool
from tinyml_backends.generic.indices import Convention
from tinyml_backends.generic.unpool import Duplicates
from tinyml_backends.geometry import Window

#: Element types of pooling, unpooling and their gradients; the result has the input's.
DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)


class Backend:
    """Base class of all backends.

    Attributes
    ----------
    name : str
        The name it is selected by.
    library : str
        The array library whose arrays it runs on: "numpy", "cupy", or a third party's own.
    xp : module
        That library's array module, with NumPy's interface.
    has_devices : bool
        Whether ``"name:1"`` names its second device; the class is then called with ``device=1``.
    """

    name: str
    library: str
    xp: ModuleType
    has_devices: ClassVar[bool] = False

    # -- arrays ------------------------------------------------------------------------------

    def handles(self, array: object) -> bool:
        """Whether ``array`` belongs to this backend's library. Imports nothing."""
        raise NotImplementedError(f"{type(self).__name__}.handles")

    def device(self, array: Array) -> str:
        """Where ``array`` lives, for example "numpy" or "cupy:0"."""
        raise NotImplementedError(f"{type(self).__name__}.device")

    def asarray(self, array_like: object) -> Array:
        """Array of this library with the values of ``array_like``, without a copy if possible."""
        raise NotImplementedError(f"{type(self).__name__}.asarray")

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` as a NumPy array, without a copy if it is one."""
        raise NotImplementedError(f"{type(self).__name__}.to_numpy")

    def scope(self, array: Array) -> AbstractContextManager[Any]:
        """Context in which what is made from ``array`` lives where it does."""
        return nullcontext()

    def wherever(self) -> "Backend":
        """Return the backend that runs operations, on the device of their arrays.

        It is the backend itself, unless that one says on which device *new* arrays are made.
        """
        return self

    # -- pooling -----------------------------------------------------------------------------

    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """Values and winners of each window of ``x``.

        Winners are row-major cell numbers in ``window.winner_dtype``. The first maximum wins; the
        last NaN wins over every number; padding never wins. A value has the bits of its cell.
        """
        return pool.max_pool(self.xp, x, window, out)

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
        return unpool.max_pool_gradient(self.xp, gradient, winners, window, input_shape, out)

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
        return unpool.max_unpool(self.xp, y, winners, window, input_shape, duplicates, out)

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
        return unpool.max_unpool_gradient(self.xp, gradient, winners, window, duplicates, out)

    def first_duplicate(
        self, winners: Array, window: Window, input_shape: tuple[int, ...]
    ) -> tuple[int, int, int] | None:
        """First cell that two windows chose, flat, and the first two that did, flat; or None."""
        return unpool.first_duplicate(self.xp, winners, window, input_shape)

    def unpool_plane_indices(
        self, y: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """Each value at any cell of its plane, by flat index; the last writer of a cell wins.

        The second result is the flat position of the first bad index, or -1.
        """
        return unpool.unpool_plane_indices(self.xp, y, indices, input_shape)

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
        return average.avg_pool(self.xp, x, window, count_include_pad, divisor, out)

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
        return average.avg_pool_gradient(
            self.xp, gradient, window, input_shape, count_include_pad, divisor, out
        )

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
        return indices.winners_from_indices(self.xp, indices_, convention, window, input_shape)

    def indices_from_winners(
        self, winners: Array, convention: Convention, window: Window, input_shape: tuple[int, ...]
    ) -> Array:
        """Int64 indices of ``convention``, shaped like ``winners``."""
        return indices.indices_from_winners(self.xp, winners, convention, window, input_shape)

    # -- convolution -------------------------------------------------------------------------

    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """Cross-correlation of ``x`` (N, C, …) and ``weight`` (F, C / groups, …), plus ``bias``."""
        return conv.conv(self.xp, x, weight, bias, window, groups)

    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """Gradients of `conv` with respect to ``x`` and ``weight``."""
        return conv.conv_gradient(self.xp, gradient, x, weight, window, groups)

    def im2col(self, x: Array, window: Window) -> Array:
        """Columns (C·cells, outputs·N) of ``x`` (N, C, …), sample index fastest; padding is 0."""
        return conv.im2col(self.xp, x, window)

    def col2im(self, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool) -> Array:
        """Columns back to ``x_shape``; overlaps are summed, or the last row wins."""
        return conv.col2im(self.xp, cols, x_shape, window, add=add)

    # -- training ----------------------------------------------------------------------------

    def moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and biased variance of each channel of ``x`` (N, C, …)."""
        return norm.moments(self.xp, x)

    def normalize(
        self, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        """``normalized · scale + shift`` and ``normalized = (x − mean) · inverse_deviation``.

        All but ``x`` have one number for each channel.
        """
        return norm.normalize(self.xp, x, mean, inverse_deviation, scale, shift)

    def normalize_sums(self, gradient: Array, normalized: Array) -> tuple[Array, Array]:
        """Sums of ``gradient`` and of ``gradient · normalized``, of each channel."""
        return norm.normalize_sums(self.xp, gradient, normalized)

    def normalize_gradient(
        self, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
    ) -> Array:
        """``(gradient − normalized · share − mean) · slope``, with one number for each channel."""
        return norm.normalize_gradient(self.xp, gradient, normalized, mean, share, slope)

    def sgd_step(
        self,
        tensor: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """Change ``velocity``, if there is one, and ``tensor`` in place."""
        steps.sgd(tensor, gradient, velocity, learning_rate, momentum)

    def adam_step(
        self,
        tensor: Array,
        gradient: Array,
        first: Array,
        second: Array,
        decays: tuple[float, float],
        rate: float,
        correction: float,
        epsilon: float,
    ) -> None:
        """Change both moments and ``tensor`` in place, by ``rate · first / deviation``."""
        steps.adam(self.xp, tensor, gradient, first, second, decays, rate, correction, epsilon)
