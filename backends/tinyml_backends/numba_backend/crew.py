"""Threads that share the pieces of one kernel call.

The caller works too, and waits only for pieces that others have begun. A piece is a range of the
kernel's items, and the result does not depend on how they are cut.
"""

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

from tinyml_backends.numpy_backend.threads import thread_count

#: Bytes that a kernel reads and writes in one piece.
PIECE_BYTES = 1 << 19
#: From this size on a call is shared: until then it is done before another thread is awake.
SHARED_BYTES = 6 << 20


class _Job:
    """Pieces of one call that nobody has begun, and a report for each one that is done."""

    def __init__(
        self, kernel: Callable[..., Any], arguments: tuple[Any, ...], items: int, pieces: int
    ) -> None:
        self.kernel, self.arguments = kernel, arguments
        cuts = [items * piece // pieces for piece in range(pieces + 1)]
        self.pieces = list(pairwise(cuts))[::-1]
        self.reports: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(self) -> None:
        while True:
            try:
                start, stop = self.pieces.pop()
            except IndexError:
                return
            try:
                self.kernel(*self.arguments, start, stop)
                self.reports.put(None)
            except BaseException as error:
                self.reports.put(error)


_jobs: "SimpleQueue[_Job]" = SimpleQueue()
_workers = 0
_in_fork = False
_lock = threading.Lock()


def share(kernel: Callable[..., Any], arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on ranges that cover ``items``, in threads.

    ``size`` is the number of bytes that all of them read and write.
    """
    if size < SHARED_BYTES or items < 2 or _in_fork or (threads := thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    if _workers < threads - 1:
        _hire(threads - 1)
    count = min(items, size // PIECE_BYTES, 16 * threads)
    job = _Job(kernel, arguments, items, count)
    for _ in range(min(threads, count) - 1):
        _jobs.put(job)
    job.work()
    errors = [job.reports.get() for _ in range(count)]
    job.arguments = ()  # a worker that comes too late must not hold the arrays
    for error in errors:
        if error is not None:
            raise error


def _hire(workers: int) -> None:
    global _workers
    with _lock:
        while _workers < workers:
            threading.Thread(target=_serve, args=(_jobs,), name="tinyml", daemon=True).start()
            _workers += 1


def _serve(jobs: "SimpleQueue[_Job]") -> None:
    while True:
        jobs.get().work()


def _after_fork() -> None:
    """Run serially in a forked child: the parent's threads are not there."""
    global _jobs, _workers, _in_fork, _lock
    _jobs, _workers, _in_fork, _lock = SimpleQueue(), 0, True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
