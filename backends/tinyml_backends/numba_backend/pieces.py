"""Pieces of a call, taken by several threads that do not hold the interpreter's lock.

To wait for that lock, or for another thread to wake up, takes as long as to pool two megabytes. So
a thread takes one piece after the other inside compiled code, and waits there for a while in case
there is more to do.
"""

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tinyml_backends.numba_backend.compiled import compiled, element, inlined

#: Of a task: the next piece, the number of those done, and the numbers of helpers that came and
#: that left, a cache line each, as threads write them; the numbers of pieces and of items.
NEXT, DONE, CAME, LEFT, PIECES, ITEMS = 0, 8, 16, 24, 32, 33
#: How often a caller looks whether the last pieces are done, before it sleeps.
CALLER_LOOKS = 1 << 14
#: How often a helper looks for a new task: for about as long as it takes to wake it up.
HELPER_LOOKS = 1 << 12

#: How many tasks were begun.
begun = np.zeros(1, np.int64)


def task_of(items: int, pieces: int) -> NDArray[np.int64]:
    """Task of so many items in so many pieces, at least one item each."""
    task = np.zeros(ITEMS + 1, np.int64)
    task[PIECES], task[ITEMS] = pieces, items
    return task


@cache
def in_pieces(kernel: Any) -> Any:
    """``run(begun, task, helps, *arguments)`` of a ``kernel(*arguments, start, stop)``.

    It runs the kernel on pieces of the task's items until all are taken; the caller's, which does
    not help, then waits for the others for a while. It returns how many tasks were begun.
    """

    def run(begun: Any, task: Any, helps: bool, *arguments: Any) -> int:
        start, stop = _take(begun, task)
        seen: int = _look(begun, 0)
        while start < stop:
            kernel(*arguments, start, stop)
            _add(task, DONE, 1)
            start, stop = _take(begun, task)
        if not helps:
            for _ in range(CALLER_LOOKS):
                if _look(task, DONE) == task[PIECES] and _look(task, LEFT) == _look(task, CAME):
                    break
        return seen

    function: Callable[..., Any] = kernel.py_func
    run.__qualname__ = run.__name__ = (
        f"{function.__module__.rpartition('.')[2]}_{function.__name__}"
    )
    return compiled(run)


@compiled
def leave(begun: Any, task: Any, seen: int) -> None:
    """Leave a task whose arrays are let go, and wait for another one for a while."""
    _add(task, LEFT, 1)
    for _ in range(HELPER_LOOKS):
        if _look(begun, 0) != seen:
            break


@inlined
def _take(begun: Any, task: Any) -> Any:
    """Range of the next piece, empty if all are taken."""
    piece, pieces, items = _add(task, NEXT, 1), task[PIECES], task[ITEMS]
    if piece == 0:
        _add(begun, 0, 1)
    if piece >= pieces:
        return 0, 0
    return items * piece // pieces, items * (piece + 1) // pieces


def _adding(_: Any, array: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = element(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", place, arguments[2], "seq_cst")

    return array.dtype(array, types.intp, array.dtype), generate


def _looking(_: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):  # say that this loop only waits
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        place = element(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(place, "seq_cst", align=array.dtype.bitwidth // 8)

    return array.dtype(array, types.intp), generate


#: ``_add(array, i, value)`` adds to an element and returns what it was; ``_look(array, i)`` reads
#: one. Other threads may do the same at once.
_add, _look = intrinsic(_adding), intrinsic(_looking)
