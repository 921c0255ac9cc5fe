"""Launches: the whole grid runs in several thread orders, and must give the same bits each time.

A kernel whose result depends on the order of its threads has a race. In order and reversed, any two
threads run in both orders; the shuffled order mixes them. Before each run, uninitialised memory is
filled with a different pattern, so elements that the kernel does not write differ too.
"""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from emulation import observed
from emulation.array import ndarray
from emulation.memory import EmulationError

#: With more threads there is no reversed order, to save time.
FEW_THREADS = 1 << 16
#: With more threads, the array of their order would be too large.
MOST_THREADS = 1 << 28
#: Larger const arguments are not checked for changes.
CHECKED_BYTES = 1 << 20
_POISON = {"in order": 0xA5, "shuffled": 0x5A, "reversed": 0xC3}

#: Parameters: thread order (an address or None), first thread, thread count, grid, block.
Runner = Callable[[int | None, int, int, Any, Any], None]

lock = threading.Lock()


class Launch(NamedTuple):
    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


#: Every launch since a test last cleared this list.
record: list[Launch] = []


class _Only(threading.local):
    blocks: tuple[int, int] | None = None


_only = _Only()


@contextlib.contextmanager
def only_blocks(first: int, count: int) -> Iterator[None]:
    """In this Python thread, run only some blocks of each launch, once and without checks.

    This is for arrays in sparse mappings, of which only the pages in use are allocated.
    """
    before, _only.blocks = _only.blocks, (first, count)
    try:
        yield
    finally:
        _only.blocks = before


def sizes(
    name: str, grid: tuple[int, ...], block: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block with three lengths each, within CUDA's limits. As in CuPy, 0 becomes 1."""
    for what in (grid, block):
        if not isinstance(what, tuple) or not 1 <= len(what) <= 3:
            raise TypeError(f"{name}: grid and block are tuples of one to three ints, not {what!r}")
    grid = tuple(max(1, n) for n in (*grid, 1, 1)[:3])
    block = tuple(max(1, n) for n in (*block, 1, 1)[:3])
    if prod(block) > 1024 or max(block[:2]) > 1024 or block[2] > 64:
        raise ValueError(f"{name}: a block of {block} threads; CUDA takes 1024, and 64 along z")
    if grid[0] > 2**31 - 1 or max(grid[1:]) > 65535:
        raise ValueError(f"{name}: a grid of {grid} blocks; CUDA takes (2147483647, 65535, 65535)")
    return grid, block


def launch(
    name: str,
    run: Runner,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    parameters: Sequence[Any],
    args: Sequence[Any],
) -> None:
    """Run all threads by ``run``, which has the packed arguments; compare the results."""
    record.append(Launch(name, grid, block))
    observed.tell("launched", name, parameters, args)
    threads = prod(grid) * prod(block)
    c_grid, c_block = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
    arrays = [
        (i, a, p)
        for i, (a, p) in enumerate(zip(args, parameters, strict=True))
        if isinstance(a, ndarray) and a.size
    ]
    observer = observed.current()
    if observer is not None and observer.lazy:
        for _, array, parameter in arrays:
            array._memory.fresh = array._memory.fresh and parameter.constant
        return
    if _only.blocks is not None:
        first, count = (n * prod(block) for n in _only.blocks)
        if first < 0 or first + count > threads:
            raise ValueError(f"{name}: blocks {_only.blocks} are not in a grid of {grid}")
        run(None, first, count, c_grid, c_block)
        for _, array, parameter in arrays:
            array._memory.fresh = array._memory.fresh and parameter.constant
        return
    if threads > MOST_THREADS:
        raise ValueError(f"{name}: {threads} threads are too many; use only_blocks")
    outputs = [_Output(i, a) for i, a, p in arrays if not p.constant]
    inputs = [
        (i, _bytes(a), _bytes(a).copy())
        for i, a, p in arrays
        if p.constant and a.nbytes <= CHECKED_BYTES
    ]
    orders = ("in order", "shuffled", "reversed")[: 3 if threads <= FEW_THREADS else 2]
    for order in orders:
        for output in outputs:
            output.prepare(order)
        run(_order(order, threads), 0, threads, c_grid, c_block)
        for output in outputs:
            output.compare(name, order)
    for i, now, before in inputs:
        if not np.array_equal(now, before):
            raise EmulationError(
                f"{name}: argument {i} is const, and the kernel changed its memory"
            )
    for output in outputs:
        output.array._memory.fresh = False


class _Output:
    """An argument that the kernel may write."""

    def __init__(self, number: int, array: ndarray) -> None:
        self.number, self.array = number, array
        self.bytes = _bytes(array)
        self.before = None if array._memory.fresh else self.bytes.copy()
        self.first: np.ndarray | None = None

    def prepare(self, order: str) -> None:
        if self.before is None:
            self.bytes.fill(_POISON[order])
        else:
            self.bytes[:] = self.before

    def compare(self, name: str, order: str) -> None:
        if self.first is None:
            self.first = self.bytes.copy()
        elif not np.array_equal(self.bytes, self.first):
            byte = int((self.bytes != self.first).argmax())
            raise EmulationError(
                f"{name}: argument {self.number} differs between in-order and {order} thread "
                f"order, or is left unwritten; first at flat element {byte // self.array.itemsize} "
                f"of an array of shape {self.array.shape}"
            )


def _bytes(array: ndarray) -> np.ndarray:
    """All bytes of an array, which is contiguous."""
    return array._host.reshape(-1).view(np.uint8)


def _order(order: str, threads: int) -> int | None:
    if order == "in order":
        return None
    if order == "reversed":
        return _reversed()[FEW_THREADS - threads :].ctypes.data
    kept = _shuffled if threads <= FEW_THREADS else _shuffled_once
    return kept(threads).ctypes.data


@functools.cache
def _reversed() -> np.ndarray:
    return np.arange(FEW_THREADS, dtype=np.uint32)[::-1].copy()


@functools.lru_cache(maxsize=256)
def _shuffled(threads: int) -> np.ndarray:
    return np.random.default_rng(threads).permutation(np.arange(threads, dtype=np.uint32))


@functools.lru_cache(maxsize=2)
def _shuffled_once(threads: int) -> np.ndarray:
    return np.random.default_rng(threads).permutation(np.arange(threads, dtype=np.uint32))
