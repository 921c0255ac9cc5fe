"""Pooling: names, arguments and values of ``torch.nn.functional``."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from tinyml.arrays import check_dtype, check_shape
from tinyml.pooling import adaptive_avg_pool, adaptive_max_pool
from tinyml.pooling.adaptive import planes_of, refuse_bad_index
from tinyml.pooling.average import avg_pool_windowed
from tinyml.pooling.layout import check_indices, check_rank
from tinyml.pooling.max import max_pool_windowed
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, per_axis
from tinyml_backends.arrays import Array


def max_pool1d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool1d``."""
    window = window_of(1, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return (y, switches.to("plane")) if return_indices else y


def max_pool2d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool2d``."""
    window = window_of(2, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return (y, switches.to("plane")) if return_indices else y


def max_pool3d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool3d``."""
    window = window_of(3, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return (y, switches.to("plane")) if return_indices else y


def max_pool1d_with_indices(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool1d_with_indices``."""
    window = window_of(1, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return y, switches.to("plane")


def max_pool2d_with_indices(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool2d_with_indices``."""
    window = window_of(2, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return y, switches.to("plane")


def max_pool3d_with_indices(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.max_pool3d_with_indices``."""
    window = window_of(3, input, kernel_size, stride, padding, dilation, ceil_mode)
    y, switches = max_pool_windowed(input, window)
    return y, switches.to("plane")


def max_unpool1d(
    input: Array,
    indices: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    output_size: Sequence[int] | None = None,
) -> Array:
    """As ``torch.nn.functional.max_unpool1d``; an invalid index raises SwitchIndexError."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Array,
    indices: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    output_size: Sequence[int] | None = None,
) -> Array:
    """As ``torch.nn.functional.max_unpool2d``; an invalid index raises SwitchIndexError."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Array,
    indices: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    output_size: Sequence[int] | None = None,
) -> Array:
    """As ``torch.nn.functional.max_unpool3d``; an invalid index raises SwitchIndexError."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def avg_pool1d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """As ``torch.nn.functional.avg_pool1d``, which has no ``divisor_override``."""
    window = window_of(1, input, kernel_size, stride, padding, 1, ceil_mode)
    return avg_pool_windowed(input, window, count_include_pad)


def avg_pool2d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """As ``torch.nn.functional.avg_pool2d``."""
    window = window_of(2, input, kernel_size, stride, padding, 1, ceil_mode)
    return avg_pool_windowed(input, window, count_include_pad, divisor_override)


def avg_pool3d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """As ``torch.nn.functional.avg_pool3d``."""
    window = window_of(3, input, kernel_size, stride, padding, 1, ceil_mode)
    if any(n < k for n, k in zip(input.shape[-3:], window.size, strict=True)):
        raise ValueError(
            f"input has shape {tuple(input.shape)}; it must be at least kernel_size {window.size} "
            "before padding"
        )
    return avg_pool_windowed(input, window, count_include_pad, divisor_override)


def adaptive_max_pool1d(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool1d``."""
    y, indices = adaptive_max_pool(input, _adaptive_size(1, input, output_size))
    return (y, indices) if return_indices else y


def adaptive_max_pool2d(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool2d``."""
    y, indices = adaptive_max_pool(input, _adaptive_size(2, input, output_size))
    return (y, indices) if return_indices else y


def adaptive_max_pool3d(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> Array | tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool3d``."""
    y, indices = adaptive_max_pool(input, _adaptive_size(3, input, output_size))
    return (y, indices) if return_indices else y


def adaptive_max_pool1d_with_indices(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool1d_with_indices``."""
    return adaptive_max_pool(input, _adaptive_size(1, input, output_size))


def adaptive_max_pool2d_with_indices(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool2d_with_indices``."""
    return adaptive_max_pool(input, _adaptive_size(2, input, output_size))


def adaptive_max_pool3d_with_indices(
    input: Array, output_size: IntPerAxis, return_indices: bool = False
) -> tuple[Array, Array]:
    """As ``torch.nn.functional.adaptive_max_pool3d_with_indices``."""
    return adaptive_max_pool(input, _adaptive_size(3, input, output_size))


def adaptive_avg_pool1d(input: Array, output_size: IntPerAxis) -> Array:
    """As ``torch.nn.functional.adaptive_avg_pool1d``."""
    return adaptive_avg_pool(input, _adaptive_size(1, input, output_size))


def adaptive_avg_pool2d(input: Array, output_size: IntPerAxis) -> Array:
    """As ``torch.nn.functional.adaptive_avg_pool2d``."""
    return adaptive_avg_pool(input, _adaptive_size(2, input, output_size))


def adaptive_avg_pool3d(input: Array, output_size: IntPerAxis) -> Array:
    """As ``torch.nn.functional.adaptive_avg_pool3d``."""
    return adaptive_avg_pool(input, _adaptive_size(3, input, output_size))


def _max_unpool(
    axes: int,
    input: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Sequence[int] | None,
) -> Array:
    backend = backend_for(input, indices)
    check_dtype("input", input)
    check_rank("input", input, axes, filled=axes)
    check_indices(indices)
    check_shape("indices", indices, tuple(input.shape))
    window = _unpooling_window(axes, kernel_size, stride, padding)
    spatial = _output_size(input.shape[-axes:], window, output_size)
    result, first_bad = backend.unpool_plane_indices(
        planes_of(input, axes), planes_of(indices, axes), spatial
    )
    refuse_bad_index(indices, first_bad, prod(spatial))
    return result.reshape(*input.shape[:-axes], *spatial)


def window_of(
    axes: int,
    input: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Window:
    """Window of a pooling of ``input``; PyTorch's limits on its shape and padding are enforced."""
    backend_for(input)  # raises TypeError if it is not an array
    check_rank("input", input, axes, filled=axes + 1)
    kernel_size, stride, padding, dilation = map(_single, (kernel_size, stride, padding, dilation))
    window = _unpooling_window(axes, kernel_size, stride, padding)
    if any(2 * p > k for p, k in zip(window.padding_before, window.size, strict=True)):
        raise ValueError(
            f"padding is {padding!r}; it must be at most half of kernel_size {window.size}"
        )
    dilations = per_axis("dilation", dilation, axes, minimum=1)
    return replace(window, dilation=dilations, ceil_mode=bool(ceil_mode))


def _unpooling_window(axes: int, kernel_size: Any, stride: Any, padding: Any) -> Window:
    size = per_axis("kernel_size", kernel_size, axes, minimum=1)
    empty = stride is None or (isinstance(stride, Sequence) and len(stride) == 0)
    pads = per_axis("padding", padding, axes, minimum=0)
    return Window.of(axes, size, None if empty else stride, pads)


def _single(value: Any) -> Any:
    """Replace a sequence of one int, which PyTorch accepts except in unpooling, by that int."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value


def _output_size(
    pooled: Sequence[int], window: Window, output_size: Sequence[int] | None
) -> tuple[int, ...]:
    """Spatial shape of an unpooled array: PyTorch's default, or ``output_size`` if in range."""
    default, axes = window.unpooled_lengths(pooled), window.axes
    if output_size is None:
        return tuple(max(0, n) for n in default)
    spatial = tuple(output_size)
    if len(spatial) == axes + 2:
        spatial = spatial[2:]
    spatial = per_axis("output_size", spatial, axes, minimum=-(2**63))
    limits = [(max(0, d - s + 1), d + s - 1) for d, s in zip(default, window.stride, strict=True)]
    if any(not low <= n <= high for n, (low, high) in zip(spatial, limits, strict=True)):
        allowed = ", ".join(f"{low} to {high}" for low, high in limits)
        raise ValueError(f"output_size is {spatial}; its lengths may be {allowed}")
    return spatial


def _adaptive_size(axes: int, input: Array, output_size: Any) -> tuple[int, ...]:
    """Output size of each axis; in a sequence, None stands for the input's length."""
    backend_for(input)  # raises TypeError if it is not an array
    check_rank("input", input, axes, filled=axes)
    if isinstance(output_size, Sequence) and len(output_size) == axes > 1:
        lengths = input.shape[-axes:]
        output_size = [n if s is None else s for s, n in zip(output_size, lengths, strict=True)]
    return per_axis("output_size", output_size, axes, minimum=0)
