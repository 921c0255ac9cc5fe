"""CPU arrays through NumPy: the default backend."""

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.backend import Backend
from tinyml_backends.generic import conv
from tinyml_backends.geometry import Window
from tinyml_backends.numpy_backend.threads import each


class NumpyBackend(Backend):
    """NumPy on the CPU. The generic kernels are written for it; it adds arrays and threads."""

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

    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """As `Backend.conv`, in threads; the result does not depend on their number."""
        return conv.conv(np, x, weight, bias, window, groups, each=each)

    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """As `Backend.conv_gradient`, in threads; the result does not depend on their number."""
        return conv.conv_gradient(np, gradient, x, weight, window, groups, each=each)
