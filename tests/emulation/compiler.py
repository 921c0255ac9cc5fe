"""Kernels compiled by g++, one shared library per name expression, cached on disk."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

INCLUDE = Path(__file__).parent / "include"

FLAGS = (
    *("-std=c++17", "-O1", "-g1", "-fPIC", "-shared"),
    *("-fno-fast-math", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-unknown-pragmas"),
)
SANITIZERS = (
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)
#: Options of nvrtc that g++ does not need.
IGNORED = (
    "--std=",
    "-std=",
    "--fmad=",
    "--ftz=false",
    "--gpu-architecture=",
    "-arch=",
    "--use_fast_math=false",
)


class CompileException(Exception):
    """As ``cupy.cuda.compiler.CompileException``; its text is the whole log of the compiler."""

    def __init__(
        self, msg: str, source: str, name: str, options: Sequence[str], backend: str = "nvrtc"
    ) -> None:
        super().__init__()
        self._msg, self.source, self.name, self.options = msg, source, name, options
        self.backend = backend

    def __str__(self) -> str:
        return self.get_message()

    def get_message(self) -> str:
        return self._msg


def sanitized() -> bool:
    """Whether AddressSanitizer is loaded into this process; kernels are then compiled for it."""
    return hasattr(ctypes.CDLL(None), "__asan_init")


def check_options(options: Sequence[str]) -> list[str]:
    """Include folders in nvrtc's options; ValueError for an unknown option."""
    folders = []
    for option in options:
        if option.startswith("-I") and len(option) > 2:
            folders.append(option[2:])
        elif option.startswith("--include-path="):
            folders.append(option.removeprefix("--include-path="))
        elif not option.startswith(IGNORED):
            raise ValueError(f"the emulated compiler does not know the option {option!r}")
    return folders


@functools.cache
def library(code: str, options: tuple[str, ...], name: str) -> ctypes.CDLL:
    """The loaded library that runs the kernel ``name``."""
    folders = check_options(options)
    key = _key(code, tuple(folders), name, sanitized())
    target = _cache_folder() / f"{key}.so"
    if not target.exists():
        _compile(code, folders, name, target)
    loaded = ctypes.CDLL(str(target))
    loaded.emulated_signature.restype = ctypes.c_int
    loaded.emulated_run.restype = None
    loaded.emulated_run.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong, ctypes.c_longlong),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]
    return loaded


def _compile(code: str, folders: Sequence[str], name: str, target: Path) -> None:
    # sanitizer reports and compiler errors show this name
    source = target.parent / f"kernels-{_hash(code)[:12]}.cu"
    _write(source, code)
    harness = target.with_suffix(".cpp")
    _write(harness, f'#include "{source}"\n#include "harness.h"\nEMULATED_EXPORT({name})\n')
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    command = [
        *(compiler(), *FLAGS, *(SANITIZERS if sanitized() else ())),
        *(f"-I{folder}" for folder in (INCLUDE, *folders)),
        *("-include", "emulation.h", str(harness), "-o", str(unfinished)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment())
    if done.returncode:
        log = f"{name}\n{done.stdout}{done.stderr}"
        raise CompileException(log, code, str(source), command, "g++")
    unfinished.replace(target)


def compiler() -> str:
    """Path of g++."""
    found = shutil.which("g++")
    if found is None:
        raise RuntimeError(
            "the emulated CUDA execution compiles kernels with g++, which is missing"
        )
    return found


def plain_environment() -> dict[str, str]:
    """Environment without preloaded libraries, for programs that are not under test."""
    return {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}


@functools.cache
def _version() -> str:
    return subprocess.check_output([compiler(), "--version"], env=plain_environment(), text=True)


def _key(code: str, folders: tuple[str, ...], name: str, under_sanitizers: bool) -> str:
    return _hash(
        "\0".join((code, name, str(under_sanitizers), _of_all(folders), *FLAGS, *SANITIZERS))
    )


@functools.cache
def _of_all(folders: tuple[str, ...]) -> str:
    """Hash of the headers and the compiler, on which a library depends too."""
    texts = [_version()]
    for folder in (INCLUDE, *folders):
        files = (p for p in Path(folder).iterdir() if p.suffix in {".h", ".cuh", ".cu"})
        texts += [f"{p.name}\0{p.read_text()}" for p in sorted(files)]
    return _hash("\0".join(texts))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    """Write a file atomically; another process may write it at the same time."""
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


@functools.cache
def _cache_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tinyml-emulation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user; code is not loaded from it")
    return folder
