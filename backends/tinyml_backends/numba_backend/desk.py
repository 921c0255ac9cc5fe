"""Writing past the cache: a kernel fills a desk, which stays there, and whole lines leave it.

A line that is written whole and not read soon need not be fetched first, nor push out others.
"""

from typing import Any

import numpy as np

from tinyml_backends.numba_backend.compiled import LINE, at, inlined, put, stream

#: Elements of a desk, about.
DESK = 2048


@inlined
def rows_at_once(size: int, past_cache: bool, most: int) -> int:
    """How many rows, of ``size`` elements each, to treat before they leave the desk."""
    return max(1, DESK // size if past_cache else most)


@inlined
def make_desk(out: Any, size: int) -> Any:
    """Memory for so many elements of ``out``, wherever they stand in a line, and some more."""
    return np.empty(size + 4 * LINE, out.dtype)


@inlined
def place(desk: Any, out: Any, to: int) -> Any:
    """Where an element of ``out`` is put on the desk: as far from a line's begin as it will be."""
    size = out.itemsize
    mask = LINE // size - 1
    begin = -(desk.ctypes.data // size) & mask
    return begin + (out.ctypes.data // size + to & mask)


@inlined
def carry(desk: Any, of: int, out: Any, to: int, count: int) -> None:
    """Copy ``count`` elements to ``out``, whole lines past the cache."""
    size = out.itemsize
    here = out.ctypes.data + to * size
    head = min(count, (-here % LINE) // size)
    lines = (count - head) * size // LINE
    for i in range(head):
        put(out, to + i, at(desk, of + i))
    source = desk.ctypes.data + (of + head) * size
    for line in range(lines):
        stream(np.uintp(here + head * size + line * LINE), np.uintp(source + line * LINE))
    for i in range(head + lines * LINE // size, count):
        put(out, to + i, at(desk, of + i))
