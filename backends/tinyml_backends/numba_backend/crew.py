"""Threads that share the pieces of one kernel call.

The caller works too, and waits only for pieces that others have begun. A piece is a range of the
kernel's items, and the result does not depend on how they are cut.
"""

import os
import threading
from queue import SimpleQueue
from typing import Any

from tinyml_backends.numba_backend.pieces import CAME, DONE, NEXT, begun, in_pieces, leave, task_of
from tinyml_backends.numpy_backend.threads import thread_count

#: Bytes that a kernel reads and writes in one piece.
PIECE_BYTES = 1 << 19
#: From this size on a call is shared: until then it is done before another thread is awake.
SHARED_BYTES = 3 << 20


class _Job:
    """A call that several threads work on, and a report of each of them."""

    def __init__(self, kernel: Any, arguments: tuple[Any, ...], items: int, pieces: int) -> None:
        self.run, self.arguments, self.pieces = in_pieces(kernel), arguments, pieces
        self.task = task_of(items, pieces)
        self.reports: SimpleQueue[BaseException | None] = SimpleQueue()

    def help(self) -> None:
        """Take pieces in another thread than the caller's, if there are any left."""
        with _lock:
            self.task[CAME] += 1  # from here on the caller waits until the arrays are let go
        seen, error = 0, None
        try:
            if self.task[NEXT] < self.pieces:
                seen = self.run(begun, self.task, True, *self.arguments)
        except BaseException as caught:
            error = caught
        self.reports.put(error)
        leave(begun, self.task, seen)

    def work(self) -> None:
        """Take pieces, and wait until those of the others are done."""
        self.run(begun, self.task, False, *self.arguments)
        while self.task[DONE] < self.pieces:
            error = self.reports.get()
            if error is not None:
                raise error


_jobs: "SimpleQueue[_Job]" = SimpleQueue()
_workers = 0
_in_fork = False
_lock = threading.Lock()


def share(kernel: Any, arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on ranges that cover ``items``, in threads.

    ``size`` is the number of bytes that all of them read and write.
    """
    if size < SHARED_BYTES or items < 2 or _in_fork or (threads := thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    if _workers < threads - 1:
        _hire(threads - 1)
    job = _Job(kernel, arguments, items, max(1, min(items, size // PIECE_BYTES, 16 * threads)))
    for _ in range(min(threads, job.pieces) - 1):
        _jobs.put(job)
    try:
        job.work()
    finally:
        job.arguments = ()  # a worker that comes too late must not hold the arrays


def _hire(workers: int) -> None:
    global _workers
    with _lock:
        while _workers < workers:
            threading.Thread(target=_serve, args=(_jobs,), name="tinyml", daemon=True).start()
            _workers += 1


def _serve(jobs: "SimpleQueue[_Job]") -> None:
    while True:
        jobs.get().help()


def _after_fork() -> None:
    """Run serially in a forked child: the parent's threads are not there."""
    global _jobs, _workers, _in_fork, _lock
    _jobs, _workers, _in_fork, _lock = SimpleQueue(), 0, True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
