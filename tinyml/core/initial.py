"""Initial values of parameters and buffers, in float32 on the selected backend."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from tinyml_backends import current_backend
from tinyml_backends.arguments import generator
from tinyml_backends.arrays import Array

_without_memory: "ContextVar[bool]" = ContextVar("tinyml_without_memory", default=False)


def normal(
    shape: tuple[int, ...], deviation: float, rng: int | np.random.Generator | None
) -> Array:
    """Normal values of mean 0, which NumPy draws: a seed gives the same ones on every backend."""
    if is_without_memory():
        return np.broadcast_to(np.float32(0), shape)
    return current_backend().asarray(generator(rng).standard_normal(shape, np.float32) * deviation)


def constant(shape: int | tuple[int, ...], value: float) -> Array:
    """Array that holds one value everywhere."""
    if is_without_memory():
        return np.broadcast_to(np.float32(0), shape)
    return current_backend().asarray(np.full(shape, value, np.float32))


def is_without_memory() -> bool:
    """Whether `without_memory` is active."""
    return _without_memory.get()


@contextmanager
def without_memory() -> Iterator[None]:
    """Context in which new parameters have a shape, but no memory: all values are one zero.

    A network that is built in it gets its tensors from a file.
    """
    token = _without_memory.set(True)
    try:
        yield
    finally:
        _without_memory.reset(token)
