"""What is done on the emulated devices, for a counter that asks for it.

An observer is told of each launch and of each operation of CuPy before its result is computed. It
may leave large results uncomputed: a count does not depend on values.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class Observer(Protocol):
    """Sees all work."""

    lazy: bool
    """Whether large results are not computed."""

    def launched(self, name: str, parameters: Sequence[Any], args: Sequence[Any]) -> None:
        """A kernel is launched."""

    def called(self, name: str, arrays: Sequence[Any], results: Sequence[Any]) -> None:
        """An operation of CuPy has read ``arrays`` and written ``results``."""

    def multiplied(self, name: str, arrays: Sequence[Any], shape: tuple[int, ...]) -> None:
        """CuBLAS has multiplied two arrays into a third; ``shape``: batch, rows, columns, terms."""

    def copied(self, direction: str, nbytes: int) -> None:
        """Bytes are copied "to device" or "to host"."""

    def waited(self) -> None:
        """The host waits for the device."""

    def allocated(self, nbytes: int) -> None:
        """Memory of so many bytes is allocated; freed, if negative."""


class _Holder:
    observer: Observer | None = None


_holder = _Holder()


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[Observer]:
    """Context in which an observer sees all work."""
    before, _holder.observer = _holder.observer, observer
    try:
        yield observer
    finally:
        _holder.observer = before


def current() -> Observer | None:
    return _holder.observer


def tell(what: str, *args: Any) -> None:
    """Call a method of the observer, if there is one."""
    if _holder.observer is not None:
        method: Callable[..., None] = getattr(_holder.observer, what)
        method(*args)
