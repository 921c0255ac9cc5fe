"""The stand-in for ``cupy.RawModule``: loads a kernel, packs its arguments and launches it.

CuPy packs each argument by the type of its value, and the launch reads as many bytes as each
parameter has. So arguments are packed here as CuPy packs them, and compared with the parameters.
"""

import ast
import ctypes
import functools
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emulation import launches
from emulation.array import ndarray
from emulation.compiler import library
from emulation.memory import check_device, current

#: The dtypes of NumPy scalars that CuPy passes.
_SCALARS = {np.dtype(code) for code in "?bhilqBHILQefdFD"}


class CUDADriverError(RuntimeError):
    """As ``cupy.cuda.driver.CUDADriverError``."""


class Parameter(NamedTuple):
    """A parameter of a kernel: a value, or a pointer to elements, with kind and size in bytes."""

    pointer: bool
    constant: bool
    kind: str
    size: int
    value_size: int

    def __str__(self) -> str:
        names = {"b": "bool", "i": "int", "u": "unsigned", "f": "float"}
        what = f"{names[self.kind]}{8 * self.size}" if self.kind in names else "struct"
        if self.kind == "V":
            what += f" of {self.size} bytes" if self.size else " unknown"
        return f"a pointer to {'const ' * self.constant}{what}" if self.pointer else what


def compile_using_nvrtc(
    source: str,
    options: tuple[str, ...] = (),
    arch: str | None = None,
    filename: str = "kern.cu",
    name_expressions: Sequence[str] | None = None,
    log_stream: object = None,
    cache_in_memory: bool = False,
    jitify: bool | None = None,
    method: str | None = None,
) -> tuple[bytes, dict[str, str]]:
    """As ``cupy.cuda.compiler.compile_using_nvrtc``: a cubin, and the lowered names in it."""
    if not isinstance(options, tuple):
        raise TypeError(f"options is a {type(options).__name__}; CuPy takes a tuple")
    names = tuple(name_expressions or ())
    for name in names:
        library(source, options, name)
    return repr((source, options, names)).encode(), {name: lowered(name) for name in names}


def lowered(expression: str) -> str:
    """Lowered name of a kernel in the emulation; real names are those that NVRTC reports."""
    return f"_Z{expression}"


class RawModule:
    """As ``cupy.RawModule`` of a compiled file.

    Source is refused: CuPy would compile it with ``-ftz=true``, which g++ cannot do.
    """

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Sequence[str] | None = None,
        jitify: bool | None = None,
    ) -> None:
        for name, value, wanted in (("path", path, str), ("options", options, tuple)):
            if value is not None and not isinstance(value, wanted):
                types = f"expected {wanted.__name__}, got {type(value).__name__}"
                raise TypeError(f"Argument '{name}' has incorrect type ({types})")
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is None:
            raise NotImplementedError("CuPy compiles source with -ftz=true; compile it and load it")
        if name_expressions is not None:
            raise ValueError("need CUDA C++ code for the requested kernels")
        if jitify:
            raise ValueError("Jitify does not support precompiled objects")
        self.code, self.file_path, self.options, self.backend = None, path, (), "nvcc"

    def get_function(self, name: str) -> "RawKernel":
        """The kernel of a lowered name, loaded on the current device."""
        code, options, expressions = _loaded(current.device, self.file_path)
        for expression in expressions:
            if lowered(expression) == name:
                return RawKernel(expression, library(code, options, expression))
        raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")


