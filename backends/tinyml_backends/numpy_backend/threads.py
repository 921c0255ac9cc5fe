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
from itertools import pairwise
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")

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


def share(work: Callable[[int, int], object], items: int, step: int) -> None:
    """Run ``work(start, stop)`` on ranges of about ``step`` items that cover all of them.

    The caller works too, and waits only for ranges that others have begun; a single range, or work
    in a forked child, is its own affair. The others run in the caller's context, which holds
    NumPy's error state.
    """
    count = -(-items // step)
    if count == 1:
        work(0, items)
    if count < 2:
        return
    cuts = [items * part // count for part in range(count + 1)]
    ranges = list(pairwise(cuts))[::-1]

    def serve() -> None:
        while ranges:
            try:
                start, stop = ranges.pop()
            except IndexError:  # another thread was faster
                return
            work(start, stop)

    helpers = 0 if _in_fork else min(thread_count(), count) - 1
    begun = [_threads().submit(copy_context().run, serve) for _ in range(helpers)]
    try:
        serve()
    finally:
        begun = [helper for helper in begun if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


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
