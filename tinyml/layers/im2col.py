"""Functions that convert images to columns and back, as in the original library.

A column holds one patch of the image: rows run over channel, kernel row and kernel column, and
columns over output row, output column and sample, the sample fastest.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyml.arrays import check_shape
from tinyml_backends import Window, backend_for, current_backend
from tinyml_backends.arguments import lengths, per_axis
from tinyml_backends.arrays import Array


def get_im2col_indices(
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> tuple[Array, Array, Array]:
    """Channel, row and column in the padded image of every entry of the columns.

    Parameters
    ----------
    x_shape : (int, int, int, int)
        Samples, channels, height and width.
    field_height, field_width : int
        Size of the patch.
    padding, stride : int
        Along both axes.

    Returns
    -------
    k : int64 array, (C·fh·fw, 1)
    i, j : int64 arrays, (C·fh·fw, out_h·out_w)
        On the selected backend; ``x_padded[:, k, i, j]`` are the columns of each sample.

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder.

    Examples
    --------
    >>> from tinyml.layers.convolution import get_im2col_indices
    >>> k, i, j = get_im2col_indices((1, 2, 4, 4), 3, 3, padding=0)
    >>> k.shape, i.shape, j.shape
    ((18, 1), (18, 4), (18, 4))
    """
    _, channels, *spatial = lengths("x_shape", x_shape, 4, minimum=0)
    window = _dividing_window(spatial, (field_height, field_width), padding, stride)
    out_height, out_width = window.output_shape(spatial)
    field_height, field_width = window.size
    (stride, _) = window.stride
    xp = current_backend().array_module
    k, cell_row, cell_column = (
        a.reshape(-1, 1) for a in xp.indices((channels, field_height, field_width), np.int64)
    )
    row, column = (a.reshape(1, -1) for a in xp.indices((out_height, out_width), np.int64))
    return k, cell_row + stride * row, cell_column + stride * column


def im2col_indices(
    x: Array,
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Columns (C·fh·fw, out_h·out_w·N) of an image (N, C, H, W).

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers.convolution import im2col_indices
    >>> im2col_indices(np.arange(9).reshape(1, 1, 3, 3), 2, 2, padding=0)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    backend = backend_for(x)
    check_shape("x", x, ("samples", "channels", "height", "width"))
    window = _dividing_window(x.shape[2:], (field_height, field_width), padding, stride)
    return backend.im2col(x, window)


def col2im_indices(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Columns back to an image of ``x_shape``; where they overlap, they are added.

    Raises
    ------
    ValueError
        If the patches do not fit the padded image without a remainder, or ``cols`` does not
        have the shape that `im2col_indices` gives.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers.convolution import col2im_indices
    >>> col2im_indices(np.ones((4, 4)), (1, 1, 3, 3), 2, 2, padding=0)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    return columns_to_image(cols, x_shape, (field_height, field_width), padding, stride, add=True)


def columns_to_image(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    size: tuple[int, int],
    padding: int,
    stride: int,
    *,
    add: bool,
) -> Array:
    """Columns back to an image; where they overlap, ``add`` them or keep the last row's value."""
    backend = backend_for(cols)
    shape = lengths("x_shape", x_shape, 4, minimum=0)
    samples, channels, *spatial = shape
    window = _dividing_window(spatial, size, padding, stride)
    columns = prod(window.output_shape(spatial)) * samples
    check_shape("cols", cols, (channels * window.count, columns))
    return backend.col2im(cols, shape, window, add=add)


def _dividing_window(
    spatial: Sequence[int], size: tuple[int, int], padding: int, stride: int
) -> Window:
    """Window of the patches; ValueError where the stride leaves a remainder."""
    (stride,) = per_axis("stride", stride, 1, minimum=1)
    (padding,) = per_axis("padding", padding, 1, minimum=0)
    window = Window.of(2, size, stride, padding)
    for name, length, field in zip(("height", "width"), spatial, window.size, strict=True):
        if (length + 2 * padding - field) % stride:
            raise ValueError(
                f"a {name} of {length} with padding {padding} less the field of {field} is "
                f"{length + 2 * padding - field}, which is not a multiple of stride {stride}"
            )
    window.output_shape(spatial)
    return window
