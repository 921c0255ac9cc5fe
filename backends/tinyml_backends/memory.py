"""Memory for results: new, or, while a network trains, that of its earlier results.

The system zeroes every page of new memory when it is first touched, which costs as much as pooling
an image. A GPU's array library keeps freed memory by itself; NumPy does not.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from tinyml_backends.arrays import Array

#: Smaller arrays come from the freed memory that the C library keeps.
SMALL_BYTES = 1 << 16

_current: ContextVar["Workspace | None"] = ContextVar("tinyml_workspace", default=None)


class Workspace:
    """NumPy arrays whose memory is reused once no array refers to it.

    An array is as good as a new one: it, and every view of it, is gone before its memory is reused.
    """

    xp: ClassVar[ModuleType] = np

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Workspace, ()  # a copy starts empty

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let `empty` and `zeros` of this thread take memory from here."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def empty(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
        """Uninitialised array."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < SMALL_BYTES:
            return np.empty(shape, dtype)
        free = self._free.setdefault(nbytes, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(nbytes, np.uint8).data
        # All views refer to `whole` and not to what that is made of: a memoryview is no array.
        whole = np.asarray(memory)
        weakref.finalize(whole, free.append, memory).atexit = False
        return whole.view(dtype).reshape(shape)


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """Uninitialised array of an array library."""
    workspace = _current.get()
    if workspace is None or workspace.xp is not xp:
        return xp.empty(shape, dtype)
    return workspace.empty(shape, np.dtype(dtype))


def zeros(
    xp: ModuleType, shape: tuple[int, ...], dtype: "np.dtype[Any]", out: Array | None = None
) -> Array:
    """``out`` filled with zeros, or another array of them."""
    if out is None:
        workspace = _current.get()
        if workspace is None or workspace.xp is not xp:
            return xp.zeros(shape, dtype)
        out = workspace.empty(shape, np.dtype(dtype))
    out[...] = 0
    return out
