"""CUDA without a GPU: a strict stand-in for ``cupy`` whose kernels run on the host.

The kernels' own source is compiled by g++ behind a small header, with AddressSanitizer and
UndefinedBehaviorSanitizer where they are preloaded, and every launch runs its whole grid in
several orders of its threads, whose results must have the same bits.
"""

from emulation.array import adopt
from emulation.compiler import CompileException, sanitized
from emulation.launches import only_blocks, record
from emulation.memory import EmulationError, on_device
from emulation.strict_cupy import cupy

__all__ = [
    "CompileException",
    "EmulationError",
    "adopt",
    "cupy",
    "on_device",
    "only_blocks",
    "record",
    "sanitized",
]
