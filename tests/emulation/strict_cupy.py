"""The stand-in for the module ``cupy``, with names that CuPy has and no others."""

import types
from typing import Any

import numpy as np

from emulation.api import FROM_NUMPY, FUNCTIONS, UFUNCS
from emulation.array import ndarray
from emulation.compiler import CompileException
from emulation.device import Device, Event, Stream, get_current_stream, get_elapsed_time
from emulation.functions import function, ufunc
from emulation.memory import (
    DEVICES,
    Counts,
    CUDARuntimeError,
    current,
    pointer_attributes,
    synchronise,
)
from emulation.operators import equip
from emulation.raw_module import (
    CUDADriverError,
    RawKernel,
    RawModule,
    compile_using_nvrtc,
)


class StrictCupy(types.ModuleType):
    """The module. It is passed to the backend, and is not in ``sys.modules``.

    Attributes
    ----------
    synchronisations : int
        How often the host has waited for the device; tests reset it.
    """

    def __init__(self) -> None:
        super().__init__("cupy", "An emulated CuPy.")
        self.__version__ = "14.2.0"
        self.ndarray, self.RawModule, self.RawKernel = ndarray, RawModule, RawKernel
        self.cuda, self.ufunc = _cuda(), ufunc
        for name in FROM_NUMPY:
            setattr(self, name, getattr(np, name))
        for name in UFUNCS:
            setattr(self, name, ufunc(name))
        for name in FUNCTIONS:
            setattr(self, name, function(name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the emulated module 'cupy' has no attribute {name!r}")

    @property
    def synchronisations(self) -> int:
        return Counts.synchronisations

    @synchronisations.setter
    def synchronisations(self, count: int) -> None:
        Counts.synchronisations = count


def _cuda() -> types.ModuleType:
    runtime = types.ModuleType("cupy.cuda.runtime")
    vars(runtime).update(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: DEVICES,
        getDevice=lambda: current.device,
        setDevice=lambda device: Device(device).use(),
        getDeviceProperties=_properties,
        deviceSynchronize=synchronise,
        pointerGetAttributes=pointer_attributes,
        driverGetVersion=lambda: 12090,
        runtimeGetVersion=lambda: 12090,
    )
    compiler = types.ModuleType("cupy.cuda.compiler")
    vars(compiler).update(
        CompileException=CompileException, compile_using_nvrtc=compile_using_nvrtc
    )
    nvrtc = types.ModuleType("cupy.cuda.nvrtc")
    vars(nvrtc).update(getVersion=lambda: (12, 9))
    driver = types.ModuleType("cupy.cuda.driver")
    vars(driver).update(CUDADriverError=CUDADriverError)
    cuda = types.ModuleType("cupy.cuda")
    vars(cuda).update(
        Device=Device,
        Event=Event,
        Stream=Stream,
        get_current_stream=get_current_stream,
        get_elapsed_time=get_elapsed_time,
        get_device_id=lambda: current.device,
        is_available=lambda: True,
        runtime=runtime,
        compiler=compiler,
        driver=driver,
        nvrtc=nvrtc,
    )
    return cuda


def _properties(device: int) -> dict[str, Any]:
    if not 0 <= device < DEVICES:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    return {
        "name": b"emulated",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 2,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerMultiProcessor": 2048,
        "maxGridSize": (2**31 - 1, 65535, 65535),
        "totalGlobalMem": 1 << 33,
    }


equip()

#: The only instance.
cupy = StrictCupy()
