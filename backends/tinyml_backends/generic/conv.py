"""Convolution by matrix products of patches, a cache-sized chunk of the image at a time.

The patches of a chunk are copied into columns (im2col), multiplied and released, so that a large
image never has its whole column matrix in memory: that matrix is size² times the image.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from math import prod
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from tinyml_backends.arrays import Array
from tinyml_backends.generic.chunks import chunks
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros

#: Bytes of the columns of one chunk: the matrix product reads them while they are in the cache.
CHUNK_BYTES = 1 << 21

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
    chunk_bytes: int = CHUNK_BYTES,
) -> Array:
    """Cross-correlation of ``x`` (N, C, …) with ``weight`` (F, C / groups, …)."""
    copy = copy or partial(patches, xp)
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    outputs = window.output_shape(x.shape[2:])
    out = empty(xp, (len(x), len(weight), *outputs), xp.result_type(x, weight))

    def run(chunk: _Chunk) -> None:
        target = out[chunk.samples, :, chunk.outputs]
        cols = _columns(copy, x, chunk, groups)
        is_whole = target.shape[2] == outputs[0]  # whole samples: the product is written there
        place = target.reshape(len(target), groups, matrix.shape[1], -1) if is_whole else None
        product = xp.matmul(matrix, cols, out=place)
        if bias is not None:
            product += bias.reshape(groups, -1, 1)
        if not is_whole:
            target[...] = product.reshape(target.shape)

    each(run, _chunks(x, window, chunk_bytes), lambda _: None)
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
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Array, Array]:
    """Gradients of `conv` with respect to ``x`` and ``weight``."""
    copy, add = copy or partial(patches, xp), add or add_patches
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    transposed = xp.ascontiguousarray(matrix.swapaxes(1, 2))
    x_gradient = zeros(xp, x.shape, xp.result_type(gradient, weight))

    def run(of_sample: list[_Chunk]) -> Array:
        total = xp.zeros(matrix.shape, xp.result_type(gradient, x))
        for chunk in of_sample:
            terms = gradient[chunk.samples, :, chunk.outputs]
            terms = terms.reshape(len(terms), groups, matrix.shape[1], -1)
            cols = _columns(copy, x, chunk, groups)
            total += xp.matmul(terms, cols.swapaxes(2, 3)).sum(0)
            del cols  # so that the product below reuses its memory
            target = x_gradient[chunk.samples, :, chunk.rows]
            shape = (*target.shape[:2], window.count, *chunk.window.output_shape(target.shape[2:]))
            add(xp.matmul(transposed, terms).reshape(shape), target, chunk.window)
        return total

    # Neighbouring chunks of a sample share rows of the input, so one thread does all of a sample;
    # the sums over samples are added in the order of the samples, whichever is finished first.
    weight_gradient = xp.zeros(matrix.shape, xp.result_type(gradient, x))
    of_samples = groupby(_chunks(x, window, chunk_bytes), key=lambda chunk: chunk.samples.start)
    each(
        run,
        [list(of_sample) for _, of_sample in of_samples],
        lambda total: xp.add(weight_gradient, total, out=weight_gradient),
    )
    return x_gradient, weight_gradient.reshape(weight.shape)


class _Chunk(NamedTuple):
    """Some samples and neighbouring rows of outputs, with the input rows they need."""

    samples: slice
    outputs: slice
    rows: slice
    window: Window
    """The window to run on ``rows`` alone."""


def _chunks(x: Array, window: Window, chunk_bytes: int) -> Iterator[_Chunk]:
    """Divide the outputs so that the columns of each chunk take about ``chunk_bytes``."""
    samples, channels = x.shape[:2]
    height, *others = window.output_shape(x.shape[2:])
    row_bytes = channels * window.count * prod(others) * x.dtype.itemsize
    for some, outputs in chunks(samples, height, row_bytes, chunk_bytes):
        yield _Chunk(some, outputs, *window.inputs_for(outputs, x.shape[2:]))


def _columns(copy: Patches, x: Array, chunk: _Chunk, groups: int) -> Array:
    """Columns of a chunk, (n, groups, C / groups · cells, outputs)."""
    cols = copy(x[chunk.samples, :, chunk.rows], chunk.window)
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
