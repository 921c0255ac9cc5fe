"""The Numba backend: which calls run compiled kernels, and with which arguments."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import DTYPES
from tinyml_backends.conventions import Duplicates
from tinyml_backends.generic.activation import formula_of
from tinyml_backends.generic.resample import Indices, Weights, resampled, split
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import activation, average, pool, resample, tiles_2x2, unpool
from tinyml_backends.numba_backend.convolution import NumbaConvolution
from tinyml_backends.numba_backend.plans import Fixed, divisors, plan_of
from tinyml_backends.numba_backend.scheduling import run
from tinyml_backends.numba_backend.training import FLOATS, NumbaTraining
from tinyml_backends.numba_backend.vectors import STREAM_ALIGNMENT

#: Bytes of all arrays from which on unpooled images are written with non-temporal stores.
STREAMED_BYTES = 3 << 24
#: In `pool.max_pool` a row of windows takes as long as this many bytes, in addition to its own.
ROW_BYTES = 1 << 10


class NumbaBackend(NumbaTraining, NumbaConvolution):
    """NumPy arrays on the CPU, through kernels that Numba compiles when they are first called.

    For float16 only kernels that copy values are compiled. Maxima and sums of float16, averages of
    integers, and all methods that are not overridden are the NumPy backend's.
    """

    name = "numba"

    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """As `Backend.max_pool`."""
        if x.dtype == _HALF:
            return super().max_pool(x, window, out=out)
        plan = plan_of(window, x.shape[1:])
        if out is None:
            shape = x.shape[:1] + plan.pooled
            out = empty(np, shape, x.dtype), empty(np, shape, plan.winner_dtype)
        values, winners = out
        flat = x.ravel(), values.ravel(), winners.ravel()
        items = len(x) * plan.rows_out
        size = x.nbytes + values.nbytes + winners.nbytes
        if plan.is_2x2_tiling:
            run(tiles_2x2.max_pool, (*flat, plan.numbers), items, size)
        else:
            fixed = plan.fixed if x.dtype in FLOATS else _ANY._replace(step=plan.fixed.step)
            arguments = (*flat, plan.numbers, plan.spans, *fixed)
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
        add = duplicates == "sum"
        if add and y.dtype == _HALF and window.overlaps:
            return super().max_unpool(y, winners, window, input_shape, duplicates, out=out)
        plan = plan_of(window, (*input_shape, *y.shape[window.axes + 1 :]))
        is_new = out is None
        if out is None:
            out = empty(np, y.shape[:1] + plan.shape, y.dtype)
        size = y.nbytes + winners.nbytes + out.nbytes
        # adding a single term to +0.0 turns -0.0 into +0.0 and changes no other value
        values, cells, zero = _bits(y), _bits(out), _ZERO[y.dtype, add]
        flat: tuple[Array, ...] = (values, winners.ravel(), cells, plan.numbers, zero)
        if plan.is_2x2_tiling:
            is_streamed = size >= STREAMED_BYTES and not is_new and _can_stream(out, window)
            arguments = (*flat, (0,) if is_streamed else ())
            run(tiles_2x2.scatter, arguments, len(y) * plan.rows_out, size)
            return out
        if plan.is_tiling:
            run(unpool.scatter_tiled, flat, len(y) * plan.rows_in, size)
            return out
        if add and plan.overlaps and y.dtype.kind == "f":
            flat = (y.ravel(), flat[1], out.ravel(), plan.numbers, y.dtype.type(0))
        arguments = (*flat, plan.offsets, add and plan.overlaps)
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
        if out is None:
            out = empty(np, winners.shape, gradient.dtype)
        size = gradient.nbytes + winners.nbytes + out.nbytes
        flat = (_bits(gradient), winners.ravel(), _bits(out), plan.numbers)
        items = len(gradient) * plan.rows_out
        if plan.is_2x2_tiling:
            run(tiles_2x2.gather, flat, items, size)
        elif duplicates == "last" and plan.overlaps:
            run(unpool.gather_last, (*flat, plan.offsets), items, size)
        else:
            fixed = plan.fixed if plan.fills_vectors and out.itemsize > 2 else _ANY
            run(unpool.gather, (*flat, plan.offsets, plan.spans, fixed), items, size)
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
        if plan.is_global or x.dtype not in FLOATS:
            return super().avg_pool(x, window, count_include_pad, divisor, out=out)
        if out is None:
            out = empty(np, x.shape[:1] + plan.pooled, x.dtype)
        along = divisors(window, x.shape[1 : window.axes + 1], count_include_pad, divisor)
        fixed = plan.fixed if plan.fills_vectors else _ANY
        arguments = (x.ravel(), out.ravel(), plan.numbers, plan.spans, along, fixed)
        run(average.avg_pool, arguments, len(x) * plan.rows_out, x.nbytes + out.nbytes)
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
        if plan.is_global or gradient.dtype not in FLOATS:
            return super().avg_pool_gradient(
                gradient, window, input_shape, count_include_pad, divisor, out=out
            )
        if out is None:
            out = empty(np, gradient.shape[:1] + plan.shape, gradient.dtype)
        along = divisors(window, tuple(input_shape), count_include_pad, divisor)
        flat = gradient.ravel(), out.ravel(), plan.numbers
        items, size = len(gradient) * plan.rows_in, gradient.nbytes + out.nbytes
        if plan.is_tiling:
            run(average.avg_pool_gradient_tiled, (*flat, along), items, size)
        else:
            run(average.avg_pool_gradient, (*flat, plan.spans, along), items, size)
        return out

    def activate(self, kind: str, x: Array, **options: Any) -> tuple[Array, Array]:
        """As `Backend.activate`."""
        formula, options = formula_of(kind, options)
        if x.dtype not in FLOATS or not (kind == "relu" or kind in activation.KERNELS):
            return super().activate(kind, x, **options)
        y = empty(np, x.shape, x.dtype)
        source, target = x.ravel(), y.ravel()
        if kind == "relu":
            positive = empty(np, x.shape, np.dtype(bool))
            size = x.nbytes + y.nbytes + positive.nbytes
            run(activation.relu, (source, target, positive.ravel().view(np.uint8)), x.size, size)
            return y, positive
        kernel, _, cost = activation.KERNELS[kind]
        run(kernel, (source, target, *_numbers(x.dtype, options)), x.size, cost * 2 * x.nbytes)
        return y, x if formula.saves == "input" else y

    def activate_gradient(self, kind: str, gradient: Array, saved: Array, **options: Any) -> Array:
        """As `Backend.activate_gradient`."""
        _, options = formula_of(kind, options)
        fits = gradient.dtype in FLOATS and gradient.shape == saved.shape
        if fits and kind == "relu":
            out = empty(np, gradient.shape, gradient.dtype)
            size = 2 * out.nbytes + saved.nbytes
            flat = _bits(gradient), saved.ravel().view(np.uint8), _bits(out)
            run(activation.relu_gradient, flat, out.size, size)
        elif fits and kind in activation.KERNELS and gradient.dtype == saved.dtype:
            out = empty(np, gradient.shape, gradient.dtype)
            _, kernel, cost = activation.KERNELS[kind]
            flat = gradient.ravel(), saved.ravel(), out.ravel()
            run(kernel, (*flat, *_numbers(out.dtype, options)), out.size, cost * 3 * out.nbytes)
        else:
            return super().activate_gradient(kind, gradient, saved, **options)
        return out

    def resample(self, x: Array, axis: int, indices: Indices, weights: Weights) -> Array:
        """As `Backend.resample`."""
        if x.dtype not in FLOATS:
            return super().resample(x, axis, indices, weights)
        out = empty(np, resampled(x.shape, axis, indices), x.dtype)
        outer, length, inner = split(x.shape, axis)
        (terms, results), size = indices.shape, x.nbytes + out.nbytes
        tables = indices.T.ravel(), weights.T.astype(x.dtype).ravel()
        arguments = (x.ravel(), out.ravel(), *tables, (length, results, inner))
        if inner == 1:
            taps = (0,) * terms if terms <= resample.MOST_TAPS else ()
            run(resample.elements, (*arguments, taps), outer, terms * size)
        else:
            run(resample.rows, arguments, outer * results, size)
        return out


#: For kernels that are compiled without a known size of the window.
_ANY = Fixed((), (), (0,))
_HALF = np.dtype("f2")
_UNSIGNED = {dtype: np.dtype(f"u{dtype.itemsize}") for dtype in DTYPES}
#: The bits that are written as 0, by dtype and whether values are added to +0.0 (then the bits of
#: −0.0).
_ZERO: dict[tuple[Any, bool], Any] = {
    (dtype, added): (-np.zeros(1, dtype) if added else np.zeros(1, dtype)).view(bits)[0]
    for dtype, bits in _UNSIGNED.items()
    for added in (False, True)
}


def _numbers(dtype: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """The last arguments of a kernel of an activation."""
    return activation.TERMS[dtype], dtype.type(next(iter(options.values()), 0))


def _can_stream(out: Array, window: Window) -> bool:
    """Whether channels come first, and rows start at addresses that non-temporal stores need."""
    start: int = out.__array_interface__["data"][0]
    row_bytes = out.shape[-1] * out.itemsize
    return out.ndim == window.axes + 1 and not (start | row_bytes) % STREAM_ALIGNMENT


def _bits(array: Array) -> Array:
    """Flat array of the elements as unsigned integers of their size; a copy if not contiguous."""
    return array.ravel().view(_UNSIGNED[array.dtype])
