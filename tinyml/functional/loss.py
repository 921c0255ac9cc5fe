"""Losses: names, arguments and values of ``torch.nn.functional``, and their gradients.

``NAME_gradient(gradient, input, …)`` is the gradient with respect to ``input``; ``gradient`` is
that with respect to the loss: a number or, for ``reduction="none"``, an array. The derivation is on
the page docs/losses.md.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyml.arrays import check_shape
from tinyml_backends import Backend, backend_for
from tinyml_backends.arguments import number
from tinyml_backends.arrays import Array, as_floats, quiet


@quiet
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """As ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : array, (samples, classes, …) or (classes,)
        Logits.
    target : integer array, (samples, …) or (), or float array with the shape of ``input``
        Classes, or probabilities of the classes.
    weight : array, (classes,), optional
        Factor of each class.
    ignore_index : int
        A class in ``target`` that does not count.
    reduction : "mean", "sum" or "none"
        The mean over classes is weighted by ``weight``, and NaN if none counts.
    label_smoothing : float
        Share of the uniform distribution in the targets, from 0 to 1.

    Raises
    ------
    TypeError
        If ``target`` holds neither integers nor floats.
    ValueError
        If a shape or an option does not fit, or a target is not a class.
    """
    backend = backend_for(input, target)
    with backend.scope(input), np.errstate(invalid="ignore"):  # 0 / 0: none counts
        wanted = _wanted(backend, input, target, weight, ignore_index, reduction, label_smoothing)
        logarithms, _ = backend.activate("log_softmax", wanted.logits, axis=wanted.axis)
        losses = -(wanted.shares * logarithms).sum(wanted.axis)
        return reduced(losses, reduction, wanted.divisor).astype(as_floats(input).dtype)


@quiet
def cross_entropy_gradient(
    gradient: Array | float,
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Gradient of `cross_entropy` with respect to ``input``, ``softmax · Σ shares − shares``."""
    backend = backend_for(input, target)
    xp = backend.xp
    with backend.scope(input), np.errstate(invalid="ignore"):  # 0 / 0: none counts
        wanted = _wanted(backend, input, target, weight, ignore_index, reduction, label_smoothing)
        axis, shares = wanted.axis, wanted.shares
        result, _ = backend.activate("softmax", wanted.logits, axis=axis)
        total = shares.sum(axis, keepdims=True)
        result = result * total - shares
        if reduction == "none" and input.ndim > 1:  # else it is a single loss
            gradient = xp.expand_dims(gradient, axis)
        result *= gradient
        if reduction == "mean":
            result = xp.where(total == 0, result.dtype.type(0), result / wanted.divisor)
        return result.astype(as_floats(input).dtype, copy=False)


class _Wanted(NamedTuple):
    """The loss is ``−Σ shares · log_softmax(logits)`` along ``axis``, divided for the mean."""

    logits: Array
    shares: Array
    """Probability of each class times its weight; 0 for all classes of an ignored target."""
    axis: int
    divisor: Any


def _wanted(
    backend: Backend,
    input: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> _Wanted:
    """Check the arguments of a cross-entropy, and compute what both functions need."""
    xp = backend.xp
    check_reduction(reduction)
    smoothing = number("label_smoothing", label_smoothing, at_least=0, at_most=1)
    if input.ndim < 1:
        raise ValueError("input has shape (); it must be (samples, classes, …) or (classes,)")
    logits = wide_of(input)
    axis = min(1, input.ndim - 1)
    classes = input.shape[axis]
    per_class = (classes,) + (1,) * (input.ndim - axis - 1)
    factor = xp.ones(classes, logits.dtype)
    if weight is not None:
        backend_for(input, weight)
        check_shape("weight", weight, (classes,))
        factor = weight.astype(logits.dtype, copy=False)
    factor = factor.reshape(per_class)
    divisor: Any
    if target.dtype.kind == "f":
        check_target(target)
        check_shape("target", target, tuple(input.shape))
        shares = target.astype(logits.dtype) * (1 - smoothing) + smoothing / max(1, classes)
        shares *= factor
        divisor = logits.size // max(1, classes)
    elif target.dtype.kind in "iu":
        check_shape("target", target, (*input.shape[:axis], *input.shape[axis + 1 :]))
        counted = xp.expand_dims(counted_classes(target, classes, ignore_index), axis)
        zero = logits.dtype.type(0)
        classes_of = xp.arange(classes).reshape(per_class)
        is_target = (classes_of == xp.expand_dims(target, axis)) & counted
        shares = xp.where(is_target, factor, zero)
        divisor = shares.sum()
        if smoothing:
            uniform = xp.where(counted, factor, zero)
            shares = shares * (1 - smoothing) + uniform * (smoothing / classes)
    else:
        raise TypeError(
            f"target has dtype {target.dtype}; it must hold classes (integers) or their "
            "probabilities (floats)"
        )
    return _Wanted(logits, shares, axis, divisor)


def wide_of(input: Array) -> Array:
    """``input`` in the dtype of the computation: float32, or float64."""
    floats = as_floats(input)
    return floats.astype(np.float32) if floats.dtype == np.float16 else floats


def counted_classes(target: Array, classes: int, ignore_index: int) -> Array:
    """Where the target is not ``ignore_index``; ValueError if it is not a class there."""
    counted = target != ignore_index
    wrong = counted & ((target < 0) | (target >= classes))
    if bool(wrong.any()):
        first = target.reshape(-1)[int(wrong.reshape(-1).argmax())]
        raise ValueError(
            f"target holds {int(first)}; it must be a class from 0 to {classes - 1}, or "
            f"{ignore_index}, which is not counted"
        )
    return counted


def check_target(target: Array) -> None:
    """Raise ValueError for a target that holds NaN."""
    if target.dtype.kind == "f" and bool((target != target).any()):
        raise ValueError("target holds NaN; it must hold numbers")


def check_reduction(reduction: str) -> None:
    """Raise ValueError for an unknown reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")


def reduced(losses: Array, reduction: str, divisor: Any) -> Array:
    """The losses, their sum, or their sum over ``divisor``."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return total / divisor if reduction == "mean" else total
