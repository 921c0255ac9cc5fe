"""The contract that every backend fulfils, with a file for each family of methods.

A backend states its array library, makes arrays, and runs kernels on them. It overrides the kernels
that it can compute faster and inherits the others, which are the functions of
`tinyml_backends.generic`: their first argument is the backend, so that they work as its methods.
Their docstrings say what every backend must return. Callers have checked shapes and dtypes.
"""

from tinyml_backends.arrays import Arrays
from tinyml_backends.contract.convolution import Convolution
from tinyml_backends.contract.pooling import DTYPES, Pooling
from tinyml_backends.contract.training import Training


class Backend(Pooling, Convolution, Training):
    """Base class of all backends."""


__all__ = ["DTYPES", "Arrays", "Backend", "Convolution", "Pooling", "Training"]
