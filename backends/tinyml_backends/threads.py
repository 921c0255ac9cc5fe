"""The pool of worker threads and the scheduler of all CPU backends.

NumPy and compiled kernels release the GIL while they work, so threads can work on chunks of the
arrays in parallel. Workers are daemon threads. They are started at the first call that needs them
and sleep between calls. A forked child has no workers and runs serially, as does a process that
cannot start a thread.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from functools import cache, lru_cache
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")

#: ``spin(flag, seen)`` returns, without the GIL, soon after ``flag[0]`` is no longer ``seen``, or
#: after some microseconds.
Spin: TypeAlias = Callable[[NDArray[np.int64], int], object]

VARIABLE = "TINYML_NUM_THREADS"

_jobs: "SimpleQueue[_Job]" = SimpleQueue()
_workers: list[threading.Thread] = []
_lock = threading.Lock()
#: The CPU of the caller, and the CPUs it may use, when the workers' affinity was last set.
_placed: tuple[int, set[int]] | None = None
_in_fork = False
_blas_limits: Any = None
_blas_users = 0
#: How many jobs have been given to workers: a worker that spins waits for a change of it.
_posted = np.zeros(1, np.int64)


def thread_count() -> int:
    """How many threads may work at once: one in a forked child, else `configured_threads()`."""
    return 1 if _in_fork else configured_threads()


@cache
def configured_threads() -> int:
    """``TINYML_NUM_THREADS``, else the number of CPUs this process may use.

    Raises
    ------
    ValueError
        If the variable holds no positive integer.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE} is {text!r}; it must be an integer of at least 1")
    return int(text)


