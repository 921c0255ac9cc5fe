"""Backends that tests register."""

from tinyml_backends.numpy_backend import NumpyBackend


class Second(NumpyBackend):
    """Another backend of NumPy arrays."""

    name = "second"


class FakeArray:
    """An array of a made-up library, on one of several devices."""

    def __init__(self, device=0):
        self.device = device


class Fake(NumpyBackend):
    """A backend of `FakeArray`."""

    name = "fake"
    library = "fake"

    def handles(self, array):
        return isinstance(array, FakeArray)

    def device(self, array):
        return f"fake:{array.device}"
