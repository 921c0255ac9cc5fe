"""Checks that CuPy can run here, with one sentence for each reason why it cannot."""

import re
from types import ModuleType
from typing import Any

from tinyml_backends.errors import BackendUnavailableError

#: The first CuPy that promotes dtypes as NumPy 2 does.
OLDEST = (14, 0)

_OTHERWISE = "or use 'numpy', which runs every operation"
_INSTALL = (
    "pip install 'cupy-cuda12x[ctk]>=14' (or the CuPy package of your CUDA version), " + _OTHERWISE
)


def load_cupy() -> ModuleType:
    """Import CuPy.

    Raises
    ------
    BackendUnavailableError
        If it is missing or cannot be imported.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _broken(error) from error
        raise BackendUnavailableError(f"CuPy is not installed; {_INSTALL}") from error
    except Exception as error:  # a broken installation can raise anything
        raise _broken(error) from error
    return cupy  # type: ignore[no-any-return]


def _broken(error: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"CuPy is installed but cannot be imported ({_first_line(error)}); reinstall it: {_INSTALL}"
    )


def check(cupy: Any, device: int | None) -> None:
    """Check that CuPy is new enough, and that it finds a driver, a GPU, ``device`` and a compiler.

    Raises
    ------
    BackendUnavailableError
        If it does not. The message is one sentence that says what is missing, and what to do.
    """
    version = re.match(r"(\d+)\.(\d+)", cupy.__version__)
    if version and tuple(map(int, version.groups())) < OLDEST:
        raise BackendUnavailableError(
            f"CuPy {cupy.__version__} is too old, {OLDEST[0]}.{OLDEST[1]} or newer is needed; "
            f"{_INSTALL}"
        )
    runtime = cupy.cuda.runtime
    if getattr(runtime, "is_hip", False):
        raise BackendUnavailableError(
            f"this CuPy is for ROCm, and the kernels are for NVIDIA GPUs; {_INSTALL}"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(_obstacle(error)) from error
    if count == 0:
        raise BackendUnavailableError(_NO_GPU)
    if device is not None and device >= count:
        raise BackendUnavailableError(
            f"CuPy finds {count} CUDA GPU{'s' if count > 1 else ''}, numbered from 0, so device "
            f"{device} does not exist; choose another, {_OTHERWISE}"
        )
    try:
        with cupy.cuda.Device(device):
            cupy.zeros(1, "f4") + 1  # needs memory, the compiler and CUDA's headers
    except Exception as error:  # raised by CuPy, the dynamic loader or the compiler
        raise BackendUnavailableError(
            f"CuPy finds a GPU and cannot run on it ({_first_line(error)}); CUDA's compiler and "
            f"headers may be missing: {_INSTALL}"
        ) from error


_NO_GPU = (
    "CuPy finds no NVIDIA GPU; run where there is one (CUDA_VISIBLE_DEVICES may hide it), "
    + _OTHERWISE
)


def _obstacle(error: Exception) -> str:
    text = str(error)
    if "NoDevice" in text:
        return _NO_GPU
    if "InsufficientDriver" in text:
        return (
            "there is no NVIDIA driver, or one too old for CuPy's CUDA; install or update the "
            f"driver, {_OTHERWISE}"
        )
    return (
        f"CUDA does not start ({_first_line(error)}); check the driver with nvidia-smi, "
        + _OTHERWISE
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
