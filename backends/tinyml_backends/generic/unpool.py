"""Max-unpooling, and the gradients of max-pooling and max-unpooling.

Where windows do not overlap, no two of them choose the same cell, and all values are written with
one 1-D index array. Where windows overlap, values are written or added for one cell of the window
after the other, in descending order, as whole slices. That visits the windows of each input cell in
row-major order. No slice holds an input cell twice, so all array libraries give the same result.
"""

from collections.abc import Iterator
from math import prod

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.cells import Cell
from tinyml_backends.conventions import IN_MEMORY, Duplicates
from tinyml_backends.generic.average import wide_sum
from tinyml_backends.generic.bits import keep, replace
from tinyml_backends.generic.chunks import chunks_of
from tinyml_backends.generic.indices import Indices
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros


def max_unpool(
    backend: Arrays,
    y: Array,
    winners: Array,
    window: Window,
    input_shape: tuple[int, ...],
    duplicates: Duplicates,
    *,
    out: Array | None = None,
) -> Array:
    """Each value at its winner's cell of a plane of ``input_shape``, zero elsewhere.

    If several windows chose one cell, the value of the last window in row-major order is written
    ("last"), or their values are summed ("sum"). A sum starts at +0.0, and its terms are added one
    at a time in row-major order of the windows; float16 is summed in float32 and rounded once;
    integers wrap.
    """
    xp, add = backend.xp, duplicates == "sum"
    out = zeros(xp, (len(y), *input_shape, *y.shape[window.axes + 1 :]), y.dtype, out)
    if not window.overlaps:
        positions = Indices(xp, IN_MEMORY, window, out.shape)
        for planes, rows in chunks_of(y, y.shape[1], backend.chunk_bytes):
            values = y[planes, rows].reshape(-1)
            values = values + y.dtype.type(0) if add else values  # −0.0 becomes +0.0
            out[planes].reshape(-1)[positions(winners[planes, rows], rows).reshape(-1)] = values
        return out
    if window.has_few_outputs(input_shape):
        positions = Indices(xp, IN_MEMORY, window, out.shape)
        for planes, _ in chunks_of(y, 1, backend.chunk_bytes):
            where, values = positions(winners[planes], slice(None)), y[planes]
            target = out[planes].reshape(-1)
            total = target.astype(wide_sum(y.dtype), copy=False) if add else target
            for output in np.ndindex(*y.shape[1 : window.axes + 1]):
                place, value = where[:, *output], values[:, *output]
                total[place] = total[place] + value if add else value
            if total is not target:
                target[...] = total
        return out
    for planes, rows in chunks_of(out, input_shape[0], backend.chunk_bytes):
        outputs, cells = _cells(winners, planes, rows, window, input_shape)
        target, values = out[planes, rows], y[planes, outputs]
        if add:
            _add(target, values, cells)
        else:
            for cell, won in cells:
                replace(xp, target[cell.inputs], won, values[cell.outputs])
    return out


def _add(target: Array, values: Array, cells: Iterator[tuple[Cell, Array]]) -> None:
    """Add the values of each cell's windows to ``target``, which holds zeros."""
    dtype = wide_sum(values.dtype)
    total, values = target.astype(dtype, copy=False), values.astype(dtype, copy=False)
    for cell, won in cells:
        total[cell.inputs] += keep(won, values[cell.outputs])
    if total is not target:
        target[...] = total


