"""The command line, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import weakref

import pytest
from click.testing import CliRunner

import tinyml
from tinyml.cli import main, terminal
from tinyml_backends import threads

pytestmark = pytest.mark.host


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "tinyml", *arguments],
        env={**os.environ, "TINYML_BACKEND": "", "TINYML_NUM_THREADS": "", **variables},
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
    result = run("info", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0
    assert f"tinyml {tinyml.__version__}" in result.stdout
    assert "  numpy    available\n" in result.stdout
    assert "  cupy     not available: " in result.stdout
    *_, count, blas, selected = result.stdout.splitlines()
    assert re.fullmatch(r"threads: \d+ \(one for each CPU; TINYML_NUM_THREADS is not set\)", count)
    assert re.match(r"BLAS: \w+ ", blas)
    assert selected == "selected: numpy (the default; TINYML_BACKEND is not set)"
    assert result.stderr == ""


def test_info_says_what_the_variables_choose():
    result = run("info", TINYML_BACKEND="numpy", TINYML_NUM_THREADS=" 2 ")
    assert "\nthreads: 2 (TINYML_NUM_THREADS is 2)\n" in result.stdout
    assert result.stdout.endswith("\nselected: numpy (TINYML_BACKEND is numpy)\n")


@pytest.mark.parametrize("which", ["cupy", "nonsense"])
def test_info_with_a_backend_that_cannot_be_had(which):
    result = run("info", TINYML_BACKEND=which, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "  numpy    available\n" in result.stdout
    assert result.stderr.startswith(f"Error: TINYML_BACKEND={which}: ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_command():
    result = run("inof")
    assert result.returncode == 2
    assert "No such command 'inof'" in result.stderr


@pytest.fixture
def threads_of(monkeypatch):
    """Set TINYML_NUM_THREADS, which is read once a process."""

    def set_variable(value):
        monkeypatch.setenv("TINYML_NUM_THREADS", value)
        threads.configured_threads.cache_clear()

    yield set_variable
    monkeypatch.undo()
    threads.configured_threads.cache_clear()


@pytest.mark.parametrize("arguments", [["info"], ["demo"], ["bench"], ["bench", "--list"]])
@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5"])
def test_a_wrong_number_of_threads_is_one_sentence(threads_of, arguments, value):
    threads_of(value)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    expected = f"Error: TINYML_NUM_THREADS is '{value}'; it must be an integer of at least 1\n"
    assert (result.stdout, result.stderr) == ("", expected)


@pytest.mark.parametrize("encoding", ["cp1251", "cp437", "koi8-r", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", [["bench", "--help"], ["demo", "--help"], ["bench", "x − ×"]])
def test_signs_that_the_terminal_lacks_become_plain_text(encoding, arguments):
    result = CliRunner(charset=encoding).invoke(main, arguments)
    assert isinstance(result.exception, SystemExit | None)
    if "--help" in arguments and encoding in ("cp1251", "cp437"):
        assert "samples x channels" in result.stdout or "Your own image" in result.stdout


def test_plain_text():
    assert "5×5 − 1 … α".encode("cp437", "tinyml-plain-text").decode("cp437") == "5x5 - 1 ... α"
    assert "5×5 − 1 … α".encode("ascii", "tinyml-plain-text") == b"5x5 - 1 ... ?"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["info"], ["--help"], ["bench", "--list"]])
def test_a_full_disk_is_one_sentence(arguments):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "tinyml", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 2
    assert result.stderr == "Error: the output cannot be written: No space left on device\n"


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "tinyml", "info"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert result.stderr == ""


def test_results_are_written_although_they_cannot_be_printed(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyml.cli.bench.tables.rows", fail)
    output = tmp_path / "out.json"
    arguments = ["bench", "--rounds", "7", "--cases", "unpool 1x1x4x4", "--json", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr == "Error: the output cannot be written: No space left on device\n"
    assert "unpool 1x1x4x4" in output.read_text()


def test_an_interrupt_that_python_cannot_raise_comes_again(monkeypatch):
    """In a weak reference's callback Python would print it and go on."""

    class Object:
        pass

    def interrupt(reference):
        raise KeyboardInterrupt

    def drop():
        reference = weakref.ref(Object(), interrupt)
        while reference:  # until the interrupt comes
            pass

    monkeypatch.setattr(sys, "unraisablehook", terminal.interrupt_again)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            drop()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("raised", "said", "code"),
    [
        (MemoryError("for 3 GiB"), "Error: out of memory: for 3 GiB\n", 2),
        (OSError(5, "Input/output error"), "Error: the output cannot be written: Input/out", 2),
    ],
)
def test_other_ends_are_one_sentence(monkeypatch, raised, said, code):
    def fail():
        raise raised

    monkeypatch.setattr("tinyml.backends", fail)
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == code
    assert result.stderr.startswith(said)
