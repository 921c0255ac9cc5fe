"""Max-pooling: values, winners and their gradient."""

from types import ModuleType

from tinyml_backends.arrays import Array
from tinyml_backends.generic.bits import chunks, keep, replace
from tinyml_backends.generic.unpool import scatter
from tinyml_backends.geometry import Window


def max_pool(xp: ModuleType, x: Array, window: Window) -> tuple[Array, Array]:
    """Maximum of each window, and the number of the cell that holds it."""
    shape = (len(x), *window.output_shape(x.shape[1:]))
    values = xp.empty(shape, x.dtype)
    winners = xp.empty(shape, window.winner_dtype)
    for part in chunks(x):
        _contest(xp, x[part], window, values[part], winners[part])
    return values, winners


def _contest(xp: ModuleType, x: Array, window: Window, values: Array, winners: Array) -> None:
    """Let a window's cells compete in ascending order, so that the first maximum wins a tie."""
    may_be_nan = x.dtype.kind == "f"
    for cell in window.first_cells(x.shape[1:]):
        values[cell.outputs] = x[cell.inputs]
        winners[cell.outputs] = cell.number
    for cell in window.cells(x.shape[1:]):
        if cell.number == 0:  # where it lies inside the input, it was the first
            continue
        candidate = x[cell.inputs].copy()
        leader = values[cell.outputs]
        take = candidate > leader
        if may_be_nan:
            take |= candidate != candidate
        replace(xp, leader, take, candidate)
        winner = winners[cell.outputs]
        # Numbers ascend, so the newest taker has the largest.
        xp.maximum(winner, take * winners.dtype.type(cell.number), out=winner)


def max_pool_gradient(
    xp: ModuleType, gradient: Array, winners: Array, window: Window, input_shape: tuple[int, ...]
) -> Array:
    """Sum, for each input cell, of the gradients of the windows it won.

    The terms of a cell are added one at a time to +0.0, in row-major order of the windows: a
    later window holds the cell under a smaller number, hence the descending loop.
    """
    if not window.overlaps:
        return scatter(xp, gradient + gradient.dtype.type(0), winners, window, input_shape)
    half = gradient.dtype.kind == "f" and gradient.dtype.itemsize == 2
    out = xp.zeros((len(gradient), *input_shape), gradient.dtype)
    for part in chunks(out):
        terms = gradient[part].astype("f4") if half else gradient[part]
        total = xp.zeros(out[part].shape, "f4") if half else out[part]
        for cell in reversed(window.cells(input_shape)):
            won = winners[part][cell.outputs] == cell.number
            total[cell.inputs] += keep(won, terms[cell.outputs])
        if half:
            out[part] = total
    return out