def max_unpool_gradient(
    backend: Arrays,
    gradient: Array,
    winners: Array,
    window: Window,
    duplicates: Duplicates,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient at each winner's cell; with "last", 0 for a value that `max_unpool` overwrote."""
    xp = backend.xp
    if duplicates == "last" and window.overlaps:
        return _gather_last(backend, gradient, winners, window, out)
    out = empty(xp, winners.shape, gradient.dtype) if out is None else out
    positions = Indices(xp, IN_MEMORY, window, gradient.shape)
    for planes, rows in chunks_of(out, out.shape[1], backend.chunk_bytes):
        target, flat = out[planes, rows], gradient[planes].reshape(-1)
        target[...] = flat[positions(winners[planes, rows], rows)]
    return out


def _gather_last(
    backend: Arrays, gradient: Array, winners: Array, window: Window, out: Array | None
) -> Array:
    xp, input_shape = backend.xp, gradient.shape[1 : window.axes + 1]
    out = zeros(xp, winners.shape, gradient.dtype, out)
    if window.has_few_outputs(input_shape):
        positions = Indices(xp, IN_MEMORY, window, gradient.shape)
        for planes, _ in chunks_of(out, 1, backend.chunk_bytes):
            where, source = positions(winners[planes], slice(None)), gradient[planes].reshape(-1)
            writer = xp.zeros(source.shape, np.min_scalar_type(prod(winners.shape)))
            every = list(np.ndindex(*winners.shape[1 : window.axes + 1]))
            for number, output in enumerate(every):
                writer[where[:, *output]] = number
            for number, output in enumerate(every):
                place = where[:, *output]
                kept = writer[place] == number
                out[planes][:, *output] = xp.where(kept, source[place], source.dtype.type(0))
        return out
    for planes, outputs in chunks_of(out, out.shape[1], backend.chunk_bytes):
        rows, local = window.inputs_for(outputs, input_shape)
        source = gradient[planes, rows]
        # for each cell of these rows, its number in the window that wrote it last
        touching, cells = _cells(winners, planes, rows, window, input_shape)
        owner, chosen = xp.zeros(source.shape, winners.dtype), winners[planes, touching]
        for cell, won in cells:
            replace(xp, owner[cell.inputs], won, chosen[cell.outputs])
        chosen, target = winners[planes, outputs], out[planes, outputs]
        for cell in local.cells(source.shape[1 : window.axes + 1]):
            kept = chosen[cell.outputs] == cell.number
            kept &= owner[cell.inputs] == cell.number
            replace(xp, target[cell.outputs], kept, source[cell.inputs])
    return out


def first_duplicate(
    backend: Arrays, winners: Array, window: Window, input_shape: tuple[int, ...]
) -> tuple[int, int, int] | None:
    """First cell that several windows chose, and the first two of these windows; or None.

    The cell is a flat position in the unpooled array, the windows are such in the pooled one.
    """
    xp = backend.xp
    if not window.overlaps:
        return None
    shape = (len(winners), *input_shape, *winners.shape[window.axes + 1 :])
    for planes, rows in chunks_of(winners, input_shape[0], backend.chunk_bytes):
        _, cells = _cells(winners, planes, rows, window, input_shape)
        count = xp.zeros((len(winners[planes]), rows.stop - rows.start, *shape[2:]), np.uint32)
        for cell, won in cells:
            count[cell.inputs] += won
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


def _cells(
    winners: Array, planes: slice, rows: slice, window: Window, input_shape: tuple[int, ...]
) -> tuple[slice, Iterator[tuple[Cell, Array]]]:
    """Output rows whose windows hold cells of some input rows, and these cells, descending.

    With each cell comes an array that says for which of its outputs it is the winner.
    """
    outputs, local = window.outputs_touching(rows, input_shape)
    if outputs.start == outputs.stop:
        return outputs, iter(())
    chosen = winners[planes, outputs]
    cells = reversed(local.cells((rows.stop - rows.start, *input_shape[1:])))
    return outputs, ((cell, chosen[cell.outputs] == cell.number) for cell in cells)


def unpool_plane_indices(
    backend: Arrays, y: Array, indices: Array, input_shape: tuple[int, ...]
) -> tuple[Array, int]:
    """Each value at the cell of its plane that its flat index names, zero elsewhere.

    If several values have the same cell, the last one in row-major order stays. The second result
    is the flat position of the first invalid index, or -1.
    """
    xp = backend.xp
    out = xp.zeros((len(y), *input_shape), y.dtype)
    plane, pooled = prod(input_shape), prod(y.shape[1:])
    for planes, _ in chunks_of(indices, 1, backend.chunk_bytes):
        index = indices[planes].reshape(-1)
        bad = (index < 0) | (index >= plane)
        if bool(bad.any()):
            return out, planes.start * pooled + int(bad.argmax())
        position = xp.arange(len(index), dtype=np.intp)
        cell = index.astype(np.intp, copy=False) + position // max(1, pooled) * plane
        owner = xp.full(len(out[planes]) * plane, -1, np.intp)
        xp.maximum.at(owner, cell, position)
        last = owner[cell] == position
        out[planes].reshape(-1)[cell[last]] = y[planes].reshape(-1)[last]
    return out, -1
