"""CuPy's arrays and the devices they live on."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.backend import Backend
from tinyml_backends.cupy_backend import availability
from tinyml_backends.cupy_backend.launcher import Launcher

#: DLPack's number for memory of the host.
_DLPACK_CPU = 1


F = TypeVar("F", bound=Callable[..., Any])


def on_device(kernel: F) -> F:
    """The kernel, run by the backend of the current device, which is that of its first array."""

    @wraps(kernel)
    def call(self: "CupyArrays", array: Array, *args: Any, **kwargs: Any) -> Any:
        with self.scope(array):
            return kernel(self.wherever(), array, *args, **kwargs)

    return cast("F", call)


class OnDevice:
    """CuPy's functions, run with one device current, so that what they make lives there."""

    def __init__(self, cupy: ModuleType, device: int) -> None:
        self._cupy: Any = cupy
        self._device = device

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cupy, name)
        if not callable(value) or isinstance(value, type):
            return value

        @wraps(value, updated=())
        def on_device(*args: Any, **kwargs: Any) -> Any:
            with self._cupy.cuda.Device(self._device):
                return value(*args, **kwargs)

        return on_device


class CupyArrays(Backend):
    """Arrays of CuPy: making them, naming their device, moving them to the host and back.

    Parameters
    ----------
    device : int or None
        Where new arrays are made; None means CUDA's current device. An operation runs on the
        device of its arrays.
    cupy : module or None
        What to use as CuPy; None imports it.

    Raises
    ------
    BackendUnavailableError
        If CuPy, a driver or the device is missing; it says which and what to do.
    """

    name = "cupy"
    library = "cupy"
    has_devices = True

    def __init__(self, device: int | None = None, cupy: ModuleType | None = None) -> None:
        module = availability.load_cupy() if cupy is None else cupy
        availability.check(module, device)
        self._cupy: Any = module
        self._launch = Launcher(module)
        self._device: int | None = None
        self.xp = module
        self._wherever = self
        if device is not None:
            self._wherever = copy.copy(self)
            self._wherever._wherever = self._wherever
            self._device = device
            self.xp = cast("ModuleType", OnDevice(module, device))

    def wherever(self) -> Backend:
        """Return the backend of CUDA's current device, which `scope` makes that of the arrays."""
        return self._wherever

    def scope(self, array: Array) -> AbstractContextManager[Any]:
        """Make the device of ``array`` the current one."""
        return cast("AbstractContextManager[Any]", array.device)

    def handles(self, array: object) -> bool:
        """Whether ``array`` is a CuPy array."""
        return isinstance(array, self._cupy.ndarray)

    def device(self, array: Array) -> str:
        """Return for example "cupy:0"."""
        return f"{self.name}:{array.device.id}"

    def asarray(self, array_like: object) -> Array:
        """CuPy array from a CuPy array or what offers ``__cuda_array_interface__`` or DLPack.

        These share their memory if they live on the right device; all else is copied there.
        """
        cupy = self._cupy
        with cupy.cuda.Device() if self._device is None else cupy.cuda.Device(self._device):
            if isinstance(array_like, cupy.ndarray):
                array = array_like
            elif isinstance(array_like, np.ma.MaskedArray):
                raise TypeError("a masked array would lose its mask; fill it: a.filled(value)")
            elif isinstance(array_like, np.ndarray):
                array = cupy.asarray(
                    array_like.astype(array_like.dtype.newbyteorder("="), copy=False)
                )
            elif hasattr(array_like, "__cuda_array_interface__"):
                array = cupy.asarray(array_like)
            elif hasattr(array_like, "__dlpack_device__"):
                on_host = int(array_like.__dlpack_device__()[0]) == _DLPACK_CPU
                array = (
                    cupy.asarray(np.from_dlpack(cast("Any", array_like)))
                    if on_host
                    else cupy.from_dlpack(array_like)
                )
            else:
                array = cupy.asarray(array_like)
            elsewhere = self._device is not None and array.device.id != self._device
            return array.copy() if elsewhere else array  # a copy is made on the current device

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """Copy ``array`` to the host."""
        with array.device:
            return cast("np.ndarray[Any, Any]", self._cupy.asnumpy(array))
