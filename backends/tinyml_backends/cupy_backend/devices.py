"""CuPy's arrays and their devices."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, wraps
from inspect import ismodule
from types import ModuleType
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.cupy_backend import availability
from tinyml_backends.cupy_backend.cubins import Cubins, cupy_folder
from tinyml_backends.cupy_backend.launcher import Launcher

#: DLPack's device types of host memory, pageable and pinned.
_DLPACK_HOST = (1, 3)


F = TypeVar("F", bound=Callable[..., Any])


def on_device(kernel: F) -> F:
    """Make a method run with the device of its first array as the current one."""

    @wraps(kernel)
    def call(self: "CupyArrays", array: Array, *args: Any, **kwargs: Any) -> Any:
        with self.scope(array):
            return kernel(self, array, *args, **kwargs)

    return cast("F", call)


class OnDevice:
    """Proxy of the module ``cupy`` whose functions run with one device as the current one.

    The arrays that they create are then on that device. Its submodules are wrapped too. So is each
    function, because some have methods, such as ``maximum.at``.
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
    """Arrays of CuPy: creation, devices, copies to the host and back.

    Parameters
    ----------
    device : int or None
        Device of new arrays; None means CUDA's current device. An operation runs on the device of
        its arrays.
    cupy : module or None
        Module to use as CuPy; None imports it.

    Raises
    ------
    BackendUnavailableError
        If CuPy, a driver, the device or a compiler is missing, or CuPy is too old. The message says
        which, and what to do.
    """

    name = "cupy"
    library = "cupy"
    has_devices = True
    chunk_bytes = 1 << 27
    #: Whether later processes reuse the compiled kernels.
    keeps_kernels: ClassVar[bool] = True

    def __init__(self, device: int | None = None, cupy: ModuleType | None = None) -> None:
        module = availability.load_cupy() if cupy is None else cupy
        availability.check(module, device)
        self._launch = Launcher(module, Cubins(cupy_folder() if self.keeps_kernels else None))
        self._device = device
        self.xp = module

    @property
    def array_module(self) -> ModuleType:
        """CuPy, whose functions make arrays on the device of this backend if it was named."""
        if self._device is None:
            return self.xp
        scope = partial(self.xp.cuda.Device, self._device)
        return cast("ModuleType", OnDevice(self.xp, scope))

    def scope(self, array: Array) -> AbstractContextManager[Any]:
        """Make the device of ``array`` the current one."""
        return cast("AbstractContextManager[Any]", array.device)

    def handles(self, array: object) -> bool:
        """Whether ``array`` is a CuPy array."""
        return isinstance(array, self.xp.ndarray)

    def device(self, array: Array) -> str:
        """Return for example "cupy:0"."""
        return f"{self.name}:{array.device.id}"

    def asarray(self, array_like: object) -> Array:
        """CuPy array with the values of ``array_like``.

        CuPy arrays, and objects on a GPU with ``__cuda_array_interface__`` or DLPack, are not
        copied if they are on this backend's device, or if it was made without a device. Everything
        else is copied to that device.
        """
        if isinstance(array_like, np.ma.MaskedArray):
            raise TypeError("a masked array would lose its mask; fill it: a.filled(value)")
        cupy = self.xp
        array = self._shared(array_like)
        if array is not None and self._device in (None, array.device.id):
            return array
        with cupy.cuda.Device(self._device):
            if array is not None:
                array.device.synchronize()  # the array may still be written on its device's stream
                copy = array.copy()  # on the current device
                # only then may the caller free the array, whose memory its device would reuse
                cupy.cuda.get_current_stream().synchronize()
                return copy
            if isinstance(array_like, np.ndarray):
                array_like = array_like.astype(array_like.dtype.newbyteorder("="), copy=False)
            elif hasattr(array_like, "__dlpack__"):
                array_like = np.from_dlpack(cast("Any", array_like))
            return cupy.asarray(array_like)

    def _shared(self, array_like: Any) -> Array | None:
        """CuPy array with the memory of an object on any GPU; None for an object on the host."""
        cupy = self.xp
        if isinstance(array_like, cupy.ndarray):
            return array_like
        if isinstance(array_like, np.ndarray):
            return None
        if hasattr(array_like, "__dlpack_device__"):
            kind, device = map(int, array_like.__dlpack_device__())
            if kind in _DLPACK_HOST:
                return None
            try:
                # DLPack first: CuPy names its stream, and the producer lets it wait for its own
                with cupy.cuda.Device(device):
                    return cupy.from_dlpack(array_like)
            except BufferError:  # DLPack lacks the dtype or the memory layout
                if not hasattr(array_like, "__cuda_array_interface__"):
                    raise
        if hasattr(
            array_like, "__cuda_array_interface__"
        ):  # CuPy waits for the stream that the interface names
            pointer = array_like.__cuda_array_interface__["data"][0]
            attributes = cupy.cuda.runtime.pointerGetAttributes
            with cupy.cuda.Device(attributes(pointer).device if pointer else None):
                return cupy.asarray(array_like)
        return None

    def to_numpy(self, array: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        """Copy ``array`` to the host."""
        with array.device:
            return cast("np.ndarray[Any, Any]", self.xp.asnumpy(array))
