"""A third-party backend, registered by a call or by an entry point, passes the pooling tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

TESTS = Path(__file__).parent
TOY = TESTS / "toy_package"
POOLING = ("test_max_pool.py", "test_max_unpool.py", "test_switches.py", "test_layers.py")


def run_pooling_tests(name: str, plugin: str, path: Path) -> None:
    """The pooling tests on a backend, in a process that finds the plugin on ``path``."""
    tests = [TESTS / file for file in (*POOLING, "test_contract.py")]
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", plugin, "--backend", name, "-q", *map(str, tests)],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TINYML_BACKEND": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for kernel in ("max_pool", "max_pool_gradient", "max_unpool", "max_unpool_gradient"):
        assert f"'{kernel}': " in run.stdout.partition("toy calls: ")[2]


def test_registered_by_a_call():
    run_pooling_tests("toy", "toy_registered", TOY)


def test_registered_by_an_entry_point(tmp_path):
    source = shutil.copytree(TOY, tmp_path / "source", ignore=shutil.ignore_patterns("*.pyc"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    site = tmp_path / "site"
    subprocess.run([*pip, "--no-index", "--target", site, source], check=True)
    assert not (site / "toy_registered.py").exists()
    run_pooling_tests("toy-installed", "toy_backend", site)
