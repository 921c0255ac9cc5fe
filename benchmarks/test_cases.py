"""The table of cases in pytest-benchmark: ``pytest benchmarks --benchmark-only``.

TINYML_BACKEND chooses the backend, and ``-k`` the cases. This timer does not wait for a GPU; use
`tinyml bench` there, which measures with CUDA events.
"""

from typing import Any

import pytest

from tinyml.bench.cases import CASES, Case, difference, reference


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(benchmark: Any, case: Case) -> None:
    benchmark.group = str(case)
    run, results = case.prepare()
    assert difference(results(run()), reference(case), case.tolerance) == ""
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)
