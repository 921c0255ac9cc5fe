"""CPU arrays through NumPy: the default backend."""

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.backend import Backend


class NumpyBackend(Backend):
    """NumPy on the CPU. The generic kernels are written for it; it adds the arrays."""

    name = "numpy"
    library = "numpy"
    xp = np

    def handles(self, array: object) -> bool:
        """Whether ``array`` is a NumPy array."""
        return isinstance(array, np.ndarray)

    def device(self, array: Array) -> str:
        """Return "numpy": all NumPy arrays share the host's memory."""
        return "numpy"

    def asarray(self, array_like: object) -> Array:
        """NumPy array from a nested sequence, a number, or an array that offers DLPack."""
        if isinstance(array_like, np.ndarray):
            return array_like
        if hasattr(array_like, "__dlpack__"):
            return np.from_dlpack(array_like)
        return np.asarray(array_like)

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` itself."""
        return np.asarray(array)
