"""How the call of a compiled kernel is divided among threads."""

import os
from typing import Any

from numba import types

from tinyml_backends import threads
from tinyml_backends.numba_backend.compiled import compiled

#: From this size on a call is divided; a smaller one is done before a worker is awake.
SHARED_BYTES = 3 << 20
#: Bytes that a kernel reads and writes in one chunk, at least: between two chunks a thread needs
#: the GIL, and may have to wait for it.
CHUNK_BYTES = 1 << 22
#: How many chunks there are for each thread, at most.
CHUNKS_PER_THREAD = 8
#: Size of the last chunk in eighths of the others: in the smallest calls, a worker that begins some
#: microseconds after the caller is done some microseconds before it.
LAST_CHUNK = 5

#: How often `spin` looks at the flag.
LOOKS = 300
#: How often `spin` yields after the flag has changed: the thread that changed it holds the GIL for
#: some microseconds more, and to wait for the GIL is to sleep.
YIELDS = 5


def _spin(flag: Any, seen: int) -> None:
    """Wait until ``flag[0]`` is not ``seen``, or for about 0.1 ms, without the GIL."""
    for _ in range(LOOKS):
        if flag[0] != seen:
            for _ in range(YIELDS):
                _sched_yield()
            return
        _sched_yield()  # an unknown function: the compiler must read the flag again


_sched_yield = types.ExternalFunction("sched_yield", types.int32())
spin = compiled(_spin) if hasattr(os, "sched_yield") else None


def run(kernel: Any, arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on chunks that cover ``items``, in threads.

    ``size`` is the number of bytes that all of them read and write, or whose time they take.
    """
    if size < SHARED_BYTES or items < 2 or (count := threads.thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    chunk_count = min(max(size // CHUNK_BYTES, count), CHUNKS_PER_THREAD * count)
    chunks = threads.divide(items, chunk_count, LAST_CHUNK)
    threads.run(lambda chunk: kernel(*arguments, chunk.start, chunk.stop), chunks, spin=spin)
