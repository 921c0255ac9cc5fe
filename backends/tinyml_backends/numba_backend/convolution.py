"""Which convolutions, and steps of them, run compiled kernels, and with which arguments."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.convolutions import adjoint
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import columns, direct, winograd
from tinyml_backends.numba_backend.plans import plan_of
from tinyml_backends.numba_backend.scheduling import run
from tinyml_backends.numba_backend.training import FLOATS
from tinyml_backends.numpy_backend import NumpyBackend

#: Where the padded input has more times the elements of input and columns, NumPy makes columns.
MOSTLY_PADDING = 4
#: Convolutions that direct kernels compute faster than matrix products do: at most so many channels
#: and filters in a group, a row of outputs of at least so many, and at most so many bytes of a
#: padded sample.
CHANNELS, FILTERS, WIDTH, BYTES = 64, 64, 7, 1 << 22
#: For how many filters `direct.conv` sums vectors at once, at most, and for how many rows.
BLOCK, ROWS = 8, (8, 4, 2, 1)
#: Of how many samples `direct.conv_weight` sums at once, at most, and how many bytes of inputs and
#: gradients: they are read once for each row of the window, so they must stay in the cache.
SAMPLES, SAMPLES_BYTES = 8, 1 << 20
#: Multiplications with additions that take as long as reading or writing a byte.
SPEED = 3


class NumbaConvolution(NumpyBackend):
    """Winograd's algorithm, direct convolution of few channels, else columns for matrix products.

    The callers of `patches` and `add_patches` run chunks of the images in threads.
    """

    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """As `Backend.conv`."""
        found = _conv(x, weight, bias, window, groups)
        return super().conv(x, weight, bias, window, groups) if found is None else found

    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """As `Backend.conv_gradient`."""
        spatial = tuple(x.shape[2:])
        of_input = _conv_input(gradient, weight, None, spatial, window, groups)
        of_weight = _conv_weight(gradient, x, weight.shape, window, groups)
        if of_input is None and of_weight is None:
            return super().conv_gradient(gradient, x, weight, window, groups)
        if of_input is None:
            of_input = super().conv_input(gradient, weight, None, spatial, window, groups)
            of_input = of_input.astype(x.dtype, copy=False)
        if of_weight is None:
            of_weight = super().conv_weight(gradient, x, weight.shape, window, groups)
        return of_input, of_weight

    def conv_input(
        self,
        gradient: Array,
        weight: Array,
        bias: Array | None,
        spatial: tuple[int, ...],
        window: Window,
        groups: int,
    ) -> Array:
        """As `Backend.conv_input`."""
        found = _conv_input(gradient, weight, bias, spatial, window, groups)
        if found is None:
            return super().conv_input(gradient, weight, bias, spatial, window, groups)
        return found

    def conv_weight(
        self, gradient: Array, x: Array, shape: tuple[int, ...], window: Window, groups: int
    ) -> Array:
        """As `Backend.conv_weight`."""
        found = _conv_weight(gradient, x, shape, window, groups)
        if found is None:
            return super().conv_weight(gradient, x, shape, window, groups)
        return found

    def patches(self, x: Array, window: Window) -> Array:
        """As `Backend.patches`."""
        shape = (*x.shape[:2], window.count, *window.output_shape(x.shape[2:]))
        if not _have_kernels(x, shape, window):
            return super().patches(x, window)
        plan, cols = plan_of(window, x.shape[2:]), empty(np, shape, x.dtype)
        flat = x.ravel(), cols.ravel()
        columns.patches(*flat, plan.numbers, plan.fixed.step, 0, shape[0] * shape[1])
        return cols

    def add_patches(self, cols: Array, out: Array, window: Window) -> None:
        """As `Backend.add_patches`."""
        if not (cols.dtype == out.dtype and _have_kernels(out, cols.shape, window)):
            super().add_patches(cols, out, window)
            return
        numbers, planes = plan_of(window, out.shape[2:]).numbers, out.shape[0] * out.shape[1]
        total = out.ravel()  # a copy, if not contiguous
        columns.add_patches(cols.ravel(), total, numbers, 0, planes)
        if not out.flags.c_contiguous:
            out[...] = total.reshape(out.shape)


def _have_kernels(images: Array, cols_shape: tuple[int, ...], window: Window) -> bool:
    """Whether kernels can make columns of this shape, or add them to the images."""
    if images.dtype not in FLOATS or images.ndim > 5 or 0 in (*images.shape, *cols_shape):
        return False
    padded = window.unpooled_lengths(cols_shape[3:])
    reach = prod(n + sum(pair) for n, pair in zip(padded, window.padding, strict=True))
    return bool(reach <= MOSTLY_PADDING * (prod(images.shape[2:]) + prod(cols_shape[2:])))


def _is_direct(x: Array, weight: Array, window: Window, groups: int) -> bool:
    """Whether a direct kernel convolves ``x`` with ``weight``."""
    if x.dtype not in FLOATS or weight.dtype != x.dtype or not 3 <= x.ndim <= 5:
        return False
    outputs = window.output_shape(x.shape[2:])
    reach = prod(
        (n - 1) * s + e for n, s, e in zip(outputs, window.stride, window.extent, strict=True)
    )
    return (
        min(x.size, weight.size) > 0
        and window.stride[-1] == 1
        and weight.shape[1] <= CHANNELS
        and len(weight) // groups <= FILTERS
        and outputs[-1] >= WIDTH
        and weight.shape[1] * reach * x.itemsize <= BYTES
    )


def _conv(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array | None:
    """By Winograd's algorithm or the direct kernel, if one of them is the fastest."""
    if bias is not None and bias.dtype != x.dtype:
        return None
    found = None
    if winograd.fits(x, weight.dtype, weight.shape, window, groups):
        found = winograd.conv(x, weight, bias, window)
    if found is None and _is_direct(x, weight, window, groups):
        found = _direct(x, weight, bias, window, groups)
    return found


