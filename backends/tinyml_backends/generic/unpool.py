"""Max-unpooling, its gradient, and the two ways to write an index.

Windows that do not overlap make every target cell unique, so one flat scatter through a 1-D index
does the work. Where windows overlap, cells of the window are written slice by slice in descending
order; no slice holds a target twice, so the result is the same in every array library.
"""

from math import prod
from types import ModuleType

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.generic.bits import chunks, replace
from tinyml_backends.geometry import Window, pitches


def max_unpool(
    xp: ModuleType, y: Array, winners: Array, window: Window, input_shape: tuple[int, ...]
) -> Array:
    """Each value at its winner's cell, zero elsewhere; the last window to write a cell keeps it."""
    if not window.overlaps:
        return scatter(xp, y, winners, window, input_shape)
    out = xp.zeros((len(y), *input_shape), y.dtype)
    for part in chunks(out):
        target = out[part]
        for cell in reversed(window.cells(input_shape)):
            won = winners[part][cell.outputs] == cell.number
            replace(xp, target[cell.inputs], won, y[part][cell.outputs])
    return out


def max_unpool_gradient(xp: ModuleType, gradient: Array, winners: Array, window: Window) -> Array:
    """Gradient at each winner's cell; zero for a value that a later window overwrote."""
    input_shape = gradient.shape[1:]
    out = xp.empty(winners.shape, gradient.dtype)
    if window.overlaps:
        for part in chunks(gradient):
            _gather_kept(xp, gradient[part], winners[part], window, out[part])
    else:
        positions = FlatPositions(xp, window, input_shape)
        for part in chunks(gradient):
            flat = gradient[part].reshape(-1)
            out[part] = flat[positions(winners[part])].reshape(out[part].shape)
    return out


def _gather_kept(
    xp: ModuleType, gradient: Array, winners: Array, window: Window, out: Array
) -> None:
    owner = xp.zeros(gradient.shape, winners.dtype)
    cells = window.cells(gradient.shape[1:])
    for cell in reversed(cells):
        won = winners[cell.outputs] == cell.number
        replace(xp, owner[cell.inputs], won, winners[cell.outputs])
    out.fill(0)
    for cell in cells:
        kept = winners[cell.outputs] == cell.number
        kept &= owner[cell.inputs] == cell.number
        replace(xp, out[cell.outputs], kept, gradient[cell.inputs])


def scatter(
    xp: ModuleType, y: Array, winners: Array, window: Window, input_shape: tuple[int, ...]
) -> Array:
    """Each value at its winner's cell, zero elsewhere, for windows that do not overlap."""
    out = xp.zeros((len(y), *input_shape), y.dtype)
    positions = FlatPositions(xp, window, input_shape)
    for part in chunks(out):
        out[part].reshape(-1)[positions(winners[part])] = y[part].reshape(-1)
    return out


class FlatPositions:
    """Where winners stand in the flat memory of a stack of planes."""

    def __init__(self, xp: ModuleType, window: Window, input_shape: tuple[int, ...]) -> None:
        self.xp = xp
        self.plane = prod(input_shape)
        self.offsets = xp.asarray(window.offsets(input_shape), dtype=np.intp)
        start = xp.zeros((), np.intp)
        for starts, pitch in zip(window.starts(input_shape), pitches(input_shape), strict=True):
            along = xp.arange(starts.start, starts.stop, starts.step, dtype=np.intp) * pitch
            start = start[..., None] + along
        self.start = start

    def in_plane(self, winners: Array) -> Array:
        """Flat position inside the winner's own plane, shaped like ``winners``."""
        position = self.offsets[winners]
        position += self.start
        return position

    def __call__(self, winners: Array) -> Array:
        """Flat position in the whole stack, one-dimensional."""
        position = self.in_plane(winners)
        planes = self.xp.arange(len(winners), dtype=np.intp) * self.plane
        position += planes.reshape(-1, *[1] * (winners.ndim - 1))
        return position.reshape(-1)
