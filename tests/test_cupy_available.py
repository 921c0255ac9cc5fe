"""Error messages where the CuPy backend cannot run: one sentence, what is missing, what to do."""

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tinyml_backends import BackendUnavailableError
from tinyml_backends.cupy_backend import CupyBackend

pytestmark = pytest.mark.host


class CUDARuntimeError(RuntimeError):
    pass


def cupy(version="14.2.0", devices=1, error=None, broken=None, **of_runtime):
    """The attributes of CuPy that are used before anything runs."""

    def count():
        if error:
            raise CUDARuntimeError(error)
        return devices

    def zeros(shape, dtype):
        raise broken

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError, **of_runtime)
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    return SimpleNamespace(__version__=version, cuda=cuda, zeros=zeros)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (cupy("13.6.0"), r"CuPy 13.6.0 is too old, 14.0 or newer is needed; pip install"),
        (
            cupy(error="cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
            r"there is no NVIDIA driver, or one too old .*; install or update the driver, or use",
        ),
        (
            cupy(error="cudaErrorNoDevice: no CUDA-capable device is detected"),
            r"CuPy finds no NVIDIA GPU; run where there is one .* 'numpy', which runs every",
        ),
        (
            cupy(is_hip=True),
            "this CuPy is for ROCm, and the kernels are for NVIDIA GPUs; pip install",
        ),
        (cupy(devices=0), "CuPy finds no NVIDIA GPU; run where"),
        (
            cupy(error="cudaErrorUnknown: unknown error\nmore"),
            r"CUDA does not start \(CUDARuntimeError: cudaErrorUnknown: unknown error\); check",
        ),
        (
            cupy(devices=1),
            "CuPy finds 1 CUDA GPU, numbered from 0, so device 1 does not exist; choose another",
        ),
        (
            cupy(devices=2, broken=RuntimeError("CuPy failed to load libnvrtc.so.12\nmore")),
            r"cannot run on it \(RuntimeError: CuPy failed to load libnvrtc.so.12\); CUDA's "
            r"compiler and headers may be missing: pip install 'cupy-cuda12x\[ctk\]",
        ),
    ],
)
def test_what_is_missing(module, reason):
    with pytest.raises(BackendUnavailableError, match=reason) as error:
        CupyBackend(1, module)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("or use 'numpy', which runs every operation")


@pytest.mark.parametrize(
    ("cupy_py", "reason"),
    [
        (None, "CuPy is not installed; pip install 'cupy-cuda12x[ctk]>=14' (or the CuPy package"),
        (
            "raise ImportError('libcuda.so.1: no such file')",
            "CuPy is installed but cannot be imported (ImportError: libcuda.so.1: no such file); "
            "reinstall it: pip install",
        ),
        (
            "import a_part_that_is_lost",
            "CuPy is installed but cannot be imported (ModuleNotFoundError: No module named",
        ),
    ],
)
@pytest.mark.parametrize("how", ["variable", "info"])
def test_what_a_user_reads(tmp_path, cupy_py, reason, how):
    """``TINYML_BACKEND=cupy`` and ``tinyml info`` say the same."""
    if cupy_py is not None:
        (tmp_path / "cupy.py").write_text(cupy_py)
    missing = "sys.modules['cupy'] = None" if cupy_py is None else ""
    code = {
        "variable": "os.environ['TINYML_BACKEND'] = 'cupy'; import tinyml; "
        "tinyml.current_backend()",
        "info": "from tinyml.cli import main; main(['info'])",
    }[how]
    code = f"import os, sys; sys.path.insert(0, sys.argv[1]); {missing}\n{code}"
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = run.stderr.splitlines()[-1] if how == "variable" else run.stdout
    assert reason in said
    if how == "variable":
        assert f"TINYML_BACKEND=cupy: backend 'cupy' cannot run: {reason}" in said
