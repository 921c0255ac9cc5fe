"""Convolution, batch normalisation and optimizers with CUDA kernels and cuBLAS."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.contract import Backend
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.devices import CupyArrays, on_device
from tinyml_backends.cupy_backend.launcher import index_dtype
from tinyml_backends.cupy_backend.structs import ByValue, geometry_struct, largest_offset, struct
from tinyml_backends.geometry import Window

#: Partial sums of each channel in batch normalisation, at most.
MAX_PARTIALS = 1024
#: Matrix products that are computed one by one, at most.
MAX_PRODUCTS = 16


class CupyTraining(CupyArrays):
    """Convolution, batch normalisation and optimizers. Nothing here waits for the GPU."""

    column_bytes = CupyArrays.chunk_bytes
    conv = on_device(Backend.conv)
    conv_gradient = on_device(Backend.conv_gradient)
    conv_input = on_device(Backend.conv_input)
    conv_weight = on_device(Backend.conv_weight)
    resample = on_device(Backend.resample)

    @on_device
    def im2col(self, x: Array, window: Window) -> Array:
        """As `Backend.im2col`."""
        if x.dtype not in k.FLOATS:
            return super().im2col(x, window)
        rows = x.shape[1] * window.count
        columns = prod(window.output_shape(x.shape[2:])) * len(x)
        return self._columns(x, window, samples_last=True).reshape(rows, columns)

    @on_device
    def col2im(self, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool) -> Array:
        """As `Backend.col2im`; float16 is summed in float32 and rounded once."""
        if cols.dtype not in k.FLOATS:
            return super().col2im(cols, x_shape, window, add=add)
        return self._image(cols, x_shape, window, SAMPLES_LAST=True, ADD=add)

    def patches(self, x: Array, window: Window) -> Array:
        """As `Backend.patches`."""
        if x.dtype not in k.FLOATS:
            return super().patches(x, window)
        return self._columns(x, window, samples_last=False)

    def add_patches(self, cols: Array, out: Array, window: Window) -> None:
        """As `Backend.add_patches`."""
        if cols.dtype not in k.FLOATS:
            super().add_patches(cols, out, window)
        else:
            out += self._image(cols, out.shape, window, SAMPLES_LAST=False, ADD=True)

    def turned(self, matrices: Array) -> Array:
        """As `Backend.turned`; cuBLAS reads the transposed view."""
        return matrices.swapaxes(1, 2)

    def products(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """As `Backend.products`, by a call of cuBLAS for each of a few pairs.

        With two axes, `cupy.matmul` copies no operand whose rows or columns are contiguous. With
        more, it copies whatever is transposed, and makes arrays of pointers in order to broadcast.
        """
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if prod(batch) > MAX_PRODUCTS:  # small ones: launches take longer than copies
            return super().products(a, b, out)
        a, b = (self.xp.broadcast_to(m, (*batch, *m.shape[-2:])) for m in (a, b))
        if out is None:
            dtype = self.xp.result_type(a, b)
            out = self.xp.empty((*batch, a.shape[-2], b.shape[-1]), dtype)
        for place in np.ndindex(*batch):
            self.xp.matmul(a[place], b[place], out=out[place])
        return out

    def _columns(self, x: Array, window: Window, *, samples_last: bool) -> Array:
        """Columns (N, C, cells, *outputs), or (C, cells, *outputs, N)."""
        x = self.xp.ascontiguousarray(x)
        of_sample = (x.shape[1], window.count, *window.output_shape(x.shape[2:]))
        shape = (*of_sample, len(x)) if samples_last else (len(x), *of_sample)
        cols = self.xp.empty(shape, x.dtype)
        instance, structs = _image_structs(x, x.shape, window, cols.size)
        instance["SAMPLES_LAST"] = samples_last
        self._launch(k.IM2COL, instance, cols.size, x, cols, *structs)
        return cols

    def _image(self, cols: Array, x_shape: tuple[int, ...], window: Window, **flags: bool) -> Array:
        """Images of columns in one of the layouts of `_columns`."""
        cols = self.xp.ascontiguousarray(cols)
        out = self.xp.empty(x_shape, cols.dtype)
        instance, structs = _image_structs(cols, x_shape, window, cols.size)
        self._launch(k.COL2IM, {**instance, **flags}, out.size, cols, out, *structs)
        return out

    @on_device
    def moments(self, x: Array) -> tuple[Array, Array]:
        """As `Backend.moments`."""
        if x.dtype not in k.WIDE_FLOATS:
            return super().moments(x)
        mean = x.mean((0, *range(2, x.ndim)))
        (squares,) = self._channel_sums(k.SQUARED_DEVIATIONS, x, mean)
        return mean, squares / (x.size // x.shape[1])

    @on_device
    def normalize(
        self, x: Array, mean: Array, inverse_deviation: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        """As `Backend.normalize`, in one pass."""
        per_channel = (mean, inverse_deviation, scale, shift)
        if not (_have_kernels(x, *per_channel) and _are_per_channel(x, *per_channel)):
            return super().normalize(x, *per_channel)
        normalized, y = self._each_pixel(k.NORMALIZE, 2, x, *per_channel)
        return y, normalized

    @on_device
    def normalize_sums(self, gradient: Array, normalized: Array) -> tuple[Array, Array]:
        """As `Backend.normalize_sums`, in one pass."""
        if not (_have_kernels(gradient, normalized) and _same_shape(gradient, normalized)):
            return super().normalize_sums(gradient, normalized)
        sums, products = self._channel_sums(k.GRADIENT_SUMS, gradient, normalized, results=2)
        return sums, products

    @on_device
    def normalize_gradient(
        self, gradient: Array, normalized: Array, mean: Array, share: Array, slope: Array
    ) -> Array:
        """As `Backend.normalize_gradient`, in one pass."""
        arrays = (gradient, normalized, mean, share, slope)
        fit = _same_shape(gradient, normalized) and _are_per_channel(gradient, *arrays[2:])
        if not (fit and _have_kernels(*arrays)):
            return super().normalize_gradient(*arrays)
        (out,) = self._each_pixel(k.NORMALIZE_GRADIENT, 1, *arrays)
        return out

    def _each_pixel(self, kernel: k.Kernel, results: int, x: Array, *others: Array) -> list[Array]:
        """Results of an elementwise kernel of batch normalisation, shaped like ``x``."""
        x = self.xp.ascontiguousarray(x)
        outs = [self.xp.empty(x.shape, x.dtype) for _ in range(results)]
        images, index, _ = _images(x)
        numbers = (index.type(x.size), images)
        self._launch(kernel, {"T": x.dtype, "I": index}, x.size, x, *others, *outs, *numbers)
        return outs

    def _channel_sums(
        self, kernel: k.Kernel, x: Array, other: Array, results: int = 1
    ) -> list[Array]:
        """Sums over each channel: a kernel computes partial sums, and CuPy adds those."""
        x = self.xp.ascontiguousarray(x)
        images, index, partials = _images(x)
        outs = [self.xp.empty((x.shape[1], partials), x.dtype) for _ in range(results)]
        self._launch(kernel, {"T": x.dtype, "I": index}, outs[0].size, x, other, *outs, images)
        return [out.sum(1) for out in outs]

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
        if velocity is None or not _fit_optimizer(tensor, gradient, velocity):
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
        if not _fit_optimizer(*arrays):
            super().adam_step(*arrays, decays, rate, correction, epsilon)
            return
        instance, number, count = _elementwise(tensor)
        of_decays = (number(n) for decay in decays for n in (decay, 1 - decay))
        numbers = (*of_decays, number(rate), number(correction), number(epsilon), count)
        self._launch(k.ADAM, instance, tensor.size, *arrays, *numbers)


def _have_kernels(*arrays: Array) -> bool:
    """Whether all have one dtype that has kernels, and all but the first are contiguous.

    The caller makes the first one contiguous, and checks the shapes. Arrays that fail a check are
    passed to the generic code, which broadcasts them or raises an error.
    """
    dtype = arrays[0].dtype
    return dtype in k.WIDE_FLOATS and all(
        array.dtype == dtype and array.flags.c_contiguous for array in arrays[1:]
    )


def _same_shape(*arrays: Array) -> bool:
    return len({array.shape for array in arrays}) == 1


def _are_per_channel(images: Array, *arrays: Array) -> bool:
    """Whether each of ``arrays`` has one number for each channel of ``images``."""
    return all(array.shape == images.shape[1:2] for array in arrays)


def _fit_optimizer(*arrays: Array) -> bool:
    """Whether an optimizer's kernel can update these arrays in place."""
    return _have_kernels(arrays[0], *arrays) and _same_shape(*arrays)


