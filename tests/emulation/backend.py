"""The CuPy backend on emulated devices, selected as ``cupy-emulated``."""

from emulation.strict_cupy import cupy
from tinyml_backends.cupy_backend import CupyBackend


class EmulatedCupyBackend(CupyBackend):
    name = "cupy-emulated"
    library = "cupy-emulated"
    keeps_kernels = False

    def __init__(self, device: int | None = None) -> None:
        super().__init__(device, cupy)
