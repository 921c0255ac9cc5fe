"""The contract every backend fulfils, a file for each family of methods.

A backend states its array library, makes arrays, and runs kernels on them. It overrides the kernels
it makes faster and inherits the rest, which are the generic ones.
"""

from tinyml_backends.contract.arrays import Arrays
from tinyml_backends.contract.convolution import Convolution
from tinyml_backends.contract.pooling import DTYPES, Pooling
from tinyml_backends.contract.training import Training


class Backend(Pooling, Convolution, Training):
    """Base class of all backends."""


__all__ = ["DTYPES", "Arrays", "Backend", "Convolution", "Pooling", "Training"]
