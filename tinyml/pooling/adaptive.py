"""Adaptive pooling, for one to three spatial axes; channels first."""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyml.arrays import check_dtype, check_shape
from tinyml.pooling.layout import axes_of, check_indices, check_rank, warn_if_misread
from tinyml_backends import Backend, SwitchIndexError, backend_for
from tinyml_backends.arguments import IntPerAxis, lengths, per_axis
from tinyml_backends.arrays import Array


def adaptive_max_pool(x: Array, output_size: IntPerAxis) -> tuple[Array, Array]:
    """Maxima of a given number of windows, which divide the input as evenly as possible.

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
        Flat position of each maximum in its plane. `Switches` are for windows of one size only.

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_max_pool(np.array([[[1, 5, 2, 4, 3]]]), (2,))
    (array([[[5, 4]]]), array([[[1, 3]]]))
    """
    backend, outputs, shape = _prepared(x, output_size)
    values, indices = backend.adaptive_max_pool(planes_of(x, len(outputs)), outputs)
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
    >>> _, indices = tinyml.adaptive_max_pool(np.array([[[1.0, 5.0, 2.0]]]), (2,))
    >>> tinyml.adaptive_max_pool_gradient(np.array([[[10.0, 20.0]]]), indices, (3,))
    array([[[ 0., 30.,  0.]]])
    """
    backend, spatial, shape = _prepared_gradient(gradient, input_shape, indices)
    check_indices(indices)
    check_shape("gradient", gradient, tuple(indices.shape))
    axes = len(spatial)
    result, first_bad = backend.adaptive_max_pool_gradient(
        planes_of(gradient, axes), planes_of(indices, axes), spatial
    )
    refuse_bad_index(indices, first_bad, prod(spatial))
    return result.reshape(shape)


def adaptive_avg_pool(x: Array, output_size: IntPerAxis) -> Array:
    """Means of the windows of `adaptive_max_pool`; floats are summed in float64.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_avg_pool(np.array([[[1.0, 5.0, 3.0]]]), (2,))
    array([[[3., 4.]]])
    """
    backend, outputs, shape = _prepared(x, output_size)
    return backend.adaptive_avg_pool(planes_of(x, len(outputs)), outputs).reshape(shape)


def adaptive_avg_pool_gradient(gradient: Array, input_shape: Sequence[int]) -> Array:
    """Gradient of `adaptive_avg_pool` with respect to its input of spatial shape ``input_shape``.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> tinyml.adaptive_avg_pool_gradient(np.array([[[2.0, 4.0]]]), (3,))
    array([[[1., 3., 2.]]])
    """
    backend, spatial, shape = _prepared_gradient(gradient, input_shape)
    planes = planes_of(gradient, len(spatial))
    return backend.adaptive_avg_pool_gradient(planes, spatial).reshape(shape)


def planes_of(array: Array, axes: int) -> Array:
    """View as a stack of planes: one axis before the spatial ones."""
    return array.reshape(prod(array.shape[:-axes]), *array.shape[-axes:])


def refuse_bad_index(indices: Array, first_bad: int, plane: int) -> None:
    """Raise SwitchIndexError for the index at flat position ``first_bad``; −1 means none."""
    if first_bad < 0:
        return
    position = tuple(map(int, np.unravel_index(first_bad, indices.shape)))
    value = int(indices.reshape(-1)[first_bad])
    listed = ", ".join(map(str, position))
    allowed = f"the indices of its plane are 0 to {plane - 1}" if plane else "its plane is empty"
    raise SwitchIndexError(f"indices[{listed}] is {value}; {allowed}")


def _prepared(
    x: Array, output_size: IntPerAxis
) -> tuple[Backend, tuple[int, ...], tuple[int, ...]]:
    """Check the arguments; return the backend, and the result's spatial shape and shape."""
    backend = backend_for(x)
    check_dtype("x", x)
    axes = axes_of("x", tuple(x.shape), output_size, "output_size")
    if axes == 1:
        warn_if_misread(tuple(x.shape), output_size, "output_size")
    outputs = per_axis("output_size", output_size, axes, minimum=0)
    if 0 in x.shape[-axes:]:
        raise ValueError(f"x has shape {tuple(x.shape)}; its spatial axes must not be empty")
    return backend, outputs, (*x.shape[:-axes], *outputs)


def _prepared_gradient(
    gradient: Array, input_shape: Sequence[int], *others: Array
) -> tuple[Backend, tuple[int, ...], tuple[int, ...]]:
    """Check the arguments; return the backend, and the result's spatial shape and shape."""
    backend = backend_for(gradient, *others)
    check_dtype("gradient", gradient)
    spatial = lengths("input_shape", input_shape, None)
    check_rank("gradient", gradient, len(spatial))
    return backend, spatial, (*gradient.shape[: -len(spatial)], *spatial)
