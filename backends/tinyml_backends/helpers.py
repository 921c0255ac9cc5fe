"""Threads that help a caller, on other processors than its own.

They are made when first asked for, and sleep in between. A forked child has none of them, and is to
work alone: `thread_count` is 1 there.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from queue import SimpleQueue

VARIABLE = "TINYML_NUM_THREADS"

_calls: "SimpleQueue[Callable[[], object]]" = SimpleQueue()
_helpers: list[threading.Thread] = []
_placed: tuple[int, set[int]] | None = None
_in_fork = False
_lock = threading.Lock()


def thread_count() -> int:
    """How many threads may work at once: one in a forked child, else `configured_threads`."""
    return 1 if _in_fork else configured_threads()


@cache
def configured_threads() -> int:
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


def ask(call: Callable[[], object], times: int) -> None:
    """Have ``call`` called by so many helpers, or by all if there are fewer, when they are free.

    An exception that it raises is reported as that of a thread, and nobody waits for it.
    """
    if len(_helpers) < times:
        _hire(times)
    _keep_off_the_caller()
    for _ in range(min(times, len(_helpers))):
        _calls.put(call)


def _hire(count: int) -> None:
    global _placed
    with _lock, suppress(RuntimeError):  # no more threads can be started here
        _placed = None
        while len(_helpers) < count:
            helper = threading.Thread(target=_serve, args=(_calls,), name="tinyml", daemon=True)
            helper.start()
            _helpers.append(helper)


def _serve(calls: "SimpleQueue[Callable[[], object]]") -> None:
    while True:
        try:
            calls.get()()
        except BaseException:
            error = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(error))
            del error


def _keep_off_the_caller() -> None:
    """Let helpers run on the processors that the caller may use, but for the one it runs on.

    Linux may wake a thread on the processor of the thread that wakes it though another is idle,
    above all where there are only two, and leave it there for some milliseconds: until then the two
    take turns, and a call that is shared takes as long as one that is not.
    """
    global _placed
    processor = _processor()
    if processor is None:
        return
    with suppress(OSError):  # a sandbox may forbid it
        place = processor(), os.sched_getaffinity(0)
        if place == _placed:
            return
        here, allowed = place
        with _lock:
            _placed = place
            for thread in [helper.native_id for helper in _helpers]:
                if thread is not None:
                    os.sched_setaffinity(thread, allowed - {here} or allowed)


@cache
def _processor() -> Callable[[], int] | None:
    """The C library's ``sched_getcpu``: the number of the processor that its caller runs on.

    It is called as a function of Python is, which does not give the interpreter's lock away.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None)


def _after_fork() -> None:
    global _calls, _helpers, _in_fork, _lock
    _calls, _helpers, _in_fork, _lock = SimpleQueue(), [], True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
