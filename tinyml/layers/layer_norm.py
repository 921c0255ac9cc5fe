"""Normalisation of each sample alone. The derivation is on the page docs/normalisation.md."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinyml.core.initial import constant
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.layers.base import Dim, Layer
from tinyml_backends import backend_for
from tinyml_backends.arguments import integer, lengths
from tinyml_backends.arrays import Array, as_floats, quiet, widened


class Saved(NamedTuple):
    """What ``forward`` saves for ``backward``."""

    normalized: Array
    """(rows, values of a row)."""
    inverse_deviation: Array
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


class RowNorm(Layer):
    """Normalise rows of values to mean 0, variance 1; then a learned scale and shift.

    A subclass says what a row is, and which axes ``scale`` and ``shift`` belong to.
    """

    epsilon = Number(at_least=0)
    saved: Saved | None

    def __init__(self, name: str, shape: Dim, epsilon: float) -> None:
        super().__init__(name)
        self.epsilon = epsilon
        self.scale = Parameter(constant(shape, 1))
        self.shift = Parameter(constant(shape, 0))

    def _row_length(self, shape: tuple[int, ...]) -> int:
        """Values of a row in an input of this shape; rows are contiguous."""
        raise NotImplementedError

    def _across(self, parameter: Array, axes: int) -> Array:
        """``parameter`` with the axes to broadcast over an input of ``axes`` axes."""
        raise NotImplementedError

    def _summed(self, axes: int) -> tuple[int, ...]:
        """Axes over which the gradients of scale and shift are sums."""
        raise NotImplementedError

    @quiet
    def forward(self, input: Array) -> Array:
        """Normalise ``input``; the result has its floating dtype."""
        self.check_numbers("input", input)
        shape = tuple(input.shape)
        rows = widened(as_floats(input)).reshape(-1, self._row_length(shape))
        centred = rows - rows.mean(1, keepdims=True)
        variance = (centred * centred).mean(1, keepdims=True)
        inverse_deviation = 1 / (variance + self.epsilon) ** 0.5
        normalized = centred
        normalized *= inverse_deviation
        y = normalized.reshape(shape) * self._across(self.scale.tensor, len(shape))
        y += self._across(self.shift.tensor, len(shape))
        dtype = as_floats(input).dtype
        self.saved = Saved(normalized, inverse_deviation, shape, dtype)
        return y.astype(dtype, copy=False)

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; adds to the gradients of scale and shift."""
        normalized, inverse_deviation, shape, dtype = self.saved_by_forward()
        self.check("gradient", in_gradient, shape)
        backend_for(in_gradient, normalized)
        gradient = widened(as_floats(in_gradient))
        scale = self._across(self.scale.tensor, len(shape))
        summed = self._summed(len(shape))
        of_shape = self.scale.tensor.shape
        products = gradient * normalized.reshape(shape)
        self.scale.gradient += products.sum(summed).reshape(of_shape)
        self.shift.gradient += gradient.sum(summed).reshape(of_shape)
        rows = (gradient * scale).reshape(normalized.shape)
        share = (rows * normalized).mean(1, keepdims=True)
        result = (rows - rows.mean(1, keepdims=True) - normalized * share) * inverse_deviation
        return result.reshape(shape).astype(dtype, copy=False)


class LayerNorm(RowNorm):
    """Normalise the last axes of each sample (Ba, Kiros and Hinton, "Layer Normalization", 2016).

    Parameters
    ----------
    name : str
    shape : int or tuple of int
        Lengths of the last axes, over which mean and variance are taken: ``(n,)`` after `Linear`,
        the whole dim of an image.
    epsilon : float
        Added to the variance; at least 0.

    Attributes
    ----------
    scale, shift : Parameter, of shape ``shape``

    Raises
    ------
    ValueError
        If a length is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import LayerNorm
    >>> LayerNorm("norm", 2)(np.array([[1.0, 3.0], [10.0, 14.0]])).round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    """

    def __init__(self, name: str, shape: int | Sequence[int], *, epsilon: float = 1e-5) -> None:
        given = shape if isinstance(shape, Sequence) else (shape,)
        self.shape = lengths("shape", given, len(given))
        super().__init__(name, self.shape, epsilon)

    def output_dim(self, *dims: Dim) -> Dim:
        """The input's dim; ValueError unless it ends with ``shape``."""
        if len(dims) != 1 or tuple(dims[0][-len(self.shape) :]) != self.shape:
            got = dims[0] if len(dims) == 1 else f"of {len(dims)} inputs"
            raise ValueError(f"{self!r}: the input's dim is {got}; it must end with {self.shape}")
        return dims[0]

    def _row_length(self, shape: tuple[int, ...]) -> int:
        if shape[-len(self.shape) :] != self.shape:
            raise ValueError(f"{self!r}: input has shape {shape}; it must end with {self.shape}")
        return prod(self.shape)

    def _across(self, parameter: Array, axes: int) -> Array:
        return parameter

    def _summed(self, axes: int) -> tuple[int, ...]:
        return tuple(range(axes - len(self.shape)))


class GroupNorm(RowNorm):
    """Normalise groups of channels of each sample (Wu and He, "Group Normalization", ECCV 2018).

    Parameters
    ----------
    name : str
    input_dim : tuple of int
        Channels, and any number of spatial axes.
    groups : int
        Number of groups of channels; it must divide the channels. 1 normalises the whole sample,
        and as many groups as channels each channel (instance normalisation).
    epsilon : float
        Added to the variance; at least 0.

    Attributes
    ----------
    scale, shift : Parameter, (channels,)

    Raises
    ------
    ValueError
        If ``groups`` does not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import GroupNorm
    >>> norm = GroupNorm("norm", (2, 1, 2), 2)
    >>> norm(np.array([[[[1.0, 3.0]], [[10.0, 14.0]]]])).round(3)
    array([[[[-1.,  1.]],
    <BLANKLINE>
            [[-1.,  1.]]]])
    """

    def __init__(self, name: str, input_dim: Dim, groups: int, *, epsilon: float = 1e-5) -> None:
        self.input_dim = lengths("input_dim", input_dim, len(input_dim))
        super().__init__(name, self.input_dim[:1], epsilon)
        self.groups = integer(f"{self!r}: groups", groups, 1)
        if self.input_dim[0] % self.groups:
            raise ValueError(
                f"{self!r}: groups is {groups}; it must divide the {self.input_dim[0]} channels"
            )

    def _row_length(self, shape: tuple[int, ...]) -> int:
        channels = self.input_dim[0]
        if len(shape) < 2 or shape[1] != channels:
            raise ValueError(
                f"{self!r}: input has shape {shape}; it must be (samples, {channels}, …)"
            )
        return channels // self.groups * prod(shape[2:])

    def _across(self, parameter: Array, axes: int) -> Array:
        return parameter.reshape(-1, *(1,) * (axes - 2))

    def _summed(self, axes: int) -> tuple[int, ...]:
        return (0, *range(2, axes))
