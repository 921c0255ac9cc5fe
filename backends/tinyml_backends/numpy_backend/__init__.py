"""CPU arrays through NumPy: the default backend."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.conventions import Duplicates
from tinyml_backends.generic import conv
from tinyml_backends.geometry import Window
from tinyml_backends.memory import Workspace
from tinyml_backends.numpy_backend import activation, pool, unpool
from tinyml_backends.threads import run_in_order

F = TypeVar("F", bound=Callable[..., Any])


def _quiet(kernel: F) -> F:
    """The kernel without NumPy's warnings: a sum may overflow or be NaN, and shows it."""

    @wraps(kernel)
    def call(*args: Any, **options: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return kernel(*args, **options)

    return cast("F", call)


class NumpyBackend(Backend):
    """NumPy on the CPU. The generic kernels are written for it; it adds arrays and threads."""

    name = "numpy"
    library = "numpy"
    xp = np

    def handles(self, array: object) -> bool:
        """Whether ``array`` is a NumPy array, and not a masked one, whose mask would be lost."""
        return type(array) is np.ndarray or (
            isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
        )

    def device(self, array: Array) -> str:
        """Return "numpy": all NumPy arrays share the host's memory."""
        return "numpy"

    def asarray(self, array_like: object) -> Array:
        """NumPy array from a nested sequence, a number, or an array that offers DLPack.

        An array of the other byte order is converted.
        """
        if isinstance(array_like, np.ma.MaskedArray):
            raise TypeError("a masked array would lose its mask; fill it: a.filled(value)")
        if isinstance(array_like, np.ndarray):
            return array_like.astype(array_like.dtype.newbyteorder("="), copy=False)
        if hasattr(array_like, "__dlpack__"):
            return np.from_dlpack(array_like)
        return np.asarray(array_like)

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` itself."""
        return np.asarray(array)

    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """As `Backend.max_pool`, in threads; so are the next three."""
        return pool.max_pool(x, window, out)

    @_quiet
    def max_pool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_pool_gradient`."""
        return unpool.max_unpool(gradient, winners, window, input_shape, "sum", out)

    @_quiet
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
        """As `Backend.max_unpool`."""
        return unpool.max_unpool(y, winners, window, input_shape, duplicates, out)

    def max_unpool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_unpool_gradient`."""
        return unpool.max_unpool_gradient(gradient, winners, window, duplicates, out)

    avg_pool = _quiet(Backend.avg_pool)
    avg_pool_gradient = _quiet(Backend.avg_pool_gradient)
    adaptive_max_pool_gradient = _quiet(Backend.adaptive_max_pool_gradient)
    adaptive_avg_pool = _quiet(Backend.adaptive_avg_pool)
    adaptive_avg_pool_gradient = _quiet(Backend.adaptive_avg_pool_gradient)

    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """As `Backend.conv`, in threads; the result does not depend on their number."""
        return conv.conv(np, x, weight, bias, window, groups, each=run_in_order)

    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """As `Backend.conv_gradient`, in threads; the result does not depend on their number."""
        return conv.conv_gradient(np, gradient, x, weight, window, groups, each=run_in_order)

    def activate_gradient(self, kind: str, gradient: Array, saved: Array, **options: Any) -> Array:
        """As `Backend.activate_gradient`."""
        if kind == "relu" and not options:
            return activation.relu_gradient(gradient, saved)
        return super().activate_gradient(kind, gradient, saved, **options)

    def workspace(self) -> Workspace:
        """Return memory for NumPy's arrays, which NumPy itself does not keep."""
        return Workspace()
