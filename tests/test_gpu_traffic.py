"""The figures of `benchmarks/gpu_traffic.py`: nobody makes a step move more without seeing it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.host, pytest.mark.emulation]
ROOT = Path(__file__).parent.parent


def test_a_step_of_lenet(tmp_path):
    command = [sys.executable, "benchmarks/gpu_traffic.py", "lenet-step", "--json"]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([*command, str(tmp_path / "f.json")], cwd=ROOT, env=environment, check=True)
    total = json.loads((tmp_path / "f.json").read_text())["total"]
    assert total["launches"] <= 158
    assert total["waits"] == 4
    assert total["read"] + total["written"] < 140e6
    assert total["to_device"] == 64 * (784 * 4 + 8)
