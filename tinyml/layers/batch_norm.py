"""Batch normalisation. The derivation is on the page docs/normalisation.md."""

from typing import Any, NamedTuple

import numpy as np

from tinyml.core.initial import constant
from tinyml.core.number import Number
from tinyml.core.parameter import Buffer, Parameter
from tinyml.layers.base import Dim
from tinyml.layers.spatial import SpatialLayer
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, as_floats, quiet, widened


class Saved(NamedTuple):
    """What ``forward`` saves for ``backward``."""

    normalized: Array
    inverse_deviation: Array
    of_batch: bool
    """Whether mean and variance were those of the batch, not the running ones."""
    dtype: "np.dtype[Any]"
    """Dtype of the input, if that is floating."""


class BatchNorm(SpatialLayer):
    """Batch normalisation of any number of spatial axes."""

    momentum = Number(at_least=0, at_most=1)
    epsilon = Number(at_least=0)
    saved: Saved | None

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__(name)
        self.momentum = momentum
        self.epsilon = epsilon
        self.set_dims(input_dim)
        channels = self.input_channel
        self.scale = Parameter(constant(channels, 1))
        self.shift = Parameter(constant(channels, 0))
        self.running_mean = Buffer(constant(channels, 0))
        self.running_variance = Buffer(constant(channels, 1))

    @quiet
    def forward(self, x: Array) -> Array:
        """Normalise ``x`` (samples, channels, …); the result has its floating dtype."""
        self.check_input(x)
        if self.training and x.size <= x.shape[1]:
            found = "one value for each channel; a single value has no variance"
            if x.size == 0:
                found = "no samples; an empty batch has no mean"
            raise ValueError(
                f"{self!r}: input has {found}: give more, or call eval() for the running statistics"
            )
        backend = backend_for(x)
        dtype, x = as_floats(x).dtype, widened(as_floats(x))  # squares of float16 overflow
        count = x.size // x.shape[1]
        if self.training:
            mean, variance = backend.moments(x)
            self._update_running(mean, variance, count)
        else:
            mean, variance = self.running_mean.tensor, self.running_variance.tensor
        inverse_deviation = 1 / (variance + self.epsilon) ** 0.5
        y, normalized = backend.normalize(
            x, mean, inverse_deviation, self.scale.tensor, self.shift.tensor
        )
        self.saved = Saved(normalized, inverse_deviation, self.training, dtype)
        self.num_of_entries = len(x)
        return y.astype(dtype, copy=False)

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; in training mode also through mean and variance."""
        normalized, inverse_deviation, of_batch, dtype = self.saved_by_forward()
        self.check("gradient", in_gradient, normalized.shape)
        backend = backend_for(in_gradient, normalized)
        in_gradient = widened(as_floats(in_gradient))
        shift_gradient, scale_gradient = backend.normalize_sums(in_gradient, normalized)
        self.shift.gradient += shift_gradient
        self.scale.gradient += scale_gradient
        slope = self.scale.tensor * inverse_deviation
        if not of_batch:  # the statistics were constants
            return backend.scale_channels(in_gradient, slope).astype(dtype, copy=False)
        count = in_gradient.size // in_gradient.shape[1]
        mean, share = shift_gradient / count, scale_gradient / count
        result = backend.normalize_gradient(in_gradient, normalized, mean, share, slope)
        return result.astype(dtype, copy=False)

    def _update_running(self, mean: Array, variance: Array, count: int) -> None:
        unbiased = variance * (count / (count - 1))
        for buffer, newest in ((self.running_mean, mean), (self.running_variance, unbiased)):
            buffer.tensor *= 1 - self.momentum
            buffer.tensor += self.momentum * newest


class BatchNorm2D(BatchNorm):
    """Normalise each channel to mean 0, variance 1 over the batch; then a learned scale and shift.

    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width.
    momentum : float
        Weight of the newest batch in the running statistics, from 0 to 1.
    epsilon : float
        Added to the variance; at least 0.

    Attributes
    ----------
    scale, shift : Parameter, (channels,)
    running_mean, running_variance : Buffer, (channels,)
        Used instead of the batch's own in eval mode. The variance is the unbiased one.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import BatchNorm2D
    >>> norm = BatchNorm2D("norm", (1, 1, 2))
    >>> norm(np.array([[[[1.0, 3.0]]]])).round(3)
    array([[[[-1.,  1.]]]])
    """


class BatchNorm1D(BatchNorm):
    """As `BatchNorm2D`, for (channels, length), or for (channels,) after `Linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import BatchNorm1D
    >>> BatchNorm1D("norm", (2,))(np.array([[1.0, 5.0], [3.0, 9.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    """

    axes = 1

    def __init__(
        self, name: str, input_dim: Dim, *, momentum: float = 0.1, epsilon: float = 1e-5
    ) -> None:
        self.axes = 0 if len(input_dim) == 1 else 1  # type: ignore[misc]
        super().__init__(name, input_dim, momentum=momentum, epsilon=epsilon)


class BatchNorm3D(BatchNorm):
    """As `BatchNorm2D`, for (channels, depth, height, width).

    Examples
    --------
    >>> from tinyml.layers import BatchNorm3D
    >>> BatchNorm3D("norm", (4, 8, 8, 8)).out_dim
    (4, 8, 8, 8)
    """

    axes = 3
