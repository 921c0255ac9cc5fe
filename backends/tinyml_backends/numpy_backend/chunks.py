"""How NumPy's kernels divide an array into chunks, and how many threads work on them."""

from typing import NamedTuple

from tinyml_backends.arrays import Array
from tinyml_backends.threads import divide, thread_count


class Need(NamedTuple):
    """Bytes of the cells of a chunk, and bytes of memory that a thread needs to work on it."""

    chunk: int
    held: int


#: The needs of the kernels for 2×2 tiles, and of the generic ones. These chunks do not fit in the
#: L2 cache of a core. But a NumPy call on a smaller chunk would end before another thread that
#: waits for the GIL has woken up, and with longer calls threads wait for the GIL less often.
TILES, GENERIC = Need((1 << 21) * 4 // 5, 1 << 21), Need(5 << 18, 3 << 20)
#: Bytes of the largest chunk, where the memory that threads may use allows it.
LARGEST_CHUNK = 1 << 21
#: Bytes that all threads together may use in addition to the results, even for small arrays.
LEAST_HELD = 1 << 22
#: Bytes of the cells from which on two threads are faster than one.
SHARED_BYTES = 1 << 21


class Chunks(NamedTuple):
    """Ranges of items, none larger than the first, and how many threads work on them."""

    slices: tuple[slice, ...]
    threads: int

    @property
    def largest(self) -> int:
        """Number of items in the largest chunk."""
        return self.slices[0].stop if self.slices else 0


def chunks_of(items: int, cells: Array, need: Need = TILES) -> Chunks:
    """Divide ``items``, each of which has the same number of the ``cells``.

    Cells count as at least four bytes, because not all arrays of a kernel are smaller for smaller
    dtypes. All threads together may use an eighth of the bytes of the cells, at least `LEAST_HELD`;
    no more threads work than that suffices for.
    """
    size = cells.size * max(4, cells.itemsize)
    together = max(cells.nbytes // 8, LEAST_HELD)
    threads = min(thread_count(), max(1, together // need.held)) if size >= SHARED_BYTES else 1
    allowed = need.chunk * together // (threads * need.held)
    chunk = need.chunk if threads == 1 else min(allowed, LARGEST_CHUNK)
    count = threads
    if size > threads * chunk:  # `divide` makes chunks of 4 / (4 * count - 1) of all
        count = -(-(4 * size + chunk) // (4 * chunk * threads)) * threads
    return Chunks(divide(items, count), threads)
