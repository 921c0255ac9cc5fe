"""ReLU's gradient, in chunks that fit in the cache."""

from typing import Any

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic import activation
from tinyml_backends.generic.bits import as_bits, mask
from tinyml_backends.memory import empty

#: Elements of a chunk: few enough that the temporaries stay in the cache.
CHUNK = 1 << 16


def activate_gradient(
    backend: Arrays, kind: str, gradient: Array, saved: Array, **options: Any
) -> Array:
    """As `Backend.activate_gradient`."""
    if kind == "relu" and not options:
        return _relu_gradient(gradient, saved)
    return activation.activate_gradient(backend, kind, gradient, saved, **options)


def _relu_gradient(gradient: Array, positive: Array) -> Array:
    """``gradient`` where ``positive`` is true, +0.0 elsewhere."""
    out = empty(np, gradient.shape, gradient.dtype)
    source, take, target = gradient.reshape(-1), positive.reshape(-1), out.reshape(-1)
    for start in range(0, out.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        given = source[chunk]
        np.bitwise_and(as_bits(given), mask(take[chunk], given), out=as_bits(target[chunk]))
    return out
