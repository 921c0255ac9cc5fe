"""Elementwise activations."""

from tinyml.arrays import check_shape
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

    def forward(self, x: Array) -> Array:
        """Replace negative numbers by 0; NaN stays NaN."""
        self.check_numbers("input", x)
        y, self.saved = backend_for(x).activate("relu", x)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient where the input was positive, 0 elsewhere."""
        saved = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, saved.shape)
        return backend_for(in_gradient, saved).activate_gradient("relu", in_gradient, saved)
