"""PyTorch's pooling functions on NumPy and CuPy arrays, forward only.

Names, argument order, keywords, defaults and values are those of ``torch.nn.functional``; indices
are int64 and count the cells of a plane. PyTorch is not imported. Where it leaves a case undefined,
the rules of docs/pooling.md hold: of several values for one cell, for example, the last one stays.

>>> import numpy as np
>>> import tinyml.functional as F
>>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
>>> y, indices = F.max_pool2d(x, 2, stride=1, return_indices=True)
>>> indices
array([[[[4, 5],
         [7, 8]]]])
>>> F.max_unpool2d(y, indices, 2, stride=1)
array([[[[0, 0, 0],
         [0, 5, 6],
         [0, 8, 9]]]])
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from tinyml import average, pooling
from tinyml.arrays import check_dtype, check_shape
from tinyml.average import check_indices, refuse_bad_index
from tinyml.layout import stack
from tinyml.switches import Switches
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, per_axis
from tinyml_backends.arrays import Array

Function = Callable[..., Any]


def _max_pools(axes: int) -> tuple[Function, Function]:
    def max_pool_with_indices(
        input: Array,
        kernel_size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: IntPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> tuple[Array, Array]:
        """As ``torch.nn.functional.max_pool{axes}d_with_indices``."""
        y, switches = _pooled(axes, input, kernel_size, stride, padding, dilation, ceil_mode)
        return y, switches.to("plane")

    def max_pool(
        input: Array,
        kernel_size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: IntPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Array | tuple[Array, Array]:
        """As ``torch.nn.functional.max_pool{axes}d``."""
        y, switches = _pooled(axes, input, kernel_size, stride, padding, dilation, ceil_mode)
        return (y, switches.to("plane")) if return_indices else y

    return _named(axes, max_pool), _named(axes, max_pool_with_indices)


def _pooled(
    axes: int, input: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> tuple[Array, Switches]:
    _check_rank(axes, input)
    size, steps, pads = _window(axes, kernel_size, stride, padding)
    step = per_axis("dilation", _single(dilation), axes, minimum=1)
    return pooling.max_pool(input, size, steps, pads, step, ceil)


def _max_unpool(axes: int) -> Function:
    def max_unpool(
        input: Array,
        indices: Array,
        kernel_size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: IntPerAxis = 0,
        output_size: Sequence[int] | None = None,
    ) -> Array:
        """As ``torch.nn.functional.max_unpool{axes}d``; a bad index is a SwitchIndexError."""
        backend = backend_for(input, indices)
        check_dtype("input", input)
        _check_rank(axes, input, channels=False)
        check_indices(indices)
        check_shape("indices", indices, tuple(input.shape))
        size, steps, pads = _window(axes, kernel_size, stride, padding, for_unpool=True)
        spatial = _output_size(input.shape[-axes:], size, steps, pads, output_size)
        out, first_bad = backend.unpool_plane_indices(
            stack(input, axes, "channels_first"), stack(indices, axes, "channels_first"), spatial
        )
        refuse_bad_index(indices, first_bad, prod(spatial))
        return out.reshape(*input.shape[:-axes], *spatial)

    return _named(axes, max_unpool)


def _avg_pool(axes: int) -> Function:
    def avg_pool(
        input: Array,
        kernel_size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: IntPerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        """As ``torch.nn.functional.avg_pool{axes}d``."""
        _check_rank(axes, input)
        size, steps, pads = _window(axes, kernel_size, stride, padding)
        if axes == 3 and any(n < k for n, k in zip(input.shape[-3:], size, strict=True)):
            raise ValueError(
                f"input has shape {tuple(input.shape)}; it must be at least kernel_size {size} "
                "before padding"
            )
        return average.avg_pool(
            input, size, steps, pads, 1, ceil_mode, count_include_pad, divisor_override
        )

    return _named(axes, avg_pool)


def avg_pool1d(
    input: Array,
    kernel_size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: IntPerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """As ``torch.nn.functional.avg_pool1d``, which has no ``divisor_override``."""
    _check_rank(1, input)
    size, steps, pads = _window(1, kernel_size, stride, padding)
    return average.avg_pool(input, size, steps, pads, 1, ceil_mode, count_include_pad)


def _adaptive_pools(axes: int) -> tuple[Function, Function, Function]:
    def adaptive_max_pool_with_indices(
        input: Array, output_size: IntPerAxis, return_indices: bool = False
    ) -> tuple[Array, Array]:
        """As ``torch.nn.functional.adaptive_max_pool{axes}d_with_indices``."""
        _check_rank(axes, input, channels=False)
        return average.adaptive_max_pool(input, _adaptive_size(axes, input, output_size))

    def adaptive_max_pool(
        input: Array, output_size: IntPerAxis, return_indices: bool = False
    ) -> Array | tuple[Array, Array]:
        """As ``torch.nn.functional.adaptive_max_pool{axes}d``."""
        _check_rank(axes, input, channels=False)
        y, indices = average.adaptive_max_pool(input, _adaptive_size(axes, input, output_size))
        return (y, indices) if return_indices else y

    def adaptive_avg_pool(input: Array, output_size: IntPerAxis) -> Array:
        """As ``torch.nn.functional.adaptive_avg_pool{axes}d``."""
        _check_rank(axes, input, channels=False)
        return average.adaptive_avg_pool(input, _adaptive_size(axes, input, output_size))

    return (
        _named(axes, adaptive_max_pool),
        _named(axes, adaptive_max_pool_with_indices),
        _named(axes, adaptive_avg_pool),
    )


def _named(axes: int, function: Function) -> Function:
    """Give a function the name and the documentation of its number of axes."""
    head, _, tail = function.__name__.partition("_with")
    function.__name__ = function.__qualname__ = f"{head}{axes}d{'_with' + tail if tail else ''}"
    function.__doc__ = (function.__doc__ or "").replace("{axes}", str(axes))
    return function


def _check_rank(axes: int, input: Array, *, channels: bool = True) -> None:
    """Refuse another rank and empty axes; some functions let the channels be none."""
    backend_for(input)
    filled = input.shape[-axes - 1 if channels else -axes :]
    if input.ndim not in (axes + 1, axes + 2) or 0 in filled:
        raise ValueError(
            f"input has shape {tuple(input.shape)}; it must have channels, or samples and "
            f"channels, in front of {axes} spatial axes that are not empty"
        )


def _as_it_is(value: Any) -> Any:
    return value


def _single(value: Any) -> Any:
    """A sequence of one int stands for the int."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value


