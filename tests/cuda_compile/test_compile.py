"""Every kernel instance compiles for every architecture, without a GPU.

Registers, stack and spilled bytes are read from the assembler's log, which exists only for real
architectures (``sm_``). Loads, stores and arithmetic are read from the intermediate code (PTX).
"""

import contextlib
import ctypes
import importlib
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from conftest import peer
from tinyml_backends.cupy_backend import formulas
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.launcher import OPTIONS

pytestmark = [pytest.mark.host, pytest.mark.cuda_checks]

ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
#: Options that CuPy's compile_using_nvrtc adds.
OF_CUPY = ("--device-as-default-execution-space",)
PAGE = Path(__file__).parents[2] / "docs/gpu.md"
FILES = sorted({kernel.file for kernel in k.KERNELS})
INSTANCES = {
    file: {
        kernel.expression(instance): instance
        for kernel in k.KERNELS
        if kernel.file == file
        for instance in kernel.instances()
    }
    for file in FILES
}


@pytest.fixture(scope="module")
def nvrtc():
    """NVIDIA's run-time compiler; its wheel is in the extra ``cuda-compile``."""
    # CuPy would take the newest one, such as that of PyTorch's CUDA build. And NVRTC searches its
    # own folder for a second library, which it does not find under sanitizers.
    with contextlib.suppress(ModuleNotFoundError):  # no wheel: the system's NVRTC
        for folder in map(Path, importlib.import_module("nvidia.cuda_nvrtc").__path__):
            for name in ("libnvrtc-builtins.so*", "libnvrtc.so*"):
                for library in folder.glob(f"lib/{name}"):
                    ctypes.CDLL(str(library))
    peer("cupy")
    from cupy.cuda import nvrtc

    return nvrtc


@cache
def compiled(nvrtc, file, architecture):
    """The program of all instances of a file, and the log."""
    program = nvrtc.createProgram(k.source(file), file, (), ())
    for expression in INSTANCES[file]:
        nvrtc.addNameExpression(program, expression)
    options = (*OPTIONS, f"--gpu-architecture={architecture}", *OF_CUPY)
    try:
        nvrtc.compileProgram(program, (*options, "--ptxas-options=-v"))
    except Exception as error:
        pytest.fail(f"{file} for {architecture}: {error}\n{nvrtc.getProgramLog(program)}")
    return program, nvrtc.getProgramLog(program)


@cache
def ptx(nvrtc, file):
    """PTX of each instance of a file."""
    program, _ = compiled(nvrtc, file, "compute_80")
    text = nvrtc.getPTX(program)
    text = text.decode() if isinstance(text, bytes) else text
    bodies = {
        found[1]: found[2]
        for found in re.finditer(r"\.entry (\w+)\((.*?^\})", text, re.DOTALL | re.MULTILINE)
    }
    return {name: bodies[nvrtc.getLoweredName(program, name)] for name in INSTANCES[file]}


def test_number_of_instances():
    counts = {file: len(of_file) for file, of_file in INSTANCES.items()}
    print(counts)
    assert sum(counts.values()) == 458


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_instance_without_stack_or_spills(nvrtc, architecture):
    registers = Counter()
    for file in FILES:
        _, log = compiled(nvrtc, file, architecture)
        frames = re.findall(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log
        )
        assert len(frames) == len(INSTANCES[file])
        assert set(frames) == {("0", "0", "0")}, file
        used = list(map(int, re.findall(r"Used (\d+) registers", log)))
        assert len(used) == len(INSTANCES[file])
        registers[file] = max(used)
    print(f"{architecture}: registers at most {dict(registers)}")
    assert max(registers.values()) <= 128


def test_registers_are_those_of_the_documentation(nvrtc):
    rows = re.findall(r"^\| `(\w+<.*?>)`.*\| ([\d, ]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 20
    for expression, registers in rows:
        (file,) = (file for file in FILES if expression in INSTANCES[file])
        found = [registers_of(nvrtc, file, a)[expression] for a in ("sm_80", "sm_90", "sm_120")]
        assert registers == ", ".join(map(str, found)), expression


def registers_of(nvrtc, file, architecture):
    program, log = compiled(nvrtc, file, architecture)
    entry = r"Compiling entry function '(\w+)'(?:(?!Compiling).)*?Used (\d+)"
    of_names = dict(re.findall(entry, log, re.DOTALL))
    return {e: int(of_names[nvrtc.getLoweredName(program, e)]) for e in INSTANCES[file]}


@pytest.mark.parametrize(
    ("file", "expression", "load", "store"),
    [
        ("max_pool.cu", "max_pool_width2<float, unsigned char, int, 4>", "v4", "v2"),
        ("max_pool.cu", "max_pool<float, unsigned char, int, 4>", "v4", "v4"),
        ("max_unpool.cu", "max_unpool_width2<float, unsigned char, int, 4, 0>", "v2", "v4"),
        ("max_unpool.cu", "max_unpool_width2<float, unsigned char, int, 4, 1>", "v2", "v4"),
        ("max_unpool.cu", "max_unpool<float, unsigned char, int, 4, 0>", "v4", "v4"),
        ("avg_pool.cu", "avg_pool<float, int, 4>", "v4", "v4"),
        ("activation.cu", "activate<Gelu, float, float, int, 4>", "v4", "v4"),
    ],
)
def test_sixteen_bytes_at_a_time(nvrtc, file, expression, load, store):
    """A thread reads and writes 16 bytes at once; in ``width2`` kernels one of the two is 8."""
    body = ptx(nvrtc, file)[expression]
    assert re.search(rf"ld\.global\S*\.{load}\.[fub]32", body)
    assert re.search(rf"st\.global\S*\.{store}\.[fub]32", body)


@pytest.mark.parametrize("file", FILES)
def test_no_literal_floats(file):
    """``0.1f`` in a double kernel is not 0.1; with ``0.1`` a float kernel computes in double."""
    written = k.source(file).replace(formulas.code(), "")  # generated ones have the right type
    code = re.sub(r"//.*", "", written)
    assert not re.findall(r"\b\d+\.\d*\w*|\.\d+\w*|\b\d+[eE][+-]?\d+\w*", code)


@pytest.mark.parametrize("file", FILES)
def test_no_arithmetic_in_another_precision(nvrtc, file):
    for expression, body in ptx(nvrtc, file).items():
        dtype = INSTANCES[file][expression].get("T", np.dtype("float32"))
        strange = r"\.f32\b" if dtype == np.float64 else r"\.f64\b"
        assert not re.search(strange, body), expression


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_fused_or_flushed(nvrtc, file):
    """Products are rounded, and subnormals are kept."""
    for expression, body in ptx(nvrtc, file).items():
        assert not re.search(r"\bfma\.|\.ftz", body), expression


@pytest.mark.parametrize("file", [*FILES, "common.cuh"])
def test_sources_are_ascii(file):
    """So a compiler may read them in any encoding."""
    assert k.source(file).isascii()
