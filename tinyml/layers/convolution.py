"""Convolution, and its transpose. Derivations: docs/convolution.md, docs/transposed_convolution.md.

One class serves every number of spatial axes, since the kernels do.
"""

from math import prod
from typing import Any

import numpy as np

from tinyml.core.initial import constant, normal
from tinyml.core.parameter import Parameter
from tinyml.layers.base import Dim
from tinyml.layers.im2col import col2im_indices, get_im2col_indices, im2col_indices
from tinyml.layers.spatial import SpatialLayer
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import (
    IntPerAxis,
    PaddingPerAxis,
    integer,
    lengths,
    per_axis,
)
from tinyml_backends.arrays import Array, as_floats, quiet
from tinyml_backends.convolutions import transposed, window_of

__all__ = [
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "Deconv2D",
    "col2im_indices",
    "get_im2col_indices",
    "im2col_indices",
]


class Convolution(SpatialLayer):
    """What convolution and its transpose share: filters, groups, weight, bias and window."""

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        n_filters: int,
        size: IntPerAxis,
        stride: IntPerAxis = 1,
        padding: PaddingPerAxis | str = 0,
        *,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(name)
        channels = lengths(f"{self!r}: input_dim", input_dim, self.axes + 1)[0]
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
        self.window = self._window(window_of(self.axes, size, stride, padding, dilation))
        self.set_dims(input_dim)
        shape, terms = self._weight_shape(channels)
        self.weight = Parameter(normal(shape, (2 / terms) ** 0.5, rng))
        self.bias = Parameter(constant(n_filters, 0)) if bias else None

    def _window(self, window: Window) -> Window:
        return window

    def _weight_shape(self, channels: int) -> tuple[tuple[int, ...], float]:
        """Shape of the weight, and the number of terms in the sum of an output."""
        raise NotImplementedError

    def _save(self, input: Array) -> None:
        self.saved = input
        self.num_of_entries = len(input)

    def _checked(self, in_gradient: Array) -> Array:
        """What forward saved; the gradient's shape is checked."""
        x = self.saved_by_forward()
        self.check("gradient", in_gradient, (len(x), *self.output_dim(tuple(x.shape[1:]))))
        return x


