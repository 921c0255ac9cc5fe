"""Which thread runs a network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Owner:
    """The thread that may run a network, whose layers keep the state of one pass.

    In training a thread keeps the network from its forward to its backward pass. In use only the
    pass itself is guarded, so that any thread can predict. A copy is owned by no thread.
    """

    def __init__(self) -> None:
        self._running = threading.Lock()
        #: The thread of the last forward pass, and whether its backward pass is still to come.
        self._thread: threading.Thread | None = None
        self._is_kept = False

    def __reduce__(self) -> tuple[object, ...]:
        return Owner, ()

    def check(self, model: object) -> None:
        """Refuse another thread between the forward and the backward pass of one."""
        thread = self._thread
        if not self._is_kept or thread is None or thread is threading.current_thread():
            return
        if thread.is_alive():
            raise RuntimeError(
                f"{model!r} is in training by another thread, between its forward and its backward "
                "pass; give each thread its own model.replica()"
            )

    @contextmanager
    def forward_pass(self, model: Any) -> Iterator[None]:
        """Run a forward pass, and then own the network if it is in training."""
        with self._one_at_a_time(model):
            self.check(model)
            self._thread, self._is_kept = threading.current_thread(), False
            yield
            self._is_kept = model.training

    @contextmanager
    def backward_pass(self, model: object) -> Iterator[None]:
        """Run the backward pass of this thread's forward pass."""
        with self._one_at_a_time(model):
            if self._thread not in (None, threading.current_thread()):
                raise RuntimeError(
                    f"{model!r}: the last forward pass was another thread's; give each thread its "
                    "own model.replica()"
                )
            yield
            self._is_kept = False

    def release(self) -> None:
        """Let any thread run the network."""
        self._is_kept = False

    def give_up(self) -> None:
        """As `release`, if the network is this thread's."""
        if self._thread is threading.current_thread():
            self._is_kept = False

    @contextmanager
    def _one_at_a_time(self, model: object) -> Iterator[None]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError(
                f"{model!r} is being run by another thread, and its layers keep the state of one "
                "pass; give each thread its own model.replica()"
            )
        try:
            yield
        finally:
            self._running.release()
