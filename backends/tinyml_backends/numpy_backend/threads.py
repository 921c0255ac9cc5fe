"""Threads for work in pieces.

NumPy releases the interpreter's lock in large operations, so pieces of an array run side by side.
Where pieces multiply matrices, BLAS is held to one thread meanwhile: its own threads meet at a
barrier in every matrix product and spin there, which costs more than it brings for products of this
size, and forty times the run time when another process holds one of the cores.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from threadpoolctl import ThreadpoolController

from tinyml_backends.arrays import Array
from tinyml_backends.helpers import ask, thread_count

T = TypeVar("T")
R = TypeVar("R")


class Need(NamedTuple):
    """Bytes of a block of cells, and what a thread holds at most while it works on one."""

    block: int
    held: int


#: The needs of kernels for pairs, and of the generic ones. A block outgrows a core's L2 cache, but
#: a NumPy call on less is over before another thread, which waits for the interpreter's lock, has
#: woken up; the longer the calls, the fewer of them meet at that lock.
PAIRS, GENERIC = Need((1 << 21) * 4 // 5, 1 << 21), Need(5 << 18, 3 << 20)
#: To what a block grows where more may be held.
MOST_BLOCK = 1 << 21
#: What all threads together may hold beside the results, however small an array is.
LEAST_HELD = 1 << 22
#: From this size on two threads are faster than one.
SHARED_BYTES = 1 << 21

#: Bytes of a cache line; a vector that lies in two of them is loaded twice.
LINE = 64

#: Layouts of scratch memory that a thread keeps, at most.
LAYOUTS_KEPT = 64

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_limits: Any = None
_users = 0


def each(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of ``function`` on every item, in the order of the items."""
    work = list(items)
    with _one_blas_thread():
        if len(work) < 2 or thread_count() == 1:
            yield from map(function, work)
        else:
            yield from _threads().map(function, work)


class Parts(NamedTuple):
    """Ranges of items, none larger than the first, and how many threads work on them at once."""

    ranges: list[slice]
    threads: int

    @property
    def most(self) -> int:
        """Items of the largest range."""
        return self.ranges[0].stop if self.ranges else 0


def cut(items: int, cells: Array, need: Need = PAIRS) -> Parts:
    """Cut the items among which ``cells`` are spread.

    Cells count as four bytes at least: other arrays do not shrink with them. There are as many
    threads as may hold what they need, which is an eighth of the cells together, or 4 MiB. The last
    range is smaller than the others: of two threads the helper takes it, and is done before the
    caller, which need not fall asleep.
    """
    size = cells.size * max(4, cells.itemsize)
    together = max(cells.nbytes // 8, LEAST_HELD)
    threads = min(thread_count(), max(1, together // need.held)) if size >= SHARED_BYTES else 1
    room = need.block * together // (threads * need.held)
    block = need.block if threads == 1 else min(room, MOST_BLOCK)
    count = threads
    if size > threads * block:  # the largest range is 4 / (4 * count - 1) of all
        count = -(-(4 * size + block) // (4 * block * threads)) * threads
    step = min(items, max(-(-items // count), 4 * items // (4 * count - 1)))
    return Parts([slice(i, i + step) for i in range(0, items, step or 1)], threads)


def share(work: Callable[[slice], object], parts: Parts) -> None:
    """Run ``work`` on every range, in threads.

    The caller works too, and waits only for ranges that others have begun; a single range, or work
    in a forked child, is its own affair. The others run in the caller's context, which holds
    NumPy's error state.
    """
    helpers = min(parts.threads, len(parts.ranges)) - 1
    if helpers < 1:
        for here in parts.ranges:
            work(here)
        return
    job = _Job(work, parts.ranges)
    try:
        ask(job.help, helpers)
        job.serve()
    finally:
        job.end()
    try:
        if job.errors:
            raise job.errors[0]
    finally:
        job.errors.clear()  # their frames hold the job


class _Job:
    """Ranges that a caller and its helpers take, one after the other."""

    def __init__(self, work: Callable[[slice], object], ranges: list[slice]) -> None:
        self.work: Callable[[slice], object] | None = work
        self.waiting = ranges[::-1]
        self.context = copy_context()
        self.errors: list[BaseException] = []
        self.helping = 0
        self.changed = threading.Condition()

    def serve(self) -> None:
        """Work on ranges that nobody has taken."""
        work = self.work
        while self.waiting and work:
            try:
                here = self.waiting.pop()
            except IndexError:  # another thread was faster
                return
            work(here)

    def help(self) -> None:
        """`serve`, in another thread than the caller's."""
        with self.changed:
            if not self.work:
                return  # too late
            self.helping += 1
        try:
            self.context.copy().run(self.serve)
        except BaseException as error:
            self.errors.append(error)
        with self.changed:
            self.helping -= 1
            self.changed.notify()

    def end(self) -> None:
        """Let the work's arrays go, when no helper is busy with them any more."""
        self.waiting.clear()
        with self.changed:
            self.work = None
            while self.helping:
                self.changed.wait()


class _Scratch(threading.local):
    """Memory of a thread, and the layouts made of it."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.layouts: dict[Any, Any] = {}


_scratch = _Scratch()


def laid_out(layout: Callable[..., T], *shape: Any) -> T:
    """``layout(*shape)``, made of `scratch` memory once a thread and shape.

    A layout has all views that a kernel needs of its memory: who makes them anew for each block
    holds the interpreter's lock for longer, and others wait for it.
    """
    kept, key = _scratch.layouts, (layout, *shape)
    found = kept.get(key)
    if found is None:
        if len(kept) >= LAYOUTS_KEPT:
            kept.clear()
        found = kept[key] = layout(*shape)
    return cast("T", found)


def scratch(*sizes: int) -> list[Array]:
    """Byte arrays of these sizes, each at the beginning of a cache line, for a layout.

    All layouts share them. They are kept from call to call: the first touch of memory fresh from
    the system costs more than the work on it.
    """
    starts = [0, *accumulate(-(-size // LINE) * LINE for size in sizes)]
    if len(_scratch.memory) < starts[-1]:
        _scratch.layouts.clear()
        memory = np.empty(starts[-1] + LINE, np.uint8)
        _scratch.memory = memory[-memory.ctypes.data % LINE :]
    return [_scratch.memory[i : i + size] for i, size in zip(starts, sizes, strict=False)]


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
    """Start anew in a forked child: the parent's threads are not there."""
    global _pool, _lock, _users
    _pool, _lock, _users = None, threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
