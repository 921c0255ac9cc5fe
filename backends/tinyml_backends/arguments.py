"""Conversion of users' numbers, sizes and shapes to plain ones, checked before any arithmetic."""

import operator
from collections.abc import Sequence
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

IntPerAxis = int | Sequence[int]
PaddingPerAxis = int | Sequence[int] | Sequence[tuple[int, int]]


def per_axis(name: str, value: IntPerAxis, axes: int, minimum: int) -> tuple[int, ...]:
    """One int for each axis, from an int or a sequence; checked to be ``minimum`` or more."""
    is_listed = isinstance(value, Sequence) or getattr(value, "ndim", 0) > 0
    listed = value if is_listed else (value,) * axes
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


def integer(name: str, value: int, minimum: int) -> int:
    """Plain int from a user's number of at least ``minimum``."""
    try:
        checked = _integer(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be an int") from None
    if checked < minimum:
        raise ValueError(f"{name} is {checked}; it must be at least {minimum}")
    return checked


def boolean(name: str, value: bool) -> bool:
    """Plain bool from a user's True, False, 1 or 0."""
    if value is True or value is False:  # faster than the check below
        return value
    if not isinstance(value, int | np.integer | np.bool) or value not in (0, 1):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return bool(value)


def generator(rng: "int | np.random.Generator | None", name: str = "rng") -> np.random.Generator:
    """Random generator from a user's seed; a generator is returned itself."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    try:
        return np.random.default_rng(_integer(rng))
    except (TypeError, ValueError):
        allowed = "None, an int of at least 0 or a numpy.random.Generator"
        raise TypeError(f"{name} is {rng!r}; it must be {allowed}") from None


def _integer(value: object) -> int:
    if isinstance(value, bool | np.bool):
        raise TypeError("a bool is not accepted as an int")
    return operator.index(value)  # type: ignore[arg-type]  # its TypeError is the check


def padding_per_axis(padding: PaddingPerAxis, axes: int) -> tuple[tuple[int, int], ...]:
    """One (before, after) pair for each axis, from a user's argument."""
    allowed = f"an int, {axes} ints, or {axes} pairs of ints (before, after)"
    entries = padding if isinstance(padding, Sequence) and not isinstance(padding, str) else ()
    if any(isinstance(entry, Sequence) for entry in entries):
        if len(entries) != axes or not all(
            isinstance(e, Sequence) and len(e) == 2 for e in entries
        ):
            raise ValueError(f"padding is {padding!r}; it must be {allowed}")
        pairs = (_ints("padding", padding, e, (2,), allowed, 0) for e in entries)
        return tuple((before, after) for before, after in pairs)
    listed = padding if entries or getattr(padding, "ndim", 0) > 0 else (padding,) * axes
    return tuple((p, p) for p in _ints("padding", padding, listed, (axes,), allowed, 0))


def number(
    name: str,
    value: Any,
    *,
    count: int | None = None,
    at_least: float = -inf,
    more_than: float = -inf,
    at_most: float = inf,
    less_than: float = inf,
) -> Any:
    """Plain float from a user's finite number, or with a ``count`` a tuple of so many floats.

    A NumPy scalar or an array without axes is a number too. It has a dtype, which could change that
    of the arrays that it is used with; a float has none.
    """
    lower = {"at least": at_least, "more than": more_than}
    upper = {"at most": at_most, "less than": less_than}
    bounds = [f"{text} {bound}" for text, bound in (lower | upper).items() if isfinite(bound)]
    allowed = " and ".join(bounds if isfinite(min(upper.values())) else [*bounds, "finite"])
    allowed = allowed if count is None else f"{count} numbers, each {allowed}"
    try:
        checked = tuple(map(_float, (value,) if count is None else value))
    except TypeError:
        kind = "a number, " if count is None else ""
        raise TypeError(f"{name} is {value!r}; it must be {kind}{allowed}") from None
    if len(checked) != (count or 1) or not all(
        isfinite(v) and at_least <= v <= at_most and more_than < v < less_than for v in checked
    ):
        raise ValueError(f"{name} is {value}; it must be {allowed}")
    return checked[0] if count is None else checked


def _float(value: Any) -> float:
    is_scalar = getattr(value, "ndim", None) == 0 and value.dtype.kind in "iuf"
    if isinstance(value, bool) or not (isinstance(value, Real) or is_scalar):
        raise TypeError("only real numbers are accepted")
    try:
        return float(value)
    except OverflowError:  # a large int
        return inf
