"""Pooling and unpooling on our own CUDA kernels."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.conventions import Convention, Duplicates
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.devices import CupyArrays, on_device
from tinyml_backends.cupy_backend.launcher import index_dtype
from tinyml_backends.cupy_backend.structs import (
    ByValue,
    counted_struct,
    divisor_struct,
    farthest,
    geometry_struct,
    struct,
)
from tinyml_backends.generic import average, indices, pool, unpool
from tinyml_backends.geometry import Window

#: Cells of a window that one thread should not go through alone.
LARGE = 1024
#: What `first_bad` holds while no bad index was met.
NONE_BAD = 2**64 - 1


class _Stack:
    """A stack of planes beside its windows: what kernels are told about them."""

    def __init__(self, shape: tuple[int, ...], window: Window) -> None:
        self.planes, self.spatial = shape[0], shape[1 : window.axes + 1]
        self.trailing = shape[window.axes + 1 :]
        self.window = window
        self.pooled = (self.planes, *window.output_shape(self.spatial), *self.trailing)
        self.shape = shape
        self.index = index_dtype(prod(shape), prod(self.pooled), farthest(self.spatial, window))

    @property
    def geometry(self) -> ByValue:
        return geometry_struct(
            self.planes, prod(self.trailing), self.spatial, self.window, self.index
        )

    def lanes(self, dtype: "np.dtype[Any]", *arrays: Array) -> int:
        """Channels that a thread can take at once."""
        pack = k.pack_length(dtype)
        fits = bool(self.trailing) and self.trailing[0] % pack == 0
        return pack if fits and _aligned(pack, *arrays) else 1

    def is_paired(self, dtype: "np.dtype[Any]", *arrays: Array) -> bool:
        """Whether windows two cells wide tile rows that are made of whole packs."""
        window, length = self.window, self.spatial[-1]
        return (
            not self.trailing
            and (window.size[-1], window.stride[-1], window.dilation[-1]) == (2, 2, 1)
            and window.padding_before[-1] == 0
            and window.winner_dtype == np.uint8
            and length == 2 * self.pooled[-1]
            and length % k.pack_length(dtype) == 0
            and _aligned(k.pack_length(dtype), *arrays)
        )


def _aligned(pack: int, *arrays: Array) -> bool:
    return all(array.data.ptr % (pack * array.itemsize) == 0 for array in arrays)


def _has_kernels(array: Array, winners: Array | None = None) -> bool:
    return array.dtype in k.FLOATS and (winners is None or winners.dtype in k.WINNERS)


def _position(first_bad: Array) -> int:
    """Position of the first bad index, or -1. Waits for the GPU."""
    position = int(first_bad[0])
    return -1 if position == NONE_BAD else position


class CupyPooling(CupyArrays):
    """The pooling family.

    Nothing here waits for the GPU unless its docstring says so, but `first_duplicate` and
    `adaptive_max_pool_gradient`, which run the generic code.
    """

    # -- pooling -----------------------------------------------------------------------------

    @on_device
    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """As `Backend.max_pool`."""
        if not _has_kernels(x) or window.winner_dtype not in k.WINNERS:
            return pool.max_pool(self.xp, x, window, out)
        if window.axes > 1 and window.count > LARGE and average.is_global(window, x.shape[1:]):
            return self._global_max_pool(x, window, out)
        x = self.xp.ascontiguousarray(x)
        stack = _Stack(x.shape, window)
        values, winners = out or (
            self.xp.empty(stack.pooled, x.dtype),
            self.xp.empty(stack.pooled, window.winner_dtype),
        )
        instance = {"T": x.dtype, "W": winners.dtype, "I": stack.index}
        if stack.is_paired(x.dtype, x, values, winners):
            kernel, pack = k.MAX_POOL_PAIRS, {"P": k.pack_length(x.dtype)}
            lanes = pack["P"] // 2
        else:
            lanes = stack.lanes(x.dtype, x, values, winners)
            kernel, pack = k.MAX_POOL, {"N": lanes}
        arguments = (x, values, winners, stack.geometry)
        self._launch(kernel, {**instance, **pack}, values.size // lanes, *arguments)
        return values, winners

    def _global_max_pool(
        self, x: Array, window: Window, out: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        """Pool each row, then the rows' maxima: one thread for a whole plane would be alone."""
        *others, last = window.size
        values, in_row = self.max_pool(x, Window.of(window.axes, (*[1] * len(others), last)))
        values, rows = self.max_pool(values, Window.of(window.axes, (*others, 1)))
        winners = rows.astype(window.winner_dtype) * window.winner_dtype.type(last)
        index = rows.reshape(len(x), 1).astype(np.int64)
        column = self.xp.take_along_axis(in_row.reshape(len(x), -1), index, 1)
        winners += column.reshape(winners.shape)
        if out is None:
            return values, winners
        out[0][...], out[1][...] = values, winners
        return out

    @on_device
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
        if not _has_kernels(y, winners):
            return unpool.max_unpool(self.xp, y, winners, window, input_shape, duplicates, out)
        return self._unpool(y, winners, window, input_shape, duplicates == "sum", out)

    @on_device
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
        if not _has_kernels(gradient, winners):
            return unpool.max_pool_gradient(self.xp, gradient, winners, window, input_shape, out)
        return self._unpool(gradient, winners, window, input_shape, True, out)

    def _unpool(
        self,
        y: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        is_sum: bool,
        out: Array | None,
    ) -> Array:
        y, winners = self.xp.ascontiguousarray(y), self.xp.ascontiguousarray(winners)
        stack = _Stack((len(y), *input_shape, *y.shape[window.axes + 1 :]), window)
        out = self.xp.empty(stack.shape, y.dtype) if out is None else out
        instance = {"T": y.dtype, "W": winners.dtype, "I": stack.index, "SUM": is_sum}
        if not window.overlaps and stack.is_paired(y.dtype, y, winners, out):
            lanes = k.pack_length(y.dtype)
            kernel, pack = k.MAX_UNPOOL_PAIRS, {"P": lanes}
        else:
            lanes = stack.lanes(y.dtype, y, winners, out)
            kernel, pack = k.MAX_UNPOOL, {"N": lanes}
        arguments = (y, winners, out, stack.geometry)
        self._launch(kernel, {**instance, **pack}, out.size // lanes, *arguments)
        return out

    @on_device
    def max_unpool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        duplicates: Duplicates,
        *,
        out: Array | None = None,
    ) -> Array:
        """As `Backend.max_unpool_gradient`; a winner that points outside is clamped."""
        if not _has_kernels(gradient, winners):
            return unpool.max_unpool_gradient(self.xp, gradient, winners, window, duplicates, out)
        gradient = self.xp.ascontiguousarray(gradient)
        winners = self.xp.ascontiguousarray(winners)
        stack = _Stack(gradient.shape, window)
        out = self.xp.empty(winners.shape, gradient.dtype) if out is None else out
        last = duplicates == "last" and window.overlaps
        instance = {"T": gradient.dtype, "W": winners.dtype, "I": stack.index, "LAST": last}
        arguments = (gradient, winners, out, stack.geometry)
        self._launch(k.MAX_UNPOOL_GRADIENT, instance, out.size, *arguments)
        return out

    first_duplicate = on_device(Backend.first_duplicate)

    @on_device
    def unpool_plane_indices(
        self, y: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """As `Backend.unpool_plane_indices`; waits once for the GPU, to know of a bad index."""
        xp, plane, pooled = self.xp, prod(input_shape), prod(y.shape[1:])
        out = xp.empty((len(y), *input_shape), y.dtype)
        if y.size == 0:
            out.fill(0)
            return out, -1
        y = xp.ascontiguousarray(y)
        indices = xp.ascontiguousarray(indices.astype(np.int64, copy=False))
        index = index_dtype(y.size, out.size)
        owner = xp.full(out.size, -1, index)
        first_bad = xp.full(1, NONE_BAD, np.uint64)
        number = index.type
        counts = (number(y.size), divisor_struct(pooled, index, "pooled"), number(plane))
        self._launch(k.CLAIM_CELLS, {"I": index}, y.size, indices, owner, first_bad, *counts)
        if _has_kernels(y):
            instance = {"T": y.dtype, "I": index}
            self._launch(k.WRITE_OWNED, instance, out.size, y, owner, out, number(out.size))
        else:
            taken = xp.take(y.reshape(-1), xp.maximum(owner, 0))
            out[...] = xp.where(owner < 0, y.dtype.type(0), taken).reshape(out.shape)
        return out, _position(first_bad)

    @on_device
    def winners_from_indices(
        self,
        indices_: Array,
        convention: Convention,
        window: Window,
        input_shape: tuple[int, ...],
    ) -> tuple[Array, int]:
        """As `Backend.winners_from_indices`; waits once for the GPU, to know of a bad index."""
        xp, winners = self.xp, self.xp.empty(indices_.shape, window.winner_dtype)
        if winners.dtype not in k.WINNERS:
            return indices.winners_from_indices(self.xp, indices_, convention, window, input_shape)
        shape = (len(indices_), *input_shape, *indices_.shape[window.axes + 1 :])
        if winners.size == 0:
            return winners, -1
        stack = _Stack(shape, window)
        in_front = convention.name == "tensor" or convention.include_batch
        flat = struct(
            "Flat",
            stack.index,
            of_plane=prod(shape[1:]) if in_front else 0,
            of_channel=1 if convention.name == "nhwc" else 0,
            pitch=convention.pitch(shape, window.axes),
        )
        counts = 0 if convention.name == "window" else 1 if convention.order == "C" else 2
        first_bad = xp.full(1, NONE_BAD, np.uint64)
        instance = {"W": winners.dtype, "I": stack.index, "COUNTS": counts}
        indices64 = xp.ascontiguousarray(indices_.astype(np.int64, copy=False))
        arguments = (indices64, winners, first_bad, stack.geometry, flat)
        self._launch(k.WINNERS_FROM_INDICES, instance, winners.size, *arguments)
        return winners, _position(first_bad)

    indices_from_winners = on_device(Backend.indices_from_winners)

    @on_device
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
        if not _has_kernels(x) or average.is_global(window, x.shape[1 : window.axes + 1]):
            return average.avg_pool(self.xp, x, window, count_include_pad, divisor, out)
        x = self.xp.ascontiguousarray(x)
        stack = _Stack(x.shape, window)
        out = self.xp.empty(stack.pooled, x.dtype) if out is None else out
        self._average(k.AVG_POOL, x, out, stack, count_include_pad, divisor)
        return out

    @on_device
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
        if not _has_kernels(gradient) or average.is_global(window, input_shape):
            return average.avg_pool_gradient(
                self.xp, gradient, window, input_shape, count_include_pad, divisor, out
            )
        gradient = self.xp.ascontiguousarray(gradient)
        shape = (len(gradient), *input_shape, *gradient.shape[window.axes + 1 :])
        stack = _Stack(shape, window)
        out = self.xp.empty(shape, gradient.dtype) if out is None else out
        self._average(k.AVG_POOL_GRADIENT, gradient, out, stack, count_include_pad, divisor)
        return out

    def _average(
        self,
        kernel: k.Kernel,
        given: Array,
        out: Array,
        stack: _Stack,
        count_include_pad: bool,
        divisor: int | None,
    ) -> None:
        lanes = stack.lanes(given.dtype, given, out)
        counting = counted_struct(
            stack.spatial, stack.window, count_include_pad, divisor, stack.index
        )
        instance = {"T": given.dtype, "I": stack.index, "N": lanes}
        self._launch(kernel, instance, out.size // lanes, given, out, stack.geometry, counting)

    adaptive_max_pool = on_device(Backend.adaptive_max_pool)
    adaptive_max_pool_gradient = on_device(Backend.adaptive_max_pool_gradient)
    adaptive_avg_pool = on_device(Backend.adaptive_avg_pool)
    adaptive_avg_pool_gradient = on_device(Backend.adaptive_avg_pool_gradient)
