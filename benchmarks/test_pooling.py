"""The table under pytest-benchmark: ``pytest benchmarks --benchmark-only``."""

from typing import Any

import pytest

from cases import CASES, OPERATIONS, Case, ours


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pooling(benchmark: Any, case: Case, operation: str) -> None:
    benchmark.group = f"{case} {operation}"
    benchmark.pedantic(ours(case, operation), rounds=7, warmup_rounds=2)
