"""Conversion of max-pooling indices of every convention to winners, and back.

Indices from users are checked in the same pass that converts them to winners.
"""

from math import prod
from types import ModuleType

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.conventions import Convention
from tinyml_backends.generic.chunks import chunks
from tinyml_backends.geometry import Window

#: Cells of the largest window whose flat distances are kept in a table.
LARGEST_TABLE = 1 << 12


def winners_from_indices(
    backend: Arrays,
    indices: Array,
    convention: Convention,
    window: Window,
    input_shape: tuple[int, ...],
) -> tuple[Array, int]:
    """Winners from indices of any integer dtype, and the flat position of the first invalid one.

    The position is -1 if every index names an input cell of its own window.
    """
    xp = backend.xp
    winners = xp.empty(indices.shape, window.winner_dtype)
    rows_in_all = indices.shape[1]
    per_row = prod(indices.shape[2:])
    # an index counts as 16 bytes, because several 64-bit arrays of a chunk exist at a time
    for planes, rows in chunks(len(indices), rows_in_all, 16 * per_row, backend.chunk_bytes):
        given = indices[planes, rows]
        limit = convention.limit((len(indices), *input_shape, *_channels(indices, window)), window)
        bad = (given < 0) | (given >= limit)
        if convention.name == "window" and window.stays_inside(input_shape):
            found = given
        else:
            index = xp.where(bad, 0, given).astype(np.int64)
            starts = _starts(xp, window, input_shape, rows, given.ndim)
            if convention.name == "window":
                found = index
                _check_inside(index, bad, starts, window, input_shape)
            else:
                first = range(planes.start, planes.start + len(given))
                found = _from_flat(xp, index, bad, starts, convention, window, input_shape, first)
        if bool(bad.any()):
            plane, rest = divmod(int(bad.reshape(-1).argmax()), prod(bad.shape[1:]))
            return winners, ((planes.start + plane) * rows_in_all + rows.start) * per_row + rest
        winners[planes, rows] = found.astype(winners.dtype)
    return winners, -1


def indices_from_winners(
    backend: Arrays,
    winners: Array,
    convention: Convention,
    window: Window,
    input_shape: tuple[int, ...],
) -> Array:
    """Int64 indices of ``convention``, shaped like ``winners``."""
    if convention.name == "window":
        return winners.astype(np.int64)
    shape = (len(winners), *input_shape, *_channels(winners, window))
    return Indices(backend.xp, convention, window, shape)(winners, slice(None))


class Indices:
    """Computes indices of one convention from winners, whose planes have ``shape``, by chunks."""

    def __init__(
        self, xp: ModuleType, convention: Convention, window: Window, shape: tuple[int, ...]
    ) -> None:
        self.xp, self.convention, self.window, self.shape = xp, convention, window, shape
        self.spatial = shape[1 : window.axes + 1]
        pitch = convention.pitch(shape, window.axes)
        self.distances = [p * pitch for p in convention.plane_pitches(self.spatial)]
        self.steps = [s * d for s, d in zip(window.dilation, self.distances, strict=True)]
        cells = xp.arange(window.count if window.count <= LARGEST_TABLE else 0, dtype=np.int64)
        self.of_cell = self._distance(cells)

    def _distance(self, cells: Array) -> Array:
        """Flat distance of cells of the window from its first cell."""
        digits = _digits(cells, self.window.size)
        total = digits[0] * self.steps[0]
        for digit, step in zip(digits[1:], self.steps[1:], strict=True):
            total += digit * step
        return total

    def __call__(self, winners: Array, rows: slice) -> Array:
        """Indices of the ``winners`` of some rows, counted from the first of their planes."""
        axes, planes = self.window.axes, range(len(winners))
        if len(self.of_cell):
            index = self.of_cell[winners]
        else:
            index = self._distance(winners.astype(np.int64))
        starts = _starts(self.xp, self.window, self.spatial, rows, winners.ndim)
        # sum the small arrays first, so that fewer passes go over arrays as large as the winners
        shared = sum(start * d for start, d in zip(starts, self.distances, strict=True))
        offsets = self.convention.offsets(self.xp, self.shape, axes, planes)
        if len(offsets) == 1:
            shared = shared + offsets
        else:
            index += offsets
        index += shared
        return index


def renumber(backend: Arrays, winners: Array, window: Window, to: Window) -> Array:
    """The same cells of the windows, numbered as in another window of other sizes."""
    if window == to:
        return winners
    number = backend.xp.zeros(winners.shape, np.int64)
    for digit, size in zip(_digits(winners.astype(np.int64), window.size), to.size, strict=True):
        number = number * size + digit
    return number.astype(to.winner_dtype)


def _check_inside(
    index: Array, bad: Array, starts: list[Array], window: Window, input_shape: tuple[int, ...]
) -> None:
    """Mark in ``bad`` the winners that lie in padding."""
    digits = _digits(index, window.size)
    for start, cell, step, length in zip(starts, digits, window.dilation, input_shape, strict=True):
        position = cell * step + start
        bad |= (position < 0) | (position >= length)


def _from_flat(
    xp: ModuleType,
    index: Array,
    bad: Array,
    starts: list[Array],
    convention: Convention,
    window: Window,
    input_shape: tuple[int, ...],
    planes: range,
) -> Array:
    """Winners from flat indices; marks in ``bad`` those outside their plane, channel or window."""
    if convention.name != "plane":
        shape = (planes.stop, *input_shape, *_channels(index, window))
        pitch = convention.pitch(shape, window.axes)
        index = index - convention.offsets(xp, shape, window.axes, planes)
        bad |= (index < 0) | (index >= prod(input_shape) * pitch)
        if pitch > 1:
            quotient = index // pitch
            bad |= quotient * pitch != index
            index = quotient
        index = xp.where(bad, 0, index)
    shape = input_shape if convention.order == "C" else input_shape[::-1]
    digits = _digits(index, shape)
    digits = digits if convention.order == "C" else digits[::-1]
    winners = xp.zeros(index.shape, np.int64)
    for start, position, step, size in zip(
        starts, digits, window.dilation, window.size, strict=True
    ):
        distance = position - start
        cell = distance // step if step > 1 else distance
        bad |= (distance < 0) | (cell >= size)
        if step > 1:
            bad |= cell * step != distance
        winners = winners * size + cell
    return winners


def _channels(array: Array, window: Window) -> tuple[int, ...]:
    """Shape of what follows the spatial axes: (channels,) if channels are last, else ()."""
    return tuple(array.shape[window.axes + 1 :])


def _starts(
    xp: ModuleType, window: Window, input_shape: tuple[int, ...], rows: slice, ndim: int
) -> list[Array]:
    """Start of each window along each axis, for some output rows, shaped to broadcast."""
    first, *others = window.starts(input_shape)
    ranges = (first[rows], *others)
    return [
        _arange(xp, along).reshape(-1, *[1] * (ndim - 2 - axis))
        for axis, along in enumerate(ranges)
    ]


def _arange(xp: ModuleType, numbers: range) -> Array:
    return xp.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64)


def _digits(index: Array, shape: tuple[int, ...]) -> list[Array]:
    """Coordinates of flat row-major indices."""
    digits = []
    for length in reversed(shape[1:]):
        quotient = index // length
        digits.append(index - quotient * length)
        index = quotient
    digits.append(index)
    return digits[::-1]
