"""The tests of the CUDA kernels can fail: each planted fault makes one of them fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emulation.faults import FAULTS, VARIABLE

pytestmark = [pytest.mark.host, pytest.mark.emulation, pytest.mark.cuda_checks]

ROOT = Path(__file__).parent.parent


def pytest_run(arguments, fault=""):
    plugin = ("-p", "emulation.faults", "--cuda-checks")
    command = [sys.executable, "-m", "pytest", "-x", "-q", *plugin, *arguments]
    ours = ("LD_PRELOAD", "PYTEST_ADDOPTS")  # this process may have the sanitizers itself
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ours and "EMULATION" not in k},
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT, ROOT / "backends"))),
        VARIABLE: fault,
    }
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_shown(name):
    fault = FAULTS[name]
    code, output = pytest_run(fault.shown_by, name)
    assert code != 0, output
    assert "NotPlantedError" not in output, output[-5000:]
    assert re.search(fault.message, output), output[-5000:]


def test_nothing_is_shown_without_a_fault():
    """The tests that the faults' runs select pass without a fault."""
    selected = sorted({arguments for fault in FAULTS.values() for arguments in [fault.shown_by]})
    few = [arguments for arguments in selected if "-k" in arguments]
    assert few
    for arguments in few:
        code, output = pytest_run(arguments)
        assert code == 0, output[-5000:]
        assert re.search(r"\d+ passed", output)
