"""Which steps of convolution run compiled kernels, and with which arguments."""

from math import prod

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import columns
from tinyml_backends.numba_backend.plans import plan_of
from tinyml_backends.numba_backend.training import FLOATS
from tinyml_backends.numpy_backend import NumpyBackend

#: Where the padded input has more times the elements of input and columns, NumPy makes columns.
MOSTLY_PADDING = 4


class NumbaConvolution(NumpyBackend):
    """The columns of convolution. Their callers run chunks of the images in threads."""

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
