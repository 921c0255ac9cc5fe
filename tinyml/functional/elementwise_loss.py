"""Losses of each element: names, arguments and values of ``torch.nn.functional``.

``NAME_gradient(gradient, input, …)`` is the gradient with respect to ``input``; ``gradient`` is
that with respect to the loss: a number or, for ``reduction="none"``, an array. The derivation is on
the page docs/losses.md.
"""

from collections.abc import Callable
from typing import Any

from tinyml.arrays import check_shape
from tinyml.functional.loss import check_reduction, check_target, reduced, wide_of
from tinyml_backends import backend_for
from tinyml_backends.arguments import number
from tinyml_backends.arrays import Array, as_floats, quiet

Formula = Callable[[Any, Array, Array], Array]


def mse_loss(
    input: Array, target: Array, *, reduction: str = "mean", weight: Array | None = None
) -> Array:
    """As ``torch.nn.functional.mse_loss``; ``target`` and ``weight`` have the input's shape."""
    return _loss(_square, input, target, reduction, weight, weighted_mean=True)


def mse_loss_gradient(
    gradient: Array | float,
    input: Array,
    target: Array,
    *,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Array:
    """Gradient of `mse_loss` with respect to ``input``, ``2 · weight · (input − target)``."""
    return _gradient(_of_square, gradient, input, target, reduction, weight, weighted_mean=True)


def l1_loss(
    input: Array, target: Array, *, reduction: str = "mean", weight: Array | None = None
) -> Array:
    """As ``torch.nn.functional.l1_loss``; ``target`` and ``weight`` have the input's shape."""
    return _loss(_absolute, input, target, reduction, weight, weighted_mean=True)


def l1_loss_gradient(
    gradient: Array | float,
    input: Array,
    target: Array,
    *,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Array:
    """Gradient of `l1_loss` with respect to ``input``: the sign, 0 where they are equal."""
    return _gradient(_of_absolute, gradient, input, target, reduction, weight, weighted_mean=True)


def huber_loss(
    input: Array,
    target: Array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Array | None = None,
) -> Array:
    """As ``torch.nn.functional.huber_loss``: square up to ``delta``, then a line."""
    delta = number("delta", delta, more_than=0)

    def formula(xp: Any, x: Array, t: Array) -> Array:
        size = xp.abs(x - t)
        inside = xp.minimum(size, delta)
        return inside * (size - inside / 2)

    return _loss(formula, input, target, reduction, weight)


def huber_loss_gradient(
    gradient: Array | float,
    input: Array,
    target: Array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Array | None = None,
) -> Array:
    """Gradient of `huber_loss` with respect to ``input``: the difference, within ±``delta``."""
    delta = number("delta", delta, more_than=0)

    def formula(xp: Any, x: Array, t: Array) -> Array:
        return xp.clip(x - t, -delta, delta)

    return _gradient(formula, gradient, input, target, reduction, weight)


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """As ``torch.nn.functional.binary_cross_entropy_with_logits``; weights may broadcast."""

    def formula(xp: Any, x: Array, t: Array) -> Array:
        # log(1 + exp(−x)) without overflow
        softplus = xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(-x, 0)
        return (1 - t) * x + _positive(pos_weight, x, t) * softplus

    return _loss(formula, input, target, reduction, _spread("weight", weight, input))


def binary_cross_entropy_with_logits_gradient(
    gradient: Array | float,
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """Gradient of `binary_cross_entropy_with_logits` with respect to ``input``."""
    backend = backend_for(input)

    def formula(xp: Any, x: Array, t: Array) -> Array:
        of_negative, _ = backend.activate("sigmoid", -x)
        return (1 - t) - _positive(pos_weight, x, t) * of_negative

    spread = _spread("weight", weight, input)
    return _gradient(formula, gradient, input, target, reduction, spread)


def _square(xp: Any, x: Array, t: Array) -> Array:
    difference = x - t
    return difference * difference


def _of_square(xp: Any, x: Array, t: Array) -> Array:
    return 2 * (x - t)


def _absolute(xp: Any, x: Array, t: Array) -> Array:
    return xp.abs(x - t)


def _of_absolute(xp: Any, x: Array, t: Array) -> Array:
    return xp.sign(x - t)


def _positive(pos_weight: Array | None, x: Array, t: Array) -> Any:
    """Factor of the logarithm: ``pos_weight`` where the target is 1, 1 where it is 0."""
    factor = _spread("pos_weight", pos_weight, x)
    return 1 if factor is None else 1 + (factor.astype(x.dtype, copy=False) - 1) * t


def _spread(name: str, weight: Array | None, input: Array) -> Array | None:
    """``weight`` broadcast to the shape of ``input``."""
    if weight is None:
        return None
    xp, shape, wanted = backend_for(input, weight).xp, tuple(weight.shape), tuple(input.shape)
    pairs = zip(shape[::-1], wanted[::-1], strict=False)
    if len(shape) > len(wanted) or any(n not in (1, length) for n, length in pairs):
        raise ValueError(f"{name} has shape {shape}; it must broadcast to that of input, {wanted}")
    return xp.broadcast_to(weight, wanted)


@quiet
def _loss(
    formula: Formula,
    input: Array,
    target: Array,
    reduction: str,
    weight: Array | None,
    *,
    weighted_mean: bool = False,
) -> Array:
    backend = backend_for(input, target)
    with backend.scope(input):
        x, t, factor = _checked(input, target, reduction, weight)
        losses = formula(backend.xp, x, t) * factor
        divisor = factor.sum() if weighted_mean and weight is not None else x.size
        return reduced(losses, reduction, divisor).astype(as_floats(input).dtype)


@quiet
def _gradient(
    formula: Formula,
    gradient: Array | float,
    input: Array,
    target: Array,
    reduction: str,
    weight: Array | None,
    *,
    weighted_mean: bool = False,
) -> Array:
    backend = backend_for(input, target)
    with backend.scope(input):
        x, t, factor = _checked(input, target, reduction, weight)
        result = formula(backend.xp, x, t) * factor * gradient
        if reduction == "mean":
            result /= factor.sum() if weighted_mean and weight is not None else x.size
        return result.astype(as_floats(input).dtype, copy=False)


def _checked(
    input: Array, target: Array, reduction: str, weight: Array | None
) -> tuple[Array, Array, Any]:
    """Input and target in the dtype of the computation, and the weights or 1."""
    check_reduction(reduction)
    check_shape("target", target, tuple(input.shape))
    check_target(target)
    x = wide_of(input)
    factor: Any = 1
    if weight is not None:
        backend_for(input, weight)
        check_shape("weight", weight, tuple(input.shape))
        factor = weight.astype(x.dtype, copy=False)
    return x, as_floats(target).astype(x.dtype, copy=False), factor
