"""Into which chunks NumPy's kernels divide an array, and for how many threads."""

from typing import NamedTuple

from tinyml_backends.arrays import Array
from tinyml_backends.threads import divide, thread_count


class Need(NamedTuple):
    """Bytes of a chunk of cells, and what a thread holds at most while it works on one."""

    chunk: int
    held: int


#: The needs of the kernels for 2×2 tiles, and of the generic ones. A chunk is larger than a core's
#: L2 cache, but a NumPy call on less ends before another thread, which waits for the GIL, is awake;
#: the longer the calls are, the fewer of them wait for the GIL.
TILES, GENERIC = Need((1 << 21) * 4 // 5, 1 << 21), Need(5 << 18, 3 << 20)
#: The largest chunk, where more may be held.
LARGEST_CHUNK = 1 << 21
#: What all threads together may hold beside the results, even if the array is small.
LEAST_HELD = 1 << 22
#: From this size on two threads are faster than one.
SHARED_BYTES = 1 << 21


class Chunks(NamedTuple):
    """Ranges of items, none larger than the first, and how many threads work on them."""

    slices: tuple[slice, ...]
    threads: int

    @property
    def largest(self) -> int:
        """Items of the largest chunk."""
        return self.slices[0].stop if self.slices else 0


def chunks_of(items: int, cells: Array, need: Need = TILES) -> Chunks:
    """Divide the items to which ``cells`` belong.

    Cells count as four bytes at least: the other arrays do not shrink with them. As many threads
    work as may hold what they need: together an eighth of the cells, or `LEAST_HELD`.
    """
    size = cells.size * max(4, cells.itemsize)
    together = max(cells.nbytes // 8, LEAST_HELD)
    threads = min(thread_count(), max(1, together // need.held)) if size >= SHARED_BYTES else 1
    allowed = need.chunk * together // (threads * need.held)
    chunk = need.chunk if threads == 1 else min(allowed, LARGEST_CHUNK)
    count = threads
    if size > threads * chunk:  # the largest of `divide` is 4 / (4 * count - 1) of all
        count = -(-(4 * size + chunk) // (4 * chunk * threads)) * threads
    return Chunks(divide(items, count), threads)
