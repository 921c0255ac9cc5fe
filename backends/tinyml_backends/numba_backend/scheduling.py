"""How a call of a compiled kernel is divided among threads."""

from functools import lru_cache
from itertools import pairwise
from typing import Any

from numba import types

from tinyml_backends import threads
from tinyml_backends.numba_backend.compiled import compiled

#: From this size on a call is divided; a smaller one is done before a worker is awake.
SHARED_BYTES = 3 << 20
#: Bytes that a kernel reads and writes in one chunk, at least.
CHUNK_BYTES = 1 << 19
#: Chunks of a call for each thread, at most.
CHUNKS_PER_THREAD = 2

SPINS, SPINS_AFTER = 300, 10

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@compiled
def spin(flag: Any, seen: int) -> None:
    """Wait as `threads.run` asks for."""
    for _ in range(SPINS):
        if flag[0] != seen:
            for _ in range(SPINS_AFTER):  # the thread that wrote it still holds the GIL
                _sched_yield()
            return
        _sched_yield()


def run(kernel: Any, arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on chunks that cover ``items``, in threads.

    ``size`` is the number of bytes that all of them read and write, or whose time they take.
    """
    if size < SHARED_BYTES or items < 2 or (count := threads.thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    chunks = chunks_of(items, max(1, min(items, size // CHUNK_BYTES, CHUNKS_PER_THREAD * count)))
    threads.run(lambda chunk: kernel(*arguments, *chunk), chunks, spin=spin)


@lru_cache(maxsize=256)
def chunks_of(items: int, count: int) -> tuple[tuple[int, int], ...]:
    """So many ranges of at least one item, as (start, stop)."""
    ends = [items * i // count for i in range(count + 1)]
    return tuple(pairwise(ends))