class _Conv(Convolution):
    def _weight_shape(self, channels: int) -> tuple[tuple[int, ...], float]:
        shape = self.n_filters, channels // self.groups, *self.window.size
        return shape, prod(shape[1:])

    def output_of(self, dim: Dim) -> Dim:
        """Filters and spatial lengths of the output."""
        return self.n_filters, *self.window.output_shape(dim[1:])

    def multiply_adds(self, *dims: Dim) -> int:
        """One for each weight at each place of the kernel."""
        return int(self.weight.tensor.size) * prod(self.output_dim(*dims)[1:])

    def forward(self, input: Array) -> Array:
        """Convolve ``input`` (samples, channels, …)."""
        self.check_input(input)
        bias = None if self.bias is None else self.bias.tensor
        y = backend_for(input).conv(input, self.weight.tensor, bias, self.window, self.groups)
        self._save(input)
        return y

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; adds to the gradients of weight and bias."""
        x = self._checked(in_gradient)
        backend = backend_for(in_gradient, x)
        gradient, weight_gradient = backend.conv_gradient(
            in_gradient, x, self.weight.tensor, self.window, self.groups
        )
        self.weight.gradient += weight_gradient
        if self.bias is not None:
            self.bias.gradient += backend.sum_channels(in_gradient)
        return gradient

    def reverse(self, signal: Array, rule: str) -> Array:
        """The gradient with respect to the input alone: the transposed convolution."""
        x, weight = self._checked(signal), self.weight.tensor
        spatial = tuple(x.shape[2:])
        backend = backend_for(signal, x)
        found = backend.conv_input(signal, weight, None, spatial, self.window, self.groups)
        return found.astype(as_floats(x).dtype, copy=False)


class Conv2D(_Conv):
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
    padding : int, (int, int), a (before, after) pair for each axis, or "same"
        Zeros around the input. "same" keeps the input's shape, and needs stride 1; where the zeros
        are odd in number, there is one more after the input than before it.
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


class Conv1D(_Conv):
    """As `Conv2D`, for (channels, length).

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Conv1D
    >>> conv = Conv1D("conv", (1, 4), 1, 2, rng=0)
    >>> conv.weight.tensor[:] = 1
    >>> conv(np.arange(4, dtype=np.float32).reshape(1, 1, 4))
    array([[[1., 3., 5.]]], dtype=float32)
    """

    axes = 1


class Conv3D(_Conv):
    """As `Conv2D`, for (channels, depth, height, width).

    Examples
    --------
    >>> from tinyml.layers import Conv3D
    >>> Conv3D("conv", (1, 8, 9, 10), 4, 3, padding="same").out_dim
    (4, 8, 9, 10)
    """

    axes = 3


class ConvTranspose2D(Convolution):
    """Transposed convolution: the adjoint of `Conv2D`, which enlarges where that one shrinks.

    Its forward pass is the input gradient of a convolution with the same window. Dumoulin and
    Visin, "A guide to convolution arithmetic for deep learning", 2016.

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
        Cells that are cut off around the output.
    output_padding : int or (int, int)
        Cells that the output is longer at its end. Below the stride or the dilation.
    groups, bias, rng
        As of `Conv2D`. The variance of the weights is 2 over the mean number of terms of an output.

    Attributes
    ----------
    weight : Parameter, (channels, n_filters / groups, kernel height, kernel width)
    bias : Parameter, (n_filters,), or None

    Raises
    ------
    ValueError
        If the padding leaves no output, ``output_padding`` is too large, or ``groups`` does
        not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import ConvTranspose2D
    >>> conv = ConvTranspose2D("up", (1, 1, 2), 1, 2, stride=2, rng=0)
    >>> conv.weight.tensor[:] = [[1, 2], [3, 4]]
    >>> conv(np.array([[[[1, 10]]]], np.float32))
    array([[[[ 1.,  2., 10., 20.],
             [ 3.,  4., 30., 40.]]]], dtype=float32)
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
        output_padding: IntPerAxis = 0,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        if isinstance(padding, str):
            raise TypeError(
                f"{type(self).__name__}({name!r}): padding is {padding!r}; it must be ints, "
                "since 'same' and 'valid' are for convolutions that are not transposed"
            )
        self.output_padding = per_axis("output_padding", output_padding, self.axes, 0)
        options: dict[str, Any] = {"dilation": dilation, "groups": groups, "bias": bias, "rng": rng}
        super().__init__(name, input_dim, n_filters, size, stride, padding, **options)

    def _window(self, window: Window) -> Window:
        return transposed(f"{self!r}: output_padding", self.output_padding, window)

    def _weight_shape(self, channels: int) -> tuple[tuple[int, ...], float]:
        shape = channels, self.n_filters // self.groups, *self.window.size
        cells = channels // self.groups * self.window.count
        return shape, max(1.0, cells / prod(self.window.stride))

    def output_of(self, dim: Dim) -> Dim:
        """Filters and spatial lengths of the output."""
        return self.n_filters, *self.window.transposed_shape(dim[1:])

    def multiply_adds(self, *dims: Dim) -> int:
        """One for each weight at each pixel of the input."""
        return int(self.weight.tensor.size) * prod(dims[0][1:])

    def forward(self, input: Array) -> Array:
        """Spread every value of ``input`` (samples, channels, …) over a window of the output."""
        self.check_input(input)
        spatial = self.output_of(tuple(input.shape[1:]))[1:]
        weight, bias = self.weight.tensor, None if self.bias is None else self.bias.tensor
        y = backend_for(input).conv_input(input, weight, bias, spatial, self.window, self.groups)
        self._save(input)
        return y

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; adds to the gradients of weight and bias."""
        x = self._checked(in_gradient)
        backend, weight = backend_for(in_gradient, x), self.weight.tensor
        self.weight.gradient += backend.conv_weight(
            x, in_gradient, weight.shape, self.window, self.groups
        )
        if self.bias is not None:
            self.bias.gradient += backend.sum_channels(in_gradient)
        return self.reverse(in_gradient, "gradient")

    def reverse(self, signal: Array, rule: str) -> Array:
        """The gradient with respect to the input alone: the convolution."""
        x, weight = self._checked(signal), self.weight.tensor
        found = backend_for(signal, x).conv(signal, weight, None, self.window, self.groups)
        return found.astype(as_floats(x).dtype, copy=False)


class ConvTranspose1D(ConvTranspose2D):
    """As `ConvTranspose2D`, for (channels, length).

    Examples
    --------
    >>> from tinyml.layers import ConvTranspose1D
    >>> ConvTranspose1D("up", (8, 5), 4, 3, stride=2, padding=1, output_padding=1).out_dim
    (4, 10)
    """

    axes = 1


class ConvTranspose3D(ConvTranspose2D):
    """As `ConvTranspose2D`, for (channels, depth, height, width).

    Examples
    --------
    >>> from tinyml.layers import ConvTranspose3D
    >>> ConvTranspose3D("up", (8, 2, 3, 4), 4, 2, stride=2).out_dim
    (4, 4, 6, 8)
    """

    axes = 3


Deconv2D = ConvTranspose2D
