"""Scratch buffers that each thread keeps and reuses.

The first access to new memory takes longer than the work on it.
"""

import threading
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeVar, cast

import numpy as np

from tinyml_backends.arrays import Array

T = TypeVar("T")

#: Bytes of a cache line. Buffers start at one, because a vector in two lines needs two loads.
LINE = 64

#: How many sets of buffers a thread keeps at most.
SETS_KEPT = 64


class _Scratch(threading.local):
    """A thread's memory, and the sets of buffers in it."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.sets: dict[Any, Any] = {}


_scratch = _Scratch()


def buffer_set(kind: Callable[..., T], *shape: Any) -> T:
    """``kind(*shape)``, which takes memory with `buffers`, made once for each thread and shape.

    A set has all views that a kernel needs: creating them for every chunk would hold the GIL for
    longer while other threads wait for it. All sets of a thread share the same memory, so only one
    may be in use at a time.
    """
    kept, key = _scratch.sets, (kind, *shape)
    found = kept.get(key)
    if found is None:
        if len(kept) >= SETS_KEPT:
            kept.clear()
        found = kept[key] = kind(*shape)
    return cast("T", found)


def buffers(*sizes: int) -> list[Array]:
    """Byte arrays of these sizes in the thread's memory, each aligned to a cache line."""
    starts = [0, *accumulate(-(-size // LINE) * LINE for size in sizes)]
    if len(_scratch.memory) < starts[-1]:
        _scratch.sets.clear()
        memory = np.empty(starts[-1] + LINE, np.uint8)
        _scratch.memory = memory[-memory.ctypes.data % LINE :]
    return [_scratch.memory[i : i + size] for i, size in zip(starts, sizes, strict=False)]
