"""Restart pytest with the sanitizers' libraries preloaded, and show their reports.

AddressSanitizer must be loaded into a process first, and Python is not linked with it.
"""

import ctypes
import os
import subprocess
import sys

import pytest

from emulation.compiler import compiler, plain_environment, sanitized

_GUARD = "TINYML_EMULATION_PRELOADED"
_REPORTS = "TINYML_EMULATION_REPORTS"

#: A report ends the process with SIGABRT, and pytest then shows the Python stack.
_COMMON = "halt_on_error=1:abort_on_error=1"
OPTIONS = {
    "ASAN_OPTIONS": f"{_COMMON}:detect_leaks=0:detect_odr_violation=0:handle_segv=2"
    ":allocator_may_return_null=1:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": f"{_COMMON}:print_stacktrace=1",
}


def environment() -> dict[str, str]:
    """Environment variables for a Python process with the sanitizers."""
    # libstdc++ is preloaded too: AddressSanitizer looks up its `throw` once, at the start.
    libraries = [_library(name) for name in ("libasan.so", "libstdc++.so.6")]
    before = os.environ.get("LD_PRELOAD", "")
    return {
        **os.environ,
        **OPTIONS,
        "LD_PRELOAD": ":".join((*libraries, before)).rstrip(":"),
        _GUARD: "1",
    }


def ensure_sanitizers(config: pytest.Config) -> None:
    """Replace this process by one with the sanitizers, unless it has them already.

    Call it first in ``pytest_configure``: the state of the process is lost, and at that time pytest
    does not capture output yet.
    """
    if sanitized():
        _show_reports()
        return
    if os.environ.get(_GUARD):
        raise pytest.UsageError("libasan.so was preloaded and is not in the process")
    try:
        changed = environment()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise pytest.UsageError(f"emulated CUDA: {error}") from None
    sys.stdout.flush()
    sys.stderr.flush()
    reports = os.dup(2)
    os.set_inheritable(reports, True)
    changed[_REPORTS] = str(reports)
    os.chdir(config.invocation_params.dir)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], changed)


def _show_reports() -> None:
    """Send reports to the descriptor kept from pytest's capture; tests' child processes lack it."""
    reports = int(os.environ.pop(_REPORTS, "-1"))
    try:
        os.fstat(reports)
    except OSError:
        return
    os.set_inheritable(reports, False)
    # Each library gets a descriptor of its own: the second one closes that of the first.
    for name in ("libasan.so", "libubsan.so"):
        library = ctypes.CDLL(_library(name))
        library.__sanitizer_set_report_fd(ctypes.c_void_p(os.dup(reports)))


def _library(name: str) -> str:
    command = [compiler(), f"-print-file-name={name}"]
    path = subprocess.check_output(command, env=plain_environment(), text=True).strip()
    if not os.path.isabs(path):
        raise RuntimeError(f"g++ has no {name}; the sanitizers are a package of their own")
    return os.path.realpath(path)
