"""Names that are reserved for backends which this version does not have yet."""

from importlib.util import find_spec
from typing import NoReturn

from tinyml_backends.errors import BackendUnavailableError


def cupy(device: int = 0) -> NoReturn:
    """Say what a GPU run lacks: CuPy, a device, and the CUDA kernels, which are still to come."""
    raise BackendUnavailableError(
        f"{_cuda_obstacle(device)}this version of tinyml has no CUDA kernels yet; "
        "use 'numpy', which runs every operation"
    )


cupy.has_devices = True  # type: ignore[attr-defined]  # "cupy:1" is a name of this backend


def _cuda_obstacle(device: int) -> str:
    if find_spec("cupy") is None:
        return "CuPy is not installed, and "
    try:
        import cupy

        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy raises its own types for a missing driver
        return f"CuPy finds no CUDA GPU ({error}), and "
    if device >= count:
        return f"CuPy finds {count} CUDA GPU(s), so cupy:{device} does not exist, and "
    return ""
