"""Convolution, batch normalisation and optimizers on CUDA: our kernels around cuBLAS's products."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.devices import CupyArrays, on_device
from tinyml_backends.cupy_backend.launcher import index_dtype
from tinyml_backends.cupy_backend.structs import ByValue, farthest, geometry_struct, struct
from tinyml_backends.generic import conv
from tinyml_backends.geometry import Window

#: Bytes of the columns of one piece of a convolution: large enough to fill a GPU.
PIECE_BYTES = 1 << 28
#: Partial sums of each channel in batch normalisation, at most.
PARTS = 1024


class CupyTraining(CupyArrays):
    """What training needs beside pooling. Nothing here waits for the GPU."""

    @on_device
    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """As `Backend.conv`."""
        return conv.conv(
            self.xp,
            x,
            weight,
            bias,
            window,
            groups,
            copy=self._patches,
            piece_bytes=PIECE_BYTES,
        )

    @on_device
    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """As `Backend.conv_gradient`."""
        return conv.conv_gradient(
            self.xp,
            gradient,
            x,
            weight,
            window,
            groups,
            copy=self._patches,
            add=self._add_patches,
            piece_bytes=PIECE_BYTES,
        )

    @on_device
    def im2col(self, x: Array, window: Window) -> Array:
        """As `Backend.im2col`."""
        if x.dtype not in k.FLOATS:
            return conv.im2col(self.xp, x, window)
        rows = x.shape[1] * window.count
        columns = prod(window.output_shape(x.shape[2:])) * len(x)
        return self._columns(x, window, samples_last=True).reshape(rows, columns)

    @on_device
    def col2im(self, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool) -> Array:
        """As `Backend.col2im`; float16 is summed in float32 and rounded once."""
        if cols.dtype not in k.FLOATS:
            return conv.col2im(self.xp, cols, x_shape, window, add=add)
        return self._image(cols, x_shape, window, samples_last=True, add=add)

    def _patches(self, x: Array, window: Window) -> Array:
        if x.dtype not in k.FLOATS:
            return conv.patches(self.xp, x, window)
        return self._columns(x, window, samples_last=False)

    def _add_patches(self, cols: Array, out: Array, window: Window) -> None:
        if cols.dtype not in k.FLOATS:
            conv.add_patches(cols, out, window)
        else:
            out += self._image(cols, out.shape, window, samples_last=False, add=True)

    def _columns(self, x: Array, window: Window, *, samples_last: bool) -> Array:
        """Columns (N, C, cells, *outputs), or the same axes with the samples last."""
        x = self.xp.ascontiguousarray(x)
        behind = (x.shape[1], window.count, *window.output_shape(x.shape[2:]))
        shape = (*behind, len(x)) if samples_last else (len(x), *behind)
        cols = self.xp.empty(shape, x.dtype)
        instance, structs = _image_structs(x, x.shape, window, cols.size)
        instance |= {"SAMPLES_LAST": samples_last}
        self._launch(k.IM2COL, instance, cols.size, x, cols, *structs)
        return cols

    def _image(
        self,
        cols: Array,
        x_shape: tuple[int, ...],
        window: Window,
        *,
        samples_last: bool,
        add: bool,
    ) -> Array:
        """Image of columns as `_columns` lays them out."""
        cols = self.xp.ascontiguousarray(cols)
        out = self.xp.empty(x_shape, cols.dtype)
        instance, structs = _image_structs(cols, x_shape, window, cols.size)
        instance |= {"SAMPLES_LAST": samples_last, "ADD": add}
        self._launch(k.COL2IM, instance, out.size, cols, out, *structs)
        return out

    @on_device
    def moments(self, x: Array) -> tuple[Array, Array]:
        """As `Backend.moments`."""
        if x.dtype not in k.WIDE_FLOATS:
            return super().moments(x)
        mean = x.mean((0, *range(2, x.ndim)))
        x = self.xp.ascontiguousarray(x)
        images, index, parts = _images(x)
        sums = self.xp.empty((x.shape[1], parts), x.dtype)
        instance = {"T": x.dtype, "I": index}
        self._launch(k.SQUARED_DEVIATIONS, instance, sums.size, x, mean, sums, images)
        return mean, sums.sum(1) / (x.size // x.shape[1])

    @on_device
    def normalize(
        self, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        """As `Backend.normalize`, in one pass."""
        of_channels = (mean, inverse_deviation, scale, shift)
        if not (_have_kernels(x, *of_channels) and _are_of_channels(x, *of_channels)):
            return super().normalize(x, *of_channels)
        x = self.xp.ascontiguousarray(x)
        normalized, y = self.xp.empty(x.shape, x.dtype), self.xp.empty(x.shape, x.dtype)
        images, index, _ = _images(x)
        instance = {"T": x.dtype, "I": index}
        arrays = (x, *of_channels, normalized, y)
        self._launch(k.NORMALIZE, instance, x.size, *arrays, index.type(x.size), images)
        return y, normalized

    @on_device
    def normalize_sums(self, gradient: Array, normalized: Array) -> tuple[Array, Array]:
        """As `Backend.normalize_sums`, in one pass."""
        if not (_have_kernels(gradient, normalized) and _alike(gradient, normalized)):
            return super().normalize_sums(gradient, normalized)
        gradient = self.xp.ascontiguousarray(gradient)
        images, index, parts = _images(gradient)
        shape = (gradient.shape[1], parts)
        sums = self.xp.empty(shape, gradient.dtype)
        products = self.xp.empty(shape, gradient.dtype)
        arrays = (gradient, normalized, sums, products)
        instance = {"T": gradient.dtype, "I": index}
        self._launch(k.GRADIENT_SUMS, instance, sums.size, *arrays, images)
        return sums.sum(1), products.sum(1)

    @on_device
    def normalize_gradient(
        self, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
    ) -> Array:
        """As `Backend.normalize_gradient`, in one pass."""
        given = (normalized, mean, share, slope)
        of_channels = _are_of_channels(gradient, *given[1:])
        if not (_have_kernels(gradient, *given) and of_channels and _alike(gradient, normalized)):
            return super().normalize_gradient(gradient, *given)
        gradient = self.xp.ascontiguousarray(gradient)
        out = self.xp.empty(gradient.shape, gradient.dtype)
        images, index, _ = _images(gradient)
        instance = {"T": gradient.dtype, "I": index}
        count = index.type(out.size)
        self._launch(k.NORMALIZE_GRADIENT, instance, out.size, gradient, *given, out, count, images)
        return out

    @on_device
    def sgd_step(
        self,
        tensor: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """As `Backend.sgd_step`; with momentum in one pass."""
        if velocity is None or not _are_steps(tensor, gradient, velocity):
            super().sgd_step(tensor, gradient, velocity, learning_rate, momentum)
            return
        instance, number, count = _elementwise(tensor)
        numbers = (number(learning_rate), number(momentum), count)
        self._launch(k.SGD, instance, tensor.size, tensor, gradient, velocity, *numbers)

    @on_device
    def adam_step(
        self,
        tensor: Array,
        gradient: Array,
        first: Array,
        second: Array,
        decays: tuple[float, float],
        rate: float,
        correction: float,
        epsilon: float,
    ) -> None:
        """As `Backend.adam_step`, in one pass."""
        arrays = (tensor, gradient, first, second)
        if not _are_steps(*arrays):
            super().adam_step(*arrays, decays, rate, correction, epsilon)
            return
        instance, number, count = _elementwise(tensor)
        of_decays = (number(n) for decay in decays for n in (decay, 1 - decay))
        numbers = (*of_decays, number(rate), number(correction), number(epsilon), count)
        self._launch(k.ADAM, instance, tensor.size, *arrays, *numbers)


def _have_kernels(*arrays: Array) -> bool:
    """Whether all are of one dtype that has kernels, and all but the first contiguous.

    What has not the shape that the kernel takes is left to the generic code, which broadcasts or
    refuses it.
    """
    dtype = arrays[0].dtype
    return dtype in k.WIDE_FLOATS and all(
        array.dtype == dtype and array.flags.c_contiguous for array in arrays[1:]
    )


def _alike(*arrays: Array) -> bool:
    return len({array.shape for array in arrays}) == 1


def _are_of_channels(images: Array, *arrays: Array) -> bool:
    """Whether each has one number for each channel."""
    return all(array.shape == images.shape[1:2] for array in arrays)


def _are_steps(*arrays: Array) -> bool:
    """Whether an optimizer's kernel can go through all of them, element by element."""
    return _have_kernels(arrays[0], *arrays) and _alike(*arrays)


