"""Ctrl-C that waits until a step is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class Interrupts:
    """Context in which Ctrl-C waits for the end, except inside of `allowed`.

    What is done in it is done wholly or not at all. The context does nothing in other threads than
    the main one, which Ctrl-C does not interrupt, and where SIGINT has no handler of Python's.

    Examples
    --------
    >>> from tinyml.interrupts import Interrupts
    >>> with Interrupts() as interrupts:
    ...     with interrupts.allowed():
    ...         total = sum(range(10))  # Ctrl-C raises KeyboardInterrupt here
    ...     kept = total  # and waits here
    """

    def __enter__(self) -> Self:
        self._at_once = False
        self._pending: tuple[int, FrameType | None] | None = None
        previous = signal.getsignal(signal.SIGINT)
        is_main = threading.current_thread() is threading.main_thread()
        self._previous = previous if is_main and callable(previous) else None
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            if self._pending is not None:
                self._previous(*self._pending)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Context in which Ctrl-C interrupts at once, also if it was pressed before."""
        self._at_once = True
        try:
            if self._pending is not None:
                pending, self._pending = self._pending, None
                self._handle(*pending)
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._at_once and self._previous is not None:
            self._at_once = False  # a second one must not interrupt what cleans up after the first
            self._previous(number, frame)
            self._at_once = True  # the handler did not raise
        else:
            self._pending = number, frame
