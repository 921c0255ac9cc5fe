"""Elementwise activations: one table of formulas."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.memory import empty


class Formula(NamedTuple):
    """An activation and its derivative."""

    forward: Callable[..., tuple[Array, Array]]
    """``forward(xp, x, **options)`` returns the result, and the array that ``gradient`` needs."""
    gradient: Callable[..., Array]
    """``gradient(xp, gradient, saved, **options)`` returns the gradient with respect to ``x``."""
    options: tuple[str, ...] = ()


def activate(backend: Arrays, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
    """Activation of each element, and the array that `activate_gradient` takes as ``saved``.

    Raises
    ------
    ValueError
        If the kind is unknown, or has no such option.
    """
    return _formula(kind, options).forward(backend.xp, x, **options)


def activate_gradient(
    backend: Arrays, kind: str, gradient: Array, saved: Array, **options: Any
) -> Array:
    """Gradient of `activate` with respect to ``x``; ``saved`` is its second result."""
    return _formula(kind, options).gradient(backend.xp, gradient, saved, **options)


def _formula(kind: str, options: Iterable[str]) -> Formula:
    found = FORMULAS.get(kind)
    if found is None:
        raise ValueError(f"unknown activation {kind!r}; known are {_listed(FORMULAS)}")
    unknown = [option for option in options if option not in found.options]
    if unknown:
        raise ValueError(
            f"activation {kind!r} has no option {_listed(unknown)}; "
            f"it has {_listed(found.options) or 'none'}"
        )
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _relu(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """``max(x, 0)``, NaN for NaN; the array saved for the gradient is ``x > 0``."""
    zero = x.dtype.type(0)
    positive = xp.greater(x, zero, out=empty(xp, x.shape, np.dtype(bool)))
    return xp.maximum(x, zero, out=empty(xp, x.shape, x.dtype)), positive


def _relu_gradient(xp: ModuleType, gradient: Array, positive: Array) -> Array:
    """``gradient`` where the input was positive, +0.0 elsewhere."""
    return xp.where(positive, gradient, gradient.dtype.type(0))


FORMULAS: dict[str, Formula] = {"relu": Formula(_relu, _relu_gradient)}
