"""Threads that help a caller, on other processors than its own.

They are made when first asked for, and sleep in between. A forked child has none of them and makes
none: it works alone.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from queue import SimpleQueue

VARIABLE = "TINYML_NUM_THREADS"

_calls: "SimpleQueue[Callable[[], object]]" = SimpleQueue()
_helpers: list[threading.Thread] = []
_kept_off: int | None = None
_in_fork = False
_lock = threading.Lock()


def thread_count() -> int:
    """How many threads may work at once: one in a forked child, else `configured`."""
    return 1 if _in_fork else configured()


@cache
def configured() -> int:
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
    """Have ``call`` called so many times, by helpers that are free; it must not raise."""
    if len(_helpers) < times:
        _hire(times)
    _keep_off_the_caller()
    for _ in range(times):
        _calls.put(call)


def _hire(count: int) -> None:
    global _kept_off
    with _lock:
        while len(_helpers) < count:
            helper = threading.Thread(target=_serve, args=(_calls,), name="tinyml", daemon=True)
            helper.start()
            _helpers.append(helper)
        _kept_off = None


def _serve(calls: "SimpleQueue[Callable[[], object]]") -> None:
    while True:
        calls.get()()


def _keep_off_the_caller() -> None:
    """Let helpers run on the processors that the caller may use and does not run on.

    Linux may wake a thread on the processor of the thread that wakes it though another is idle,
    above all where there are only two, and leave it there for some milliseconds: until then the two
    take turns, and a call that is shared takes as long as one that is not.
    """
    global _kept_off
    processor = _processor()
    if processor is None or (here := processor()) == _kept_off:
        return
    with _lock, suppress(OSError):  # a sandbox may forbid it
        _kept_off = here
        if others := os.sched_getaffinity(0) - {here}:
            for helper in _helpers:
                os.sched_setaffinity(helper.native_id or 0, others)


@cache
def _processor() -> Callable[[], int] | None:
    """The C library's ``sched_getcpu``: the number of the processor that its caller runs on."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


def _after_fork() -> None:
    global _calls, _helpers, _in_fork, _lock
    _calls, _helpers, _in_fork, _lock = SimpleQueue(), [], True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
