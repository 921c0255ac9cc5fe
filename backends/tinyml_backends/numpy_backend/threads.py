"""Threads for work in pieces.

NumPy releases the interpreter's lock in large operations, so pieces of an array run side by side.
Where pieces multiply matrices, BLAS is held to one thread meanwhile: its own threads meet at a
barrier in every matrix product and spin there, which costs more than it brings for products of this
size, and forty times the run time when another process holds one of the cores.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from tinyml_backends.arrays import Array

T = TypeVar("T")
R = TypeVar("R")

#: Bytes that a thread works on at a time, at least and at most. They outgrow a core's L2 cache, but
#: a NumPy call on fewer is over before another thread, which waits for the interpreter's lock, has
#: woken up; the longer the calls, the fewer of them meet at that lock.
LEAST_BLOCK, MOST_BLOCK = 5 << 18, 1 << 22
#: From this size on two threads are faster than one.
SHARED_BYTES = 3 * LEAST_BLOCK

#: What all threads together may hold beside the results, however small an array is.
LEAST_HELD = 1 << 22
#: What one of them holds for the smallest block, and for a block of the generic kernels, at most.
HELD_BYTES, GENERIC_HELD_BYTES = 1 << 21, 3 << 20

#: Bytes of scratch memory that a thread keeps, at most.
SCRATCH_KEPT = 1 << 23

VARIABLE = "TINYML_NUM_THREADS"

_pool: ThreadPoolExecutor | None = None
_in_fork = False
_lock = threading.Lock()
_limits: Any = None
_users = 0


@cache
def thread_count() -> int:
    """``TINYML_NUM_THREADS``, else the number of CPUs this process may use.

    Raises
    ------
    ValueError
        If the variable holds no positive integer.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE} is {text!r}; it must be an integer of at least 1")
    return int(text)


def each(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of ``function`` on every item, in the order of the items."""
    work = list(items)
    with _one_blas_thread():
        if len(work) < 2 or thread_count() == 1 or _in_fork:
            yield from map(function, work)
        else:
            yield from _threads().map(function, work)


class Parts(NamedTuple):
    """Ranges of items, none larger than the first, and how many threads work on them at once."""

    ranges: list[slice]
    threads: int


def cut(items: int, cells: Array, held: int = HELD_BYTES) -> Parts:
    """Cut the items among which ``cells`` are spread.

    Cells count as four bytes at least: small ones are worked on with wider temporaries. There are
    as many threads as hold, ``held`` bytes each, an eighth of the cells together, or 4 MiB.
    """
    size = cells.size * max(4, cells.itemsize)
    if size < LEAST_BLOCK:
        return Parts([slice(0, items)] if items else [], 1)
    together = max(cells.nbytes // 8, LEAST_HELD)
    threads = min(thread_count(), max(1, together // held))
    if _in_fork or size < SHARED_BYTES:
        threads = 1
    room = LEAST_BLOCK * together // (threads * held)
    block = LEAST_BLOCK if threads == 1 else min(room, MOST_BLOCK)
    count = max(threads, size // block)
    step = max(1, -(-items // (-(-count // threads) * threads))) if count > 1 else items
    return Parts([slice(i, i + step) for i in range(0, items, step)] if items else [], threads)


def share(work: Callable[[slice], object], parts: Parts) -> None:
    """Run ``work`` on every range, in threads.

    The caller works too, and waits only for ranges that others have begun; a single range, or work
    in a forked child, is its own affair. The others run in the caller's context, which holds
    NumPy's error state.
    """
    ranges = parts.ranges
    helpers = min(parts.threads, len(ranges)) - 1
    if helpers < 1:
        for here in ranges:
            work(here)
        return
    waiting = ranges[::-1]
    job = [work]  # a helper that comes too late must not hold the arrays of the work

    def serve() -> None:
        while waiting:
            try:
                here = waiting.pop()
            except IndexError:  # another thread was faster
                return
            job[0](here)

    begun = [_threads().submit(copy_context().run, serve) for _ in range(helpers)]
    try:
        serve()
    finally:
        begun = [helper for helper in begun if not helper.cancel()]
        wait(begun)
        job.clear()
    for helper in begun:
        helper.result()


class _Scratch(threading.local):
    memory = np.empty(0, np.uint8)


_scratch = _Scratch()


def scratch(*sizes: int) -> list[Array]:
    """Byte arrays of these sizes, one behind the other, the calling thread's until it asks again.

    They are kept from call to call: the first touch of memory fresh from the system costs more than
    the work on it.
    """
    total, memory = sum(sizes), _scratch.memory
    if len(memory) < total:
        memory = np.empty(total, np.uint8)
        if total <= SCRATCH_KEPT:
            _scratch.memory = memory
    arrays, start = [], 0
    for size in sizes:
        arrays.append(memory[start : start + size])
        start += size
    return arrays


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="tinyml")
        return _pool


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread; the last of several users gives it back what it had."""
    global _limits, _users
    with _lock:
        if _users == 0:
            _limits = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.restore_original_limits()


def _after_fork() -> None:
    """Start anew in a forked child: the parent's threads are not there, and it runs serially."""
    global _pool, _in_fork, _lock, _users
    _pool, _in_fork, _lock, _users = None, True, threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
