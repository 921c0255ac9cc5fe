"""Compiling and launching kernels. CuPy does not check the arguments of a kernel; this does."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinyml_backends.cupy_backend.cubins import Cubins
from tinyml_backends.cupy_backend.kernels import (
    Argument,
    Elements,
    Instance,
    Kernel,
    Number,
    Struct,
    Value,
    source,
)
from tinyml_backends.cupy_backend.structs import ByValue
from tinyml_backends.errors import TinymlError

#: Threads per block.
BLOCK = 256
#: Blocks per launch, at most. A grid-stride loop computes the elements beyond that.
MAX_BLOCKS = 1 << 16
#: Largest size for int32: a position plus one step of the grid-stride loop stays below 2**31.
MAX_INT32 = 2**31 - BLOCK * MAX_BLOCKS

#: Multiplications and additions are not fused, so that every sum is rounded as on the CPU.
#: Subnormals are kept (CuPy's own kernels flush them to zero).
OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false")


def index_dtype(*sizes: int) -> "np.dtype[Any]":
    """Type of index arithmetic in which the largest numbers are ``sizes``."""
    return np.dtype("i4" if max(sizes) <= MAX_INT32 else "i8")


class Launcher:
    """Compiles each instance at its first launch on a device, and launches it.

    Parameters
    ----------
    cupy : module
    cubins : Cubins
        Cache of compiled kernels.
    """

    def __init__(self, cupy: ModuleType, cubins: Cubins) -> None:
        self._cupy: Any = cupy
        self._cubins = cubins
        self._functions: dict[tuple[int, str], Any] = {}

    def __call__(self, kernel: Kernel, instance: Instance, threads: int, *arguments: Any) -> None:
        """Queue an instance on the current stream of the current device.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit the kernel's parameter. Nothing is launched.
        TinymlError
            If the kernel does not compile; the message contains the compiler's log.
        """
        plan = _plan(kernel, tuple(instance.items()))
        device = self._cupy.cuda.Device().id
        self._check(plan, arguments, device)
        if threads == 0:
            return
        key = (device, plan.expression)
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._compiled(kernel.file, plan.expression)
        blocks = min(-(-threads // BLOCK), MAX_BLOCKS)
        given = tuple(a.data if isinstance(a, ByValue) else a for a in arguments)
        function((blocks,), (BLOCK,), given)

    def _compiled(self, file: str, expression: str) -> Any:
        """Load an instance for the current device; compile it if it is not in the cache."""
        cuda, code = self._cupy.cuda, source(file)

        def compile_it() -> tuple[str, bytes]:
            cubin, names = cuda.compiler.compile_using_nvrtc(
                code, OPTIONS, None, file, (expression,), None, True
            )
            return names[expression], cubin

        versions = (cuda.Device().compute_capability, str(cuda.nvrtc.getVersion()))
        try:
            path, name = self._cubins.get((code, *OPTIONS, expression, *versions), compile_it)
        except cuda.compiler.CompileException as error:
            raise TinymlError(
                f"the CUDA kernel {expression} of {file} does not compile here; the compiler "
                f"says:\n{error}"
            ) from error
        # From source, RawModule would compile with -ftz=true, which flushes subnormals to zero.
        return self._cupy.RawModule(path=str(path)).get_function(name)

    def _check(self, plan: "_Plan", arguments: Sequence[Any], device: int) -> None:
        if len(arguments) != len(plan.arguments):
            raise TypeError(
                f"{plan.expression} takes {len(plan.arguments)} arguments; got {len(arguments)}"
            )
        numbered = list(enumerate(zip(plan.arguments, arguments, strict=True)))
        sizes: dict[str, int] = {}  # named sizes, from the arguments by value
        for number, (wanted, given) in numbered:
            if not isinstance(wanted, Elements):
                _refuse(plan, number, _value_problem(plan, wanted, given))
                sizes |= _sizes(wanted, given)
        for number, (wanted, given) in numbered:
            if isinstance(wanted, Elements):
                _refuse(plan, number, self._array_problem(plan, wanted, given, sizes, device))

    def _array_problem(
        self, plan: "_Plan", wanted: Elements, given: Any, sizes: Mapping[str, int], device: int
    ) -> str:
        """Why an array does not fit its parameter; empty if it does."""
        dtype = plan.dtype(wanted.dtype)
        if not isinstance(given, self._cupy.ndarray):
            return f"must be a device array; got a {type(given).__name__}"
        if given.dtype != dtype:
            return f"must be an array of {dtype}; got {given.dtype}"
        if not given.flags.c_contiguous:
            return f"must be contiguous; its shape is {given.shape}, its strides {given.strides}"
        if given.device.id != device:
            return f"is on device {given.device.id}; the launch is on device {device}"
        if given.size < (needed := wanted.count(sizes)):
            return f"must have {needed} elements; its shape is {given.shape}"
        if given.data.ptr % (plan.pack * dtype.itemsize):
            return f"must be aligned to {plan.pack * dtype.itemsize} bytes, the size of one access"
        return ""


class _Plan(NamedTuple):
    """An instance of a kernel: its C++ name, arguments, template values and elements per access."""

    expression: str
    arguments: tuple[Argument, ...]
    values: Mapping[str, Value]
    pack: int

    def dtype(self, name: str) -> "np.dtype[Any]":
        value = self.values.get(name)
        return value if isinstance(value, np.dtype) else np.dtype(name)


@cache
def _plan(kernel: Kernel, instance: tuple[tuple[str, Value], ...]) -> _Plan:
    values = dict(instance)
    pack = values.get("P", values.get("N", 1))
    assert isinstance(pack, int)
    return _Plan(kernel.expression(values), kernel.arguments, values, pack)


def _refuse(plan: _Plan, number: int, problem: str) -> None:
    if problem:
        raise TypeError(f"{plan.expression}, argument {number}: {problem}")


def _sizes(wanted: Argument, given: Any) -> Mapping[str, int]:
    if isinstance(given, ByValue):
        return given.sizes
    return {wanted.name: int(given)} if isinstance(wanted, Number) and wanted.name else {}


def _value_problem(plan: _Plan, wanted: Argument, given: Any) -> str:
    """Why an argument by value does not fit its parameter; empty if it does."""
    if isinstance(wanted, Number):
        dtype = plan.dtype(wanted.dtype)
        good = isinstance(given, np.generic) and given.dtype == dtype
        return "" if good else f"must be a NumPy number of {dtype}; got {given!r}"
    assert isinstance(wanted, Struct)
    index = plan.values["I"]
    good = isinstance(given, ByValue) and (given.name, given.index_type) == (wanted.name, index)
    return "" if good else f"must be a {wanted.name} of {index}; got {given!r}"
