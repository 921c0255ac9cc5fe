"""Max-unpooling and its gradients for pairs of rows and columns, in blocks and threads.

Two neighbours in memory are one integer of twice their width, so a shift moves a value to the
column of its window: by 0 or one element's bits. A shift by all of the integer's bits or more gives
0 in NumPy, so the row that holds no winner comes out of the same operation.
"""

from collections.abc import Callable

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic import unpool
from tinyml_backends.generic.unpool import Duplicates
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numpy_backend.pool import is_pairs, split_rows
from tinyml_backends.numpy_backend.threads import scratch, share


def max_unpool(
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    duplicates: Duplicates,
    out: Array | None = None,
) -> Array:
    """As `generic.unpool.max_unpool`; the sum is also the gradient of pooling."""
    if out is None:
        out = empty(np, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype)
    if _is_wide(y, window, out.shape[1:]):
        _in_rows(_add if duplicates == "sum" else _scatter, y, winners, out)
    else:

        def planes(start: int, stop: int) -> None:
            here = slice(start, stop)
            unpool.max_unpool(
                np, y[here], winners[here], window, input_shape, duplicates, out[here]
            )

        share(planes, len(y), out.nbytes)
    return out


def max_unpool_gradient(
    gradient: Array,
    winners: Array,
    window: Window,
    duplicates: Duplicates,
    out: Array | None = None,
) -> Array:
    """As `generic.unpool.max_unpool_gradient`."""
    if out is None:
        out = empty(np, winners.shape, gradient.dtype)
    if _is_wide(gradient, window, gradient.shape[1:]):
        _in_rows(_gather, out, winners, gradient)
    else:

        def planes(start: int, stop: int) -> None:
            here = slice(start, stop)
            unpool.max_unpool_gradient(
                np, gradient[here], winners[here], window, duplicates, out[here]
            )

        share(planes, len(gradient), gradient.nbytes)
    return out


def _is_wide(array: Array, window: Window, shape: tuple[int, ...]) -> bool:
    """Whether windows of 2×2 tile the planes, and an integer holds two elements."""
    return array.dtype.itemsize < 8 and is_pairs(window, shape)


def _in_rows(
    kernel: Callable[[Array, Array, Array], None], pooled: Array, winners: Array, unpooled: Array
) -> None:
    columns = pooled.shape[-1]
    pooled, winners = pooled.reshape(-1, columns), winners.reshape(-1, columns)
    pairs, wide = unpooled.reshape(-1, 2, 2 * columns), f"u{2 * pooled.itemsize}"

    def rows(start: int, stop: int) -> None:
        here = slice(start, stop)
        kernel(pooled[here], winners[here], np.ascontiguousarray(pairs[here]).view(wide))

    share(rows, len(pairs), unpooled.nbytes)


def _scatter(y: Array, winners: Array, pairs: Array) -> None:
    _put(y, pairs, *_shift(winners, y, *scratch(y.size)))


def _add(y: Array, winners: Array, pairs: Array) -> None:
    memory, flags = scratch(y.nbytes, y.size)
    total = np.add(y, y.dtype.type(0), out=memory.view(y.dtype).reshape(y.shape))
    _put(total, pairs, *_shift(winners, y, flags))


def _put(y: Array, pairs: Array, shift: Array, other_row: Array) -> None:
    bits = y.view(f"u{y.itemsize}")
    np.left_shift(bits, shift, out=pairs[:, 0], dtype=pairs.dtype)
    shift ^= other_row
    np.left_shift(bits, shift, out=pairs[:, 1], dtype=pairs.dtype)


def _gather(out: Array, winners: Array, pairs: Array) -> None:
    *memory, flags = scratch(pairs.nbytes // 2, pairs.nbytes // 2, out.size)
    shift, other_row = _shift(winners, out, flags)
    upper, lower = (rows.reshape(out.shape) for rows in split_rows(pairs, memory))
    upper >>= shift
    shift ^= other_row
    lower >>= shift
    upper |= lower
    np.copyto(out.view(f"u{out.itemsize}"), upper, casting="unsafe")


def _shift(winners: Array, pooled: Array, memory: Array) -> tuple[Array, Array]:
    """Bits from the first column of the upper row to the winner, past the end for the lower row.

    The second result changes them to those of the lower row.
    """
    width = np.uint8(8 * pooled.itemsize)
    return np.multiply(winners, width, out=memory.reshape(winners.shape)), width + width