def _window(
    axes: int, kernel_size: Any, stride: Any, padding: Any, *, for_unpool: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Size, stride and padding of each axis; PyTorch's limit on padding is enforced."""
    one = _as_it_is if for_unpool else _single  # unpooling wants one int, or all
    size = per_axis("kernel_size", one(kernel_size), axes, minimum=1)
    empty = stride is None or (isinstance(stride, Sequence) and len(stride) == 0)
    steps = size if empty else per_axis("stride", one(stride), axes, minimum=1)
    pads = per_axis("padding", one(padding), axes, minimum=0)
    if not for_unpool and any(2 * p > k for p, k in zip(pads, size, strict=True)):
        raise ValueError(f"padding is {padding!r}; it must be at most half of kernel_size {size}")
    return size, steps, pads


def _output_size(
    pooled: Sequence[int],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_size: Sequence[int] | None,
) -> tuple[int, ...]:
    """Spatial shape of an unpooled array, PyTorch's default or the user's within its range."""
    default = Window.of(len(size), size, stride, padding).unpooled_lengths(pooled)
    if output_size is None:
        return tuple(max(0, n) for n in default)
    spatial = tuple(output_size)
    if len(spatial) == len(size) + 2:
        spatial = spatial[2:]
    spatial = per_axis("output_size", spatial, len(size), minimum=-(2**63))
    ranges = [(max(0, d - s + 1), d + s - 1) for d, s in zip(default, stride, strict=True)]
    if any(not low <= n <= high for n, (low, high) in zip(spatial, ranges, strict=True)):
        allowed = ", ".join(f"{low} to {high}" for low, high in ranges)
        raise ValueError(f"output_size is {spatial}; its lengths may be {allowed}")
    return spatial


def _adaptive_size(axes: int, input: Array, output_size: Any) -> tuple[int, ...]:
    """Output size of each axis; a None among several stands for the input's length."""
    if isinstance(output_size, Sequence) and len(output_size) == axes > 1:
        lengths = input.shape[-axes:]
        output_size = [n if s is None else s for s, n in zip(output_size, lengths, strict=True)]
    return per_axis("output_size", output_size, axes, minimum=0)


max_pool1d, max_pool1d_with_indices = _max_pools(1)
max_pool2d, max_pool2d_with_indices = _max_pools(2)
max_pool3d, max_pool3d_with_indices = _max_pools(3)
max_unpool1d, max_unpool2d, max_unpool3d = map(_max_unpool, (1, 2, 3))
avg_pool2d, avg_pool3d = map(_avg_pool, (2, 3))
adaptive_max_pool1d, adaptive_max_pool1d_with_indices, adaptive_avg_pool1d = _adaptive_pools(1)
adaptive_max_pool2d, adaptive_max_pool2d_with_indices, adaptive_avg_pool2d = _adaptive_pools(2)
adaptive_max_pool3d, adaptive_max_pool3d_with_indices, adaptive_avg_pool3d = _adaptive_pools(3)
