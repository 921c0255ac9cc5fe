"""Which thread may run a network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Owner:
    """Keeps threads from running a network at once, since its layers save the state of one pass.

    In training mode the thread of a forward pass owns the network until its backward pass is done.
    In eval mode a network is guarded only during a pass, so that any thread can predict. No thread
    owns a copy.
    """

    def __init__(self) -> None:
        self._running = threading.Lock()
        #: The thread of the last forward pass, and whether it owns the network.
        self._thread: threading.Thread | None = None
        self._is_owned = False

    def __reduce__(self) -> tuple[object, ...]:
        return Owner, ()

    def check(self, model: object) -> None:
        """Raise RuntimeError if another thread owns the network, or runs a pass of it."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        if self._running.locked():
            raise _running_error(model)
        if self._is_owned and thread.is_alive():
            raise _owned_error(model)

    @contextmanager
    def forward_pass(self, model: Any) -> Iterator[None]:
        """Context of a forward pass; afterwards this thread owns a network in training mode."""
        with self._one_at_a_time(model):
            thread = threading.current_thread()
            if self._is_owned and self._thread not in (None, thread) and self._thread.is_alive():
                raise _owned_error(model)
            self._thread, self._is_owned = thread, False
            is_training = model.training
            yield
            self._is_owned = is_training

    @contextmanager
    def backward_pass(self, model: object) -> Iterator[None]:
        """Context of a backward pass, which must follow a forward pass of the same thread."""
        with self._one_at_a_time(model):
            if self._thread not in (None, threading.current_thread()):
                raise RuntimeError(
                    f"{model!r}: the last forward pass was another thread's; give each thread its "
                    "own model.replica()"
                )
            yield
            self._is_owned = False

    def release(self) -> None:
        """Let any thread run the network."""
        self._is_owned = False

    def release_own(self) -> None:
        """As `release`, but only if this thread ran the last forward pass."""
        if self._thread is threading.current_thread():
            self._is_owned = False

    @contextmanager
    def _one_at_a_time(self, model: object) -> Iterator[None]:
        """Context of a pass; RuntimeError if another one is running."""
        if not self._running.acquire(blocking=False):
            raise _running_error(model)
        try:
            yield
        finally:
            self._running.release()


def _owned_error(model: object) -> RuntimeError:
    return RuntimeError(
        f"{model!r} is in training by another thread, between its forward and its backward pass; "
        "give each thread its own model.replica()"
    )


def _running_error(model: object) -> RuntimeError:
    return RuntimeError(
        f"{model!r} is being run by another thread, and its layers keep the state of one pass; "
        "give each thread its own model.replica()"
    )
