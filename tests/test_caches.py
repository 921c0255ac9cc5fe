"""Caches are bounded by the bytes that they hold."""

import tracemalloc
import weakref

import numpy as np
import pytest

from conftest import peer
from tinyml_backends import Window, caches
from tinyml_backends.caches import MOST_BYTES, cached

pytestmark = pytest.mark.host

MIB = 1 << 20


def test_results_are_kept_until_they_take_too_much():
    calls = []

    @cached(lambda array: array.nbytes)
    def made(mib):
        calls.append(mib)
        return np.empty(mib * MIB, np.uint8)

    most = MOST_BYTES // MIB
    first = weakref.ref(made(1))
    assert made(1) is first()
    made(most - 1)
    assert made(1) is first()
    assert calls == [1, most - 1]
    made(2)
    assert first() is None
    made(2)
    assert calls == [1, most - 1, 2]


def plans_and_divisors(i):
    from tinyml_backends.numba_backend.plans import divisors, plan_of

    plan_of(Window.of(2, (60, 60 + i), 1), (130, 130 + i))
    divisors(Window.of(1, 3, 1), (1000 + i,), True, None)


def cells(i):
    Window.of(2, (10, 10 + i), 1).cells((20, 20 + i))
    Window.of(1, 100 + i, 1).cells_along(0, (200,))


@pytest.mark.parametrize("work", [plans_and_divisors, cells])
def test_many_image_sizes_take_little_memory(monkeypatch, work):
    if work is plans_and_divisors:
        peer("numba")
    monkeypatch.setattr(caches, "MOST_BYTES", MIB // 4)
    work(0)
    tracemalloc.start()
    try:
        for i in range(60):
            work(i)
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
