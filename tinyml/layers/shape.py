"""Layers that change the shape of each sample, and none of its values."""

from math import prod

from tinyml.arrays import check_shape
from tinyml.functional.patches import pad
from tinyml.layers.base import Dim, Layer
from tinyml.layers.spatial import SpatialLayer
from tinyml_backends.arguments import integer, lengths
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


class PadChannels2D(SpatialLayer):
    """Add channels of zeros after those of an image.

    A block that makes more channels can then be added to its input, as in ENet, without weights.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    channels : int
        Channels of the output.

    Raises
    ------
    ValueError
        If the input has more channels.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import PadChannels2D
    >>> pad = PadChannels2D("pad", (1, 1, 2), 2)
    >>> pad(np.array([[[[1.0, 3.0]]]]))
    array([[[[1., 3.]],
    <BLANKLINE>
            [[0., 0.]]]])
    >>> pad.backward(np.array([[[[1.0, 3.0]], [[5.0, 7.0]]]]))
    array([[[[1., 3.]]]])
    """

    def __init__(self, name: str, input_dim: Dim, channels: int) -> None:
        super().__init__(name)
        dim = lengths(f"{self!r}: input_dim", input_dim, 3)
        self.channels = integer(f"{self!r}: channels", channels, 1)
        if self.channels < dim[0]:
            raise ValueError(
                f"{self!r}: channels is {channels}; it must be at least the {dim[0]} of the input"
            )
        self.set_dims(dim)

    def output_of(self, dim: Dim) -> Dim:
        """The channels, and the input's height and width."""
        return self.channels, *dim[1:]

    def forward(self, input: Array) -> Array:
        """``input`` (samples, channels, height, width), and zeros after its channels."""
        self.check_input(input)
        self.saved = tuple(input.shape)
        self.num_of_entries = len(input)
        return pad(input, (0, 0, 0, 0, 0, self.channels - self.input_channel))

    def backward(self, in_gradient: Array) -> Array:
        """The view of ``in_gradient`` that holds the input's channels."""
        samples, count, *spatial = self.saved_by_forward()
        self.check("gradient", in_gradient, (samples, self.channels, *spatial))
        return in_gradient[:, :count]
