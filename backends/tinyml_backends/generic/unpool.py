"""Max-unpooling, the gradients of pooling and unpooling, and the ways to write an index.

Windows that do not overlap make every target cell unique, so one flat scatter through a 1-D index
does the work. Where windows overlap, cells of the window are written or added slice by slice in
descending order, which visits the windows of each input cell in row-major order; no slice holds a
target twice, so the result is the same in every array library.
"""

from math import prod
from types import ModuleType

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.conventions import IN_MEMORY, Duplicates
from tinyml_backends.generic.bits import keep, replace
from tinyml_backends.generic.chunks import CHUNK_BYTES, chunks_of
from tinyml_backends.generic.indices import Indices
from tinyml_backends.geometry import Cell, Window
from tinyml_backends.memory import empty, zeros


def max_unpool(
    xp: ModuleType,
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    duplicates: Duplicates,
    out: Array | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Array:
    """Each value at its winner's cell, zero elsewhere.

    Of several windows that chose one cell the last writes it, or their values are summed.
    """
    if duplicates == "sum":
        arrays = y, winners, window, input_shape, out
        return max_pool_gradient(xp, *arrays, chunk_bytes=chunk_bytes)
    if not window.overlaps:
        return _scatter(xp, y, winners, window, input_shape, None, out, chunk_bytes)
    out = zeros(xp, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype, out)
    for planes, rows in chunks_of(out, input_shape[0], chunk_bytes):
        outputs, local = window.outputs_touching(rows, input_shape)
        target, values = out[planes, rows], y[planes, outputs]
        chosen = winners[planes, outputs]
        for cell in reversed(_cells(local, target, outputs)):
            won = chosen[cell.outputs] == cell.number
            replace(xp, target[cell.inputs], won, values[cell.outputs])
    return out


def max_pool_gradient(
    xp: ModuleType,
    gradient: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    out: Array | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Array:
    """Sum of the gradients of the windows that each input cell won, one at a time from +0.0.

    float16 is summed in float32.
    """
    dtype = gradient.dtype
    if not window.overlaps:
        zero = dtype.type(0)
        return _scatter(xp, gradient, winners, window, input_shape, zero, out, chunk_bytes)
    half = dtype.kind == "f" and dtype.itemsize == 2
    out = zeros(xp, (len(gradient), *input_shape, *gradient.shape[window.axes + 1 :]), dtype, out)
    for planes, rows in chunks_of(out, input_shape[0], chunk_bytes):
        outputs, local = window.outputs_touching(rows, input_shape)
        target, chosen = out[planes, rows], winners[planes, outputs]
        terms = gradient[planes, outputs]
        if half:
            terms = terms.astype("f4")
        total = xp.zeros(target.shape, "f4") if half else target
        for cell in reversed(_cells(local, target, outputs)):
            won = chosen[cell.outputs] == cell.number
            total[cell.inputs] += keep(won, terms[cell.outputs])
        if half:
            target[...] = total
    return out


def max_unpool_gradient(
    xp: ModuleType,
    gradient: Array,
    winners: Array,
    window: Window,
    duplicates: Duplicates,
    out: Array | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Array:
    """Gradient at each winner's cell; with "last", zero for a value that was overwritten."""
    input_shape = gradient.shape[1 : window.axes + 1]
    if duplicates == "last" and window.overlaps:
        return _gather_last(xp, gradient, winners, window, input_shape, out, chunk_bytes)
    out = empty(xp, winners.shape, gradient.dtype) if out is None else out
    positions = Indices(xp, IN_MEMORY, window, gradient.shape)
    for planes, rows in chunks_of(out, out.shape[1], chunk_bytes):
        target, flat = out[planes, rows], gradient[planes].reshape(-1)
        target[...] = flat[positions(winners[planes, rows], rows)]
    return out


def _gather_last(
    xp: ModuleType,
    gradient: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    out: Array | None,
    chunk_bytes: int,
) -> Array:
    out = zeros(xp, winners.shape, gradient.dtype, out)
    for planes, outputs in chunks_of(out, out.shape[1], chunk_bytes):
        rows, local = window.inputs_for(outputs, input_shape)
        source = gradient[planes, rows]
        # the number under which each cell of these rows was written last, by any window
        all_outputs, touching = window.outputs_touching(rows, input_shape)
        owner = xp.zeros(source.shape, winners.dtype)
        chosen = winners[planes, all_outputs]
        for cell in reversed(_cells(touching, owner, all_outputs)):
            won = chosen[cell.outputs] == cell.number
            replace(xp, owner[cell.inputs], won, chosen[cell.outputs])
        chosen, target = winners[planes, outputs], out[planes, outputs]
        for cell in _cells(local, source, outputs):
            kept = chosen[cell.outputs] == cell.number
            kept &= owner[cell.inputs] == cell.number
            replace(xp, target[cell.outputs], kept, source[cell.inputs])
    return out


def _scatter(
    xp: ModuleType,
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    start: Array | None,
    out: Array | None,
    chunk_bytes: int,
) -> Array:
    """Each value, added to ``start``, at its winner's cell, for windows that do not overlap."""
    out = zeros(xp, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype, out)
    positions = Indices(xp, IN_MEMORY, window, out.shape)
    for planes, rows in chunks_of(y, y.shape[1], chunk_bytes):
        values = y[planes, rows].reshape(-1)
        values = values if start is None else values + start
        out[planes].reshape(-1)[positions(winners[planes, rows], rows).reshape(-1)] = values
    return out


def first_duplicate(
    xp: ModuleType,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[int, int, int] | None:
    """First cell that two windows chose: flat in the whole unpooled array, and the two windows.

    The windows are flat positions in the pooled array, the first two that chose the cell.
    """
    if not window.overlaps:
        return None
    shape = (len(winners), *input_shape, *winners.shape[window.axes + 1 :])
    for planes, rows in chunks_of(winners, input_shape[0], chunk_bytes):
        outputs, local = window.outputs_touching(rows, input_shape)
        chosen = winners[planes, outputs]
        count = xp.zeros((len(chosen), rows.stop - rows.start, *shape[2:]), np.uint32)
        for cell in _cells(local, count, outputs):
            count[cell.inputs] += chosen[cell.outputs] == cell.number
        twice = (count > 1).reshape(-1)
        if bool(twice.any()):
            plane, cell_position = divmod(int(twice.argmax()), prod(count.shape[1:]))
            plane += planes.start
            cell_position += rows.start * prod(shape[2:])
            positions = Indices(xp, IN_MEMORY, window, shape)
            in_plane = positions(winners[plane : plane + 1], slice(None)).reshape(-1)
            hits = xp.nonzero(in_plane == cell_position)[0]
            first, second = (plane * prod(winners.shape[1:]) + int(hit) for hit in hits[:2])
            return plane * prod(shape[1:]) + cell_position, first, second
    return None


def _cells(window: Window, inputs: Array, outputs: slice) -> tuple[Cell, ...]:
    """Cells of the windows of some output rows, or none if there are no such rows."""
    if outputs.start == outputs.stop:
        return ()
    return window.cells(inputs.shape[1 : window.axes + 1])


def unpool_plane_indices(
    xp: ModuleType,
    y: Array,
    indices: Array,
    input_shape: tuple[int, ...],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Array, int]:
    """Each value at any cell of its plane, where the last writer wins; first bad or -1."""
    out = xp.zeros((len(y), *input_shape), y.dtype)
    plane, pooled = prod(input_shape), prod(y.shape[1:])
    for planes, _ in chunks_of(indices, 1, chunk_bytes):
        index = indices[planes].reshape(-1)
        bad = (index < 0) | (index >= plane)
        if bool(bad.any()):
            return out, planes.start * pooled + int(bad.argmax())
        position = xp.arange(len(index), dtype=np.intp)
        cell = index + position // max(1, pooled) * plane
        owner = xp.full(len(out[planes]) * plane, -1, np.intp)
        xp.maximum.at(owner, cell, position)
        last = owner[cell] == position
        out[planes].reshape(-1)[cell[last]] = y[planes].reshape(-1)[last]
    return out, -1
