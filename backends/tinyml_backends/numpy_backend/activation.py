"""ReLU's gradient, in chunks that fit the cache."""

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic.bits import as_bits, mask
from tinyml_backends.memory import empty

#: Elements worked on at a time, so that temporaries stay in the cache.
CHUNK = 1 << 16


def relu_gradient(gradient: Array, positive: Array) -> Array:
    """``gradient`` where ``positive`` is true, +0.0 elsewhere."""
    out = empty(np, gradient.shape, gradient.dtype)
    source, take, target = gradient.reshape(-1), positive.reshape(-1), out.reshape(-1)
    for start in range(0, out.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        given = source[chunk]
        np.bitwise_and(as_bits(given), mask(take[chunk], given), out=as_bits(target[chunk]))
    return out
