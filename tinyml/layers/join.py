"""Layers of several inputs, which join the branches of a network."""

from tinyml.arrays import check_shape
from tinyml.layers.base import Dim, Layer
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array


class Add(Layer):
    """Sum of several arrays of one shape, as at the end of a residual block.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Add
    >>> add = Add("add")
    >>> add(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]))
    array([[11., 22.]])
    >>> add.backward(np.array([[1.0, 2.0]]))
    (array([[1., 2.]]), array([[1., 2.]]))
    """

    def output_dim(self, *dims: Dim) -> Dim:
        """Shape of one sample, which all inputs share."""
        if len(set(dims)) != 1:
            raise ValueError(f"{self!r}: its inputs have dims {dims}; they must be equal")
        return dims[0]

    def forward(self, *inputs: Array) -> Array:
        """Add ``inputs`` from left to right."""
        shape = _shape_of_first(self, inputs)
        for number, x in enumerate(inputs):
            check_shape(f"{self!r}: input {number}", x, shape)
        y = backend_for(*inputs).add(inputs)
        self.saved = shape, len(inputs)
        return y

    def backward(self, in_gradient: Array) -> tuple[Array, ...]:
        """Return ``in_gradient`` once for each input: the same array, not copies."""
        shape, count = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, shape)
        return tuple(in_gradient for _ in range(count))


class Concat(Layer):
    """Concatenate arrays along the channels, as at the skip connections of a U-Net.

    Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        If the shapes differ in more than the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Concat
    >>> concat = Concat("concat")
    >>> concat(np.array([[1.0]]), np.array([[2.0, 3.0]]))
    array([[1., 2., 3.]])
    >>> concat.backward(np.array([[10.0, 20.0, 30.0]]))
    (array([[10.]]), array([[20., 30.]]))
    """

    def output_dim(self, *dims: Dim) -> Dim:
        """Sum of the inputs' channels, and the spatial shape that the inputs share."""
        if len({dim[1:] for dim in dims}) != 1:
            raise ValueError(
                f"{self!r}: its inputs have dims {dims}; they must be equal but for the channels"
            )
        return sum(dim[0] for dim in dims), *dims[0][1:]

    def forward(self, *inputs: Array) -> Array:
        """Concatenate ``inputs`` (samples, channels, …) along the channels."""
        samples, _, *spatial = _shape_of_first(self, inputs)
        for number, x in enumerate(inputs):
            check_shape(f"{self!r}: input {number}", x, (samples, "channels", *spatial))
        y = backend_for(*inputs).concatenate(inputs)
        self.saved = tuple(x.shape[1] for x in inputs), tuple(y.shape)
        return y

    def backward(self, in_gradient: Array) -> tuple[Array, ...]:
        """For each input, the view of ``in_gradient`` that holds its channels."""
        channels, shape = self.saved_by_forward()
        check_shape(f"{self!r}: gradient", in_gradient, shape)
        stops = [sum(channels[: i + 1]) for i in range(len(channels))]
        return tuple(
            in_gradient[:, stop - count : stop] for count, stop in zip(channels, stops, strict=True)
        )


def _shape_of_first(layer: Layer, inputs: tuple[Array, ...]) -> tuple[int, ...]:
    """Shape of the first of ``inputs``, which must be arrays of one library."""
    if not inputs:
        raise TypeError(f"{layer!r}: inputs are missing; give it one array or more")
    backend_for(*inputs)  # raises TypeError if one is not an array
    shape = tuple(inputs[0].shape)
    if len(shape) < 2:
        raise ValueError(f"{layer!r}: input 0 has shape {shape}; it must be (samples, channels, …)")
    return shape
