"""`benchmarks/compare_commits.py`, on checkouts whose measurements are made up."""

import pytest
from click.testing import CliRunner

from compare_commits import main

pytestmark = pytest.mark.host

TARGETS = """
import os
print("pool 8x64x224x224 2x2/2", "  numba        {ms} 3.0", "  numba out=   1.0 1.0", sep="\\n")
print("pool 8x64x112x112 2x2/2", "  numba        {ms} 3.0", "  torch        9.0 9.0", sep="\\n")
print("unpool 8x64x224x224 2x2/2", "  numba        7.0 3.0", sep="\\n")
assert not {{"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}} & set(os.environ)
def values_of_a_run(backend, rounds, settle):
    assert (backend, rounds, settle) == ("numba", 15, 0.01)
    return {result}
"""


@pytest.fixture
def checkout(tmp_path):
    def make(name, result='{"pool, better": 2.0}', ms=4.0, package="tinyml"):
        for folder in (package, "benchmarks"):
            (tmp_path / name / folder).mkdir(parents=True)
        (tmp_path / name / package / "__init__.py").touch()
        targets = TARGETS.format(result=result, ms=ms)
        (tmp_path / name / "benchmarks/cpu_targets.py").write_text(targets)
        return str(tmp_path / name)

    return make


def compare(*arguments):
    return CliRunner().invoke(main, arguments)


def test_checkouts_take_turns_and_are_compared_with_the_first(checkout, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    before, after = checkout("before"), checkout("after", '{"pool, better": 3.0}', ms=2.0)
    result = compare(before, after, before, "--runs", "2")
    assert result.exit_code == 0, result.output
    turns = [line.split(",")[0] for line in result.stderr.splitlines()]
    assert turns == [f"run {n} of 2: {path}" for n in (1, 2) for path in (before, after, before)]
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()[4:]]
    assert rows == [
        "pool, better 2.000 3.000 ×1.500 (1.50–1.50) 2.000 ×1.000 (1.00–1.00)",
        "ms, pool, numba 4.000 2.000 ×0.500 (0.50–0.50) 4.000 ×1.000 (1.00–1.00)",
        "ms, pool, numba out= 1.000 1.000 ×1.000 (1.00–1.00) 1.000 ×1.000 (1.00–1.00)",
        "ms, unpool, numba 7.000 7.000 ×1.000 (1.00–1.00) 7.000 ×1.000 (1.00–1.00)",
    ]


def test_another_checkout_is_never_measured_by_mistake(checkout):
    """Without a package `tinyml` of its own, the installed one would be imported."""
    result = compare(checkout("empty", package="other"), "--runs", "1")
    assert result.exit_code == 1
    assert "failed" in result.output


@pytest.mark.parametrize("result", ["None", "1 / 0"])
def test_a_run_that_fails_or_is_interrupted(checkout, result):
    command = compare(checkout("broken", result), "--runs", "1")
    assert command.exit_code == 1
    assert "broken failed" in command.output
