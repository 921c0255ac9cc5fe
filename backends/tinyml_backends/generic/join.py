"""Kernels that join branches of a network: the sum of arrays, and their concatenation."""

from collections.abc import Sequence

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.memory import empty


def add(backend: Arrays, arrays: Sequence[Array]) -> Array:
    """Sum of arrays of one shape, from left to right."""
    xp = backend.xp
    out = empty(xp, arrays[0].shape, xp.result_type(*arrays))
    if len(arrays) == 1:
        out[...] = arrays[0]
        return out
    xp.add(arrays[0], arrays[1], out=out)
    for array in arrays[2:]:
        out += array
    return out


def concatenate(backend: Arrays, arrays: Sequence[Array]) -> Array:
    """Arrays (N, C, …), which may differ in C, concatenated along the axis of channels."""
    xp = backend.xp
    samples, _, *others = arrays[0].shape
    channels = sum(array.shape[1] for array in arrays)
    out = empty(xp, (samples, channels, *others), xp.result_type(*arrays))
    start = 0
    for array in arrays:
        stop = start + array.shape[1]
        out[:, start:stop] = array
        start = stop
    return out