def _direct(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """By the direct kernel, whose weights are in blocks of filters; the last one may have zeros."""
    samples, filters = len(x), len(weight) // groups
    blocks = -(-filters // BLOCK)
    block = -(-filters // blocks)
    matrix = np.zeros((groups, blocks * block, weight.size // len(weight)), x.dtype)
    matrix[:, :filters] = weight.reshape(groups, filters, -1)
    packed = matrix.reshape(groups, blocks, block, -1).swapaxes(2, 3).ravel()
    biases = np.zeros((groups, blocks * block), x.dtype)
    if bias is not None:
        biases[:, :filters] = bias.reshape(groups, filters)
    outputs = window.output_shape(x.shape[2:])
    out = empty(np, (samples, len(weight), *outputs), x.dtype)
    sizes = direct.Sizes(samples, groups, weight.shape[1], filters)
    most = min(direct.SUMS // block, (1, *outputs)[-2])
    rows = next(count for count in ROWS if count <= most)  # few choices: each is compiled
    flat = x.ravel(), packed, biases.ravel(), out.ravel()
    arguments = (*flat, plan_of(window, x.shape[2:]).numbers, sizes, (0,) * block, (0,) * rows)
    work = samples * weight.size * prod(outputs)
    run(direct.conv, arguments, samples * groups * blocks, work // SPEED)
    return out


def _conv_input(
    gradient: Array,
    weight: Array,
    bias: Array | None,
    spatial: tuple[int, ...],
    window: Window,
    groups: int,
) -> Array | None:
    """The convolution with turned weights, if that has a kernel."""
    if max(window.stride) > 1:
        return None
    turned = adjoint(window, spatial, gradient.shape[2:])
    filters, channels, *size = weight.shape
    of_groups = weight.reshape(groups, filters // groups, channels, *size).swapaxes(1, 2)
    flipped = np.flip(of_groups, tuple(range(3, of_groups.ndim)))
    weights = flipped.reshape(groups * channels, filters // groups, *size)
    return _conv(gradient, weights, bias, turned, groups)


def _conv_weight(
    gradient: Array, x: Array, shape: tuple[int, ...], window: Window, groups: int
) -> Array | None:
    """By Winograd's algorithm or the direct kernel, which cannot have sums that are not finite."""
    if winograd.fits(x, gradient.dtype, shape, window, groups):
        by_tiles = winograd.conv_weight(gradient, x, window)
        if by_tiles is not None:
            return by_tiles
    weight, samples, filters = np.empty(shape, x.dtype), len(x), shape[0] // groups
    if not _is_direct(x, weight, window, groups) or gradient.dtype != x.dtype:
        return None
    size = (shape[1] + filters) * prod(gradient.shape[2:]) * x.itemsize
    if size > SAMPLES_BYTES or not 1 < shape[-1] <= direct.SUMS:
        return None
    together = min(SAMPLES, SAMPLES_BYTES // size)
    block: tuple[Any, ...] = (0,) * max(1, min(filters, direct.SUMS // shape[-1]))
    sums = np.empty((-(-samples // together), *shape), x.dtype)
    sizes = direct.Sizes(samples, groups, shape[1], filters)
    flat = gradient.ravel(), x.ravel(), sums.ravel()
    numbers = plan_of(window, x.shape[2:]).numbers
    arguments = (*flat, numbers, sizes, together, block, (0,) * shape[-1])
    work = gradient.size * prod(shape[1:])
    run(direct.conv_weight, arguments, len(sums) * groups, work // SPEED)
    total: Array = sums.sum(0)
    return total if np.isfinite(total).all() else None
