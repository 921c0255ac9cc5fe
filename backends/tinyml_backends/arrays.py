"""The array type of signatures, and the base class for a backend's names, arrays and devices."""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np

#: An array of a backend's library (``numpy.ndarray``, ``cupy.ndarray``, …). NumPy and CuPy share no
#: static type, so mypy checks nothing here; the backends check their arguments at run time.
Array: TypeAlias = Any

#: Decorator of functions in which NumPy neither warns of underflow, overflow and NaN nor raises,
#: whatever `numpy.seterr` says: underflow is harmless, and the result shows the others, as it does
#: with other libraries. A layer, loss or optimizer needs it for arithmetic outside of kernels.
quiet = np.errstate(all="ignore")


class Arrays:
    """Names, arrays and devices of a backend.

    Attributes
    ----------
    name : str
        The name under which it is selected.
    library : str
        The array library whose arrays it runs on: "numpy", "cupy", or a third party's own.
    xp : module
        That library's array module, with NumPy's interface.
    has_devices : bool
        Whether ``"name:1"`` names its second device; the class is then called with ``device=1``.
    chunk_bytes : int
        About how many bytes a generic kernel works on at a time. The default suits a CPU: a chunk
        and its temporaries fit in the L2 cache of a core.
    """

    name: str
    library: str
    xp: ModuleType
    has_devices: ClassVar[bool] = False
    chunk_bytes: ClassVar[int] = 1 << 19

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def array_module(self) -> ModuleType:
        """Like ``xp``, but its functions make arrays on this backend's device ("cupy:1")."""
        return self.xp

    def handles(self, array: object) -> bool:
        """Whether ``array`` belongs to this backend's library. Imports nothing."""
        raise NotImplementedError(f"{type(self).__name__}.handles")

    def device(self, array: Array) -> str:
        """Name of the library and device that hold ``array``, for example "numpy" or "cupy:0"."""
        raise NotImplementedError(f"{type(self).__name__}.device")

    def asarray(self, array_like: object) -> Array:
        """Array of this library with the values of ``array_like``; a copy only where needed."""
        raise NotImplementedError(f"{type(self).__name__}.asarray")

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` as a NumPy array, without a copy if it is one."""
        raise NotImplementedError(f"{type(self).__name__}.to_numpy")

    def scope(self, array: Array) -> AbstractContextManager[Any]:
        """Context manager in which new arrays are made on the device of ``array``."""
        return nullcontext()


def as_floats(x: Array) -> Array:
    """``x``, or float32 of integers and truth values."""
    if x.dtype.kind == "c":
        raise TypeError(f"input has dtype {x.dtype}; it must hold real numbers")
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def widened(x: Array) -> Array:
    """``x``, or float32 of float16, in which sums would lose digits or overflow."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
