"""Average pooling, for one to three spatial axes."""

from collections.abc import Sequence

from tinyml.arrays import check_dtype, check_shape
from tinyml.pooling.layout import Geometry, Layout, axes_of, geometry_for, geometry_from, out_stack
from tinyml_backends import Backend, Window, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, boolean, lengths, per_axis
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
    layout: Layout | None = None,
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
        Whether cells in the padding count in the divisor. Cells beyond the padding, which the last
        window may cover with ``ceil_mode``, never count.
    divisor_override : int or None
        Divisor of every window instead of its number of cells; not 0.
    out : array or None
        Contiguous array of the result's shape and dtype, sharing no memory with ``x``. The result
        is written to it, and it is returned.

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
    >>> tinyml.avg_pool(x, size=(2,), stride=1)
    array([[[2., 4.]]])
    >>> tinyml.avg_pool(x, size=(2,), padding=1, count_include_pad=False)
    array([[[1., 4.]]])
    """
    backend = _backend_for("x", x, out)
    geometry = geometry_from(x.shape, size, stride, padding, dilation, ceil_mode, layout)
    return _avg_pool(backend, x, geometry, count_include_pad, divisor_override, out)


def avg_pool_windowed(
    x: Array,
    window: Window,
    count_include_pad: bool = True,
    divisor: int | None = None,
    layout: Layout = "channels_first",
    out: Array | None = None,
) -> Array:
    """As `avg_pool`, with a `Window`; the batch axis may be left out."""
    backend = _backend_for("x", x, out)
    geometry = geometry_for("x", x, window, layout)
    return _avg_pool(backend, x, geometry, count_include_pad, divisor, out)


def _avg_pool(
    backend: Backend,
    x: Array,
    geometry: Geometry,
    count_include_pad: bool,
    divisor: int | None,
    out: Array | None,
) -> Array:
    divisor = check_divisor(divisor, unsigned=x.dtype.kind == "u")
    to = out_stack(out, geometry.pooled, geometry.pooled_stack, ("x", x))
    planes = x.reshape(geometry.unpooled_stack)
    window = geometry.window.clipped(geometry.input_shape)
    y = backend.avg_pool(
        planes, window, boolean("count_include_pad", count_include_pad), divisor, out=to
    )
    return y.reshape(geometry.pooled) if out is None else out


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
        Contiguous array of the result's shape and dtype, sharing no memory with ``gradient``. The
        result is written to it, and it is returned.

    Returns
    -------
    array, (…, *input_shape), dtype of ``gradient``

    Raises
    ------
    TypeError, ValueError
        As for `avg_pool`, or if ``gradient`` does not have the shape of the pooled array.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.avg_pool_gradient(np.array([[[2.0, 4.0]]]), (3,), size=2, stride=1)
    array([[[1., 3., 2.]]])
    """
    backend_for(gradient)  # raises TypeError if it is not an array
    axes = axes_of("gradient", tuple(gradient.shape), size)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    return avg_pool_gradient_windowed(
        gradient, input_shape, window, count_include_pad, divisor_override, layout, out
    )


def avg_pool_gradient_windowed(
    gradient: Array,
    input_shape: Sequence[int],
    window: Window,
    count_include_pad: bool = True,
    divisor: int | None = None,
    layout: Layout = "channels_first",
    out: Array | None = None,
) -> Array:
    """As `avg_pool_gradient`, with a `Window`; the batch axis may be left out."""
    backend = _backend_for("gradient", gradient, out)
    spatial = lengths("input_shape", input_shape, window.axes)
    geometry = geometry_for("gradient", gradient, window, layout, spatial)
    check_shape("gradient", gradient, geometry.pooled)
    divisor = check_divisor(divisor, unsigned=gradient.dtype.kind == "u")
    to = out_stack(out, geometry.unpooled, geometry.unpooled_stack, ("gradient", gradient))
    planes = gradient.reshape(geometry.pooled_stack)
    result = backend.avg_pool_gradient(
        planes,
        window.clipped(spatial),
        spatial,
        boolean("count_include_pad", count_include_pad),
        divisor,
        out=to,
    )
    return result.reshape(geometry.unpooled) if out is None else out


def _backend_for(name: str, array: Array, out: Array | None) -> Backend:
    backend = backend_for(array) if out is None else backend_for(array, out)
    check_dtype(name, array)
    return backend


def check_divisor(divisor_override: int | None, *, unsigned: bool = False) -> int | None:
    """Check a divisor: an integer of 64 bits, not 0, and positive if ``unsigned``."""
    if divisor_override is None:
        return None
    (divisor,) = per_axis("divisor_override", divisor_override, 1, minimum=-(2**63))
    if divisor == 0 or divisor >= 2**63:
        raise ValueError(
            f"divisor_override is {divisor}; it must be another integer of 64 bits, or None"
        )
    if unsigned and divisor < 0:
        raise ValueError(f"divisor_override is {divisor}; unsigned integers need a positive one")
    return divisor
