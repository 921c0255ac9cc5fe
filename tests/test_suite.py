"""The suite itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host


def test_an_interrupt_stops_the_suite_in_code_that_handles_it(tmp_path):
    (tmp_path / "test_both.py").write_text(
        "import contextlib, pathlib, pytest, signal\n"
        "pytestmark = pytest.mark.host\n"
        "def test_first():\n"
        "    with contextlib.suppress(KeyboardInterrupt):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "def test_second():\n"
        "    pathlib.Path('ran').touch()\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "conftest", "test_both.py"]
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent, here.parent / "backends")))
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == pytest.ExitCode.INTERRUPTED, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    assert not (tmp_path / "ran").exists()
