"""Caches of results that are bounded by the bytes they hold, not by their number."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

#: About how many bytes one cache holds.
MOST_BYTES = 16 << 20


def cached(bytes_of: Callable[[Any], int]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache a function's results; before they take more than `MOST_BYTES`, all are dropped.

    A call whose result is in the cache costs what `functools.cache` costs.

    Examples
    --------
    >>> @cached(len)
    ... def zeros(count):
    ...     return bytes(count)
    >>> zeros(3) is zeros(3)
    True
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        held = 0

        @cache
        def call(*args: Any) -> R:
            nonlocal held
            result = cast("Callable[..., R]", function)(*args)
            size = bytes_of(result)
            if held + size > MOST_BYTES:
                call.cache_clear()
                held = 0
            held += size
            return result

        return cast("Callable[P, R]", wraps(function)(call))

    return decorate
