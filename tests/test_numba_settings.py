"""Numba's own settings, and what the first calls say."""

import io
import os
import subprocess
import sys

import pytest

import tinyml
from conftest import peer
from tinyml_backends import numba_backend

pytestmark = pytest.mark.host

POOL = """
import numpy as np, tinyml
tinyml.set_backend("numba")
for dtype in ("f4", "i8"):
    x = np.arange(162).reshape(1, 2, 9, 9).astype(dtype)
    y, switches = tinyml.max_pool(x, 3, 2, 1)
    assert y[0, 0, 0, 0] == 10
    assert tinyml.max_unpool(y, switches, "sum").sum() == y.sum()
print("pooled")
"""


@pytest.fixture(autouse=True)
def numba():
    return peer("numba")


def test_without_compilation_there_is_no_backend(monkeypatch, numba, clean_registry, no_cupy):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    from tinyml_backends import registry, selection

    monkeypatch.setattr(registry, "_made", {})
    selection.resolve("numpy")
    reason = "NUMBA_DISABLE_JIT is set, so that Numba compiles nothing; unset it, or use 'numpy'"
    with pytest.raises(tinyml.BackendUnavailableError, match=reason):
        numba_backend.load()
    (status,) = (status for status in tinyml.backends() if status.name == "numba")
    assert (status.available, status.reason) == (False, reason)
    with tinyml.use_backend("auto") as backend:
        assert backend.name == "numpy"


def test_without_optimisation_nothing_warns(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", POOL],
        env={**os.environ, "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("pooled\n", "")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_told_once_that_kernels_are_compiled(monkeypatch, is_terminal):
    from tinyml_backends.numba_backend.compiled import _NoCache, _say_once

    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    _say_once.cache_clear()
    for _ in range(2):
        assert _NoCache().load_overload(None, None) is None
    _say_once.cache_clear()
    said = "tinyml: Numba compiles kernels, which takes seconds\n"
    assert stderr.getvalue() == (said if is_terminal else "")
