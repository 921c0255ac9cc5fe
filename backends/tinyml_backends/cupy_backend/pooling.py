"""Pooling and unpooling with CUDA kernels."""

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
    geometry_struct,
    largest_offset,
    struct,
)
from tinyml_backends.generic.average import is_global
from tinyml_backends.geometry import Window

#: Max-pooling with a global window of more cells takes two steps, so that a thread reads fewer.
LARGE_WINDOW = 1024
#: Value of `first_bad` while no bad index has been found.
NONE_BAD = 2**64 - 1


class _Stack:
    """A stack of planes and the geometry of its windows, as the kernels take them."""

    def __init__(self, shape: tuple[int, ...], window: Window) -> None:
        self.shape, self.window = shape, window
        self.spatial, self.channels = shape[1 : window.axes + 1], shape[window.axes + 1 :]
        self.pooled = (shape[0], *window.output_shape(self.spatial), *self.channels)
        self.index = index_dtype(
            prod(shape), prod(self.pooled), largest_offset(self.spatial, window)
        )

    @classmethod
    def of_pooled(cls, y: Array, input_shape: tuple[int, ...], window: Window) -> "_Stack":
        """The stack of planes of ``input_shape`` whose pooled values are ``y``."""
        return cls((len(y), *input_shape, *y.shape[window.axes + 1 :]), window)

    @property
    def geometry(self) -> ByValue:
        return geometry_struct(
            self.shape[0], prod(self.channels), self.spatial, self.window, self.index
        )

    def counted(self, count_include_pad: bool, divisor: int | None) -> ByValue:
        return counted_struct(self.spatial, self.window, count_include_pad, divisor, self.index)

    def pack(self, *arrays: Array) -> int:
        """Number of adjacent channels that a thread can handle at once, 1 if not a whole pack."""
        length = k.pack_length(arrays[0].dtype)
        fits = bool(self.channels) and self.channels[0] % length == 0
        return length if fits and _aligned(length, *arrays) else 1

    def has_width2_tiles(self, *arrays: Array) -> bool:
        """Whether windows two cells wide tile each row, and rows consist of whole packs."""
        window, width = self.window, self.spatial[-1]
        length = k.pack_length(arrays[0].dtype)
        return (
            not self.channels
            and (window.size[-1], window.stride[-1], window.dilation[-1]) == (2, 2, 1)
            and window.padding_before[-1] == 0
            and window.winner_dtype == np.uint8
            and width == 2 * self.pooled[-1]
            and width % length == 0
            and _aligned(length, *arrays)
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

    A method waits for the GPU only if its docstring says so. `first_duplicate` and
    `adaptive_max_pool_gradient`, which run the generic code, wait too.
    """

    @on_device
    def max_pool(
        self, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """As `Backend.max_pool`."""
        if not _has_kernels(x) or window.winner_dtype not in k.WINNERS:
            return super().max_pool(x, window, out=out)
        if window.axes > 1 and window.count > LARGE_WINDOW and is_global(window, x.shape[1:]):
            return self._global_max_pool(x, window, out)
        x = self.xp.ascontiguousarray(x)
        stack = _Stack(x.shape, window)
        values, winners = out or (
            self.xp.empty(stack.pooled, x.dtype),
            self.xp.empty(stack.pooled, window.winner_dtype),
        )
        arrays = (x, values, winners)
        instance: dict[str, Any] = {"T": x.dtype, "W": winners.dtype, "I": stack.index}
        if stack.has_width2_tiles(*arrays):
            kernel, instance["P"] = k.MAX_POOL_WIDTH2, k.pack_length(x.dtype)
            threads = values.size // (instance["P"] // 2)
        else:
            kernel, instance["N"] = k.MAX_POOL, stack.pack(*arrays)
            threads = values.size // instance["N"]
        self._launch(kernel, instance, threads, *arrays, stack.geometry)
        return values, winners

    def _global_max_pool(
        self, x: Array, window: Window, out: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        """Pool each row, then the maxima of the rows, so that many threads share a plane."""
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
            return super().max_unpool(y, winners, window, input_shape, duplicates, out=out)
        y, winners = map(self.xp.ascontiguousarray, (y, winners))
        stack = _Stack.of_pooled(y, input_shape, window)
        out = self.xp.empty(stack.shape, y.dtype) if out is None else out
        arrays = (y, winners, out)
        instance = {"T": y.dtype, "W": winners.dtype, "I": stack.index, "SUM": duplicates == "sum"}
        if not window.overlaps and stack.has_width2_tiles(*arrays):
            kernel, parameter, pack = k.MAX_UNPOOL_WIDTH2, "P", k.pack_length(y.dtype)
        else:
            kernel, parameter, pack = k.MAX_UNPOOL, "N", stack.pack(*arrays)
        instance[parameter] = pack
        self._launch(kernel, instance, out.size // pack, *arrays, stack.geometry)
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
        """As `Backend.max_unpool_gradient`; a winner outside the input is clamped."""
        if not _has_kernels(gradient, winners):
            return super().max_unpool_gradient(gradient, winners, window, duplicates, out=out)
        gradient, winners = map(self.xp.ascontiguousarray, (gradient, winners))
        stack = _Stack(gradient.shape, window)
        out = self.xp.empty(winners.shape, gradient.dtype) if out is None else out
        last = duplicates == "last" and window.overlaps
        instance = {"T": gradient.dtype, "W": winners.dtype, "I": stack.index, "LAST": last}
        arrays = (gradient, winners, out)
        self._launch(k.MAX_UNPOOL_GRADIENT, instance, out.size, *arrays, stack.geometry)
        return out

    @on_device
    def unpool_plane_indices(
        self, y: Array, indices: Array, input_shape: tuple[int, ...]
    ) -> tuple[Array, int]:
        """As `Backend.unpool_plane_indices`; waits once for the GPU, to read `first_bad`."""
        xp = self.xp
        out = xp.empty((len(y), *input_shape), y.dtype)
        if y.size == 0:
            out.fill(0)
            return out, -1
        y = xp.ascontiguousarray(y)
        indices = xp.ascontiguousarray(indices.astype(np.int64, copy=False))
        index = index_dtype(y.size, out.size)
        owner = xp.full(out.size, -1, index)
        first_bad = xp.full(1, NONE_BAD, np.uint64)
        pooled = divisor_struct(prod(y.shape[1:]), index, "pooled")
        sizes = (index.type(y.size), pooled, index.type(prod(input_shape)))
        self._launch(k.CLAIM_CELLS, {"I": index}, y.size, indices, owner, first_bad, *sizes)
        if _has_kernels(y):
            instance = {"T": y.dtype, "I": index}
            self._launch(k.WRITE_OWNED, instance, out.size, y, owner, out, index.type(out.size))
        else:
            taken = xp.take(y.reshape(-1), xp.maximum(owner, 0))
            out[...] = xp.where(owner < 0, y.dtype.type(0), taken).reshape(out.shape)
        return out, _position(first_bad)

    @on_device
    def winners_from_indices(
        self,
        indices: Array,
        convention: Convention,
        window: Window,
        input_shape: tuple[int, ...],
    ) -> tuple[Array, int]:
        """As `Backend.winners_from_indices`; waits once for the GPU, to read `first_bad`."""
        xp = self.xp
        if window.winner_dtype not in k.WINNERS:
            return super().winners_from_indices(indices, convention, window, input_shape)
        winners = xp.empty(indices.shape, window.winner_dtype)
        if winners.size == 0:
            return winners, -1
        stack = _Stack.of_pooled(indices, input_shape, window)
        flat = struct(
            "Flat",
            stack.index,
            of_plane=prod(stack.shape[1:]) if convention.counts_planes else 0,
            of_channel=1 if convention.name == "nhwc" else 0,
            pitch=convention.pitch(stack.shape, window.axes),
        )
        # the values of `Counts` in indices.cu
        counts = 0 if convention.name == "window" else 1 if convention.order == "C" else 2
        first_bad = xp.full(1, NONE_BAD, np.uint64)
        instance = {"W": winners.dtype, "I": stack.index, "COUNTS": counts}
        indices64 = xp.ascontiguousarray(indices.astype(np.int64, copy=False))
        arrays = (indices64, winners, first_bad)
        self._launch(k.WINNERS_FROM_INDICES, instance, winners.size, *arrays, stack.geometry, flat)
        return winners, _position(first_bad)

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
        if not _has_kernels(x) or is_global(window, x.shape[1 : window.axes + 1]):
            return super().avg_pool(x, window, count_include_pad, divisor, out=out)
        stack = _Stack(x.shape, window)
        out = self.xp.empty(stack.pooled, x.dtype) if out is None else out
        return self._average(k.AVG_POOL, x, out, stack, stack.counted(count_include_pad, divisor))

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
        if not _has_kernels(gradient) or is_global(window, input_shape):
            return super().avg_pool_gradient(
                gradient, window, input_shape, count_include_pad, divisor, out=out
            )
        stack = _Stack.of_pooled(gradient, input_shape, window)
        out = self.xp.empty(stack.shape, gradient.dtype) if out is None else out
        return self._average(
            k.AVG_POOL_GRADIENT, gradient, out, stack, stack.counted(count_include_pad, divisor)
        )

    def _average(
        self, kernel: k.Kernel, source: Array, out: Array, stack: _Stack, counted: ByValue
    ) -> Array:
        source = self.xp.ascontiguousarray(source)
        pack = stack.pack(source, out)
        instance = {"T": source.dtype, "I": stack.index, "N": pack}
        self._launch(kernel, instance, out.size // pack, source, out, stack.geometry, counted)
        return out

    first_duplicate = on_device(Backend.first_duplicate)
    indices_from_winners = on_device(Backend.indices_from_winners)
    adaptive_max_pool = on_device(Backend.adaptive_max_pool)
    adaptive_max_pool_gradient = on_device(Backend.adaptive_max_pool_gradient)
    adaptive_avg_pool = on_device(Backend.adaptive_avg_pool)
    adaptive_avg_pool_gradient = on_device(Backend.adaptive_avg_pool_gradient)
