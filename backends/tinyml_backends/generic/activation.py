"""Elementwise activations: one table of formulas."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.memory import empty


class Formula(NamedTuple):
    """An activation and its derivative."""

    forward: Callable[..., tuple[Array, Array]]
    """``forward(xp, x, **options)`` gives the result, and what ``gradient`` needs."""
    gradient: Callable[..., Array]
    """``gradient(xp, gradient, saved, **options)`` gives the gradient with respect to ``x``."""
    options: tuple[str, ...] = ()


def formula(kind: str, options: Iterable[str]) -> Formula:
    """Formula of a kind.

    Raises
    ------
    ValueError
        If the kind is unknown, or has none of ``options``.
    """
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
    """``max(x, 0)``, NaN for NaN; saves where ``x > 0``."""
    zero = x.dtype.type(0)
    positive = xp.greater(x, zero, out=empty(xp, x.shape, np.dtype(bool)))
    return xp.maximum(x, zero, out=empty(xp, x.shape, x.dtype)), positive


def _relu_gradient(xp: ModuleType, gradient: Array, positive: Array) -> Array:
    """``gradient`` where the input was positive, +0.0 elsewhere."""
    return xp.where(positive, gradient, gradient.dtype.type(0))


FORMULAS: dict[str, Formula] = {"relu": Formula(_relu, _relu_gradient)}
