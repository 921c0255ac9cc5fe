"""Adaptive pooling: a given number of windows that divide the input as evenly as possible.

Along an axis of length L, window ``i`` of ``n`` holds the cells from ⌊i·L/n⌋ to ⌈(i+1)·L/n⌉ − 1
(PyTorch's rule). So windows may differ in size and may overlap.
"""

from math import prod
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.cells import pitches
from tinyml_backends.generic.average import quotient, wide, wide_sum
from tinyml_backends.generic.bits import replace

Lengths: TypeAlias = NDArray[np.int64]


def adaptive_max_pool(
    backend: Arrays, x: Array, output_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Maxima of adaptive windows, and their int64 flat positions in the plane.

    Of equal maxima the first wins, and of NaNs the last, as in `max_pool`.
    """
    xp, values = backend.xp, x
    position = xp.zeros(x.shape, np.int64)
    for axis in reversed(range(len(output_shape))):
        starts, stops = _bounds(x.shape[axis + 1], output_shape[axis])
        pitch = pitches(x.shape[1:])[axis]
        maximum, place = _cells(xp, values, position, starts, axis, pitch)
        for k in range(1, int((stops - starts).max(initial=0))):
            at = np.minimum(starts + k, stops - 1)  # a smaller window repeats its last cell
            candidate, its_place = _cells(xp, values, position, at, axis, pitch)
            take = candidate > maximum
            if x.dtype.kind == "f":
                take |= candidate != candidate
            replace(xp, maximum, take, candidate)
            replace(xp, place, take, its_place)
        values, position = maximum, place
    return values, position


def _cells(
    xp: ModuleType, values: Array, position: Array, at: Lengths, axis: int, pitch: int
) -> tuple[Array, Array]:
    """One cell of every window along an axis, and its position in the plane."""
    at = xp.asarray(at)
    along = (at * pitch).reshape(-1, *[1] * (values.ndim - axis - 2))
    return xp.take(values, at, axis + 1), xp.take(position, at, axis + 1) + along


def adaptive_max_pool_gradient(
    backend: Arrays, gradient: Array, indices: Array, input_shape: tuple[int, ...]
) -> tuple[Array, int]:
    """For each input cell, the sum of the gradients of the windows whose maximum it was.

    The second result is the flat position of the first invalid index, or -1.
    """
    xp = backend.xp
    plane = prod(input_shape)
    index = indices.reshape(-1)
    bad = (index < 0) | (index >= plane)
    out = xp.zeros((len(gradient), *input_shape), wide_sum(gradient.dtype))
    if bool(bad.any()):
        return out, int(bad.argmax())
    planes = xp.arange(len(gradient), dtype=np.int64).reshape(-1, *[1] * (gradient.ndim - 1))
    cell = (indices.astype(np.int64, copy=False) + planes * plane).reshape(-1)
    order = xp.argsort(cell, kind="stable")
    cell, terms = cell[order], gradient.reshape(-1)[order]
    # add one term to every cell at a time, so that no index array holds a cell twice
    is_first = xp.ones(len(cell), bool)
    is_first[1:] = cell[1:] != cell[:-1]
    term = xp.flatnonzero(is_first)
    stop = xp.append(term[1:], len(cell))
    flat = out.reshape(-1)
    while len(term):
        flat[cell[term]] += terms[term]
        more = term + 1 < stop
        term, stop = term[more] + 1, stop[more]
    return out.astype(gradient.dtype), -1


def adaptive_avg_pool(backend: Arrays, x: Array, output_shape: tuple[int, ...]) -> Array:
    """Mean of each adaptive window.

    Floats are summed in float64, integers in 64 bits; means of integers are truncated toward zero.
    """
    xp = backend.xp
    total = x.astype(np.float64 if x.dtype.kind == "f" else wide(x.dtype))
    for axis, outputs in enumerate(output_shape):
        total = _sums(xp, total, *_bounds(x.shape[axis + 1], outputs), axis)
    return quotient(total, _sizes(xp, x.shape[1:], output_shape)).astype(x.dtype)


def adaptive_avg_pool_gradient(
    backend: Arrays, gradient: Array, input_shape: tuple[int, ...]
) -> Array:
    """Each window's gradient, divided by its size, added to all of its cells."""
    xp = backend.xp
    outputs = gradient.shape[1:]
    terms = gradient.astype(np.float64 if gradient.dtype.kind == "f" else wide(gradient.dtype))
    terms = quotient(terms, _sizes(xp, input_shape, outputs))
    for axis, length in enumerate(input_shape):
        starts, stops = _bounds(length, outputs[axis])
        # each cell lies in the windows from `first` to before `end`
        first = np.searchsorted(stops, np.arange(length), side="right")
        end = np.searchsorted(starts, np.arange(length), side="right")
        terms = _sums(xp, terms, first, end, axis)
    return terms.astype(gradient.dtype)


def _sums(xp: ModuleType, array: Array, starts: Lengths, stops: Lengths, axis: int) -> Array:
    """Sums over the ranges ``starts`` to ``stops`` (excluded) along an axis, a cell at a time."""
    shape = list(array.shape)
    shape[axis + 1] = len(starts)
    result = xp.zeros(shape, array.dtype)
    for k in range(int((stops - starts).max(initial=0))):
        longer = np.flatnonzero(stops - starts > k)
        place = (*[slice(None)] * (axis + 1), xp.asarray(longer))
        result[place] += xp.take(array, xp.asarray(starts[longer] + k), axis + 1)
    return result


def _bounds(length: int, outputs: int) -> tuple[Lengths, Lengths]:
    """Start and stop of each window along an axis."""
    i = np.arange(outputs, dtype=np.int64)
    return i * length // max(1, outputs), -(-(i + 1) * length // max(1, outputs))


def _sizes(xp: ModuleType, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Array:
    """Number of cells in each window."""
    size = xp.ones((), np.int64)
    for length, outputs in zip(input_shape, output_shape, strict=True):
        starts, stops = _bounds(length, outputs)
        size = size[..., None] * xp.asarray(stops - starts)
    return size