@functools.cache
def _loaded(device: int, path: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Contents of a file when it was first loaded on a device; CuPy does not read it again."""
    try:
        code, options, expressions = ast.literal_eval(Path(path).read_text())
    except OSError:
        raise CUDADriverError("CUDA_ERROR_FILE_NOT_FOUND: file not found") from None
    except (ValueError, SyntaxError):
        raise CUDADriverError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid") from None
    return code, options, expressions


class RawKernel:
    """A kernel, called as ``kernel(grid, block, arguments)``."""

    def __init__(self, name: str, loaded: ctypes.CDLL) -> None:
        self.name = name
        self._library = loaded
        self.parameters = _signature(loaded)
        offsets = np.cumsum([0, *(-(-p.value_size // 16) * 16 for p in self.parameters)]).tolist()
        # every parameter starts at a multiple of 16 bytes; one more slot aligns the first
        self._buffer = ctypes.create_string_buffer(offsets[-1] + 32)
        base = -(-ctypes.addressof(self._buffer) // 16) * 16
        first = base - ctypes.addressof(self._buffer)
        self._offsets = [first + offset for offset in offsets[:-1]]
        addresses = [base + offset for offset in offsets[:-1]]
        self._addresses = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: object = None,
    ) -> None:
        """Run the kernel for every thread of the grid, in several orders."""
        grid, block = launches.sizes(self.name, grid, block)
        if shared_mem:
            raise NotImplementedError("shared memory is not emulated")
        if len(args) != len(self.parameters):
            raise TypeError(
                f"{self.name} takes {len(self.parameters)} arguments, and was passed {len(args)}"
            )
        packed = [self._pack(i, value) for i, value in enumerate(args)]
        with launches.lock:
            for offset, data in zip(self._offsets, packed, strict=True):
                self._buffer[offset : offset + len(data)] = data
            launches.launch(self.name, self._run, grid, block, self.parameters, args)

    def _run(
        self, order: int | None, first: int, count: int, grid: ctypes.Array, block: ctypes.Array
    ) -> None:
        self._library.emulated_run(self._addresses, order, first, count, grid, block)

    def _pack(self, i: int, value: Any) -> bytes:
        parameter = self.parameters[i]
        if value is None:
            what, data, fits = "None", bytes(8), parameter.pointer
        elif isinstance(value, ndarray):
            what = f"an array of {value.dtype}"
            data = struct.pack("P", value.data.ptr)
            fits = parameter.pointer and _matches(parameter, value.dtype)
            if fits:
                check_device(value._memory)
                if not value._host.flags.c_contiguous:
                    what, fits = f"{what} that is not C-contiguous (CuPy ignores strides)", False
        else:
            what, scalar = _as_numpy(value)
            data = scalar.tobytes()
            fits = not parameter.pointer and parameter.value_size == len(data)
            fits = fits and (parameter.kind == scalar.dtype.kind or parameter.kind == "V")
            if parameter.kind == "V" and not isinstance(value, np.ndarray):
                fits = False
        if not fits:
            raise TypeError(
                f"{self.name}: argument {i} is {what}; the kernel's parameter is {parameter}"
            )
        return data


def _as_numpy(value: Any) -> tuple[str, Any]:
    """Description of an argument by value, and the NumPy value that CuPy converts it to."""
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise TypeError(f"Unsupported type {type(value)} of size {value.size}")
        what = "struct" if value.dtype.kind == "V" else value.dtype
        return f"a NumPy array of one {what} of {value.itemsize} bytes", value
    if isinstance(value, np.generic) and value.dtype in _SCALARS:
        return f"a NumPy scalar of {value.dtype}", value
    if isinstance(value, bool):
        return "a Python bool, which CuPy passes as one byte", np.bool(value)
    if isinstance(value, int):
        return "a Python int, which CuPy passes as long long", np.int64(value)
    if isinstance(value, float):
        return "a Python float, which CuPy passes as double", np.float64(value)
    if isinstance(value, complex):
        return "a Python complex, which CuPy passes as complex128", np.complex128(value)
    raise TypeError(f"Unsupported type {type(value)}")


def _matches(parameter: Parameter, dtype: np.dtype) -> bool:
    if parameter.size == 0:  # void
        return True
    return (parameter.kind, parameter.size) == (dtype.kind, dtype.itemsize)


class _CParameter(ctypes.Structure):
    _fields_ = [
        (field, ctypes.c_int) for field in ("pointer", "constant", "kind", "size", "value_size")
    ]


def _signature(loaded: ctypes.CDLL) -> tuple[Parameter, ...]:
    found = (_CParameter * 128)()
    count = loaded.emulated_signature(found)
    return tuple(
        Parameter(bool(p.pointer), bool(p.constant), chr(p.kind), p.size, p.value_size)
        for p in found[:count]
    )
