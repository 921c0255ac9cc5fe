"""A third party's backend: the generic kernels on arrays of its own library.

It counts its calls and, as a pytest plugin, prints them: the proof that it ran.
"""

import collections
import functools
from types import SimpleNamespace

import numpy as np

from tinyml_backends import Backend

CALLS: collections.Counter[str] = collections.Counter()


class ToyArray(np.ndarray):
    """An array that NumPy's own backend would accept too, so the selection must decide."""


class Namespace:
    """NumPy's functions; what they make is a `ToyArray`."""

    def __getattr__(self, name):
        function = getattr(np, name)

        @functools.wraps(function)
        def made(*args, **kwargs):
            result = function(*args, **kwargs)
            return result.view(ToyArray) if type(result) is np.ndarray else result

        return made


class ToyBackend(Backend):
    name = "toy"
    library = "toy"
    xp = Namespace()

    def handles(self, array):
        return isinstance(array, ToyArray)

    def device(self, array):
        return "toy"

    def asarray(self, array_like):
        array = np.asarray(array_like)
        return array if isinstance(array, ToyArray) else array.view(ToyArray)

    def to_numpy(self, array):
        return array.view(np.ndarray)


def _counted(name):
    kernel = getattr(Backend, name)

    @functools.wraps(kernel)
    def call(self, *args, **kwargs):
        CALLS[name] += 1
        return kernel(self, *args, **kwargs)

    return call


for _name in ("max_pool", "max_pool_gradient", "max_unpool", "max_unpool_gradient"):
    setattr(ToyBackend, _name, _counted(_name))


def pytest_terminal_summary(terminalreporter: SimpleNamespace) -> None:
    terminalreporter.write_line(f"toy calls: {dict(sorted(CALLS.items()))}")
