"""The examples run, are short, and reach what they print."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tinyml.checkpoint import configuration
from tinyml_backends import registry

pytestmark = pytest.mark.host

FOLDER = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Function `main` of an example, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "_registered", {})
    monkeypatch.setattr(registry, "_registered", {})

    def main(name, **options):
        return runpy.run_path(str(FOLDER / f"{name}.py"))["main"](**options)

    return main


@pytest.mark.parametrize("name", NAMES)
def test_they_are_short(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 60


def test_digits(example, tmp_path):
    assert example("lenet_on_digits", epochs=5) > 0.94
    assert (tmp_path / "digits.safetensors").exists()


def test_nuclei(example):
    scores = example("nuclei", steps=25)
    assert min(scores.values()) > 0.5


def test_what_where(example):
    errors = example("what_where", epochs=3)
    assert errors["with switches"] < 0.7 * errors["without"]


def test_residual_network(example, capsys):
    assert example("residual_network", epochs=3) > 0.75
    assert "multiply-adds" in capsys.readouterr().out


def test_own_layer(example):
    assert example("own_layer")


def test_own_backend(example):
    assert example("own_backend") == {"conv": 2, "max_pool": 2}


def test_on_a_gpu(example):
    assert example("on_a_gpu", steps=1) in ("numpy", "cupy")


def test_regression(example):
    assert example("regression", epochs=10) < 0.1


def test_pool_and_unpool(tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, FOLDER / "pool_and_unpool.py", tmp_path / "unpool.png"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "unpool.png").stat().st_size > 10_000
