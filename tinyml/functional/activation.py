"""Activations: names, arguments and values of ``torch.nn.functional``, and their gradients.

``NAME_gradient(gradient, input, …)`` is the gradient with respect to ``input``, where ``gradient``
is that with respect to the result, and the further arguments are those of ``NAME``.
"""

import operator
from typing import Any

import numpy as np

from tinyml.arrays import check_shape
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array, quiet


def relu(input: Array, inplace: bool = False) -> Array:
    """As ``torch.nn.functional.relu``."""
    return _value("relu", input, inplace)


def relu_gradient(gradient: Array, input: Array) -> Array:
    """Gradient of `relu`: 0 at 0."""
    return _gradient("relu", gradient, input)


def leaky_relu(input: Array, negative_slope: float = 0.01, inplace: bool = False) -> Array:
    """As ``torch.nn.functional.leaky_relu``."""
    return _value("leaky_relu", input, inplace, slope=negative_slope)


def leaky_relu_gradient(gradient: Array, input: Array, negative_slope: float = 0.01) -> Array:
    """Gradient of `leaky_relu`: the slope at 0."""
    return _gradient("leaky_relu", gradient, input, slope=negative_slope)


def prelu(input: Array, weight: Array) -> Array:
    """As ``torch.nn.functional.prelu``."""
    _check_weight(input, weight)
    return _value("prelu", input, slope=weight)


@quiet
def prelu_gradient(gradient: Array, input: Array, weight: Array) -> tuple[Array, Array]:
    """Gradients of `prelu` with respect to ``input`` and to ``weight``."""
    _check_weight(input, weight)
    of_input = _gradient("prelu", gradient, input, slope=weight)
    xp, wide = backend_for(input).xp, _wide(input)
    terms = xp.minimum(input.astype(wide, copy=False), 0) * gradient.astype(wide, copy=False)
    axes = (0, *range(2, input.ndim)) if weight.size > 1 else None
    of_weight = terms.sum(axes).reshape(weight.shape).astype(weight.dtype, copy=False)
    return of_input, of_weight


def elu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:
    """As ``torch.nn.functional.elu``."""
    return _value("elu", input, inplace, alpha=alpha)


def elu_gradient(gradient: Array, input: Array, alpha: float = 1.0) -> Array:
    """Gradient of `elu`: ``alpha`` at 0."""
    return _gradient("elu", gradient, input, alpha=alpha)


def gelu(input: Array, *, approximate: str = "none") -> Array:
    """As ``torch.nn.functional.gelu``."""
    return _value(gelu_kind(approximate), input)


def gelu_gradient(gradient: Array, input: Array, *, approximate: str = "none") -> Array:
    """Gradient of `gelu`."""
    return _gradient(gelu_kind(approximate), gradient, input)


def silu(input: Array, inplace: bool = False) -> Array:
    """As ``torch.nn.functional.silu``."""
    return _value("silu", input, inplace)


def silu_gradient(gradient: Array, input: Array) -> Array:
    """Gradient of `silu`."""
    return _gradient("silu", gradient, input)


def sigmoid(input: Array) -> Array:
    """As ``torch.nn.functional.sigmoid``."""
    return _value("sigmoid", input)


def sigmoid_gradient(gradient: Array, input: Array) -> Array:
    """Gradient of `sigmoid`."""
    return _gradient("sigmoid", gradient, input)


def tanh(input: Array) -> Array:
    """As ``torch.nn.functional.tanh``."""
    return _value("tanh", input)


def tanh_gradient(gradient: Array, input: Array) -> Array:
    """Gradient of `tanh`."""
    return _gradient("tanh", gradient, input)


def softmax(input: Array, dim: int, *, dtype: Any = None) -> Array:
    """As ``torch.nn.functional.softmax``; computed in ``dtype`` if it is given."""
    input = input if dtype is None else input.astype(dtype, copy=False)
    return _value("softmax", input, axis=axis_of("dim", dim, input))


def softmax_gradient(gradient: Array, input: Array, dim: int) -> Array:
    """Gradient of `softmax`."""
    return _gradient("softmax", gradient, input, axis=axis_of("dim", dim, input))


def log_softmax(input: Array, dim: int, *, dtype: Any = None) -> Array:
    """As ``torch.nn.functional.log_softmax``; computed in ``dtype`` if it is given."""
    input = input if dtype is None else input.astype(dtype, copy=False)
    return _value("log_softmax", input, axis=axis_of("dim", dim, input))


def log_softmax_gradient(gradient: Array, input: Array, dim: int) -> Array:
    """Gradient of `log_softmax`."""
    return _gradient("log_softmax", gradient, input, axis=axis_of("dim", dim, input))


def gelu_kind(approximate: str) -> str:
    """Name of the formula of a GELU; ValueError for an unknown approximation."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; it must be 'none' or 'tanh'")
    return "gelu" if approximate == "none" else "gelu_tanh"


def axis_of(name: str, axis: int, array: Array) -> int:
    """``axis`` as an int; an error if it is none, or ``array`` has no such axis."""
    backend_for(array)
    axes = array.ndim
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{name} is {axis!r}; it must be an int") from None
    if not -axes <= number < axes:
        raise ValueError(
            f"{name} is {axis}; for an input of shape {tuple(array.shape)} it must be from "
            f"{-axes} to {axes - 1}"
        )
    return number


def _value(kind: str, input: Array, inplace: bool = False, **options: Any) -> Array:
    backend = backend_for(input)
    with backend.scope(input):
        y, _ = backend.activate(kind, input, **options)
        if not inplace:
            return y
        if y.dtype != input.dtype:
            raise TypeError(f"input has dtype {input.dtype}; with inplace=True it must hold floats")
        input[...] = y
        return input


def _gradient(kind: str, gradient: Array, input: Array, **options: Any) -> Array:
    backend = backend_for(gradient, input)
    check_shape("gradient", gradient, tuple(input.shape))
    with backend.scope(input):
        y, saved = backend.activate(kind, input, **options)
        result = backend.activate_gradient(kind, gradient, saved, **options)
        return result.astype(y.dtype, copy=False)


def _wide(array: Array) -> "np.dtype[Any]":
    """Dtype in which sums over ``array`` are computed."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)


def _check_weight(input: Array, weight: Array) -> None:
    backend_for(input, weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; it must hold one number, or one for each of "
            f"the input's {channels} channels"
        )
