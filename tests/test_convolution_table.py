"""`benchmarks/convolution_table.py` on small cases."""

import json
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner

import convolution_table
from convolution_table import ROWS, cells, main
from tinyml.bench import measure
from tinyml.bench.cases import CASES, Convolution

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("quick")]


@pytest.fixture
def small(monkeypatch):
    case = Convolution((2, 3, 8, 6), 4)
    monkeypatch.setitem(ROWS, "3x3", replace(ROWS["3x3"], cases=(case,)))
    monkeypatch.setattr(measure, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(convolution_table, "PEERS", {"torch": None, "absent": None})
    return case


def run(*arguments):
    return CliRunner().invoke(main, ["--settle", "0", "--backends", "numpy", *arguments])


def test_rows_are_cases_of_the_table():
    assert {case for row in ROWS.values() for case in row.cases} <= set(CASES)


def test_a_row_is_timed_and_written(small, torch, tmp_path):
    file = tmp_path / "table.json"
    result = run("--rows", "3x3", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "left out: unknown peer 'absent'" in result.stderr
    *_, row = result.stdout.splitlines()
    assert row.startswith("| 3×3 stride 1 ")
    content = json.loads(file.read_text())
    times = content["milliseconds"][str(small)]
    fastest = min(times["torch"], times["torch channels_last"])
    assert content["rows"]["3x3"]["numpy"][str(small)] == pytest.approx(fastest / times["numpy"])


def test_a_wrong_result_has_no_ratio_and_is_exit_code_1(small, torch, monkeypatch):
    from tinyml.bench import runner

    monkeypatch.setattr(runner, "difference", lambda *_: "another value")
    result = run("--rows", "3x3")
    assert result.exit_code == 1
    assert "not measured" in result.stdout
    assert "ERROR numpy: wrong result: another value" in result.stderr


@pytest.mark.parametrize(
    ("ratios", "others", "text"),
    [
        ([1.4, 1.5], 0.0, "1.45, least 1.40"),
        ([1.0, 2.1], 0.0, "1.45, least 1.00 MISSED"),
        ([1.3, 1.3], 0.0, "1.30, least 1.30 MISSED"),
        ([1.4, 1.5], 0.5, "1.45, least 1.40 disturbed"),
        ([1.4], 0.0, "not measured"),
    ],
)
def test_what_a_row_says_of_its_target(ratios, others, text):
    row = replace(ROWS["3x3"], cases=ROWS["3x3"].cases[:2])
    found = list(cells(row, "numba", dict(enumerate(ratios)), others))
    assert found == ["≥ 1.40, each ≥ 1.05", text]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "3x4"], "--rows has '3x4'; known are 3x3, other,"),
        (["--backends", "cupy"], "--backends has 'cupy'; known are numba, numpy,"),
        (["--repeats", "3"], "3 is not in the range x>=7"),
    ],
)
def test_wrong_names_are_refused(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_it_starts_again_without_forced_kernels(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    convolution_table.without_forced_kernels()
    assert not started
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    convolution_table.without_forced_kernels()
    ((_, _, variables),) = started
    assert "OPENBLAS_CORETYPE" not in variables
    assert variables["PATH"] == os.environ["PATH"]
