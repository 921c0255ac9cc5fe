"""The environment of a run: machine, threads, the kernels of BLAS, versions."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import tinyml
from tinyml.bench.peers import Peer
from tinyml_backends import Backend
from tinyml_backends.threads import thread_count

#: Variables that make OpenBLAS use another kernel than the one it would choose for this machine.
VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

#: Vector instructions by the names that NumPy has for them, the widest first. NumPy 2.4 names
#: levels of x86-64, earlier versions name the instructions.
INSTRUCTION_SETS = {
    "AVX-512": {"X86_V4", "AVX512F"},
    "AVX2": {"X86_V3", "AVX2"},
    "SSE": {"X86_V2", "SSE42"},
    "SVE": {"SVE"},
    "NEON": {"ASIMD", "NEON"},
}


def environment(backends: list[Backend], peers: list[Peer]) -> dict[str, Any]:
    """Facts that the times depend on, by name."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    facts: dict[str, Any] = {
        "CPU": _cpu_model(),
        "instructions": instruction_set(),
        "CPUs": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": thread_count(),
        "BLAS": blas(),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "tinyml": tinyml.__version__,
    }
    if find_spec("numba"):  # it copies memory in every run on the CPU
        facts["Numba"] = version("numba")
    for backend in backends:
        facts |= _of_backend(backend)
    for peer in peers:
        facts |= {f"{peer.name} {key}": value for key, value in peer.describe().items()}
    return facts


def line(facts: dict[str, Any]) -> str:
    """The facts in one line."""
    forced = [f"{name}={facts[name]}" for name in VARIABLES if name in facts]
    head = f"{facts['CPU']}, {facts['instructions']}, {facts['CPUs']} CPUs; "
    head += f"{facts['threads']} threads; {facts['BLAS']}"
    if forced:
        head += f" (forced by {' '.join(forced)})"
    named = ("CPU", "instructions", "CPUs", "threads", "BLAS", *VARIABLES)
    rest = [f"{name} {value}" for name, value in facts.items() if name not in named]
    return f"{head}; {', '.join(rest)}"


def _cpu_model() -> str:
    try:
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def instruction_set() -> str:
    """The widest vector instructions that NumPy has found on this machine."""
    simd: Any = np.show_config(mode="dicts")["SIMD Extensions"]
    found = {*simd.get("baseline", []), *simd.get("found", [])}
    known = (name for name, marks in INSTRUCTION_SETS.items() if marks & found)
    return next(known, "no known vector instructions")


def blas() -> str:
    """Name and version of NumPy's BLAS, and the kernels that it has chosen for this machine."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    found.sort(key=lambda library: "numpy" not in library["filepath"])  # NumPy's own first
    if not found:
        return "BLAS unknown"
    kernel = found[0].get("architecture", "its own kernels")
    return f"{found[0]['internal_api']} {found[0]['version']} {kernel}"


def _of_backend(backend: Backend) -> dict[str, Any]:
    """GPU, CUDA version and array library of a backend that runs on a GPU; else nothing."""
    facts: dict[str, Any] = {}
    cuda = getattr(backend.xp, "cuda", None)
    if cuda is not None:
        device = backend.device(backend.asarray([0])).partition(":")[2]
        name = cuda.runtime.getDeviceProperties(int(device or 0))["name"]
        facts[f"{backend.name} GPU"] = name.decode()
        facts[f"{backend.name} CUDA"] = cuda.runtime.runtimeGetVersion()
        facts[f"{backend.name} version"] = getattr(backend.xp, "__version__", "unknown")
    return facts
