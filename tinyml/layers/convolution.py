"""Convolution, and the helpers that turn images into columns and back.

The derivation is on the page docs/convolution.md. A column holds one patch of the image: rows run
over channel, kernel row and kernel column, and columns over output row, output column and sample,
the sample fastest.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyml.arrays import check_shape
from tinyml.core.parameter import Parameter
from tinyml.layers.base import SpatialLayer
from tinyml_backends import Window, backend_for, current_backend
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths, per_axis
from tinyml_backends.arrays import Array


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
        Groups of channels that see nothing of each other; divides both numbers of channels.
    bias : bool
        Whether a learned number is added to each output channel.
    rng : int, numpy.random.Generator or None
        Where the first weights come from: normal with variance 2 / fan-in (He et al., "Delving Deep
        into Rectifiers", ICCV 2015), drawn by NumPy, so that a seed means the same weights on
        every backend.

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

    saves = ("input",)
    input: Array | None

    def __init__(
        self,
        name: str,
        input_dim: tuple[int, ...],
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
        channels = lengths("input_dim", input_dim, 3)[0]
        if n_filters < 1 or groups < 1 or channels % groups or n_filters % groups:
            raise ValueError(
                f"{self!r}: groups is {groups}; it must divide the {channels} input channels and "
                f"the {n_filters} filters"
            )
        self.n_filters = n_filters
        self.size = size
        self.stride = stride
        self.groups = groups
        self.window = Window.of(2, size, stride, padding, dilation)
        shape = (n_filters, channels // groups, *self.window.size)
        deviation = (2 / prod(shape[1:])) ** 0.5
        weight = np.random.default_rng(rng).standard_normal(shape, np.float32) * deviation
        backend = current_backend()
        self.weight = Parameter(backend.asarray(weight.astype(np.float32)))
        self.bias = Parameter(backend.array_module.zeros(n_filters, np.float32)) if bias else None
        self.parameters = [p for p in (self.weight, self.bias) if p is not None]
        self.set_input(input_dim)

    def output_dim(self, input_dim: tuple[int, ...]) -> tuple[int, ...]:
        """Filters, height and width of the output."""
        if input_dim[0] != self.groups * self.weight.tensor.shape[1]:
            raise ValueError(
                f"{self!r}: input_dim is {input_dim}; its weights are for "
                f"{self.groups * self.weight.tensor.shape[1]} channels"
            )
        return self.n_filters, *self.window.output_shape(input_dim[1:])

    def forward(self, input: Array) -> Array:
        """Convolve ``input`` (samples, channels, height, width)."""
        self.check("input", input, self.input_dim)
        self.num_of_entries = len(input)
        self.input = input
        bias = None if self.bias is None else self.bias.tensor
        return backend_for(input).conv(input, self.weight.tensor, bias, self.window, self.groups)

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; those of weight and bias are added to theirs."""
        x = self.saved(self.input)
        self.check_gradient(in_gradient)
        gradient, weight_gradient = backend_for(x).conv_gradient(
            in_gradient, x, self.weight.tensor, self.window, self.groups
        )
        self.weight.gradient += weight_gradient
        if self.bias is not None:
            self.bias.gradient += in_gradient.sum((0, 2, 3))
        return gradient


def get_im2col_indices(
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> tuple[Array, Array, Array]:
    """Channel, row and column in the padded image of every entry of the columns.

    Parameters
    ----------
    x_shape : (int, int, int, int)
        Samples, channels, height and width.
    field_height, field_width : int
        Size of the patch.
    padding, stride : int
        Along both axes.

    Returns
    -------
    k : int64 array, (C·fh·fw, 1)
    i, j : int64 arrays, (C·fh·fw, out_h·out_w)
        On the selected backend; ``x_padded[:, k, i, j]`` are the columns of each sample.

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder.

    Examples
    --------
    >>> from tinyml.layers.convolution import get_im2col_indices
    >>> k, i, j = get_im2col_indices((1, 2, 4, 4), 3, 3, padding=0)
    >>> k.shape, i.shape, j.shape
    ((18, 1), (18, 4), (18, 4))
    """
    _, channels, *spatial = lengths("x_shape", x_shape, 4, minimum=0)
    window = _dividing_window(spatial, (field_height, field_width), padding, stride)
    out_height, out_width = window.output_shape(spatial)
    field_height, field_width = window.size
    (stride, _) = window.stride
    xp = current_backend().array_module
    k, cell_row, cell_column = (
        a.reshape(-1, 1) for a in xp.indices((channels, field_height, field_width), np.int64)
    )
    row, column = (a.reshape(1, -1) for a in xp.indices((out_height, out_width), np.int64))
    return k, cell_row + stride * row, cell_column + stride * column


def im2col_indices(
    x: Array,
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Columns (C·fh·fw, out_h·out_w·N) of an image (N, C, H, W).

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers.convolution import im2col_indices
    >>> im2col_indices(np.arange(9).reshape(1, 1, 3, 3), 2, 2, padding=0)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    backend = backend_for(x)
    check_shape("x", x, ("samples", "channels", "height", "width"))
    window = _dividing_window(x.shape[2:], (field_height, field_width), padding, stride)
    return backend.im2col(x, window)


def col2im_indices(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Columns back to an image of ``x_shape``; where they overlap, they are added.

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder, or ``cols`` has not the
        shape that `im2col_indices` gives.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers.convolution import col2im_indices
    >>> col2im_indices(np.ones((4, 4)), (1, 1, 3, 3), 2, 2, padding=0)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    return columns_to_image(cols, x_shape, (field_height, field_width), padding, stride, add=True)


def columns_to_image(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    size: tuple[int, int],
    padding: int,
    stride: int,
    *,
    add: bool,
) -> Array:
    """Both inverses of `im2col_indices`: sum where columns overlap, or let the last row win."""
    backend = backend_for(cols)
    shape = lengths("x_shape", x_shape, 4, minimum=0)
    samples, channels, *spatial = shape
    window = _dividing_window(spatial, size, padding, stride)
    columns = prod(window.output_shape(spatial)) * samples
    check_shape("cols", cols, (channels * window.count, columns))
    return backend.col2im(cols, shape, window, add=add)


def _dividing_window(
    spatial: Sequence[int], size: tuple[int, int], padding: int, stride: int
) -> Window:
    """Window of the patches, refused where the stride leaves a remainder."""
    (stride,) = per_axis("stride", stride, 1, minimum=1)
    (padding,) = per_axis("padding", padding, 1, minimum=0)
    window = Window.of(2, size, stride, padding)
    for name, length, field in zip(("height", "width"), spatial, window.size, strict=True):
        if (length + 2 * padding - field) % stride:
            raise ValueError(
                f"a {name} of {length} with padding {padding} and field {field} is not a multiple "
                f"of stride {stride}: {length + 2 * padding - field} cells remain to be strided"
            )
    window.output_shape(spatial)
    return window
