"""Compiling and launching kernels. CuPy checks nothing of what a kernel is given; this does."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

import numpy as np

from tinyml_backends.cupy_backend.kernels import Instance, Kernel, source
from tinyml_backends.cupy_backend.structs import struct_dtype
from tinyml_backends.errors import BackendUnavailableError

#: Threads of a block.
BLOCK = 256
#: Blocks of a launch; with more to do, each thread strides over the grid.
MAX_BLOCKS = 1 << 16
#: Up to here a position plus the stride of the whole grid stays below 2**31.
MAX_INT32 = 2**31 - BLOCK * MAX_BLOCKS

#: Sums keep their order and their roundings: no multiplication is fused with an addition.
OPTIONS = ("--std=c++17", "--fmad=false")


def index_dtype(*sizes: int) -> "np.dtype[Any]":
    """Type of index arithmetic for arrays of these numbers of elements."""
    return np.dtype("i4" if max(sizes) <= MAX_INT32 else "i8")


class Launcher:
    """Compiles each instance when it is first asked for, once for a device, and launches it.

    Parameters
    ----------
    cupy : module
    """

    def __init__(self, cupy: ModuleType) -> None:
        self._cupy: Any = cupy
        self._compiled: dict[tuple[int, str], Any] = {}

    def __call__(self, kernel: Kernel, instance: Instance, threads: int, *arguments: Any) -> None:
        """Run an instance on the current device and stream; nothing waits for it.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what the kernel takes. Nothing is then run.
        BackendUnavailableError
            If the kernel does not compile; the message has the compiler's whole log.
        """
        expression = kernel.expression(instance)
        self._check(kernel, instance, expression, arguments)
        if threads == 0:
            return
        blocks = min(-(-threads // BLOCK), MAX_BLOCKS)
        self._function(kernel.file, expression)((blocks,), (BLOCK,), arguments)

    def _function(self, file: str, expression: str) -> Any:
        key = (self._cupy.cuda.Device().id, expression)
        function = self._compiled.get(key)
        if function is None:
            try:
                module = self._cupy.RawModule(
                    code=source(file), options=OPTIONS, name_expressions=(expression,)
                )
                function = module.get_function(expression)
            except self._cupy.cuda.compiler.CompileException as error:
                raise BackendUnavailableError(
                    f"the CUDA kernel {expression} of {file} does not compile here; the "
                    f"compiler says:\n{error}"
                ) from error
            self._compiled[key] = function
        return function

    def _check(
        self, kernel: Kernel, instance: Instance, expression: str, arguments: Sequence[Any]
    ) -> None:
        if len(arguments) != len(kernel.arguments):
            raise TypeError(
                f"{expression} takes {len(kernel.arguments)} arguments; got {len(arguments)}"
            )
        packs = (instance.get("N", 1), instance.get("P", 1))
        pack = max(p for p in packs if isinstance(p, int))
        for number, (wanted, given) in enumerate(zip(kernel.arguments, arguments, strict=True)):
            problem = self._problem(wanted, given, instance, pack)
            if problem:
                raise TypeError(f"{expression}, argument {number}: {problem}")

    def _problem(self, wanted: str, given: Any, instance: Instance, pack: int) -> str:
        """What is wrong with an argument; empty if nothing is."""
        if wanted[0].isupper() and len(wanted) > 1 and wanted not in instance:
            dtype = struct_dtype(wanted, cast("np.dtype[Any]", instance["I"]))
            good = isinstance(given, np.ndarray) and given.shape == () and given.dtype == dtype
            return "" if good else f"must be a {wanted} of {instance['I']}; got {given!r}"
        name = wanted.strip("()")
        dtype = np.dtype(cast("Any", instance.get(name, name)))
        if wanted[0] == "(":
            good = isinstance(given, np.generic) and given.dtype == dtype
            return "" if good else f"must be a NumPy number of {dtype}; got {given!r}"
        if not isinstance(given, self._cupy.ndarray):
            return f"must be a device array; got a {type(given).__name__}"
        if given.dtype != dtype:
            return f"must be an array of {dtype}; got {given.dtype}"
        if not given.flags.c_contiguous:
            return f"must be contiguous; its shape is {given.shape}, its strides {given.strides}"
        if given.device.id != self._cupy.cuda.Device().id:
            return f"lives on device {given.device.id}; the launch is on another"
        # half a pack at least is loaded at once
        if pack > 1 and given.data.ptr % (dtype.itemsize * max(1, pack)):
            return f"must lie at a multiple of {dtype.itemsize * pack} bytes to be loaded in packs"
        return ""
