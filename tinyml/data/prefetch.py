"""`Prefetch`, which makes batches in a thread while the model trains on earlier ones."""

from collections.abc import Iterable, Iterator
from contextvars import copy_context
from operator import length_hint
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tinyml_backends.arguments import integer

T = TypeVar("T")


class _Made(NamedTuple, Generic[T]):
    """What the thread passes on: an item, or its end, or an error."""

    item: T | None
    error: BaseException | None
    is_last: bool


class Prefetch(Generic[T]):
    """An iterable whose items are made in a thread, ahead of their use, in the same order.

    Reading and decoding files overlaps with training. Each iteration has its own thread, which ends
    with it: when the items are used up, after an error, or when the iteration is closed, as
    `Learner` does also after Ctrl-C. Closing waits for the item that is being made. Items that were
    made ahead are then lost to an iterable that can be run through only once.

    Parameters
    ----------
    iterable : iterable
        For example of batches. An object with a method ``epoch(rng)`` (`tinyml.batches.Epochs`) is
        one too, for ``fit``.
    depth : int
        How many items may be made ahead; at least 1.

    Raises
    ------
    BaseException
        In the iteration, what ``iterable`` raised, with the traceback of where it was raised; the
        items before come first.

    Examples
    --------
    >>> from tinyml.data import Prefetch
    >>> list(Prefetch(range(5)))
    [0, 1, 2, 3, 4]
    """

    def __init__(self, iterable: Iterable[T], depth: int = 2) -> None:
        if not isinstance(iterable, Iterable) and not hasattr(iterable, "epoch"):
            raise TypeError(f"iterable is {iterable!r}; it must be an iterable, such as a list")
        self.iterable = iterable
        self.depth = integer("depth", depth, 1)

    def __repr__(self) -> str:
        return f"Prefetch({self.iterable!r}, depth={self.depth})"

    def __length_hint__(self) -> Any:
        count = length_hint(self.iterable, -1)
        return NotImplemented if count < 0 else count

    def epoch(self, rng: np.random.Generator) -> "Prefetch[T]":
        """Prefetched items of the iterable's ``epoch(rng)`` if it has one, else of itself."""
        draw: Any = getattr(self.iterable, "epoch", None)
        return self if draw is None else Prefetch(draw(rng), self.depth)

    def __iter__(self) -> Iterator[T]:
        made: SimpleQueue[_Made[T]] = SimpleQueue()
        # A permit for each item that may be made, and one that ends a thread which waits for it.
        permits = Semaphore(self.depth)
        stopped: list[bool] = []
        # In the caller's context, which holds the selected backend and NumPy's error state.
        arguments = (_make, self.iterable, made, permits, stopped)
        thread = Thread(
            target=copy_context().run, args=arguments, name="tinyml-prefetch", daemon=True
        )
        try:
            thread.start()
            while True:
                item, error, is_last = made.get()
                if error is not None:
                    try:
                        raise error
                    finally:
                        del error  # it refers to this frame, by its traceback
                if is_last:
                    return
                permits.release()
                yield item  # type: ignore[misc]
        finally:
            stopped.append(True)
            permits.release()
            if thread.ident is not None:  # else an interrupt came before it was started
                thread.join()


def _make(
    iterable: Iterable[T],
    made: "SimpleQueue[_Made[T]]",
    permits: Semaphore,
    stopped: list[bool],
) -> None:
    """Put the items into the queue, then an error or the end."""
    try:
        iterator = iter(iterable)
        while True:
            permits.acquire()
            if stopped:
                return
            try:
                item = next(iterator)
            except StopIteration:
                made.put(_Made(None, None, True))
                return
            made.put(_Made(item, None, False))
    except BaseException as error:
        made.put(_Made(None, error, True))
