"""Kernels of softmax cross-entropy, for float32 and float64.

An item is a block of `BLOCK` neighbouring pixels of a sample, the last one shorter: loops over a
block are vectorised, and what they keep for each pixel stays in the cache.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.activation import exp, fused
from tinyml_backends.numba_backend.compiled import at, put

BLOCK = 512


@fused
def losses(
    logits: Any,
    classes: Any,
    exponentials: Any,
    totals: Any,
    chosen: Any,
    terms: Any,
    sizes: Any,
    start: int,
    stop: int,
) -> None:
    """Exponentials and their sums; ``chosen`` is the logit of the class, less the maximum.

    ``sizes`` are the numbers of channels and of pixels.
    """
    channels, pixels = sizes
    blocks = -(-pixels // BLOCK)
    highest = np.empty(BLOCK, logits.dtype)
    for item in range(start, stop):
        sample, first = item // blocks, item % blocks * BLOCK
        count = min(BLOCK, pixels - first)
        of, to = sample * channels * pixels + first, sample * pixels + first
        for i in range(count):
            put(highest, i, at(logits, of + i))
            put(totals, to + i, logits.dtype.type(0))
        for channel in range(1, channels):
            for i in range(count):
                value, most = at(logits, of + channel * pixels + i), at(highest, i)
                put(highest, i, value if value > most else most)
        for i in range(count):
            logit = at(logits, of + at(classes, to + i) * pixels + i)
            put(chosen, to + i, logit - at(highest, i))
        for channel in range(channels):
            for i in range(count):
                place = of + channel * pixels + i
                value = exp(at(logits, place) - at(highest, i), terms)
                put(exponentials, place, value)
                put(totals, to + i, at(totals, to + i) + value)


@fused
def gradient(
    exponentials: Any,
    totals: Any,
    classes: Any,
    counted: Any,
    factor: Any,
    sizes: Any,
    start: int,
    stop: int,
) -> None:
    """In place; ``factor`` is 1 over the divisor."""
    channels, pixels = sizes
    blocks = -(-pixels // BLOCK)
    kind = exponentials.dtype.type
    of_class, weights = np.empty(BLOCK, exponentials.dtype), np.empty(BLOCK, exponentials.dtype)
    for item in range(start, stop):
        sample, first = item // blocks, item % blocks * BLOCK
        count = min(BLOCK, pixels - first)
        of, to = sample * channels * pixels + first, sample * pixels + first
        for i in range(count):
            probability = at(exponentials, of + at(classes, to + i) * pixels + i) / at(
                totals, to + i
            )
            put(weights, i, factor if at(counted, to + i) != 0 else kind(0))
            put(of_class, i, (probability - kind(1)) * at(weights, i))
        for channel in range(channels):
            for i in range(count):
                place = of + channel * pixels + i
                put(
                    exponentials,
                    place,
                    at(exponentials, place) / at(totals, to + i) * at(weights, i),
                )
        for i in range(count):
            put(exponentials, of + at(classes, to + i) * pixels + i, at(of_class, i))
