"""Max-pooling: values and winners."""

from types import ModuleType

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.cells import pitches
from tinyml_backends.generic.bits import replace
from tinyml_backends.generic.chunks import chunks_of
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty


def max_pool(
    backend: Arrays, x: Array, window: Window, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Values and winners of each window of ``x``.

    Winners are row-major cell numbers in ``window.winner_dtype``. The first of equal maxima wins.
    A NaN wins over every number, and the last NaN over the others. Padding never wins. A value has
    the bits of the winning cell.
    """
    xp = backend.xp
    spatial = x.shape[1 : window.axes + 1]
    values, winners = out or new_results(xp, x, window)
    for planes, outputs in chunks_of(x, values.shape[1], backend.chunk_bytes):
        rows, local = window.inputs_for(outputs, spatial)
        _pool(xp, x[planes, rows], local, values[planes, outputs], winners[planes, outputs])
    return values, winners


def new_results(xp: ModuleType, x: Array, window: Window) -> tuple[Array, Array]:
    """Uninitialised arrays for the values and the winners of ``x``."""
    axes = window.axes
    shape = (len(x), *window.output_shape(x.shape[1 : axes + 1]), *x.shape[axes + 1 :])
    return empty(xp, shape, x.dtype), empty(xp, shape, window.winner_dtype)


def _pool(xp: ModuleType, x: Array, window: Window, values: Array, winners: Array) -> None:
    """Pool along one axis after the other, the last one first.

    The first maximum in row-major order is the first one within the first row that holds it. So it
    is found by choosing first within each row and then among the rows; likewise the last NaN.
    """
    maxima, numbers = x, None
    for axis in reversed(range(window.axes)):
        shape = list(maxima.shape)
        shape[axis + 1] = values.shape[axis + 1]
        to = (values, winners)
        if axis > 0:
            to = xp.empty(shape, values.dtype), xp.empty(shape, winners.dtype)
        _pool_along(xp, maxima, numbers, window, axis, *to)
        maxima, numbers = to


def _pool_along(
    xp: ModuleType,
    x: Array,
    numbers: Array | None,
    window: Window,
    axis: int,
    values: Array,
    winners: Array,
) -> None:
    """Compare the cells of each window along one axis in ascending order: the first wins a tie.

    ``numbers`` are the winners of ``x`` along the axes after this one; None along the last axis.
    """
    pitch = pitches(window.size)[axis]
    number_of = winners.dtype.type
    spatial = x.shape[1 : window.axes + 1]
    for cell in window.cells_along(axis, spatial, only_first=True):
        values[cell.outputs] = x[cell.inputs]
        winners[cell.outputs] = cell.number * pitch
        if numbers is not None:
            winners[cell.outputs] += numbers[cell.inputs]
    for cell in window.cells_along(axis, spatial):
        if cell.number == 0:  # the loop above has written it wherever it is inside the input
            continue
        candidate = x[cell.inputs].copy()
        maximum = values[cell.outputs]
        take = candidate > maximum
        if x.dtype.kind == "f":
            take |= candidate != candidate  # NaN wins, the last one over the others
        replace(xp, maximum, take, candidate)
        winner = winners[cell.outputs]
        number = number_of(cell.number * pitch)
        if numbers is None:  # cells come in ascending order, so the largest number is the winner's
            xp.maximum(winner, take * number, out=winner)
        else:
            replace(xp, winner, take, numbers[cell.inputs] + number)
