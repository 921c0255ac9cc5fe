"""CPU arrays through NumPy: the default backend."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from tinyml_backends import threads
from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.numpy_backend import activation, pool, unpool

F = TypeVar("F", bound=Callable[..., Any])


def _quiet(kernel: F) -> F:
    """The kernel without NumPy's warnings of overflow and NaN, which the result itself shows."""

    @wraps(kernel)
    def call(*args: Any, **options: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return kernel(*args, **options)

    return cast("F", call)


class NumpyBackend(Backend):
    """NumPy on the CPU: the generic kernels, some in threads, and faster ones for 2×2 tiles."""

    name = "numpy"
    library = "numpy"
    xp = np

    def handles(self, array: object) -> bool:
        """Whether ``array`` is a NumPy array, but not a masked one: its mask would be lost."""
        return type(array) is np.ndarray or (
            isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
        )

    def device(self, array: Array) -> str:
        """Return "numpy": all NumPy arrays share the host's memory."""
        return "numpy"

    def asarray(self, array_like: object) -> Array:
        """NumPy array from a nested sequence, a number, or an array that supports DLPack.

        An array whose byte order is not the machine's is converted.

        Raises
        ------
        TypeError
            If ``array_like`` is a masked array.
        """
        if isinstance(array_like, np.ma.MaskedArray):
            raise TypeError("a masked array would lose its mask; fill it: a.filled(value)")
        if isinstance(array_like, np.ndarray):
            return array_like.astype(array_like.dtype.newbyteorder("="), copy=False)
        if hasattr(array_like, "__dlpack__"):
            return np.from_dlpack(array_like)
        return np.asarray(array_like)

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` itself; a view of it if it is of a subclass."""
        return np.asarray(array)

    max_pool = pool.max_pool
    max_unpool = _quiet(unpool.max_unpool)
    max_unpool_gradient = unpool.max_unpool_gradient
    avg_pool = _quiet(Backend.avg_pool)
    avg_pool_gradient = _quiet(Backend.avg_pool_gradient)
    adaptive_max_pool_gradient = _quiet(Backend.adaptive_max_pool_gradient)
    adaptive_avg_pool = _quiet(Backend.adaptive_avg_pool)
    adaptive_avg_pool_gradient = _quiet(Backend.adaptive_avg_pool_gradient)
    activate = activation.activate
    activate_gradient = activation.activate_gradient
    run_in_order = staticmethod(threads.run_in_order)
