"""Faults in the CUDA code that some test must detect, and a pytest plugin that plants one.

``TINYML_PLANTED_FAULT=name pytest -p emulation.faults …`` with this folder's parent on the path.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinyml_backends.cupy_backend import kernels, launcher, pooling

VARIABLE = "TINYML_PLANTED_FAULT"


class NotPlantedError(Exception):
    """The code that a fault would change does not exist, so its test run means nothing."""


class Fault(NamedTuple):
    plant: Callable[[], None]
    shown_by: tuple[str, ...]
    """Arguments of the pytest run that must fail."""
    message: str
    """Pattern in the output of that run."""


def edit(file: str, old: str, new: str) -> Callable[[], None]:
    """Fault that changes one place of a kernel's source."""

    def plant() -> None:
        def faulty(of: str) -> str:
            text = source(of)
            if of != file:
                return text
            if text.count(old) != 1:
                raise NotPlantedError(f"{old!r} occurs {text.count(old)} times in {file}")
            return text.replace(old, new)

        source = kernels.source
        kernels.source = launcher.source = faulty

    return plant


def no_checks() -> None:
    """Disable the launcher's checks, so that the stand-in has to detect the fault."""
    launcher.Launcher._check = lambda *args: None


def python_ints() -> None:
    no_checks()
    call = launcher.Launcher.__call__

    def with_ints(self, kernel, instance, threads, *arguments):  # type: ignore[no-untyped-def]
        plain = [int(a) if isinstance(a, np.integer) else a for a in arguments]
        call(self, kernel, instance, threads, *plain)

    launcher.Launcher.__call__ = with_ints


def strided_views() -> None:
    from emulation import cupy

    cupy.ascontiguousarray = lambda array: array


def strided_views_unchecked() -> None:
    strided_views()
    no_checks()


def misaligned_packs() -> None:
    no_checks()
    pooling._aligned = lambda *args: True


def a_name_cupy_lacks() -> None:
    from emulation.backend import EmulatedCupyBackend

    def forward(self, x, output_shape):  # type: ignore[no-untyped-def]
        return self.xp.block([x])  # NumPy has it

    EmulatedCupyBackend.adaptive_avg_pool = forward


EMULATED = ("--backend", "cupy-emulated")
POOL = (*EMULATED, "tests/test_max_pool.py")
LAYOUTS = (*EMULATED, "tests/test_layouts_and_duplicates.py")
FUNCTIONAL = (*EMULATED, "tests/test_functional.py")
PARTICULAR = (*EMULATED, "tests/test_cupy_backend.py")

FAULTS = {
    "a bounds check removed": Fault(
        edit("max_pool.cu", "start < low ? step.quotient(low - start + step.value - 1) : 0", "0"),
        POOL,
        "AddressSanitizer|AssertionError",
    ),
    "one element too many": Fault(
        edit(
            "max_unpool_gradient.cu",
            "for (I i = first_thread<I>(); i < count; i",
            "for (I i = first_thread<I>(); i <= count; i",
        ),
        LAYOUTS,
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "two arguments of different types swapped": Fault(
        edit(
            "max_unpool_gradient.cu",
            "const T* __restrict__ gradient, const W* __restrict__ winners, T*",
            "const W* __restrict__ winners, const T* __restrict__ gradient, T*",
        ),
        LAYOUTS,
        "TypeError: max_unpool_gradient.*argument 0 is an array of .*pointer to const",
    ),
    "two arguments of one type swapped": Fault(
        edit(
            "batch_norm.cu",
            "const T* __restrict__ mean,\n    const T* __restrict__ share,",
            "const T* __restrict__ share,\n    const T* __restrict__ mean,",
        ),
        (*EMULATED, "tests/test_norm_and_activation.py"),
        "AssertionError",
    ),
    "a Python int where the kernel takes int": Fault(
        python_ints,
        FUNCTIONAL,
        "is a Python int, which CuPy passes as long long; the kernel's parameter is int32",
    ),
    "a product with a reciprocal instead of a quotient": Fault(
        edit(
            "avg_pool.cu",
            "rounded<T>(total[n] / divisor)",
            "rounded<T>(total[n] * (1.0f / divisor))",
        ),
        (*EMULATED, "tests/test_average_and_adaptive.py"),
        "AssertionError",
    ),
    "a comparison that includes zero": Fault(
        edit("activation.cu", "number(values.at[n]) > 0;", "!(number(values.at[n]) < 0);"),
        (*EMULATED, "tests/test_norm_and_activation.py", "-k", "relu"),
        "AssertionError",
    ),
    "a literal float in a double kernel": Fault(
        edit("optimizers.cu", "+ epsilon);", "+ epsilon + 1e-30f);"),
        ("tests/cuda_compile", "-k", "no_literal_floats and optimizers"),
        r"assert not \[.1e-30f.\]",
    ),
    "a strided view, refused by the launcher": Fault(
        strided_views, LAYOUTS, "TypeError: .*must be contiguous"
    ),
    "a strided view, refused by the stand-in": Fault(
        strided_views_unchecked, LAYOUTS, "that is not C-contiguous"
    ),
    "a scatter that races": Fault(
        edit(
            "plane_indices.cu",
            "atomicMax(owner + pooled.quotient(i) * plane + (I)index, i);",
            "owner[pooled.quotient(i) * plane + (I)index] = i;",
        ),
        FUNCTIONAL,
        "EmulationError: claim_cells.*differs between in-order and",
    ),
    "a misaligned 16-byte access": Fault(
        misaligned_packs,
        (*PARTICULAR, "-k", "view_that_is_not_aligned"),
        "runtime error: .*misaligned address",
    ),
    "a name CuPy does not have": Fault(
        a_name_cupy_lacks,
        (*EMULATED, "tests/test_average_and_adaptive.py", "-k", "adaptive"),
        "AttributeError: the emulated module 'cupy' has no attribute 'block'",
    ),
    "an index in 32 bits where 64 are needed": Fault(
        edit(
            "max_pool.cu",
            "__device__ inline I flat_of(",
            "__device__ inline int flat_of(",
        ),
        ("--backend", "cupy-emulated", "tests/test_cupy_huge.py"),
        "runtime error: signed integer overflow|AddressSanitizer|AssertionError",
    ),
    "an output cell left unwritten": Fault(
        edit(
            "max_pool.cu",
            "        store(values, i * N, best);\n",
            "        if (i % 7 != 3) store(values, i * N, best);\n",
        ),
        POOL,
        "EmulationError: max_pool.*or is left unwritten",
    ),
}


def pytest_configure() -> None:
    name = os.environ.get(VARIABLE)
    if name:
        FAULTS[name].plant()
