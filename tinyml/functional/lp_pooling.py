"""Power-average pooling, ``(Σ xᵖ)^(1/p)`` of each window, and its gradient.

Names, arguments and values are those of ``torch.nn.functional``. float16 is computed in float32.
A ``norm_type`` of infinity is the maximum of the absolute values, and of −infinity their minimum.
"""

from math import isinf, prod
from typing import Any

from tinyml.arrays import check_shape
from tinyml.functional.pooling import window_of
from tinyml.pooling.average import avg_pool_gradient_windowed, avg_pool_windowed
from tinyml.pooling.max import max_pool_gradient, max_pool_windowed
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, number
from tinyml_backends.arrays import Array, as_floats, quiet, widened


def lp_pool1d(
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """As ``torch.nn.functional.lp_pool1d``."""
    return _value(1, input, norm_type, (kernel_size, stride, ceil_mode))


def lp_pool1d_gradient(
    gradient: Array,
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `lp_pool1d` with respect to ``input``; 0 where the sum of a window is 0."""
    return _gradient(1, gradient, input, norm_type, (kernel_size, stride, ceil_mode))


def lp_pool2d(
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """As ``torch.nn.functional.lp_pool2d``."""
    return _value(2, input, norm_type, (kernel_size, stride, ceil_mode))


def lp_pool2d_gradient(
    gradient: Array,
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `lp_pool2d` with respect to ``input``; 0 where the sum of a window is 0."""
    return _gradient(2, gradient, input, norm_type, (kernel_size, stride, ceil_mode))


def lp_pool3d(
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """As ``torch.nn.functional.lp_pool3d``."""
    return _value(3, input, norm_type, (kernel_size, stride, ceil_mode))


def lp_pool3d_gradient(
    gradient: Array,
    input: Array,
    norm_type: float,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `lp_pool3d` with respect to ``input``; 0 where the sum of a window is 0."""
    return _gradient(3, gradient, input, norm_type, (kernel_size, stride, ceil_mode))


@quiet
def _value(axes: int, input: Array, norm_type: float, options: tuple[Any, ...]) -> Array:
    window, p = _checked(axes, input, norm_type, options)
    if isinf(p):
        sign = 1 if p > 0 else -1
        return sign * max_pool_windowed(sign * abs(as_floats(input)), window)[0]
    total = _sums(widened(as_floats(input)) ** p, window)
    return (total ** (1 / p)).astype(as_floats(input).dtype, copy=False)


@quiet
def _gradient(
    axes: int, gradient: Array, input: Array, norm_type: float, options: tuple[Any, ...]
) -> Array:
    window, p = _checked(axes, input, norm_type, options)
    x = widened(as_floats(input))
    xp = backend_for(gradient, input).xp
    if isinf(p):
        of_largest, switches = max_pool_windowed(abs(x) if p > 0 else -abs(x), window)
        check_shape("gradient", gradient, tuple(of_largest.shape))
        wide = gradient.astype(x.dtype, copy=False)
        back = max_pool_gradient(wide, switches)
        zero = x.dtype.type(0)  # of NaN too, as in PyTorch
        back = xp.where(x > 0, back, xp.where(x < 0, -back, zero))
        return back.astype(as_floats(input).dtype, copy=False)
    total = _sums(x**p, window)
    check_shape("gradient", gradient, tuple(total.shape))
    slope = xp.where(total == 0, total.dtype.type(0), total ** (1 / p - 1))
    slope *= gradient
    back = avg_pool_gradient_windowed(slope, x.shape[-axes:], window) * prod(window.size)
    return (back * x ** (p - 1)).astype(as_floats(input).dtype, copy=False)


def _sums(powers: Array, window: Window) -> Array:
    """Mean of each window times all its cells, as in PyTorch, also where a window is cut off."""
    return avg_pool_windowed(powers, window) * prod(window.size)


def _checked(
    axes: int, input: Array, norm_type: float, options: tuple[Any, ...]
) -> tuple[Window, float]:
    kernel_size, stride, ceil_mode = options
    window = window_of(axes, input, kernel_size, stride, 0, 1, ceil_mode)
    if isinstance(norm_type, float) and isinf(norm_type):
        return window, norm_type
    p = number("norm_type", norm_type, more_than=0)
    return window, int(p) if p == int(p) else p
