"""Activations: one table of formulas, whose names every backend shares."""

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from tinyml_backends.arrays import Array, Arrays, as_floats, widened
from tinyml_backends.generic import normal
from tinyml_backends.generic.norm import by_channel

Options = Mapping[str, Any]


class Formula(NamedTuple):
    """An activation and its derivative, for float32 and float64."""

    value: Callable[..., Array]
    """``value(xp, x, **options)``."""
    gradient: Callable[..., Array]
    """``gradient(xp, gradient, saved, **options)``, with respect to ``x``."""
    saves: Literal["input", "output", "positive"]
    """What ``gradient`` needs: ``x``, the result, or ``x > 0``."""
    options: tuple[str, ...] = ()
    is_elementwise: bool = True
    """Whether an element of the result depends on one element of ``x`` and on numbers only."""
    chooses: bool = False
    """Whether it only chooses elements: float16 is not widened, and a NaN keeps its bits."""

    def operand(self, x: Array) -> Array:
        """``x`` in the dtype in which it is computed."""
        return x if self.chooses else widened(x)


def activate(backend: Arrays, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
    """Activation of ``x``, and the array that `activate_gradient` takes as ``saved``.

    The result has the dtype of ``x`` or, for integers, float32; float16 is computed in float32.

    Raises
    ------
    TypeError
        If ``x`` holds complex numbers.
    ValueError
        If the kind is unknown, or has no such option.
    """
    formula, options = formula_of(kind, options)
    x = as_floats(x)
    y = formula.value(backend.xp, formula.operand(x), **options).astype(x.dtype, copy=False)
    return y, {"input": x, "output": y}[formula.saves] if formula.saves != "positive" else x > 0


def activate_gradient(
    backend: Arrays, kind: str, gradient: Array, saved: Array, **options: Any
) -> Array:
    """Gradient of `activate` with respect to ``x``; ``saved`` is its second result.

    It has the dtype of ``saved`` or, if that holds truth values, of ``gradient``.
    """
    formula, options = formula_of(kind, options)
    operands = formula.operand(as_floats(gradient)), formula.operand(saved)
    result = formula.gradient(backend.xp, *operands, **options)
    return result.astype(gradient_dtype(gradient, saved), copy=False)


def formula_of(kind: str, options: Options) -> tuple[Formula, dict[str, Any]]:
    """The formula, and its options without NumPy's scalars, which would widen float32."""
    found = FORMULAS.get(kind)
    if found is None:
        raise ValueError(f"unknown activation {kind!r}; known are {_listed(FORMULAS)}")
    unknown = [option for option in options if option not in found.options]
    if unknown:
        raise ValueError(
            f"activation {kind!r} has no option {_listed(unknown)}; "
            f"it has {_listed(found.options) or 'none'}"
        )
    return found, {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in options.items()
    }


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def gradient_dtype(gradient: Array, saved: Array) -> "np.dtype[Any]":
    """Dtype of the result of `activate_gradient`."""
    decides = saved if saved.dtype.kind == "f" else gradient
    return np.dtype(decides.dtype if decides.dtype.kind == "f" else np.float32)


def _relu(xp: ModuleType, x: Array) -> Array:
    return xp.maximum(x, 0)


def _relu_gradient(xp: ModuleType, gradient: Array, positive: Array) -> Array:
    """``gradient`` where the input was positive, +0.0 elsewhere."""
    return xp.where(positive, gradient, gradient.dtype.type(0))


def _leaky_relu(xp: ModuleType, x: Array, slope: float) -> Array:
    return xp.where(x > 0, x, x * slope)


def _leaky_relu_gradient(xp: ModuleType, gradient: Array, positive: Array, slope: float) -> Array:
    return xp.where(positive, gradient, gradient * slope)


def _prelu(xp: ModuleType, x: Array, slope: Array) -> Array:
    """``slope`` has one number, or one for each channel of ``x`` (N, C, …)."""
    return xp.where(x > 0, x, x * by_channel(slope.astype(x.dtype, copy=False), x))


def _prelu_gradient(xp: ModuleType, gradient: Array, x: Array, slope: Array) -> Array:
    slope = by_channel(slope.astype(x.dtype, copy=False), x)
    return xp.where(x > 0, gradient, gradient * slope)


def _elu(xp: ModuleType, x: Array, alpha: float) -> Array:
    return xp.where(x > 0, x, xp.expm1(x) * alpha)


def _elu_gradient(xp: ModuleType, gradient: Array, x: Array, alpha: float) -> Array:
    return xp.where(x > 0, gradient, gradient * xp.exp(x) * alpha)


def _sigmoid(xp: ModuleType, x: Array) -> Array:
    return 1 / (1 + xp.exp(-x))


def _sigmoid_gradient(xp: ModuleType, gradient: Array, y: Array) -> Array:
    return gradient * ((1 - y) * y)


def _tanh(xp: ModuleType, x: Array) -> Array:
    return xp.tanh(x)


def _tanh_gradient(xp: ModuleType, gradient: Array, y: Array) -> Array:
    return gradient * (1 - y * y)


def _silu(xp: ModuleType, x: Array) -> Array:
    return x / (1 + xp.exp(-x))


def _silu_gradient(xp: ModuleType, gradient: Array, x: Array) -> Array:
    s = _sigmoid(xp, x)
    return gradient * (s * (1 + x * (1 - s)))


def _gelu(xp: ModuleType, x: Array) -> Array:
    return x * normal.cdf(xp, x)[0]


def _gelu_gradient(xp: ModuleType, gradient: Array, x: Array) -> Array:
    phi, exponential = normal.cdf(xp, x)
    return gradient * (phi + x * (exponential * normal.DENSITY))


#: ``½ (1 + tanh(u))`` is ``sigmoid(2u)``, where ``2u = SLOPE · (x + CUBIC · x³)``.
SLOPE, CUBIC = 1.5957691216057308, 0.044715
#: Beyond this number the derivative of that sigmoid is 0, and ``x²`` does not overflow before it.
TANH_FAR = 100.0


def _gelu_tanh(xp: ModuleType, x: Array) -> Array:
    return x * _sigmoid(xp, SLOPE * (x + CUBIC * (x * x * x)))


def _gelu_tanh_gradient(xp: ModuleType, gradient: Array, x: Array) -> Array:
    near = xp.minimum(xp.maximum(x, -TANH_FAR), TANH_FAR)
    square = near * near
    s = _sigmoid(xp, SLOPE * (near + CUBIC * (square * near)))
    return gradient * (s + near * (s * (1 - s)) * (SLOPE + 3 * SLOPE * CUBIC * square))


def _softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    y = xp.exp(x - _max(x, axis))
    y /= y.sum(axis, keepdims=True)
    return y


def _softmax_gradient(xp: ModuleType, gradient: Array, y: Array, axis: int) -> Array:
    product = gradient * y
    return product - y * product.sum(axis, keepdims=True)


def _log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    y = x - _max(x, axis)
    y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
    return y


def _log_softmax_gradient(xp: ModuleType, gradient: Array, y: Array, axis: int) -> Array:
    return gradient - xp.exp(y) * gradient.sum(axis, keepdims=True)


def _max(x: Array, axis: int) -> Array:
    """Maxima along an axis; an empty array has none, and its result is empty too."""
    return x.max(axis, keepdims=True) if x.size else x.sum(axis, keepdims=True)


FORMULAS: dict[str, Formula] = {
    "relu": Formula(_relu, _relu_gradient, "positive", chooses=True),
    "leaky_relu": Formula(_leaky_relu, _leaky_relu_gradient, "positive", ("slope",)),
    "prelu": Formula(_prelu, _prelu_gradient, "input", ("slope",), is_elementwise=False),
    "elu": Formula(_elu, _elu_gradient, "input", ("alpha",)),
    "gelu": Formula(_gelu, _gelu_gradient, "input"),
    "gelu_tanh": Formula(_gelu_tanh, _gelu_tanh_gradient, "input"),
    "silu": Formula(_silu, _silu_gradient, "input"),
    "sigmoid": Formula(_sigmoid, _sigmoid_gradient, "output"),
    "tanh": Formula(_tanh, _tanh_gradient, "output"),
    "softmax": Formula(_softmax, _softmax_gradient, "output", ("axis",), is_elementwise=False),
    "log_softmax": Formula(
        _log_softmax, _log_softmax_gradient, "output", ("axis",), is_elementwise=False
    ),
}
