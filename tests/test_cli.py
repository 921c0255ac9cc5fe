"""The command line, as a user runs it."""

import os
import subprocess
import sys

import pytest

import tinyml

pytestmark = pytest.mark.host


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "tinyml", *arguments],
        env={**os.environ, "TINYML_BACKEND": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_version():
    assert run("--version").stdout == f"tinyml, version {tinyml.__version__}\n"


def test_help_names_the_variable_and_the_commands():
    text = run("--help").stdout
    assert "TINYML_BACKEND" in text
    assert "info" in text


def test_info_lists_every_backend_with_its_reason():
    result = run("info")
    assert result.returncode == 0
    assert f"tinyml {tinyml.__version__}" in result.stdout
    assert "  numpy    available\n" in result.stdout
    assert "  cupy     not available: " in result.stdout
    assert result.stdout.endswith("selected: numpy\n")
    assert result.stderr == ""


@pytest.mark.parametrize("which", ["cupy", "nonsense"])
def test_info_with_a_backend_that_cannot_be_had(which):
    result = run("info", TINYML_BACKEND=which)
    assert result.returncode == 2
    assert "  numpy    available\n" in result.stdout
    assert result.stderr.startswith(f"Error: TINYML_BACKEND={which}: ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_command():
    result = run("inof")
    assert result.returncode == 2
    assert "No such command 'inof'" in result.stderr
