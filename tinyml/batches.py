"""Data of `Learner`: pairs of arrays that are split into batches, and iterables of batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import length_hint
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from tinyml.layers.base import scope_of
from tinyml_backends import owner_of
from tinyml_backends.arguments import generator, integer
from tinyml_backends.arrays import Array

T = TypeVar("T")

Batch: TypeAlias = tuple[Array, Array]


@runtime_checkable
class Epochs(Protocol):
    """Data whose batches are drawn anew for each epoch, for example shuffled or augmented."""

    def epoch(self, rng: np.random.Generator) -> Iterable[Batch]:
        """Batches of an epoch, which depend only on the data and on ``rng``."""


Data: TypeAlias = Batch | Iterable[Batch]


def check_data(name: str, data: object, batch_size: int) -> None:
    """Raise TypeError for data that is neither a pair of arrays nor an iterable of batches."""
    integer("batch_size", batch_size, 1)
    if hasattr(data, "shape") or isinstance(data, str) or not isinstance(data, Iterable):
        kind = "an array" if hasattr(data, "shape") else repr(data)
        raise TypeError(
            f"{name} is {kind}; it must be a pair of arrays, fit((x, y)), or an iterable of "
            "batches (x, y)"
        )
    if isinstance(data, tuple) and len(data) != 2 and any(hasattr(d, "shape") for d in data):
        raise TypeError(f"{name} is a tuple of {len(data)}; it must be a pair of arrays (x, y)")


def check_train(data: object, batch_size: int) -> None:
    """As `check_data`, of data to train on, which may also be `Epochs`."""
    if not (isinstance(data, Epochs) and not isinstance(data, type)):
        check_data("train", data, batch_size)
    integer("batch_size", batch_size, 1)


def batches_of(
    data: Data | Epochs, batch_size: int, rng: np.random.Generator | None
) -> tuple[Iterable[Batch], int | None]:
    """Batches, and their number if it is known.

    A pair of arrays is split into batches, and shuffled if there is an ``rng``; data with a method
    ``epoch`` gets a generator that is seeded by it.
    """
    if isinstance(data, list | tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        data = (data[0], data[1])
    elif isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], tuple):
        raise TypeError(
            f"x is a {type(data[0]).__name__}; data must be (x, y) of arrays, or batches of them"
        )
    else:
        count = length_hint(data, -1)
        if rng is not None and isinstance(data, Epochs):
            # One number of rng, however many the epoch draws and whenever it does.
            data = data.epoch(generator(int(rng.integers(2**63))))
            count = length_hint(data, -1) if count < 0 else count
        return data, None if count < 0 else count  # type: ignore[return-value]
    x, y = data
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y {len(y)}; they must have the same number")
    order = np.arange(len(x)) if rng is None else rng.permutation(len(x))
    return _split(x, y, order, batch_size), -(-len(x) // batch_size)


def _split(x: Array, y: Array, order: Array, batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield _rows(x, chosen), _rows(y, chosen)


def _rows(array: Array, chosen: "np.ndarray[Any, Any]") -> Array:
    with scope_of(array):
        return array[owner_of(array).xp.asarray(chosen)]


@contextmanager
def iterated(batches: Iterable[T]) -> Iterator[Iterator[T]]:
    """Iterator that is closed at the end, also after an error, unless it is ``batches`` itself.

    So a thread that prefetches ends at once, not when the iterator is collected.
    """
    iterator = iter(batches)
    try:
        yield iterator
    finally:
        if iterator is not batches and hasattr(iterator, "close"):
            iterator.close()


def grouped(batches: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` batches; the last one may be shorter."""
    while group := list(islice(batches, size)):
        yield group


def counted(loss: object, target: Array) -> Array:
    """Which targets the loss counts: those that are not its ``ignore_index``, if it has one."""
    ignored = getattr(loss, "ignore_index", None)
    return target == target if ignored is None else target != ignored


def shares(loss: object, batches: list[Batch]) -> list[float]:
    """Share of each batch in the targets that count, or 1 / n if none does."""
    if len(batches) == 1:
        return [1.0]
    counts = [int(counted(loss, y).sum()) for _, y in batches]
    total = sum(counts)
    return [count / total if total else 1 / len(batches) for count in counts]
