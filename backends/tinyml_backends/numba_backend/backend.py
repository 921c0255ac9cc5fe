"""The backend: what runs compiled, and with which numbers."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import DTYPES
from tinyml_backends.conventions import Duplicates
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import average, pairs, pool, unpool
from tinyml_backends.numba_backend.plans import divisors, plan_of
from tinyml_backends.numba_backend.scheduling import run
from tinyml_backends.numpy_backend import NumpyBackend

#: From this size of all arrays on, results are written past the cache: they would not stay there.
STREAMED_BYTES = 3 << 24
#: From this size on a new array is one whose memory the system has yet to clear, in the cache.
MAPPED_BYTES = 1 << 25

#: A row of any windows takes about as long as so many bytes, where it is asked whether to share.
ROW_BYTES = 1 << 10


class NumbaBackend(NumpyBackend):
    """NumPy arrays on the CPU, through kernels that Numba compiles when they are first called.

    float16 is compiled where bits are only moved; its maxima and sums, averages of integers, and
    what is not overridden here are the NumPy backend's.
    """

    name = "numba"

    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """As `Backend.max_pool`."""
        if x.dtype == _HALF:
            return super().max_pool(x, window, out=out)
        plan = plan_of(window, x.shape[1:])
        is_fresh = out is None
        if out is None:
            shape = x.shape[:1] + plan.pooled
            out = empty(np, shape, x.dtype), empty(np, shape, plan.winner_dtype)
        values, winners = out
        flat = x.ravel(), values.ravel(), winners.ravel()
        items = len(x) * plan.rows_out
        size = x.nbytes + values.nbytes + winners.nbytes
        if plan.is_pair:
            past_cache = _goes_past_cache(size, values, is_fresh)
            run(pairs.max_pool, (*flat, plan.g, past_cache), items, size)
        else:
            known = (plan.down, plan.across) if x.dtype in _FLOATS else ((), ())
            arguments = (*flat, plan.g, plan.spans, *known, plan.apart)
            run(pool.max_pool, arguments, items, size + ROW_BYTES * items)
        return out

    def max_unpool(
        self,
        y: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_unpool`."""
        if duplicates == "sum":
            return self.max_pool_gradient(y, winners, window, input_shape, out=out)
        return self._scatter(y, winners, window, input_shape, False, out)

    def max_pool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_pool_gradient`."""
        if gradient.dtype == _HALF and window.overlaps:
            return super().max_pool_gradient(gradient, winners, window, input_shape, out=out)
        return self._scatter(gradient, winners, window, input_shape, True, out)

    def _scatter(
        self,
        y: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        add: bool,
        out: Array | None,
    ) -> Array:
        plan = plan_of(window, (*input_shape, *y.shape[window.axes + 1 :]))
        is_fresh = out is None
        if out is None:
            out = empty(np, y.shape[:1] + plan.shape, y.dtype)
        size = y.nbytes + winners.nbytes + out.nbytes
        # one term alone is added to +0.0, which makes +0.0 of −0.0 and changes nothing else
        values, cells, nought = _bits(y), _bits(out), _NOUGHT[y.dtype, add]
        flat: tuple[Array, ...] = (values, winners.ravel(), cells, plan.g)
        if plan.is_pair:
            arguments = (*flat, nought, _goes_past_cache(size, out, is_fresh))
            run(pairs.scatter, arguments, len(y) * plan.rows_out, size)
            return out
        if plan.is_halved:
            run(unpool.scatter_halves, (*flat, nought), len(y) * plan.rows_in, size)
            return out
        if add and plan.overlaps and y.dtype.kind == "f":
            flat, nought = (y.ravel(), flat[1], out.ravel(), plan.g), y.dtype.type(0)
        arguments = (*flat, plan.offsets, nought, add and plan.overlaps)
        run(unpool.scatter, arguments, len(y) * plan.rows_in, size)
        return out

    def max_unpool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_unpool_gradient`."""
        plan = plan_of(window, gradient.shape[1:])
        is_fresh = out is None
        if out is None:
            out = empty(np, winners.shape, gradient.dtype)
        size = gradient.nbytes + winners.nbytes + out.nbytes
        flat = (_bits(gradient), winners.ravel(), _bits(out), plan.g)
        items = len(gradient) * plan.rows_out
        if plan.is_pair:
            past_cache = _goes_past_cache(size, out, is_fresh)
            run(pairs.gather, (*flat, past_cache), items, size)
        elif duplicates == "last" and plan.overlaps:
            run(unpool.gather_last, (*flat, plan.offsets), items, size)
        elif plan.are_many and out.itemsize > 2:
            lengths = plan.down, plan.across, plan.apart
            run(unpool.gather_common, (*flat, plan.spans, plan.offsets, *lengths), items, size)
        else:
            run(unpool.gather, (*flat, plan.offsets), items, size)
        return out

    def unpool_plane_indices(
        self, y: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """As `Backend.unpool_plane_indices`."""
        if indices.dtype.itemsize < 4 or indices.dtype == np.uint64:
            return super().unpool_plane_indices(y, indices, input_shape)
        out = empty(np, (len(y), *input_shape), y.dtype)
        bad = np.full(len(y), -1, np.int64)
        inside, pooled = prod(input_shape), prod(y.shape[1:])
        arguments = (_bits(y), indices.ravel(), _bits(out), bad, inside, pooled)
        run(unpool.place, arguments, len(y), y.nbytes + indices.nbytes + out.nbytes)
        found = bad[bad >= 0]
        return out, int(found[0]) if len(found) else -1

    def avg_pool(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool,
        divisor: int | None,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.avg_pool`."""
        plan = plan_of(window, x.shape[1:])
        if plan.is_global or x.dtype not in _FLOATS:
            return super().avg_pool(x, window, count_include_pad, divisor, out=out)
        if out is None:
            out = empty(np, x.shape[:1] + plan.pooled, x.dtype)
        along = divisors(window, x.shape[1 : window.axes + 1], count_include_pad, divisor)
        arguments: tuple[Any, ...] = (x.ravel(), out.ravel(), plan.g, plan.spans, *along)
        items, size = len(x) * plan.rows_out, x.nbytes + out.nbytes
        if plan.are_many:
            arguments += plan.down, plan.across, plan.apart
            run(average.avg_pool_common, arguments, items, size)
        else:
            run(average.avg_pool, arguments, items, size)
        return out

    def avg_pool_gradient(
        self,
        gradient: Array,
        window: Window,
        input_shape: tuple[int, ...],
        count_include_pad: bool,
        divisor: int | None,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.avg_pool_gradient`."""
        plan = plan_of(window, (*input_shape, *gradient.shape[window.axes + 1 :]))
        if plan.is_global or gradient.dtype not in _FLOATS:
            return super().avg_pool_gradient(
                gradient, window, input_shape, count_include_pad, divisor, out=out
            )
        if out is None:
            out = empty(np, gradient.shape[:1] + plan.shape, gradient.dtype)
        along = divisors(window, tuple(input_shape), count_include_pad, divisor)
        flat = gradient.ravel(), out.ravel(), plan.g
        items, size = len(gradient) * plan.rows_in, gradient.nbytes + out.nbytes
        if plan.is_halved:
            run(average.avg_pool_gradient_halves, (*flat, *along), items, size)
        else:
            run(average.avg_pool_gradient, (*flat, plan.spans, *along), items, size)
        return out


_HALF = np.dtype("f2")
_FLOATS = frozenset(map(np.dtype, ("f4", "f8")))
_UNSIGNED = {dtype: np.dtype(f"u{dtype.itemsize}") for dtype in DTYPES}
#: By dtype and whether a value is added to +0.0: the bits that become 0.
_NOUGHT: dict[tuple[Any, bool], Any] = {
    (dtype, added): (-np.zeros(1, dtype) if added else np.zeros(1, dtype)).view(bits)[0]
    for dtype, bits in _UNSIGNED.items()
    for added in (False, True)
}


def _goes_past_cache(size: int, out: Array, is_fresh: bool) -> bool:
    if size < STREAMED_BYTES or not out.flags.aligned:  # an element may lie in two lines
        return False
    return not is_fresh or out.nbytes < MAPPED_BYTES


def _bits(array: Array) -> Array:
    """All elements in a row, as unsigned integers of their size; a copy if they are not in one."""
    return array.ravel().view(_UNSIGNED[array.dtype])
