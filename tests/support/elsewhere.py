"""A backend with an array type of its own: it handles no array of another backend."""

import numpy as np

from tinyml_backends.numpy_backend import NumpyBackend


class Elsewhere(NumpyBackend):
    """NumPy's arrays, viewed as `numpy.memmap`."""

    name = library = "elsewhere"

    def handles(self, array):
        return isinstance(array, np.memmap)

    def asarray(self, array_like):
        return np.asarray(array_like).view(np.memmap)

    def device(self, array):
        return "elsewhere"
