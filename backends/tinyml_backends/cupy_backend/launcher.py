"""Compiling and launching kernels. CuPy checks nothing of what a kernel is given; this does."""

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

#: Threads of a block.
BLOCK = 256
#: Blocks of a launch; with more to do, each thread strides over the grid.
MAX_BLOCKS = 1 << 16
#: Up to here a position plus the stride of the whole grid stays below 2**31.
MAX_INT32 = 2**31 - BLOCK * MAX_BLOCKS

#: Sums keep their order and their roundings: no multiplication is fused with an addition. Numbers
#: below the normal ones stay what they are, which in CuPy's own kernels they do not.
OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false")


def index_dtype(*sizes: int) -> "np.dtype[Any]":
    """Type of index arithmetic in which these numbers occur."""
    return np.dtype("i4" if max(sizes) <= MAX_INT32 else "i8")


class Launcher:
    """Compiles each instance when it is first asked for, once for a device, and launches it.

    Parameters
    ----------
    cupy : module
    cubins : Cubins or None
        Where compiled kernels are kept between processes; None keeps none.
    """

    def __init__(self, cupy: ModuleType, cubins: Cubins | None) -> None:
        self._cupy: Any = cupy
        self._cubins = cubins
        self._functions: dict[tuple[int, str], Any] = {}

    def __call__(self, kernel: Kernel, instance: Instance, threads: int, *arguments: Any) -> None:
        """Run an instance on the current device and stream; nothing waits for it.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what the kernel takes. Nothing is then run.
        TinymlError
            If the kernel does not compile; the message has the compiler's whole log.
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
        """Compile for the current device.

        Not through ``cupy.RawModule``: it adds ``-ftz=true``, which turns numbers below the normal
        ones into zeros, so that they would tie in a pooling and vanish in a sum.
        """

        def compile_it() -> tuple[str, bytes]:
            cubin, names = cuda.compiler.compile_using_nvrtc(
                code, OPTIONS, None, file, (expression,), None, True
            )
            return names[expression], cubin

        cuda, code = self._cupy.cuda, source(file)
        try:
            if self._cubins is None:
                name, cubin = compile_it()
            else:
                key = (code, *OPTIONS, expression, cuda.Device().compute_capability)
                name, cubin = self._cubins.get((*key, str(cuda.nvrtc.getVersion())), compile_it)
        except cuda.compiler.CompileException as error:
            raise TinymlError(
                f"the CUDA kernel {expression} of {file} does not compile here; the compiler "
                f"says:\n{error}"
            ) from error
        module = cuda.Module()
        module.load(cubin)
        return module.get_function(name)

    def _check(self, plan: "_Plan", arguments: Sequence[Any], device: int) -> None:
        if len(arguments) != len(plan.arguments):
            raise TypeError(
                f"{plan.expression} takes {len(plan.arguments)} arguments; got {len(arguments)}"
            )
        facts: dict[str, int] = {}  # what the arguments by value say of the sizes of arrays
        for number, (wanted, given) in enumerate(zip(plan.arguments, arguments, strict=True)):
            if not isinstance(wanted, Elements):
                _refuse(plan, number, _value_problem(plan, wanted, given))
                facts |= _facts(wanted, given)
        for number, (wanted, given) in enumerate(zip(plan.arguments, arguments, strict=True)):
            if isinstance(wanted, Elements):
                _refuse(plan, number, self._array_problem(plan, wanted, given, facts, device))

    def _array_problem(
        self, plan: "_Plan", wanted: Elements, given: Any, facts: Mapping[str, int], device: int
    ) -> str:
        """What is wrong with an array; empty if nothing is."""
        dtype = plan.dtype(wanted.dtype)
        if not isinstance(given, self._cupy.ndarray):
            return f"must be a device array; got a {type(given).__name__}"
        if given.dtype != dtype:
            return f"must be an array of {dtype}; got {given.dtype}"
        if not given.flags.c_contiguous:
            return f"must be contiguous; its shape is {given.shape}, its strides {given.strides}"
        if given.device.id != device:
            return f"lives on device {given.device.id}; the launch is on device {device}"
        if given.size < (needed := wanted.count(facts)):
            return f"must have {needed} elements; its shape is {given.shape}"
        if given.data.ptr % (plan.pack * dtype.itemsize):
            return f"must lie at a multiple of {plan.pack * dtype.itemsize} bytes: it is packed"
        return ""


class _Plan(NamedTuple):
    """An instance of a kernel, worked out."""

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


def _facts(wanted: Argument, given: Any) -> Mapping[str, int]:
    if isinstance(given, ByValue):
        return given.facts
    return {wanted.name: int(given)} if isinstance(wanted, Number) and wanted.name else {}


def _value_problem(plan: _Plan, wanted: Argument, given: Any) -> str:
    """What is wrong with an argument by value; empty if nothing is."""
    if isinstance(wanted, Number):
        dtype = plan.dtype(wanted.dtype)
        good = isinstance(given, np.generic) and given.dtype == dtype
        return "" if good else f"must be a NumPy number of {dtype}; got {given!r}"
    assert isinstance(wanted, Struct)
    index = plan.values["I"]
    good = isinstance(given, ByValue) and (given.name, given.index_type) == (wanted.name, index)
    return "" if good else f"must be a {wanted.name} of {index}; got {given!r}"
