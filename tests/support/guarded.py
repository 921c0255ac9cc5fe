"""Arrays next to an inaccessible page: an access outside of the array ends the process."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE


def guarded(array, at_end):
    """Copy of an array that ends at such a page, or without ``at_end`` begins after one."""
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    for page in (begin, begin + (pages + 1) * PAGE):
        assert protect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
    offset = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
    copy = np.ndarray(array.shape, array.dtype, memory, offset)
    copy[...] = array
    return copy