def _elementwise(tensor: Array) -> tuple[dict[str, Any], Any, Any]:
    """Instance, type of numbers, and element count of an optimizer's kernel."""
    index = index_dtype(tensor.size)
    return {"T": tensor.dtype, "I": index}, tensor.dtype.type, index.type(tensor.size)


def _image_structs(
    array: Array, x_shape: tuple[int, ...], window: Window, column_entries: int
) -> tuple[dict[str, Any], tuple[ByValue, ByValue]]:
    (samples, channels), spatial = x_shape[:2], tuple(x_shape[2:])
    index = index_dtype(prod(x_shape), column_entries, largest_offset(spatial, window))
    structs = (
        geometry_struct(samples * channels, 1, spatial, window, index),
        struct("Columns", index, samples=samples, image_channels=channels, cells=window.count),
    )
    return {"T": array.dtype, "I": index}, structs


def _images(x: Array) -> tuple[ByValue, "np.dtype[Any]", int]:
    """Struct and index type for batch normalisation, and the number of partial sums per channel."""
    samples, channels, *spatial = x.shape
    index, per_channel = index_dtype(x.size), samples * prod(spatial)
    sizes = {"per_channel": per_channel, "partials": max(1, min(MAX_PARTIALS, per_channel))}
    images = struct("Images", index, pixels=prod(spatial), channels=channels, **sizes)
    return images, index, sizes["partials"]