@lru_cache(maxsize=256)
def divide(items: int, count: int, last: int = 6) -> tuple[slice, ...]:
    """Divide items into at most ``count`` chunks, the last one smaller than the others.

    With two threads the worker takes the last chunk and finishes it before the caller finishes its
    own, so that the caller need not wait. If both finished at once, one would wait for the GIL.

    Parameters
    ----------
    last
        Size of the last chunk, in eighths of the size of the others.
    """
    size = min(items, max(-(-items // count), 8 * items // (8 * count - 8 + last)))
    return tuple(slice(i, min(i + size, items)) for i in range(0, items, size or 1))


def run(
    work: Callable[[T], object],
    chunks: Sequence[T],
    threads: int | None = None,
    spin: Spin | None = None,
) -> None:
    """Call ``work(chunk)`` for every chunk, in the caller and in workers.

    Threads take the chunks in order, one at a time. Workers run in copies of the caller's context,
    which holds NumPy's error state. After an error or an interrupt no further chunk begins, and the
    call raises when all chunks that workers have begun are finished. ``work`` may call `run`.

    Parameters
    ----------
    work
        Called with one chunk; it should release the GIL most of the time.
    chunks
        What ``work`` is called with.
    threads
        How many threads may work, at most `thread_count`, which is the default.
    spin
        If given, a worker without further chunks calls it before it sleeps, and so does a caller
        that waits for workers.

    Raises
    ------
    BaseException
        The first error that ``work`` raised, or an interrupt (Ctrl-C) of the caller.
    """
    workers = min(len(chunks), thread_count(), threads or len(chunks)) - 1
    if workers < 1 or (started := _start(workers)) < 1:
        for chunk in chunks:
            work(chunk)
        return
    job = _Job(work, chunks, spin)
    try:
        try:
            _keep_off_the_caller()
            for _ in range(min(workers, started)):
                _jobs.put(job)
            _posted[0] += 1
            job.work_in_caller()
        finally:
            job.close()
    finally:  # an interrupt may come before the first close has begun
        job.close()
    if job.error:
        try:
            raise job.error
        finally:
            job.error = None  # its traceback refers to the job


def run_in_order(
    work: Callable[[T], R], chunks: Iterable[T], collect: Callable[[R], object]
) -> None:
    """`run`, and call ``collect`` with each result, in the order of the chunks.

    One result is collected at a time, as soon as all before it have been, so that few are held at
    once. Meanwhile BLAS uses one thread: its own threads wait for each other in every matrix
    product by spinning. That makes products of this size slower, and forty times slower when
    another process uses one of the cores.
    """
    finished: dict[int, R] = {}
    collected, lock = 0, threading.Lock()

    def work_and_collect(numbered: tuple[int, T]) -> None:
        nonlocal collected
        result = work(numbered[1])
        with lock:
            finished[numbered[0]] = result
            while collected in finished:
                collect(finished.pop(collected))
                collected += 1

    with _one_blas_thread():
        run(work_and_collect, list(enumerate(chunks)))


class _Job:
    """The chunks of one call, which threads take one by one."""

    def __init__(
        self, work: Callable[[Any], object], chunks: Iterable[Any], spin: Spin | None
    ) -> None:
        self.work: Callable[[Any], object] | None = work
        self.chunks, self.spin = iter(chunks), spin
        self.context: Context | None = copy_context()  # None once the job is closed
        self.error: BaseException | None = None
        self.lock, self.active_workers = threading.Lock(), 0
        #: ``left`` is held until the last active worker has left a closed job, which also sets
        #: ``has_left`` to 1.
        self.left, self.has_left = threading.Lock(), np.zeros(1, np.int64)
        self.left.acquire()

    def work_in_caller(self) -> None:
        """Work on chunks until all are taken; an interrupt is raised at once."""
        try:
            self._work()
        except Exception as error:
            self._fail(error)

    def work_in_worker(self) -> Spin | None:
        """Work on chunks until all are taken, if the job is not closed; return ``spin``."""
        with self.lock:
            if self.context is None:
                return None
            self.active_workers += 1
            context = self.context.copy()
        try:
            context.run(self._work)
        except BaseException as error:
            self._fail(error)
        with self.lock:
            self.active_workers -= 1
            if self.context is None and not self.active_workers:
                self.left.release()
                self.has_left[0] = 1
        return self.spin

    def close(self) -> None:
        """Begin no further chunk, wait for the active workers, and drop references to arrays."""
        try:
            with self.lock:
                self.chunks, self.context = iter(()), None
                workers = self.active_workers
            if workers:
                if self.spin:
                    self.spin(self.has_left, 0)
                self.left.acquire()
            self.work = None
        except BaseException:
            self.close()
            raise

    def _work(self) -> None:
        work, end = self.work, self
        while work:
            with self.lock:
                chunk = next(self.chunks, end)
            if chunk is end:
                return
            work(chunk)

    def _fail(self, error: BaseException) -> None:
        with self.lock:
            self.error = self.error or error
            self.chunks = iter(())


def _start(count: int) -> int:
    """Start workers until there are ``count``; return how many there are."""
    global _placed
    if len(_workers) < count:
        _placed = None
        with _lock, suppress(RuntimeError):  # at the system's limit of threads, or at exit
            while len(_workers) < count:
                worker = threading.Thread(target=_serve, args=(_jobs,), name="tinyml", daemon=True)
                worker.start()
                _workers.append(worker)
    return len(_workers)


def _keep_off_the_caller() -> None:
    """Let workers run on the CPUs that the caller may use, except the one it runs on.

    Linux may wake a worker on the CPU of the thread that wakes it, even if another CPU is free, and
    leave it there for milliseconds. All that time the two threads would take turns on one CPU.
    """
    global _placed
    current_cpu = _current_cpu()
    if current_cpu is None:
        return
    with suppress(OSError):  # a sandbox may forbid it
        placed = cpu, allowed = current_cpu(), os.sched_getaffinity(0)
        if placed != _placed:
            _placed = placed
            for worker in _workers:
                if worker.native_id is not None:
                    os.sched_setaffinity(worker.native_id, allowed - {cpu} or allowed)


@cache
def _current_cpu() -> Callable[[], int] | None:
    """The C library's ``sched_getcpu``, if there is one; `ctypes.PyDLL` calls it with the GIL."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None)


def _serve(jobs: "SimpleQueue[_Job]") -> None:
    while True:
        spin = jobs.get().work_in_worker()
        posted = int(_posted[0])
        if spin and jobs.empty():
            spin(_posted, posted)


_blas = cache(ThreadpoolController)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; the last of several concurrent users restores the old number."""
    global _blas_limits, _blas_users
    with _lock:
        if _blas_users == 0:
            _blas_limits = _blas().limit(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limits.restore_original_limits()


def _after_fork() -> None:
    """Reset the pool in a child: the parent's workers do not exist there; its locks may be held."""
    global _jobs, _workers, _lock, _in_fork, _blas_users
    _jobs, _workers, _lock, _in_fork, _blas_users = SimpleQueue(), [], threading.Lock(), True, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
