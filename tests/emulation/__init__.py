"""CUDA without a GPU: a strict stand-in for ``cupy`` whose kernels run on the host.

g++ compiles the kernels' source with a small header, and with AddressSanitizer and
UndefinedBehaviorSanitizer if they are preloaded. Every launch runs its whole grid in several thread
orders, and the results must have the same bits.
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
