"""CuPy's arrays and the devices they live on."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, wraps
from inspect import ismodule
from types import ModuleType
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.backend import Backend
from tinyml_backends.cupy_backend import availability
from tinyml_backends.cupy_backend.cubins import Cubins, cupy_folder
from tinyml_backends.cupy_backend.launcher import Launcher

#: DLPack's numbers for memory of the host, pageable and pinned.
_DLPACK_HOST = (1, 3)


F = TypeVar("F", bound=Callable[..., Any])


def on_device(kernel: F) -> F:
    """The kernel, run by the backend of the current device, which is that of its first array."""

    @wraps(kernel)
    def call(self: "CupyArrays", array: Array, *args: Any, **kwargs: Any) -> Any:
        with self.scope(array):
            return kernel(self.wherever(), array, *args, **kwargs)

    return cast("F", call)


class OnDevice:
    """CuPy's functions, run with one device current, so that what they make lives there.

    Stands for the module ``cupy``, for a module in it, or for a function, which may have methods of
    its own, such as ``maximum.at``.
    """

    def __init__(self, wrapped: Any, scope: Callable[[], AbstractContextManager[Any]]) -> None:
        self._wrapped = wrapped
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._wrapped, name)
        makes_arrays = callable(value) and (not isinstance(value, type) or name == "ndarray")
        return OnDevice(value, self._scope) if makes_arrays or ismodule(value) else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        with self._scope():
            return self._wrapped(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return dir(self._wrapped)

    @property
    def __name__(self) -> str:
        return str(self._wrapped.__name__)


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
    #: Whether compiled kernels are kept on disk.
    keeps_kernels: ClassVar[bool] = True

    def __init__(self, device: int | None = None, cupy: ModuleType | None = None) -> None:
        module = availability.load_cupy() if cupy is None else cupy
        availability.check(module, device)
        self._cupy: Any = module
        self._launch = Launcher(module, Cubins(cupy_folder() if self.keeps_kernels else None))
        self._device: int | None = None
        self.xp = module
        self._wherever = self
        if device is not None:
            self._wherever = copy.copy(self)
            self._wherever._wherever = self._wherever
            self._device = device
            self.xp = cast("ModuleType", OnDevice(module, partial(module.cuda.Device, device)))

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
        if isinstance(array_like, np.ma.MaskedArray):
            raise TypeError("a masked array would lose its mask; fill it: a.filled(value)")
        cupy = self._cupy
        array = self._shared(array_like)
        if array is not None and self._device in (None, array.device.id):
            return array
        with cupy.cuda.Device(self._device):
            if array is not None:
                array.device.synchronize()  # work on it may still wait on that device's stream
                return array.copy()  # made on the current device
            if isinstance(array_like, np.ndarray):
                array_like = array_like.astype(array_like.dtype.newbyteorder("="), copy=False)
            elif hasattr(array_like, "__dlpack__"):
                array_like = np.from_dlpack(cast("Any", array_like))
            return cupy.asarray(array_like)

    def _shared(self, array_like: Any) -> Array | None:
        """Array on the memory of what lives on a GPU, wherever that is; None for what does not."""
        cupy = self._cupy
        if isinstance(array_like, cupy.ndarray):
            return array_like
        if isinstance(array_like, np.ndarray):
            return None
        if hasattr(array_like, "__cuda_array_interface__"):
            pointer = array_like.__cuda_array_interface__["data"][0]
            runtime = cupy.cuda.runtime
            device = runtime.pointerGetAttributes(pointer).device if pointer else None
            with cupy.cuda.Device(device):
                return cupy.asarray(array_like)
        if hasattr(array_like, "__dlpack_device__"):
            kind, device = map(int, array_like.__dlpack_device__())
            if kind not in _DLPACK_HOST:
                with cupy.cuda.Device(device):
                    return cupy.from_dlpack(array_like)
        return None

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """Copy ``array`` to the host."""
        with array.device:
            return cast("np.ndarray[Any, Any]", self._cupy.asnumpy(array))
