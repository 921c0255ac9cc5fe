"""Weighted sums along an axis in chunks, in threads."""

import numpy as np

from tinyml_backends import threads
from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic.resample import Indices, Weights, resampled, split
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.scratch import buffers

#: Bytes of the results of a chunk: with smaller ones, threads wait for the GIL.
CHUNK_BYTES = 1 << 20
#: Bytes of all results from which on two threads are faster than one.
SHARED_BYTES = 1 << 21


def resample(backend: Arrays, x: Array, axis: int, indices: Indices, weights: Weights) -> Array:
    """As `Backend.resample`."""
    out = empty(np, resampled(x.shape, axis, indices), x.dtype)
    cells, results = x.reshape(split(x.shape, axis)), out.reshape(split(out.shape, axis))
    factors = weights.astype(x.dtype)
    uncounted = [np.flatnonzero(of_term == 0) for of_term in factors]
    exact = [bool((of_term == 1).all()) for of_term in factors]

    def write(k: int, chunk: slice, term: Array) -> None:
        np.take(cells[chunk], indices[k], 1, out=term, mode="clip")
        if not exact[k]:
            term *= factors[k][:, None]
            if len(uncounted[k]):
                term[:, uncounted[k]] = 0

    def work(chunk: slice) -> None:
        total = results[chunk]
        write(0, chunk, total)
        if len(factors) > 1:
            term = buffers(total.nbytes)[0].view(total.dtype).reshape(total.shape)
            for k in range(1, len(factors)):
                write(k, chunk, term)
                total += term

    count = min(len(results), -(-out.nbytes // CHUNK_BYTES))
    chunks = threads.divide(len(results), max(1, count), last=8)
    threads.run(work, chunks, None if out.nbytes >= SHARED_BYTES else 1)
    return out
