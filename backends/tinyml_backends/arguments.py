"""Conversion of users' sizes, strides and shapes to plain ints, checked before any arithmetic."""

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

IntPerAxis = int | Sequence[int]
PaddingPerAxis = int | Sequence[int] | Sequence[tuple[int, int]]


def per_axis(name: str, value: IntPerAxis, axes: int, minimum: int) -> tuple[int, ...]:
    """One int for each axis, from an int or a sequence; checked to be ``minimum`` or more."""
    listed = value if isinstance(value, Sequence | np.ndarray) else (value,) * axes
    return _ints(name, value, listed, (axes,), f"an int or {axes} ints", minimum)


def lengths(name: str, value: Sequence[int], axes: int | None, minimum: int = 1) -> tuple[int, ...]:
    """Plain ints from a user's shape of ``axes`` lengths, or of one to three if that is None."""
    counts, allowed = (
        ((1, 2, 3), "one to three ints") if axes is None else ((axes,), f"{axes} ints")
    )
    return _ints(name, value, value, counts, allowed, minimum)


def _ints(
    name: str, value: object, listed: Any, counts: tuple[int, ...], allowed: str, minimum: int
) -> tuple[int, ...]:
    """``listed`` as ints; ``counts`` are the allowed lengths, ``value`` is the user's argument."""
    try:
        checked = tuple(map(_integer, [listed] if isinstance(listed, str) else listed))
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be {allowed}") from None
    if len(checked) not in counts:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
    if min(checked) < minimum:
        raise ValueError(f"{name} is {value!r}; every value must be at least {minimum}")
    return checked


def _integer(value: object) -> int:
    if isinstance(value, bool | np.bool):
        raise TypeError("a bool is not accepted as an int")
    return operator.index(value)  # type: ignore[arg-type]  # its TypeError is the check


def padding_per_axis(padding: PaddingPerAxis, axes: int) -> tuple[tuple[int, int], ...]:
    """One (before, after) pair for each axis, from a user's argument."""
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
