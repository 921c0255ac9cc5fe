"""Layers that change the shape of each sample, and no value."""

from math import prod

from tinyml.arrays import check_shape
from tinyml.layers.base import Dim, Layer
from tinyml_backends.arguments import integer
from tinyml_backends.arrays import Array


class Reshape(Layer):
    """Give each sample another shape; the order of the values, the last axis fastest, stays.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Shape of a sample of the result. One length may be -1: it is what the others leave.

    Raises
    ------
    ValueError
        If a length is below 1, or there is more than one -1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Reshape
    >>> Reshape("to image", (1, 2, -1))(np.zeros((5, 6))).shape
    (5, 1, 2, 3)
    """

    def __init__(self, name: str, shape: Dim) -> None:
        super().__init__(name)
        try:
            self.shape = tuple(integer("a length", n, -1) for n in shape)
            valid = 0 not in self.shape and self.shape.count(-1) <= 1 and len(self.shape) > 0
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(
                f"{self!r}: shape is {shape!r}; it must be ints of at least 1, of which one may "
                "be -1"
            )

    def output_dim(self, *dims: Dim) -> Dim:
        """The shape, with -1 worked out; ValueError if the values of a sample do not fit it."""
        if len(dims) != 1:
            raise ValueError(f"{self!r} takes one input; got {len(dims)}")
        count, known = prod(dims[0]), prod(n for n in self.shape if n != -1)
        if count % known or (-1 not in self.shape and count != known):
            raise ValueError(
                f"{self!r}: the input's dim is {dims[0]}, {count} values; they do not fit the "
                f"shape {self.shape}"
            )
        return tuple(count // known if n == -1 else n for n in self.shape)

    def forward(self, input: Array) -> Array:
        """``input`` in the new shape; it may share memory with ``input``."""
        self.check_numbers("input", input)
        if input.ndim < 1:
            raise ValueError(f"{self!r}: input has shape (); its first axis must be the samples")
        shape = tuple(input.shape)
        y = input.reshape(shape[0], *self.output_dim(shape[1:]))
        self.saved = shape
        return y

    def backward(self, in_gradient: Array) -> Array:
        """The gradient in the input's shape."""
        shape = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, (shape[0], *self.output_dim(shape[1:])))
        return in_gradient.reshape(shape)


class Flatten(Reshape):
    """Make each sample one axis, as `Linear` needs it.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Flatten
    >>> Flatten("flat")(np.zeros((5, 2, 3, 3))).shape
    (5, 18)
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, (-1,))
