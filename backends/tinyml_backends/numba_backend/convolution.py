"""Which convolutions, and steps of them, run compiled kernels, and with which arguments."""

from math import prod
from typing import Any

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.convolutions import adjoint
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import columns, direct, implicit, products, winograd
from tinyml_backends.numba_backend.kept import kept
from tinyml_backends.numba_backend.plans import plan_of
from tinyml_backends.numba_backend.scheduling import run
from tinyml_backends.numba_backend.training import FLOATS
from tinyml_backends.numpy_backend import NumpyBackend

#: Where the padded input has more times the elements of input and columns, NumPy makes columns.
MOSTLY_PADDING = 4
#: Convolutions that direct kernels compute faster than matrix products do: at most so many channels
#: and filters in a group, a row of outputs of at least so many, and at most so many bytes of a
#: padded sample.
CHANNELS, FILTERS, WIDTH, BYTES = 64, 32, 7, 1 << 22
#: The implicit kernel makes so many panels of columns at once, at most, and so many bytes of them.
PANELS, PANEL_BYTES = 16, 1 << 16
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


def _is_direct(x: Array, shape: tuple[int, ...], window: Window, groups: int) -> bool:
    """Whether a direct kernel convolves ``x`` with weights of a shape, or sums their gradients."""
    outputs = window.output_shape(x.shape[2:])
    reach = prod(
        (n - 1) * s + e for n, s, e in zip(outputs, window.stride, window.extent, strict=True)
    )
    return (
        shape[1] <= CHANNELS
        and shape[0] // groups <= FILTERS
        and outputs[-1] >= WIDTH
        and shape[1] * reach * x.itemsize <= BYTES
    )


def _conv(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array | None:
    """By Winograd's algorithm, the direct or the implicit kernel: which of them is the fastest."""
    dtypes = {x.dtype, weight.dtype} if bias is None else {x.dtype, weight.dtype, bias.dtype}
    if dtypes - set(FLOATS) or len(dtypes) > 1 or not 3 <= x.ndim <= 5:
        return None
    if winograd.fits(x, weight.dtype, weight.shape, window, groups):
        found = winograd.conv(x, weight, bias, window)
        if found is not None:
            return found
    outputs = window.output_shape(x.shape[2:])
    if 0 in (x.size, weight.size, *outputs):
        return None
    if _is_direct(x, weight.shape, window, groups):
        return _direct(x, weight, bias, window, groups)
    return _implicit(x, weight, bias, window, groups)


def _direct(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """By the direct kernel."""
    block = _block(len(weight) // groups, BLOCK)
    out, sizes, flat = _operands(x, weight, bias, window, groups, block)
    most = min(direct.SUMS // block, (1, *out.shape[2:])[-2])
    rows = next(count for count in ROWS if count <= most)  # few choices: each is compiled
    arguments = (*flat, plan_of(window, x.shape[2:]).numbers, sizes, (0,) * block, (0,) * rows)
    items = len(x) * groups * -(-sizes.filters // block)
    work = out.size * weight[0].size
    run(direct.conv, arguments, items, max(work // SPEED, x.nbytes + out.nbytes))
    return out


def _implicit(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """By the implicit kernel."""
    block = _block(len(weight) // groups, products.ROWS * 4 // x.itemsize)
    out, sizes, flat = _operands(x, weight, bias, window, groups, block)
    panels = -(-prod(out.shape[2:]) // products.WIDTH)
    each = min(PANELS, panels, max(1, PANEL_BYTES // (products.WIDTH * weight[0].nbytes)))
    arguments = (*flat, plan_of(window, x.shape[2:]).numbers, sizes, each, (0,) * block)
    work = out.size * weight[0].size
    run(implicit.conv, arguments, len(x) * groups * -(-panels // each), work // SPEED)
    return out


def _block(filters: int, most: int) -> int:
    """Filters of a block, at most so many, that fill the blocks best."""
    return -(-filters // -(-filters // most))


def _operands(
    x: Array, weight: Array, bias: Array | None, window: Window, groups: int, block: int
) -> tuple[Array, direct.Sizes, tuple[Array, Array, Array, Array]]:
    """An array for the outputs, sizes, and flat: inputs, weights, biases and outputs."""
    weights = kept(weight, (groups, block), lambda: _in_blocks(weight, groups, block))
    biases = _in_blocks(np.zeros(len(weight), x.dtype) if bias is None else bias, groups, block)
    out = empty(np, (len(x), len(weight), *window.output_shape(x.shape[2:])), x.dtype)
    sizes = direct.Sizes(len(x), groups, weight.shape[1], len(weight) // groups)
    return out, sizes, (x.ravel(), weights, biases, out.ravel())


def _in_blocks(values: Array, groups: int, block: int) -> Array:
    """Values of filters in the order groups, blocks, values, filters of a block, which may be 0."""
    filters = len(values) // groups
    blocks = -(-filters // block)
    matrix = np.zeros((groups, blocks * block, values[0].size), values.dtype)
    matrix[:, :filters] = values.reshape(groups, filters, -1)
    return matrix.reshape(groups, blocks, block, -1).swapaxes(2, 3).ravel()


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
    shape = weight.shape[1], weight.shape[0], *weight.shape[2:]
    if winograd.fits(gradient, weight.dtype, shape, turned, groups) and (
        bias is None or bias.dtype == gradient.dtype
    ):
        found = winograd.conv(gradient, weight, bias, turned, is_turned=True)
        if found is not None:
            return found
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
    if not (
        x.dtype == gradient.dtype in FLOATS
        and 3 <= x.ndim <= 5
        and min(x.size, weight.size) > 0
        and window.stride[-1] == 1
        and _is_direct(x, shape, window, groups)
    ):
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
