"""Convolution by matrix products of patches, a cache-sized piece of the image at a time.

The patches of a piece are copied into columns (im2col), multiplied and forgotten, so that a large
image never has its whole column matrix in memory: that matrix is size² times the image.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from math import prod
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from tinyml_backends.arrays import Array
from tinyml_backends.generic.blocks import blocks, slice_of
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros

#: Bytes of the columns of one piece. They are written once and read by the matrix product at once.
PIECE_BYTES = 1 << 21


#: Patches of some images, and their adjoint: `patches` and `add_patches`, or a backend's own.
Patches: TypeAlias = Callable[[Array, Window], Array]
AddPatches: TypeAlias = Callable[[Array, Array, Window], None]


#: How chunks are worked on: ``each(work, chunks, collect)`` calls ``work`` with every chunk, and
#: ``collect`` with the results, in the order of the chunks.
Each: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any], Callable[[Any], object]], object]


def in_turn(
    work: Callable[[Any], Any], chunks: Iterable[Any], collect: Callable[[Any], object]
) -> None:
    """Work on one chunk after the other, as `Each`."""
    for chunk in chunks:
        collect(work(chunk))


def conv(
    xp: ModuleType,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    *,
    each: Each = in_turn,
    copy: Patches | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> Array:
    """Cross-correlation of ``x`` (N, C, …) with ``weight`` (F, C / groups, …)."""
    copy = copy or partial(patches, xp)
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    outputs = window.output_shape(x.shape[2:])
    out = empty(xp, (len(x), len(weight), *outputs), xp.result_type(x, weight))

    def run(piece: _Piece) -> None:
        target = out[piece.samples, :, piece.outputs]
        cols = _columns(copy, x, piece, groups)
        is_whole = target.shape[2] == outputs[0]  # whole samples: the product goes to its place
        place = target.reshape(len(target), groups, matrix.shape[1], -1) if is_whole else None
        product = xp.matmul(matrix, cols, out=place)
        if bias is not None:
            product += bias.reshape(groups, -1, 1)
        if not is_whole:
            target[...] = product.reshape(target.shape)

    each(run, _pieces(x, window, piece_bytes), lambda _: None)
    return out


def conv_gradient(
    xp: ModuleType,
    gradient: Array,
    x: Array,
    weight: Array,
    window: Window,
    groups: int,
    *,
    each: Each = in_turn,
    copy: Patches | None = None,
    add: AddPatches | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[Array, Array]:
    """Gradients of `conv` with respect to ``x`` and ``weight``."""
    copy, add = copy or partial(patches, xp), add or add_patches
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    transposed = xp.ascontiguousarray(matrix.swapaxes(1, 2))
    x_gradient = zeros(xp, x.shape, xp.result_type(gradient, weight))

    def run(pieces: list[_Piece]) -> Array:
        total = xp.zeros(matrix.shape, xp.result_type(gradient, x))
        for piece in pieces:
            part = gradient[piece.samples, :, piece.outputs]
            part = part.reshape(len(part), groups, matrix.shape[1], -1)
            cols = _columns(copy, x, piece, groups)
            total += xp.matmul(part, cols.swapaxes(2, 3)).sum(0)
            del cols  # so that the product below reuses its memory
            target = x_gradient[piece.samples, :, piece.rows]
            shape = (*target.shape[:2], window.count, *piece.window.output_shape(target.shape[2:]))
            add(xp.matmul(transposed, part).reshape(shape), target, piece.window)
        return total

    weight_gradient = xp.zeros(matrix.shape, xp.result_type(gradient, x))

    def collect(total: Array) -> None:
        nonlocal weight_gradient
        weight_gradient += total

    # Neighbouring pieces of a sample share rows of the input, so one thread does all of a sample;
    # the sums over samples are added in the order of the samples, whichever is finished first.
    of_samples = groupby(_pieces(x, window, piece_bytes), key=lambda piece: piece.samples.start)
    each(run, [list(pieces) for _, pieces in of_samples], collect)
    return x_gradient, weight_gradient.reshape(weight.shape)


class _Piece(NamedTuple):
    """Some samples and neighbouring rows of outputs, with the input rows they need."""

    samples: slice
    outputs: slice
    rows: slice
    window: Window
    """What runs on ``rows``."""


def _pieces(x: Array, window: Window, piece_bytes: int) -> Iterator[_Piece]:
    """Cut the outputs so that the columns of each piece take about ``piece_bytes``."""
    samples, channels = x.shape[:2]
    height, *others = window.output_shape(x.shape[2:])
    row_bytes = channels * window.count * prod(others) * x.dtype.itemsize
    for some, outputs in blocks(samples, height, row_bytes, piece_bytes):
        rows, part = window.part(outputs, x.shape[2:])
        yield _Piece(some, slice_of(outputs), rows, part)


def _columns(copy: Patches, x: Array, piece: _Piece, groups: int) -> Array:
    """Columns of a piece, (n, groups, C / groups · cells, outputs)."""
    cols = copy(x[piece.samples, :, piece.rows], piece.window)
    samples, channels, cells, *outputs = cols.shape
    return cols.reshape(samples, groups, channels // groups * cells, prod(outputs))


def patches(xp: ModuleType, x: Array, window: Window) -> Array:
    """Every window of ``x`` (N, C, …), as (N, C, cells, *outputs); cells in padding are 0."""
    samples, channels, *spatial = x.shape
    outputs = window.output_shape(spatial)
    padded = any(p > 0 for pair in window.padding for p in pair)
    cols = (xp.zeros if padded else xp.empty)((samples, channels, window.count, *outputs), x.dtype)
    for cell in window.cells(spatial):
        cols[:, :, cell.number, *cell.outputs[1:]] = x[:, *cell.inputs]
    return cols


def add_patches(cols: Array, out: Array, window: Window) -> None:
    """Adjoint of `patches`: add every cell to where it came from, in ascending order of cells."""
    for cell in window.cells(out.shape[2:]):
        out[:, *cell.inputs] += cols[:, :, cell.number, *cell.outputs[1:]]


def im2col(xp: ModuleType, x: Array, window: Window) -> Array:
    """Columns of shape (C·cells, outputs·N), sample index fastest; cells in padding are 0."""
    cols = patches(xp, x, window)
    samples, channels, cells, *outputs = cols.shape
    return xp.moveaxis(cols, 0, -1).reshape(channels * cells, prod(outputs) * samples)


def col2im(
    xp: ModuleType, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool
) -> Array:
    """Columns back to an array of ``x_shape``.

    Where columns overlap, ``add`` sums them in ascending order of the rows; without it the last
    row wins.
    """
    samples, channels, *spatial = x_shape
    cols = cols.reshape(channels, window.count, *window.output_shape(spatial), samples)
    cols = xp.moveaxis(cols, -1, 0)
    out = xp.zeros(x_shape, cols.dtype)
    if add:
        add_patches(cols, out, window)
    else:
        for cell in window.cells(spatial):
            out[:, *cell.inputs] = cols[:, :, cell.number, *cell.outputs[1:]]
    return out
