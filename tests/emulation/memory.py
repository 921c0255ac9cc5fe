"""Devices and their memory, all of it on the host.

Memory is aligned as in CuPy and allocated by the C library, whose allocator AddressSanitizer
replaces: the bytes before and after an array are then red zones.
"""

import contextlib
import ctypes
import mmap
import threading
import weakref
from typing import NamedTuple

import numpy as np

from emulation import observed

DEVICES = 2
ALIGNMENT = 512
#: Larger memory is a private mapping without red zones; pages are allocated when touched.
SPARSE_BYTES = 1 << 28
#: So is memory of at least so many bytes, if an observer leaves large results uncomputed.
LAZY_BYTES = 1 << 20
#: Byte that fills uninitialised memory; it does not form a NaN in any float dtype.
GARBAGE = 0xA5
_MAP = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names it from 3.13 on

_libc = ctypes.CDLL(None)
_allocate = _libc.posix_memalign
_allocate.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
_free = _libc.free
_free.argtypes = [ctypes.c_void_p]
_free.restype = None


class EmulationError(Exception):
    """An error that real hardware would not report, or only sometimes."""


class CUDARuntimeError(RuntimeError):
    """As ``cupy.cuda.runtime.CUDARuntimeError``."""


class _Current(threading.local):
    device = 0
    stream = None


current = _Current()


class Counts:
    """How often the host waited for the device."""

    synchronisations = 0


def synchronise() -> None:
    Counts.synchronisations += 1
    observed.tell("waited")


class Memory:
    """Bytes on a device.

    ``fresh``: they are uninitialised. ``zero``: uninitialised bytes are zero.
    """

    def __init__(self, nbytes: int) -> None:
        self.device = current.device
        self.nbytes = nbytes
        self.fresh = True
        self.zero = False
        self.ptr = 0
        self._owner: object = None
        self._observer: observed.Observer | None = None
        observer = observed.current()
        is_lazy = observer is not None and observer.lazy and nbytes >= LAZY_BYTES
        if nbytes >= SPARSE_BYTES or is_lazy:
            self._owner = mmap.mmap(-1, nbytes, _MAP)
            self.ptr = np.frombuffer(self._owner, np.uint8, 1).ctypes.data
            self.zero = True
        elif nbytes:
            pointer = ctypes.c_void_p()
            if _allocate(ctypes.byref(pointer), ALIGNMENT, nbytes):
                raise MemoryError(f"{nbytes} bytes")
            self.ptr = pointer.value or 0
            ctypes.memset(self.ptr, GARBAGE, nbytes)
        if self.ptr:
            _devices[self.ptr] = self
        self._observer = observer
        if observer is not None:
            observer.allocated(nbytes)

    def __del__(self) -> None:
        if self._observer is not None:
            self._observer.allocated(-self.nbytes)
        if self.ptr and self._owner is None:
            _free(self.ptr)

    def host(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """NumPy array of the whole memory; the array keeps a reference to the memory."""
        if not self.nbytes:
            return np.empty(shape, dtype)
        self.__array_interface__ = {
            "data": (self.ptr, False),
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "version": 3,
        }
        raw = np.asarray(self)
        del self.__array_interface__
        return raw.view(dtype).reshape(shape)


_devices: "weakref.WeakValueDictionary[int, Memory]" = weakref.WeakValueDictionary()


class PointerAttributes(NamedTuple):
    device: int


def pointer_attributes(ptr: int) -> PointerAttributes:
    """As ``cupy.cuda.runtime.pointerGetAttributes``, for the start of an array's memory."""
    return PointerAttributes(_devices[ptr].device)


class Adopted(Memory):
    """Memory owned by a host array, for example by a sparse mapping."""

    def __init__(self, host: np.ndarray) -> None:
        self.device = current.device
        self.nbytes = host.nbytes
        self.fresh = self.zero = False
        self.ptr = host.ctypes.data if host.nbytes else 0
        self._owner, self._observer = host, None


@contextlib.contextmanager
def on_device(number: int):
    """Context in which the device is the current one of this Python thread."""
    before, current.device = current.device, number
    try:
        yield
    finally:
        current.device = before


def check_device(memory: Memory) -> None:
    """Refuse work on memory of another device: real GPUs refuse it too, or are very slow."""
    if memory.device != current.device:
        raise EmulationError(
            f"an array on device {memory.device} is used while device {current.device} is current"
        )
