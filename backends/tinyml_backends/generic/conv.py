"""Patches to columns and back: im2col and its two inverses."""

from math import prod
from types import ModuleType

from tinyml_backends.arrays import Array
from tinyml_backends.geometry import Window


def im2col(xp: ModuleType, x: Array, window: Window) -> Array:
    """Columns of shape (C·cells, outputs·N), sample index fastest; cells in padding are 0."""
    samples, channels, *spatial = x.shape
    outputs = window.output_shape(spatial)
    cols = xp.zeros((channels, window.count, *outputs, samples), x.dtype)
    for cell in window.cells(spatial):
        patch = xp.moveaxis(x[:, *cell.inputs], 0, -1)
        cols[:, cell.number, *cell.outputs[1:]] = patch
    return cols.reshape(channels * window.count, prod(outputs) * samples)


def col2im(
    xp: ModuleType, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool
) -> Array:
    """Columns back to an array of ``x_shape``.

    Where columns overlap, ``add`` sums them in ascending order of the rows; without it the last
    row wins.
    """
    samples, channels, *spatial = x_shape
    cols = cols.reshape(channels, window.count, *window.output_shape(spatial), samples)
    out = xp.zeros(x_shape, cols.dtype)
    for cell in window.cells(spatial):
        patch = xp.moveaxis(cols[:, cell.number, *cell.outputs[1:]], -1, 0)
        if add:
            out[:, *cell.inputs] += patch
        else:
            out[:, *cell.inputs] = patch
    return out
