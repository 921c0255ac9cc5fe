"""Convolution. The derivation is on the page docs/convolution.md."""

from math import prod

import numpy as np

from tinyml.core.parameter import Parameter
from tinyml.layers.base import Dim, SpatialLayer
from tinyml.layers.im2col import col2im_indices, get_im2col_indices, im2col_indices
from tinyml_backends import Window, backend_for, current_backend
from tinyml_backends.arguments import (
    IntPerAxis,
    PaddingPerAxis,
    generator,
    integer,
    lengths,
)
from tinyml_backends.arrays import Array, quiet

__all__ = ["Conv2D", "col2im_indices", "get_im2col_indices", "im2col_indices"]


class Conv2D(SpatialLayer):
    """Two-dimensional convolution (cross-correlation, as everywhere in deep learning).

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    n_filters : int
        Channels of the output.
    size, stride, dilation : int or (int, int)
        Of the kernel.
    padding : int, (int, int), or a (before, after) pair for each axis
        Zeros around the input.
    groups : int
        Number of groups of channels; the filters of a group read only its input channels. It must
        divide the channels and ``n_filters``.
    bias : bool
        Whether to add a learned number to each output channel.
    rng : int, numpy.random.Generator or None
        Source of the initial weights, which are normal with variance 2 / fan-in (He et al.,
        "Delving Deep into Rectifiers", ICCV 2015) and drawn by NumPy, so that a seed gives the same
        weights on every backend.

    Attributes
    ----------
    weight : Parameter, (n_filters, channels / groups, kernel height, kernel width)
    bias : Parameter, (n_filters,), or None

    Raises
    ------
    ValueError
        If the kernel does not fit the input, or ``groups`` does not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Conv2D
    >>> conv = Conv2D("conv", (1, 3, 3), 1, 2, rng=0)
    >>> conv.weight.tensor[:] = 1
    >>> conv(np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3))
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        n_filters: int,
        size: IntPerAxis,
        stride: IntPerAxis = 1,
        padding: PaddingPerAxis = 0,
        *,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(name)
        channels = lengths("input_dim", input_dim, self.axes + 1)[0]
        n_filters = integer(f"{self!r}: n_filters", n_filters, 1)
        groups = integer(f"{self!r}: groups", groups, 1)
        if channels % groups or n_filters % groups:
            raise ValueError(
                f"{self!r}: groups is {groups}; it must divide the {channels} input channels and "
                f"the {n_filters} filters"
            )
        self.n_filters = n_filters
        self.size = size
        self.stride = stride
        self.groups = groups
        self.window = Window.of(self.axes, size, stride, padding, dilation)
        self.set_dims(input_dim)
        shape = (n_filters, channels // groups, *self.window.size)
        deviation = (2 / prod(shape[1:])) ** 0.5
        weight = generator(rng).standard_normal(shape, np.float32) * deviation
        asarray = current_backend().asarray
        self.weight = Parameter(asarray(weight))
        self.bias = Parameter(asarray(np.zeros(n_filters, np.float32))) if bias else None

    def output_of(self, dim: Dim) -> Dim:
        """Filters, height and width of the output."""
        return self.n_filters, *self.window.output_shape(dim[1:])

    def forward(self, input: Array) -> Array:
        """Convolve ``input`` (samples, channels, height, width)."""
        self.check_input(input)
        bias = None if self.bias is None else self.bias.tensor
        y = backend_for(input).conv(input, self.weight.tensor, bias, self.window, self.groups)
        self.saved = input
        self.num_of_entries = len(input)
        return y

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; adds to the gradients of weight and bias."""
        x = self.saved_by_forward()
        self.check("gradient", in_gradient, (len(x), *self.output_dim(tuple(x.shape[1:]))))
        backend = backend_for(in_gradient, x)
        gradient, weight_gradient = backend.conv_gradient(
            in_gradient, x, self.weight.tensor, self.window, self.groups
        )
        self.weight.gradient += weight_gradient
        if self.bias is not None:
            self.bias.gradient += backend.sum_channels(in_gradient)
        return gradient
