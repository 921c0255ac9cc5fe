"""Average pooling and adaptive pooling, for one to three spatial axes."""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyml.arrays import check_dtype, check_out, check_shape
from tinyml.layout import Layout, check_layout, pooling_of, spatial_axes, stack, with_spatial
from tinyml_backends import SwitchIndexError, Window, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths, per_axis
from tinyml_backends.arrays import Array


def avg_pool(
    x: Array,
    size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: PaddingPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: Layout = "channels_first",
    out: Array | None = None,
) -> Array:
    """Mean of each window.

    The cells are added one at a time in row-major order of the window, float16 in float32 and
    integers in 64 bits; the mean of integers is truncated toward zero. One window as large as the
    input (global pooling) is summed in float64.

    Parameters
    ----------
    x, size, stride, padding, dilation, ceil_mode, layout
        As for `tinyml.max_pool`; padding counts as zeros.
    count_include_pad : bool
        Whether cells in the padding count in the divisor. Cells beyond it, where ``ceil_mode`` lets
        the last window reach, never count.
    divisor_override : int or None
        Divisor of every window instead of its number of cells; not 0.
    out : array or None
        Contiguous array of the result's shape and dtype, apart from ``x``, to write and return.

    Returns
    -------
    array, (…, *pooled), dtype of ``x``

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`, or if ``divisor_override`` is 0.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[1.0, 3.0, 5.0]]])
    >>> tinyml.avg_pool(x, size=2, stride=1)
    array([[[2., 4.]]])
    >>> tinyml.avg_pool(x, size=2, padding=1, count_include_pad=False)
    array([[[1., 4.]]])
    """
    backend = backend_for(x) if out is None else backend_for(x, out)
    check_dtype("x", x)
    window, _, stacked, shape = pooling_of(
        "x", x.shape, size, stride, padding, dilation, ceil_mode, layout
    )
    divisor = check_divisor(divisor_override, unsigned=x.dtype.kind == "u")
    to = None
    if out is not None:
        check_out("out", out, shape, x.dtype, ("x", x))
        to = stack(out, window.axes, layout)
    y = backend.avg_pool(x.reshape(stacked), window, bool(count_include_pad), divisor, out=to)
    return y.reshape(shape) if out is None else out


