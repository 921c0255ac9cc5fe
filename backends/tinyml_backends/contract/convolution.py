"""Convolution, with the generic kernels as defaults. Callers have checked shapes and dtypes."""

from tinyml_backends.arrays import Array
from tinyml_backends.contract.arrays import Arrays
from tinyml_backends.generic import conv
from tinyml_backends.geometry import Window


class Convolution(Arrays):
    """Kernels of convolution, on arrays (N, C, …)."""

    def conv(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """Cross-correlation of ``x`` (N, C, …) and ``weight`` (F, C / groups, …), plus ``bias``."""
        return conv.conv(self.xp, x, weight, bias, window, groups)

    def conv_gradient(
        self, gradient: Array, x: Array, weight: Array, window: Window, groups: int
    ) -> tuple[Array, Array]:
        """Gradients of `conv` with respect to ``x`` and ``weight``."""
        return conv.conv_gradient(self.xp, gradient, x, weight, window, groups)

    def im2col(self, x: Array, window: Window) -> Array:
        """Columns (C·cells, outputs·N) of ``x`` (N, C, …), sample index fastest; padding is 0."""
        return conv.im2col(self.xp, x, window)

    def col2im(self, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool) -> Array:
        """Columns back to ``x_shape``; overlaps are summed, or the last row wins."""
        return conv.col2im(self.xp, cols, x_shape, window, add=add)
