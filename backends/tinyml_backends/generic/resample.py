"""Weighted sums of cells along an axis, of which interpolation consists."""

from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.memory import empty

#: Tables (terms, results): the cell of each term, and its weight.
Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Weights: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


def resample(backend: Arrays, x: Array, axis: int, indices: Indices, weights: Weights) -> Array:
    """Result ``i`` along ``axis`` is ``Σ over k of weights[k, i] · x[indices[k, i]]``.

    ``x`` holds float32 or float64; the tables are NumPy's. Terms are added in the order of ``k``.
    A weight of 0 is a cell that does not count, even if it is NaN.
    """
    xp = backend.xp
    cells = x.reshape(split(x.shape, axis))
    out = empty(xp, resampled(x.shape, axis, indices), x.dtype)
    total = out.reshape(split(out.shape, axis))
    for k, (places, factors) in enumerate(zip(indices, weights.astype(x.dtype), strict=True)):
        term = xp.take(cells, xp.asarray(places), 1)
        if (factors != 1).any():
            term *= xp.asarray(factors)[:, None]
            if not factors.all():
                term[:, xp.asarray(np.flatnonzero(factors == 0))] = 0
        if k:
            total += term
        else:
            total[...] = term
    return out


def split(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Numbers of elements before, along and after an axis."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def resampled(shape: tuple[int, ...], axis: int, indices: Indices) -> tuple[int, ...]:
    """Shape of the result."""
    return (*shape[:axis], indices.shape[1], *shape[axis + 1 :])
