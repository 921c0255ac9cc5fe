"""Threads that share the pieces of one kernel call.

The caller works too, and waits only for pieces that others have begun. A piece is a range of the
kernel's items, and the result does not depend on how they are cut.
"""

import threading
from queue import SimpleQueue
from typing import Any

from tinyml_backends.helpers import ask, thread_count
from tinyml_backends.numba_backend.pieces import CAME, DONE, NEXT, begun, in_pieces, leave, task_of

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


_lock = threading.Lock()


def share(kernel: Any, arguments: tuple[Any, ...], items: int, size: int) -> None:
    """Run ``kernel(*arguments, start, stop)`` on ranges that cover ``items``, in threads.

    ``size`` is the number of bytes that all of them read and write, or whose time they take.
    """
    if size < SHARED_BYTES or items < 2 or (threads := thread_count()) == 1:
        kernel(*arguments, 0, items)
        return
    job = _Job(kernel, arguments, items, max(1, min(items, size // PIECE_BYTES, 16 * threads)))
    try:
        ask(job.help, min(threads, job.pieces) - 1)
        job.work()
    finally:
        job.arguments = ()  # a helper that comes too late must not hold the arrays
