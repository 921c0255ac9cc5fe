"""Convolution as matrix products, on chunks of the images that fit in the cache.

The patches of a chunk are copied into columns (im2col) and multiplied; then the columns are
released. So the column matrix of a large image is never in memory as a whole: with stride 1 it is
as many times as large as the image as the window has cells.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from math import prod
from typing import ClassVar, NamedTuple, TypeVar

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic.chunks import chunks
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros

T = TypeVar("T")
R = TypeVar("R")


class Steps(Arrays):
    """The steps of a convolution that a backend may make faster.

    Attributes
    ----------
    column_bytes : int
        About how many bytes the columns of a chunk have, so that they are still in the cache when
        the matrix product reads them.
    """

    column_bytes: ClassVar[int] = 1 << 21

    def patches(self, x: Array, window: Window) -> Array:
        """Every window of ``x`` (N, C, …), as (N, C, cells, *outputs); cells in padding are 0."""
        samples, channels, *spatial = x.shape
        shape = (samples, channels, window.count, *window.output_shape(spatial))
        is_padded = any(p > 0 for pair in window.padding for p in pair)
        cols = (self.xp.zeros if is_padded else self.xp.empty)(shape, x.dtype)
        for cell in window.cells(spatial):
            cols[:, :, cell.number, *cell.outputs[1:]] = x[:, *cell.inputs]
        return cols

    def add_patches(self, cols: Array, out: Array, window: Window) -> None:
        """Adjoint of `patches`: add every column to the cells it was copied from, in ``out``.

        Of the columns of one input cell, those with lower cell numbers are added first.
        """
        for cell in window.cells(out.shape[2:]):
            out[:, *cell.inputs] += cols[:, :, cell.number, *cell.outputs[1:]]

    def run_in_order(
        self, work: Callable[[T], R], chunks: Iterable[T], collect: Callable[[R], object]
    ) -> None:
        """Call ``work`` with every chunk, and ``collect`` with each result, in order of the chunks.

        Backends may call ``work`` in several threads; ``collect`` is never called by two at once.
        """
        for chunk in chunks:
            collect(work(chunk))


def conv(
    backend: Steps, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    """Cross-correlation of ``x`` (N, C, …) and ``weight`` (F, C / groups, …), plus ``bias``."""
    xp = backend.xp
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    outputs = window.output_shape(x.shape[2:])
    out = empty(xp, (len(x), len(weight), *outputs), xp.result_type(x, weight))

    def run(chunk: _Chunk) -> None:
        target = out[chunk.samples, :, chunk.outputs]
        cols = _columns(backend, x, chunk, groups)
        is_whole = target.shape[2] == outputs[0]  # of contiguous memory, which matmul can write
        place = target.reshape(len(target), groups, matrix.shape[1], -1) if is_whole else None
        product = xp.matmul(matrix, cols, out=place)
        if bias is not None:
            product += bias.reshape(groups, -1, 1)
        if not is_whole:
            target[...] = product.reshape(target.shape)

    backend.run_in_order(run, _chunks(backend, x, window), lambda _: None)
    return out


def conv_gradient(
    backend: Steps, gradient: Array, x: Array, weight: Array, window: Window, groups: int
) -> tuple[Array, Array]:
    """Gradients of `conv` with respect to ``x`` and ``weight``."""
    xp = backend.xp
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    transposed = xp.ascontiguousarray(matrix.swapaxes(1, 2))
    x_gradient = zeros(xp, x.shape, xp.result_type(gradient, weight))

    def run(of_sample: list[_Chunk]) -> Array:
        total = xp.zeros(matrix.shape, xp.result_type(gradient, x))
        for chunk in of_sample:
            terms = gradient[chunk.samples, :, chunk.outputs]
            terms = terms.reshape(len(terms), groups, matrix.shape[1], -1)
            cols = _columns(backend, x, chunk, groups)
            total += xp.matmul(terms, cols.swapaxes(2, 3)).sum(0)
            del cols  # so that the product below can reuse their memory
            target = x_gradient[chunk.samples, :, chunk.rows]
            shape = (*target.shape[:2], window.count, *chunk.window.output_shape(target.shape[2:]))
            cols = xp.matmul(transposed, terms).reshape(shape)
            backend.add_patches(cols, target, chunk.window)
        return total

    # Neighbouring chunks of a sample add to the same rows of the gradient, so one thread works on a
    # whole sample. The samples' sums are added in the order of the samples, so that the result does
    # not depend on which thread finishes first.
    weight_gradient = xp.zeros(matrix.shape, xp.result_type(gradient, x))
    of_samples = groupby(_chunks(backend, x, window), key=lambda chunk: chunk.samples.start)
    backend.run_in_order(
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


def _chunks(backend: Steps, x: Array, window: Window) -> Iterator[_Chunk]:
    """Divide the outputs so that the columns of each chunk take about ``column_bytes``."""
    samples, channels = x.shape[:2]
    height, *others = window.output_shape(x.shape[2:])
    row_bytes = channels * window.count * prod(others) * x.dtype.itemsize
    for some, outputs in chunks(samples, height, row_bytes, backend.column_bytes):
        yield _Chunk(some, outputs, *window.inputs_for(outputs, x.shape[2:]))


def _columns(backend: Steps, x: Array, chunk: _Chunk, groups: int) -> Array:
    """Columns of a chunk, (n, groups, C / groups · cells, outputs)."""
    cols = backend.patches(x[chunk.samples, :, chunk.rows], chunk.window)
    samples, channels, cells, *outputs = cols.shape
    return cols.reshape(samples, groups, channels // groups * cells, prod(outputs))


def im2col(backend: Steps, x: Array, window: Window) -> Array:
    """Columns (C·cells, outputs·N) of ``x`` (N, C, …), sample index fastest; padding is 0."""
    cols = backend.patches(x, window)
    samples, channels, cells, *outputs = cols.shape
    return backend.xp.moveaxis(cols, 0, -1).reshape(channels * cells, prod(outputs) * samples)


def col2im(
    backend: Steps, cols: Array, x_shape: tuple[int, ...], window: Window, *, add: bool
) -> Array:
    """Columns back to an array of ``x_shape``.

    Where columns overlap, ``add`` sums them in ascending order of the rows; without it the last
    row wins.
    """
    xp = backend.xp
    samples, channels, *spatial = x_shape
    cols = cols.reshape(channels, window.count, *window.output_shape(spatial), samples)
    cols = xp.moveaxis(cols, -1, 0)
    out = xp.zeros(x_shape, cols.dtype)
    if add:
        backend.add_patches(cols, out, window)
    else:
        for cell in window.cells(spatial):
            out[:, *cell.inputs] = cols[:, :, cell.number, *cell.outputs[1:]]
    return out
