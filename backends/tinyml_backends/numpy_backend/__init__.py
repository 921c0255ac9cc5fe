"""CPU arrays through NumPy: the default backend."""

from typing import TypeVar

import numpy as np

from tinyml_backends import threads
from tinyml_backends.arrays import Array, quiet
from tinyml_backends.contract import Backend, Convolution, Pooling, Training
from tinyml_backends.numpy_backend import activation, pool, resample, unpool

B = TypeVar("B", bound=type[Backend])

#: Methods that compute nothing themselves: comparing and copying raise no floating-point errors.
EXACT = ("max_pool", "max_pool_gradient", "max_unpool_gradient", "renumber", "workspace")


def _quiet_kernels(backend: B) -> B:
    """Make all kernels of the contract `quiet` that compute."""
    for family in (Pooling, Convolution, Training):
        for name, kernel in vars(family).items():
            if callable(kernel) and name not in EXACT and name[0] != "_":
                setattr(backend, name, quiet(getattr(backend, name)))
    return backend


@_quiet_kernels
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
    max_unpool = unpool.max_unpool
    max_unpool_gradient = unpool.max_unpool_gradient
    activate = activation.activate
    activate_gradient = activation.activate_gradient
    resample = resample.resample
    run_in_order = staticmethod(threads.run_in_order)