def avg_pool_gradient(
    gradient: Array,
    input_shape: Sequence[int],
    size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: PaddingPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: Layout = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool` with respect to its input.

    Parameters
    ----------
    gradient : array, (…, *pooled)
        Gradient with respect to the pooled array.
    input_shape : sequence of int
        Spatial shape of the array that was pooled.
    size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, layout
        What `avg_pool` was given.
    out : array or None
        Contiguous array of the result's shape and dtype, apart from ``gradient``, to write and
        return.

    Returns
    -------
    array, (…, *input_shape), dtype of ``gradient``

    Raises
    ------
    TypeError, ValueError
        As for `avg_pool`, or if ``gradient`` has not the shape of the pooled array.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.avg_pool_gradient(np.array([[[2.0, 4.0]]]), (3,), size=2, stride=1)
    array([[[1., 3., 2.]]])
    """
    backend = backend_for(gradient) if out is None else backend_for(gradient, out)
    check_dtype("gradient", gradient)
    check_layout(layout)
    spatial = lengths("input_shape", input_shape, None)
    axes = spatial_axes("gradient", tuple(gradient.shape), size)
    lengths("input_shape", input_shape, axes)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    pooled = window.pooled_shape(spatial)
    check_shape("gradient", gradient, with_spatial(gradient.shape, axes, layout, pooled))
    divisor = check_divisor(divisor_override, unsigned=gradient.dtype.kind == "u")
    shape = with_spatial(gradient.shape, axes, layout, spatial)
    to = None
    if out is not None:
        check_out("out", out, shape, gradient.dtype, ("gradient", gradient))
        to = stack(out, axes, layout)
    result = backend.avg_pool_gradient(
        stack(gradient, axes, layout), window, spatial, bool(count_include_pad), divisor, out=to
    )
    return result.reshape(shape) if out is None else out


def adaptive_max_pool(x: Array, output_size: IntPerAxis) -> tuple[Array, Array]:
    """Maxima of a given number of windows, which share the input as evenly as they can.

    Along an axis of length L, window ``i`` of ``n`` holds the cells from ⌊i·L/n⌋ up to, and not
    including, ⌈(i+1)·L/n⌉.

    Parameters
    ----------
    x : array, (samples, channels, *spatial), or (channels, *spatial) if ``output_size`` is a tuple
    output_size : int or tuple of int
        Number of windows along each axis.

    Returns
    -------
    y : array, (…, *output_size), dtype of ``x``
        Ties, NaN and signed zeros as for `tinyml.max_pool`.
    indices : int64 array of the same shape
        Flat position of each maximum in its plane. Windows differ, so there are no `Switches`.

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_max_pool(np.array([[[1, 5, 2, 4, 3]]]), 2)
    (array([[[5, 4]]]), array([[[1, 3]]]))
    """
    backend = backend_for(x)
    check_dtype("x", x)
    axes, outputs = _adaptive(x, output_size)
    values, indices = backend.adaptive_max_pool(stack(x, axes, "channels_first"), outputs)
    shape = (*x.shape[:-axes], *outputs)
    return values.reshape(shape), indices.reshape(shape)


def adaptive_max_pool_gradient(
    gradient: Array, indices: Array, input_shape: Sequence[int]
) -> Array:
    """Gradient of `adaptive_max_pool` with respect to its input.

    Parameters
    ----------
    gradient : array, shape of the indices
    indices : integer array
        What `adaptive_max_pool` returned.
    input_shape : sequence of int
        Spatial shape of the array that was pooled.

    Returns
    -------
    array, (…, *input_shape), dtype of ``gradient``
        Summed by the rules of `tinyml.max_pool_gradient`.

    Raises
    ------
    TypeError, ValueError
        If the dtypes or shapes do not fit.
    SwitchIndexError
        If an index lies outside the plane.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> _, indices = tinyml.adaptive_max_pool(np.array([[[1.0, 5.0, 2.0]]]), 2)
    >>> tinyml.adaptive_max_pool_gradient(np.array([[[10.0, 20.0]]]), indices, (3,))
    array([[[ 0., 30.,  0.]]])
    """
    backend = backend_for(gradient, indices)
    check_dtype("gradient", gradient)
    spatial = lengths("input_shape", input_shape, None)
    axes = len(spatial)
    check_indices(indices)
    check_shape("gradient", gradient, tuple(indices.shape))
    if gradient.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"gradient has shape {tuple(gradient.shape)}; it must have channels, or samples and "
            f"channels, in front of {axes} spatial axes"
        )
    out, first_bad = backend.adaptive_max_pool_gradient(
        stack(gradient, axes, "channels_first"), stack(indices, axes, "channels_first"), spatial
    )
    refuse_bad_index(indices, first_bad, prod(spatial))
    return out.reshape(*gradient.shape[:-axes], *spatial)


def adaptive_avg_pool(x: Array, output_size: IntPerAxis) -> Array:
    """Means of the windows of `adaptive_max_pool`; floats are summed in float64.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_avg_pool(np.array([[[1.0, 5.0, 3.0]]]), 2)
    array([[[3., 4.]]])
    """
    backend = backend_for(x)
    check_dtype("x", x)
    axes, outputs = _adaptive(x, output_size)
    out = backend.adaptive_avg_pool(stack(x, axes, "channels_first"), outputs)
    return out.reshape(*x.shape[:-axes], *outputs)


def adaptive_avg_pool_gradient(gradient: Array, input_shape: Sequence[int]) -> Array:
    """Gradient of `adaptive_avg_pool` with respect to its input of spatial shape ``input_shape``.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_avg_pool_gradient(np.array([[[2.0, 4.0]]]), (3,))
    array([[[1., 3., 2.]]])
    """
    backend = backend_for(gradient)
    check_dtype("gradient", gradient)
    spatial = lengths("input_shape", input_shape, None)
    axes = len(spatial)
    if gradient.ndim not in (axes + 1, axes + 2):
        raise ValueError(
            f"gradient has shape {tuple(gradient.shape)}; it must have channels, or samples and "
            f"channels, in front of {axes} spatial axes"
        )
    out = backend.adaptive_avg_pool_gradient(stack(gradient, axes, "channels_first"), spatial)
    return out.reshape(*gradient.shape[:-axes], *spatial)


def check_indices(indices: Array) -> None:
    """Refuse indices that are no integers."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices have dtype {indices.dtype}; they must be integers")


def refuse_bad_index(indices: Array, first_bad: int, plane: int) -> None:
    """Name the first index that lies outside its plane, if there is one."""
    if first_bad < 0:
        return
    position = tuple(map(int, np.unravel_index(first_bad, indices.shape)))
    value = int(indices.reshape(-1)[first_bad])
    listed = ", ".join(map(str, position))
    allowed = f"the indices of its plane are 0 to {plane - 1}" if plane else "its plane is empty"
    raise SwitchIndexError(f"indices[{listed}] is {value}; {allowed}")


def _adaptive(x: Array, output_size: IntPerAxis) -> tuple[int, tuple[int, ...]]:
    axes = spatial_axes("x", tuple(x.shape), output_size)
    outputs = per_axis("output_size", output_size, axes, minimum=0)
    if 0 in x.shape[-axes:]:
        raise ValueError(f"x has shape {tuple(x.shape)}; its spatial axes must not be empty")
    return axes, outputs


def check_divisor(divisor_override: int | None, *, unsigned: bool = False) -> int | None:
    """Refuse a divisor that is 0 or no integer."""
    if divisor_override is None:
        return None
    (divisor,) = per_axis("divisor_override", divisor_override, 1, minimum=-(2**63))
    if divisor == 0 or divisor >= 2**63:
        raise ValueError(
            f"divisor_override is {divisor}; it must be another integer of 64 bits, or None"
        )
    if unsigned and divisor < 0:
        raise ValueError(f"divisor_override is {divisor}; unsigned integers need one above 0")
    return divisor
