"""The array type of signatures, and what a backend says of its arrays: names, creation, devices."""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np

#: An array of a backend's library (``numpy.ndarray``, ``cupy.ndarray``, …). NumPy and CuPy share no
#: static type, so the name documents and mypy does not check it; the backends check at run time.
Array: TypeAlias = Any


class Arrays:
    """Names, arrays and devices of a backend.

    Attributes
    ----------
    name : str
        The name it is selected by.
    library : str
        The array library whose arrays it runs on: "numpy", "cupy", or a third party's own.
    xp : module
        That library's array module, with NumPy's interface.
    has_devices : bool
        Whether ``"name:1"`` names its second device; the class is then called with ``device=1``.
    chunk_bytes : int
        About how many bytes a generic kernel works on at a time. The default suits a CPU: with its
        temporaries a chunk stays inside a core's L2 cache.
    """

    name: str
    library: str
    xp: ModuleType
    has_devices: ClassVar[bool] = False
    chunk_bytes: ClassVar[int] = 1 << 19

    @property
    def array_module(self) -> ModuleType:
        """``xp`` to make new arrays with: on the device that was named, as in "cupy:1"."""
        return self.xp

    def handles(self, array: object) -> bool:
        """Whether ``array`` belongs to this backend's library. Imports nothing."""
        raise NotImplementedError(f"{type(self).__name__}.handles")

    def device(self, array: Array) -> str:
        """Where ``array`` lives, for example "numpy" or "cupy:0"."""
        raise NotImplementedError(f"{type(self).__name__}.device")

    def asarray(self, array_like: object) -> Array:
        """Array of this library with the values of ``array_like``, without a copy if possible."""
        raise NotImplementedError(f"{type(self).__name__}.asarray")

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """``array`` as a NumPy array, without a copy if it is one."""
        raise NotImplementedError(f"{type(self).__name__}.to_numpy")

    def scope(self, array: Array) -> AbstractContextManager[Any]:
        """Context in which what is made from ``array`` lives where it does."""
        return nullcontext()
