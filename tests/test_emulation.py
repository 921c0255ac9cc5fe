"""Each check of the emulated CUDA execution finds the fault it is made for."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import emulation
from emulation import EmulationError, compiler, launches, preload
from emulation import cupy as cp
from tinyml_backends.cupy_backend.cubins import Cubins

pytestmark = [pytest.mark.host, pytest.mark.emulation]

CODE = """
#include <cuda_fp16.h>
struct alignas(16) Pack { float at[4]; };
struct Pair { int low; double high; };

__device__ inline int flat() { return blockIdx.x * blockDim.x + threadIdx.x; }

template <typename T> __global__ void twice(const T* __restrict__ x, T* __restrict__ y, int n) {
    for (int i = flat(); i < n; i += gridDim.x * blockDim.x) y[i] = x[i] + x[i];
}
__global__ void shifted(const float* x, float* y, int by) {
    y[threadIdx.x] = x[(int)threadIdx.x + by];
}
__global__ void out_of(const float* x, float* y, int by) {
    y[(int)threadIdx.x + by] = x[threadIdx.x];
}
__global__ void packs(const float* x, float* y, int by) {
    *reinterpret_cast<Pack*>(y) = *reinterpret_cast<const Pack*>(x + by);
}
__global__ void product(const float* x, float* y, int n) { y[threadIdx.x] = n * n; }
__global__ void scatter(const int* cells, int* y, int n) {
    if (threadIdx.x < n) y[cells[threadIdx.x]] = threadIdx.x;
}
__global__ void owners(const int* cells, int* y, int n) {
    if (threadIdx.x < n) atomicMax(y + cells[threadIdx.x], (int)threadIdx.x);
}
__global__ void overwrites(const float* x, float* y, int n) { const_cast<float*>(x)[0] = n; }
__global__ void of_struct(const Pair pair, double* y) { y[0] = pair.low + pair.high; }
__global__ void of_number(float number, bool flag, float* y) { y[0] = flag ? number : -number; }
__global__ void copies(const float* x, float* y, int n) { y[threadIdx.x] = x[threadIdx.x]; }
__global__ void widen(const __half* x, float* y) { y[flat()] = __half2float(x[flat()]); }
__global__ void narrow(const float* x, __half* y) { y[flat()] = __float2half_rn(x[flat()]); }
__global__ void places(unsigned* y) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}
"""


def kernel(name, code=CODE):
    options = ("--std=c++17", "--fmad=false")

    def compile_it():
        cubin, names = cp.cuda.compiler.compile_using_nvrtc(code, options, name_expressions=(name,))
        return names[name], cubin

    path, lowered = Cubins(None).get((code, name), compile_it)
    return cp.RawModule(path=str(path)).get_function(lowered)


def float_arrays(n=8):
    return cp.arange(n, dtype=np.float32), cp.empty(n, np.float32)


def run_preloaded(*command, cwd=None):
    """Exit status and output of a Python process with the sanitizers."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), *sys.path])
    done = subprocess.run(
        [sys.executable, *command],
        env={**preload.environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    return done.returncode, done.stdout + done.stderr


def run_kernel_preloaded(name, number, n=8, inputs=8):
    script = f"""
        import numpy as np, test_emulation as t
        assert t.emulation.sanitized()
        x, y = t.cp.ones({inputs}, "f4"), t.cp.empty({n}, "f4")
        t.kernel({name!r})((1,), ({n},), (x, y, np.int32({number})))
    """
    return run_preloaded("-c", textwrap.dedent(script))


# -- correct kernels ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
def test_a_kernel_runs_for_its_dtype(dtype):
    cpp = {"float32": "float", "float64": "double", "int32": "int", "uint64": "unsigned long long"}
    x = cp.arange(1000, dtype=dtype)
    y = cp.empty_like(x)
    emulation.record.clear()
    kernel(f"twice<{cpp[dtype]}>")((3,), (64,), (x, y, np.int32(1000)))
    np.testing.assert_array_equal(y.get(), 2 * np.arange(1000))
    assert emulation.record == [(f"twice<{cpp[dtype]}>", (3, 1, 1), (64, 1, 1))]


def test_every_thread_of_a_grid_has_its_place():
    y = cp.empty(2 * 3 * 2 * 24, np.uint32)
    kernel("places")((2, 3, 2), (4, 3, 2), (y,))
    blocks, threads = np.divmod(np.arange(y.size), 24)
    np.testing.assert_array_equal(y.get(), blocks * 1000 + threads)


def test_halves_are_converted_as_numpy_does():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    wide = cp.empty(halves.size, np.float32)
    kernel("widen")((256,), (256,), (cp.asarray(halves), wide))
    np.testing.assert_array_equal(wide.get(), halves.astype(np.float32))
    rng = np.random.default_rng(0)
    finite = np.sort(halves[np.isfinite(halves)].astype(np.float32))
    ties = np.zeros(1 << 16, np.float32)
    ties[: finite.size - 1] = (finite[1:] + finite[:-1]) / 2  # half way between two halves
    any_bits = rng.integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
    for x in (ties, any_bits):
        y = cp.empty(x.size, np.float16)
        kernel("narrow")((256,), (256,), (cp.asarray(x), y))
        with np.errstate(over="ignore", invalid="ignore"):
            np.testing.assert_array_equal(y.get(), x.astype(np.float16))


def test_a_copied_nan_keeps_its_payload():
    bits = np.array([0x7F800001, 0xFFC12345, 0x7FC00000, 0x80000000], np.uint32)
    y = cp.empty(4, np.float32)
    kernel("copies")((1,), (4,), (cp.asarray(bits.view(np.float32)), y, np.int32(4)))
    np.testing.assert_array_equal(y.get().view(np.uint32), bits)


def test_structs_numbers_and_truth_values_are_passed_by_value():
    pair = np.zeros(1, np.dtype([("low", "i4"), ("high", "f8")], align=True))
    pair["low"], pair["high"] = 3, 0.5
    y = cp.empty(1, np.float64)
    kernel("of_struct")((1,), (1,), (pair, y))
    assert float(y[0]) == 3.5
    z = cp.empty(1, np.float32)
    kernel("of_number")((1,), (1,), (np.float32(2), True, z))
    assert float(z[0]) == 2


def test_atomics_do_not_depend_on_the_order():
    y = cp.full(2, -1, np.int32)
    kernel("owners")((1,), (32,), (cp.asarray(np.arange(30, dtype=np.int32) % 2), y, np.int32(30)))
    assert y.get().tolist() == [28, 29]


def test_some_blocks_of_a_grid_run_alone():
    x, y = cp.arange(100, dtype=np.float32), cp.zeros(100, np.float32)
    with emulation.only_blocks(2, 1):
        kernel("twice<float>")((10,), (10,), (x, y, np.int32(100)))
    assert np.flatnonzero(y.get()).tolist() == list(range(20, 30))
    with emulation.only_blocks(10, 1), pytest.raises(ValueError, match="not in a grid"):
        kernel("twice<float>")((10,), (10,), (x, y, np.int32(100)))


def test_large_memory_has_only_the_pages_that_are_touched():
    huge = cp.zeros(1 << 33, np.int8)
    huge[-1] = 1
    assert int(huge[-2:].sum()) == 1
    assert huge.nbytes == 1 << 33


# -- memory and arithmetic: the sanitizers ---------------------------------------------------


@pytest.mark.cuda_checks
@pytest.mark.parametrize(
    ("name", "number", "report"),
    [
        ("shifted", 1, "AddressSanitizer: heap-buffer-overflow.*READ of size 4"),
        ("shifted", -1, "AddressSanitizer: heap-buffer-overflow.*READ of size 4"),
        ("out_of", 1, "AddressSanitizer: heap-buffer-overflow.*WRITE of size 4"),
        ("out_of", -1, "AddressSanitizer: heap-buffer-overflow.*WRITE of size 4"),
        ("packs", 1, "runtime error: .*misaligned address.*16 byte alignment"),
        ("product", 1 << 16, "runtime error: signed integer overflow"),
    ],
)
def test_the_sanitizers_stop_a_kernel(name, number, report):
    status, said = run_kernel_preloaded(name, number)
    assert status != 0
    assert re.search(report, said, re.DOTALL), said
    assert "kernels-" in said  # the source's name and line


@pytest.mark.cuda_checks
@pytest.mark.parametrize(
    ("name", "number", "n"),
    [("shifted", 0, 8), ("out_of", 0, 8), ("packs", 4, 4), ("product", 9, 8)],
)
def test_the_sanitizers_let_a_right_kernel_run(name, number, n):
    status, said = run_kernel_preloaded(name, number, n)
    assert (status, said) == (0, "")


@pytest.mark.cuda_checks
def test_pytest_starts_itself_again_and_shows_the_report(tmp_path):
    (tmp_path / "conftest.py").write_text(
        textwrap.dedent("""
        import emulation.preload

        def pytest_configure(config):
            emulation.preload.ensure_sanitizers(config)
        """)
    )
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        import numpy, subprocess, sys
        import test_emulation as t

        def test_right():
            assert t.emulation.sanitized()
            subprocess.run([sys.executable, "-c", "import numpy"], check=True)

        def test_wrong_place():
            x, y = t.float_arrays()
            t.kernel("shifted")((1,), (8,), (x, y, numpy.int32(1)))

        def test_wrong_number():
            x, y = t.float_arrays()
            t.kernel("product")((1,), (8,), (x, y, numpy.int32(1 << 16)))
        """)
    )
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k")
    here = Path(__file__).parent
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD" and "EMULATION" not in k}
    plain["PYTHONPATH"] = os.pathsep.join([str(here), *sys.path])

    def run(test):
        return subprocess.run(
            (*command, test), cwd=tmp_path, env=plain, capture_output=True, text=True
        )

    right = run("right")
    assert right.returncode == 0, right.stdout + right.stderr
    reports = {"wrong_place": "heap-buffer-overflow", "wrong_number": "signed integer overflow"}
    for test, report in reports.items():
        wrong = run(test)
        assert wrong.returncode != 0
        assert report in wrong.stderr
        assert "test_it.py" in wrong.stderr  # the Python stack shows the test


# -- races and unwritten elements ---------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 30, 1000])
def test_a_race_is_found(n):
    cells, y = cp.zeros(n, np.int32), cp.zeros(1, np.int32)
    with pytest.raises(EmulationError, match="scatter: argument 1 differs between in-order"):
        kernel("scatter")((1,), (n,), (cells, y, np.int32(n)))


def test_an_unwritten_element_is_found():
    x, y = float_arrays(100)
    with pytest.raises(EmulationError, match="or is left unwritten; first at flat element 99"):
        kernel("twice<float>")((4,), (32,), (x, y, np.int32(99)))
    kernel("twice<float>")((4,), (32,), (x, cp.zeros(100, np.float32), np.int32(99)))


def test_a_write_through_const_is_found():
    x, y = cp.ones(3, np.float32), cp.zeros(3, np.float32)
    with pytest.raises(EmulationError, match="argument 0 is const"):
        kernel("overwrites")((1,), (1,), (x, y, np.int32(3)))


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, n: (x, y, 8), "argument 2 is a Python int, .* long long; .* is int32"),
        (lambda x, y, n: (x, y, np.uint32(8)), "argument 2 is a NumPy scalar of uint32"),
        (lambda x, y, n: (x, y, 8.0), "argument 2 is a Python float"),
        (lambda x, y, n: (x, y), "takes 3 arguments, and was passed 2"),
        (lambda x, y, n: (x, n, y), "argument 1 is a NumPy scalar of int32; .* a pointer"),
        (lambda x, y, n: (x, y, None), "argument 2 is None"),
        (lambda x, y, n: (x, y.astype(np.float64), n), "argument 1 is an array of float64"),
        (lambda x, y, n: (x, y.view(np.int32), n), "argument 1 is an array of int32"),
        (lambda x, y, n: (x.get(), y, n), "Unsupported type .*ndarray.* of size 8"),
        (lambda x, y, n: (x[::2], y, n), "argument 0 .* not C-contiguous"),
        (lambda x, y, n: (x, y, "8"), "Unsupported type .*str"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    x, y = float_arrays()
    with pytest.raises(TypeError, match=message):
        kernel("twice<float>")((1,), (8,), change(x, y, np.int32(8)))


def test_an_array_of_another_device_is_refused():
    (x, y), n = float_arrays(), np.int32(8)
    with cp.cuda.Device(1):
        there = cp.empty(8, np.float32)
        kernel("twice<float>")((1,), (8,), (cp.zeros(8, np.float32), there, n))
    for args in [(x, there, n), (there, y, n)]:
        with pytest.raises(EmulationError, match="device 1 is used while device 0 is current"):
            kernel("twice<float>")((1,), (8,), args)


def test_launches_that_cuda_refuses_are_refused():
    x, y = float_arrays()
    for grid, block in [((1,), (1025,)), ((1,), (32, 64)), ((1, 65536), (1,)), ((1,), (1, 1, 65))]:
        with pytest.raises(ValueError, match="CUDA takes"):
            launches.sizes("k", grid, block)
    with pytest.raises(TypeError, match="tuples"):
        kernel("twice<float>")([1], (8,), (x, y, np.int32(8)))


def test_compile_errors_carry_the_log():
    with pytest.raises(cp.cuda.compiler.CompileException, match=r"undefined_name.* was not"):
        kernel("k", "__global__ void k(int* y) { y[0] = undefined_name; }")
    with pytest.raises(ValueError, match="--oops"):
        cp.cuda.compiler.compile_using_nvrtc(CODE, ("--oops",), name_expressions=("copies",))


def test_files_that_cannot_be_loaded(tmp_path):
    cubin, names = cp.cuda.compiler.compile_using_nvrtc(CODE, name_expressions=("copies",))
    for number, (content, name, error) in enumerate(
        [
            (None, names["copies"], "FILE_NOT_FOUND"),
            (cubin[:-9], names["copies"], "INVALID_IMAGE"),
            (cubin, "copies", "symbol not found: copies"),  # only the lowered name is in the file
        ]
    ):
        path = tmp_path / str(number)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(cp.cuda.driver.CUDADriverError, match=error):
            cp.RawModule(path=str(path)).get_function(name)


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"g\+\+, which is missing"):
        compiler.compiler()
