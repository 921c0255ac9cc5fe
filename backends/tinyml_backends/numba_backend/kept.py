"""Transformed weights, kept between calls for as long as the weights are the same."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash

from tinyml_backends.arrays import Array


class _Kept:
    """What was made of an array; nothing yet, after one call."""

    def __init__(self, owner: Any, digest: bytes) -> None:
        self.owner, self.digest = owner, digest
        self.made: Array | None = None


#: By the array's id, and what is made of it.
_all: dict[tuple[int, Any], _Kept] = {}


def kept(array: Array, key: Any, make: Callable[[], Array]) -> Array:
    """``make()``, or what it returned before for the same array with the same elements.

    Arrays may change in place, so their elements are compared, by a digest of 128 bits. The result
    of the first call is not kept: while a network trains, its weights are others at each call.
    """
    place, digest = (id(array), key), xxhash.xxh3_128_digest(np.ascontiguousarray(array).data)
    found = _all.get(place)
    if found is None or found.owner() is not array or found.digest != digest:
        owner = weakref.ref(array, lambda _: _all.pop(place, None))
        _all[place] = _Kept(owner, digest)
        return make()
    if found.made is None:
        found.made = make()
    return found.made


def kept_bytes(array: Array) -> int:
    """Bytes that are kept of an array."""
    found = [one.made for (place, _), one in [*_all.items()] if place == id(array)]
    return sum(made.nbytes for made in found if made is not None)
