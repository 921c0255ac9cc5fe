"""Elementwise activations."""

from tinyml.arrays import check_shape, namespace
from tinyml.layers.base import Layer
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array


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
        xp = namespace(x)
        self.positive = x > 0
        return xp.maximum(x, x.dtype.type(0))

    def backward(self, in_gradient: Array) -> Array:
        """Let the gradient through where the input was positive."""
        positive = self.saved(self.positive)
        xp = backend_for(in_gradient, positive).xp
        check_shape(f"{self!r}: gradient", in_gradient, positive.shape)
        return xp.where(positive, in_gradient, in_gradient.dtype.type(0))
