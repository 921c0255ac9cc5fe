"""Memory for results. A network in training reuses the memory of its earlier results.

The operating system zeroes each page of new memory when it is first touched, which takes as long as
pooling an image. CuPy itself keeps freed memory for reuse; NumPy does not.
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

#: Smaller arrays are left to NumPy: the C library reuses freed memory of these sizes.
SMALL_BYTES = 1 << 16

_current: ContextVar["Workspace | None"] = ContextVar("tinyml_workspace", default=None)


class Workspace:
    """Makes NumPy arrays, and reuses their memory once no array refers to it.

    Callers may keep an array as long as they want: its memory is reused only after the array and
    all views of it have been deleted.
    """

    xp: ClassVar[ModuleType] = np

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Workspace, ()  # a copy starts empty

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Make `empty` and `zeros` take memory from this workspace, in the current context."""
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
        # `whole` is the base of all views: NumPy follows bases only up to an object, here the
        # memoryview, that is not an array. So `whole` is deleted when the last view is.
        whole = np.asarray(memory)
        weakref.finalize(whole, free.append, memory).atexit = False
        return whole.view(dtype).reshape(shape)


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """Uninitialised array; from the workspace in use, if ``xp`` is the workspace's library."""
    workspace = _current.get()
    if workspace is None or workspace.xp is not xp:
        return xp.empty(shape, dtype)
    return workspace.empty(shape, np.dtype(dtype))


def zeros(
    xp: ModuleType, shape: tuple[int, ...], dtype: "np.dtype[Any]", out: Array | None = None
) -> Array:
    """``out`` filled with zeros, or without ``out`` an array of zeros, made as in `empty`."""
    if out is None:
        workspace = _current.get()
        if workspace is None or workspace.xp is not xp:
            return xp.zeros(shape, dtype)
        out = workspace.empty(shape, np.dtype(dtype))
    out[...] = 0
    return out
