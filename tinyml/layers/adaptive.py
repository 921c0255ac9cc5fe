"""Adaptive pooling: the number of windows is given, not their size. See docs/pooling.md."""

from tinyml.layers.base import Dim
from tinyml.layers.spatial import SpatialLayer
from tinyml.pooling import (
    adaptive_avg_pool,
    adaptive_avg_pool_gradient,
    adaptive_max_pool,
    adaptive_max_pool_gradient,
)
from tinyml_backends.arguments import IntPerAxis, per_axis
from tinyml_backends.arrays import Array


class AdaptivePool(SpatialLayer):
    """Pooling to a given spatial shape."""

    def __init__(self, name: str, input_dim: Dim, output_size: IntPerAxis) -> None:
        super().__init__(name)
        self.output_size = per_axis(f"{self!r}: output_size", output_size, self.axes, 1)
        self.set_dims(input_dim)

    def output_of(self, dim: Dim) -> Dim:
        """The channels, and the output's size."""
        return dim[0], *self.output_size


class AdaptiveAvgPool2D(AdaptivePool):
    """Mean of each of a given number of windows (`tinyml.adaptive_avg_pool`).

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    output_size : int or (int, int)
        Height and width of the output.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import AdaptiveAvgPool2D
    >>> AdaptiveAvgPool2D("pool", (1, 2, 4), (1, 2))(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[2.5, 4.5]]]])
    """

    def forward(self, input: Array) -> Array:
        """Means of ``input`` (samples, channels, …)."""
        self.check_channels(input)
        y = adaptive_avg_pool(input, self.output_size)
        self.saved = tuple(input.shape)
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input."""
        shape = self.saved_by_forward()
        self.check("gradient", in_gradient, (*shape[:2], *self.output_size))
        return adaptive_avg_pool_gradient(in_gradient, shape[2:])


class AdaptiveAvgPool1D(AdaptiveAvgPool2D):
    """As `AdaptiveAvgPool2D`, for (channels, length)."""

    axes = 1


class AdaptiveAvgPool3D(AdaptiveAvgPool2D):
    """As `AdaptiveAvgPool2D`, for (channels, depth, height, width)."""

    axes = 3


class AdaptiveMaxPool2D(AdaptivePool):
    """Maximum of each of a given number of windows (`tinyml.adaptive_max_pool`).

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    output_size : int or (int, int)
        Height and width of the output.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import AdaptiveMaxPool2D
    >>> AdaptiveMaxPool2D("pool", (1, 2, 4), (1, 2))(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[5., 7.]]]])
    """

    def forward(self, input: Array) -> Array:
        """Maxima of ``input`` (samples, channels, …)."""
        self.check_channels(input)
        y, indices = adaptive_max_pool(input, self.output_size)
        self.saved = indices, tuple(input.shape)
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input."""
        indices, shape = self.saved_by_forward()
        self.check("gradient", in_gradient, tuple(indices.shape))
        return adaptive_max_pool_gradient(in_gradient, indices, shape[2:])


class AdaptiveMaxPool1D(AdaptiveMaxPool2D):
    """As `AdaptiveMaxPool2D`, for (channels, length)."""

    axes = 1


class AdaptiveMaxPool3D(AdaptiveMaxPool2D):
    """As `AdaptiveMaxPool2D`, for (channels, depth, height, width)."""

    axes = 3
