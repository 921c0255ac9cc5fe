"""Numbers that users write, made plain ints and checked, once, before any arithmetic."""

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

IntPerAxis = int | Sequence[int]
PaddingPerAxis = int | Sequence[int] | Sequence[tuple[int, int]]


def per_axis(name: str, value: IntPerAxis, axes: int, minimum: int) -> tuple[int, ...]:
    """One int for each axis, from one int or a sequence of them, checked."""
    try:
        several = isinstance(value, Sequence | np.ndarray)
        checked = tuple(_integer(v) for v in (_listed(value) if several else (value,) * axes))
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be an int or {axes} ints") from None
    if len(checked) != axes:
        raise ValueError(
            f"{name} is {value!r}; it must be an int or one int for each of {axes} axes"
        )
    if min(checked) < minimum:
        raise ValueError(f"{name} is {value!r}; every value must be at least {minimum}")
    return checked


def lengths(name: str, value: Sequence[int], axes: int | None, minimum: int = 1) -> tuple[int, ...]:
    """Plain ints from a shape that a user wrote, checked; ``axes=None`` means one to three."""
    allowed = "one to three" if axes is None else axes
    try:
        checked = tuple(_integer(v) for v in _listed(value))
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be {allowed} ints") from None
    if (len(checked) not in (1, 2, 3)) if axes is None else (len(checked) != axes):
        raise ValueError(f"{name} is {value!r}; it must be {allowed} ints")
    if min(checked) < minimum:
        raise ValueError(f"{name} is {value!r}; every value must be at least {minimum}")
    return checked


def _listed(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        raise TypeError("a text is no shape")
    return tuple(value)


def _integer(value: object) -> int:
    if isinstance(value, bool | np.bool):
        raise TypeError("a truth value is no length")
    return operator.index(value)  # type: ignore[arg-type]  # its TypeError is the check


def padding_per_axis(padding: PaddingPerAxis, axes: int) -> tuple[tuple[int, int], ...]:
    """One (before, after) pair for each axis, from what a user wrote."""
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        if len(padding) != axes or not all(
            isinstance(p, Sequence) and len(p) == 2 for p in padding
        ):
            raise ValueError(
                f"padding is {padding!r}; it must be an int, one int for each of {axes} axes, "
                f"or one (before, after) pair for each"
            )
        pairs = (per_axis("padding", pair, 2, minimum=0) for pair in padding)
        return tuple((before, after) for before, after in pairs)
    plain = cast("IntPerAxis", padding)
    return tuple((p, p) for p in per_axis("padding", plain, axes, minimum=0))
