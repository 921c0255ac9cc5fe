"""Pieces of a compiled call, shared among threads."""

import sys
import threading
import time
import weakref
from functools import cache

import numpy as np
import pytest

from conftest import peer

pytestmark = pytest.mark.host


@pytest.fixture
def crew(monkeypatch):
    """Three threads, pieces of one item, and kernels that are not kept on disk."""
    peer("numba")
    from numba import njit

    from tinyml_backends.numba_backend import crew, pieces

    monkeypatch.setattr(pieces, "compiled", njit(nogil=True))
    monkeypatch.setattr(crew, "in_pieces", cache(pieces.in_pieces.__wrapped__))
    monkeypatch.setattr(crew, "thread_count", lambda: 3)
    monkeypatch.setattr(crew, "SHARED_BYTES", 0)
    monkeypatch.setattr(crew, "PIECE_BYTES", 1)
    return crew


@pytest.fixture(scope="module")
def kernels():
    peer("numba")
    from numba import njit

    @njit(nogil=True)
    def count(times, start, stop):
        for i in range(start, stop):
            times[i] += 1

    @njit(nogil=True)
    def fail(times, bad, start, stop):
        for i in range(start, stop):
            times[i] += 1
            if i == bad:
                raise ValueError("an item that is bad")

    return count, fail


@pytest.mark.parametrize("items", [1, 2, 3, 47, 48, 49, 10_000])
def test_every_item_comes_once(crew, kernels, items):
    for _ in range(50):
        times = np.zeros(items, np.int64)
        crew.share(kernels[0], (times,), items, 1 << 30)
        assert np.array_equal(times, np.ones(items))


def test_callers_at_once(crew, kernels):
    """Each gets its own items done, and nobody waits for ever."""
    wrong = []

    def call():
        for items in range(2, 200):
            times = np.zeros(items, np.int64)
            crew.share(kernels[0], (times,), items, 1 << 30)
            if not np.array_equal(times, np.ones(items)):
                wrong.append(items)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


@pytest.mark.parametrize("looks", [0, 1 << 14], ids=["asleep", "awake"])
def test_a_failure_reaches_the_caller(crew, kernels, monkeypatch, looks):
    """From whichever thread it comes; and the next call is as good as new."""
    from tinyml_backends.numba_backend import pieces

    monkeypatch.setattr(pieces, "CALLER_LOOKS", looks)
    for bad in range(40):
        times = np.zeros(40, np.int64)
        with pytest.raises(ValueError, match="an item that is bad"):
            crew.share(kernels[1], (times, bad), 40, 1 << 30)
    times = np.zeros(40, np.int64)
    crew.share(kernels[1], (times, -1), 40, 1 << 30)
    assert np.array_equal(times, np.ones(40))


@pytest.mark.parametrize(("slot", "value"), [("DONE", 2), ("LEFT", 1)])
def test_a_caller_waits_for_the_others(crew, kernels, monkeypatch, slot, value):
    """Until their pieces are done and the arrays let go."""
    from tinyml_backends.numba_backend import pieces

    monkeypatch.setattr(pieces, "CALLER_LOOKS", 1 << 40)
    run = crew.in_pieces(kernels[0])
    times = np.zeros(2, np.int64)
    run(pieces.begun, pieces.task_of(2, 2), False, times)
    task = pieces.task_of(2, 2)  # somebody else came, and took both
    task[pieces.NEXT] = task[pieces.DONE] = 2
    task[pieces.CAME] = task[pieces.LEFT] = 1
    task[getattr(pieces, slot)] -= 1
    timer = threading.Timer(0.2, task.__setitem__, (getattr(pieces, slot), value))
    timer.start()
    run(pieces.begun, task, False, times)
    assert task[getattr(pieces, slot)] == value
    timer.join()
    assert times.tolist() == [1, 1]


def test_nobody_holds_the_arrays_afterwards(crew, kernels):
    """Memory that a caller lets go can be used again at once."""
    crew.share(kernels[0], (np.zeros(48, np.int64),), 48, 1 << 30)
    time.sleep(0.1)  # helpers may come to the first call when it has long been compiled and done
    for _ in range(200):
        times = np.zeros(1 << 16, np.int64)
        crew.share(kernels[0], (times,), 1 << 16, 1 << 30)
        gone = weakref.ref(times)
        assert sys.getrefcount(times) == 2
        del times
        assert gone() is None
