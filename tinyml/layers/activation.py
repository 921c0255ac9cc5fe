"""Elementwise activations."""

import numpy as np

from tinyml.arrays import check_shape, namespace
from tinyml.layers.base import Layer
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array
from tinyml_backends.generic.bits import select
from tinyml_backends.memory import empty


class ReLU(Layer):
    """Rectified linear unit, ``max(0, x)``, for an array of any shape.

    Its derivative is 1 where ``x > 0`` and 0 elsewhere, 0 included.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import ReLU
    >>> relu = ReLU("relu")
    >>> relu(np.array([[-2.0, 0.0, 3.0]]))
    array([[0., 0., 3.]])
    >>> relu.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[0., 0., 1.]])
    """

    saves = ("positive",)
    positive: Array | None

    def forward(self, x: Array) -> Array:
        """Clip ``x`` from below; NaN stays NaN."""
        xp, zero = namespace(x), x.dtype.type(0)
        self.positive = xp.greater(x, zero, out=empty(xp, x.shape, np.dtype(bool)))
        return xp.maximum(x, zero, out=empty(xp, x.shape, x.dtype))

    def backward(self, in_gradient: Array) -> Array:
        """Let the gradient through where the input was positive."""
        positive = self.saved(self.positive)
        xp = backend_for(in_gradient, positive).xp
        check_shape(f"{self!r}: gradient", in_gradient, positive.shape)
        return select(xp, positive, in_gradient)
