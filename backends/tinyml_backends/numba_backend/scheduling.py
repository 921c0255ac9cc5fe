"""How a call of a compiled kernel is divided among threads."""

import os
from typing import Any

from numba import types

from tinyml_backends import threads
from tinyml_backends.numba_backend.compiled import compiled

#: Bytes from which on a call is divided; a smaller one is done before a worker has woken up.
SHARED_BYTES = 3 << 20
#: Least bytes that a kernel reads and writes in a chunk: between two chunks a thread needs the GIL,
#: and may have to wait for it.
CHUNK_BYTES = 1 << 22
#: How many chunks there are for each thread, at most.
CHUNKS_PER_THREAD = 8
#: Size of the last chunk, in eighths of the size of the others: so small that in the smallest calls
#: a worker begins some microseconds after the caller and still finishes some before it.
LAST_CHUNK = 5

#: How many times `spin` reads the flag.
LOOKS = 300
#: How many times `spin` yields the CPU after the flag has changed: the thread that changed it holds
#: the GIL for some microseconds more, and a thread that waits for the GIL sleeps.
YIELDS = 5


def _spin(flag: Any, seen: int) -> None:
    """Wait until ``flag[0]`` is not ``seen``, or for about 0.1 ms, without the GIL."""
    for _ in range(LOOKS):
        if flag[0] != seen:
            for _ in range(YIELDS):
                _sched_yield()
            return
        _sched_yield()  # it may change memory, so the compiler reads the flag again


_sched_yield = types.ExternalFunction("sched_yield", types.int32())
spin = compiled(_spin) if hasattr(os, "sched_yield") else None


def run(kernel: Any, arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on chunks that cover ``items``, in threads.

    ``size`` is the number of bytes that the whole call reads and writes, or that a memory-bound
    kernel would in the same time.
    """
    if size < SHARED_BYTES or items < 2 or (count := threads.thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    chunk_count = min(max(size // CHUNK_BYTES, count), CHUNKS_PER_THREAD * count)
    chunks = threads.divide(items, chunk_count, LAST_CHUNK)
    threads.run(lambda chunk: kernel(*arguments, chunk.start, chunk.stop), chunks, spin=spin)