def _elementwise(tensor: Array) -> tuple[dict[str, Any], Any, Any]:
    """Instance, number type, and element count for a pass over all elements."""
    index = index_dtype(tensor.size)
    return {"T": tensor.dtype, "I": index}, tensor.dtype.type, index.type(tensor.size)


def _image_structs(
    array: Array, x_shape: tuple[int, ...], window: Window, column_entries: int
) -> tuple[dict[str, Any], tuple[ByValue, ByValue]]:
    samples, channels, *spatial = x_shape
    index = index_dtype(prod(x_shape), column_entries, farthest(tuple(spatial), window))
    shape = tuple(spatial)
    structs = (
        geometry_struct(samples * channels, 1, shape, window, index),
        struct("Columns", index, samples=samples, image_channels=channels, cells=window.count),
    )
    return {"T": array.dtype, "I": index}, structs


def _images(x: Array) -> tuple[ByValue, "np.dtype[Any]", int]:
    """How batch normalisation sees images, and in how many parts it sums a channel."""
    samples, channels, *spatial = x.shape
    pixels, index = prod(spatial), index_dtype(x.size)
    parts = max(1, min(PARTS, samples * pixels))
    images = struct(
        "Images",
        index,
        channels=channels,
        parts=parts,
        per_channel=samples * pixels,
        pixels=max(1, pixels),
        part_count=parts,
        channel_count=max(1, channels),
    )
    return images, index, parts
