"""Convolution as matrix products, on chunks of the images that fit in the cache.

The patches of a chunk are copied into columns (im2col) and multiplied; then the columns are
released. So the column matrix of a large image is never in memory as a whole: with stride 1 it is
as many times as large as the image as the window has cells.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from math import prod
from typing import ClassVar, NamedTuple, TypeVar

from tinyml_backends.arrays import Array, Arrays, as_floats, widened
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

    def turned(self, matrices: Array) -> Array:
        """Transposes of matrices (groups, rows, columns), for many products."""
        result: Array = self.xp.ascontiguousarray(matrices.swapaxes(1, 2))
        return result

    def products(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix products of two stacks (…, rows, terms) and (…, terms, columns), as `matmul`."""
        result: Array = self.xp.matmul(a, b, out=out)
        return result

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
    """Cross-correlation of ``x`` (N, C, …) and ``weight`` (F, C / groups, …), plus ``bias``.

    The result has the dtype of ``x`` or, for integers, float32; float16 is computed in float32.
    """
    xp = backend.xp
    dtype = as_floats(x).dtype
    x = widened(as_floats(x))
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    outputs = window.output_shape(x.shape[2:])
    out = empty(xp, (len(x), len(weight), *outputs), xp.result_type(x, weight))

    def run(chunk: _Chunk) -> None:
        target = out[chunk.samples, :, chunk.outputs]
        cols = _columns(backend, x, chunk, groups)
        is_whole = target.shape[2] == outputs[0]  # of contiguous memory, which matmul can write
        place = target.reshape(len(target), groups, matrix.shape[1], -1) if is_whole else None
        product = backend.products(matrix, cols, place)
        if bias is not None:
            product += bias.reshape(groups, -1, 1)
        if not is_whole:
            target[...] = product.reshape(target.shape)

    backend.run_in_order(run, _chunks(backend, x, window), lambda _: None)
    return out.astype(dtype, copy=False)


def conv_gradient(
    backend: Steps, gradient: Array, x: Array, weight: Array, window: Window, groups: int
) -> tuple[Array, Array]:
    """Gradients of `conv` with respect to ``x``, in its dtype, and ``weight``, float32 at least."""
    dtype, x, gradient = as_floats(x).dtype, widened(as_floats(x)), widened(as_floats(gradient))
    of_input = _OfInput(backend, weight, gradient, x.shape, groups)
    total = _OfWeight(backend, weight.shape, gradient, x, groups)

    def run(chunk: _Chunk, terms: Array) -> Array:
        of_weight = total.term(chunk, terms)
        of_input.add(chunk, terms)
        return of_weight

    total.run(window, run)
    return of_input.out.astype(dtype, copy=False), total.sum.reshape(weight.shape)


def conv_input(
    backend: Steps,
    gradient: Array,
    weight: Array,
    bias: Array | None,
    spatial: tuple[int, ...],
    window: Window,
    groups: int,
) -> Array:
    """Gradient of `conv` with respect to an input of the spatial shape, in the gradient's dtype.

    It is the adjoint of `conv`, and so the forward pass of a transposed convolution, whose ``bias``
    is added to each channel before the result is rounded to its dtype.
    """
    dtype, gradient = as_floats(gradient).dtype, widened(as_floats(gradient))
    shape = len(gradient), groups * weight.shape[1], *spatial
    of_input = _OfInput(backend, weight, gradient, shape, groups)

    def run(of_sample: list[_Chunk]) -> None:
        for chunk in of_sample:
            of_input.add(chunk, _terms(gradient, chunk, groups))

    backend.run_in_order(run, _by_sample(backend, of_input.out, window), lambda _: None)
    if bias is not None:
        of_input.out += bias.reshape(-1, *(1,) * len(spatial))
    return of_input.out.astype(dtype, copy=False)


def conv_weight(
    backend: Steps,
    gradient: Array,
    x: Array,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> Array:
    """Gradient of `conv` with respect to a weight of this shape; float32 at least."""
    total = _OfWeight(backend, shape, widened(as_floats(gradient)), widened(as_floats(x)), groups)
    total.run(window, total.term)
    return total.sum.reshape(shape)


class _OfInput:
    """Sum of the gradient with respect to the input, chunk by chunk, in ``out``."""

    def __init__(
        self, backend: Steps, weight: Array, gradient: Array, shape: tuple[int, ...], groups: int
    ) -> None:
        xp = backend.xp
        matrix = weight.reshape(groups, len(weight) // groups, -1)
        self.backend = backend
        self.transposed = backend.turned(matrix)
        self.out = zeros(xp, shape, xp.result_type(gradient, weight))

    def add(self, chunk: "_Chunk", terms: Array) -> None:
        target = self.out[chunk.samples, :, chunk.rows]
        outputs = chunk.window.output_shape(target.shape[2:])
        cols = self.backend.products(self.transposed, terms)
        cols = cols.reshape(*target.shape[:2], chunk.window.count, *outputs)
        self.backend.add_patches(cols, target, chunk.window)


class _OfWeight:
    """Sum of the gradient with respect to the weight, chunk by chunk, in ``sum``."""

    def __init__(
        self, backend: Steps, shape: tuple[int, ...], gradient: Array, x: Array, groups: int
    ) -> None:
        self.backend, self.gradient, self.x, self.groups = backend, gradient, x, groups
        matrix = groups, shape[0] // groups, prod(shape[1:])
        self.sum = backend.xp.zeros(matrix, backend.xp.result_type(gradient, x))

    def term(self, chunk: "_Chunk", terms: Array) -> Array:
        cols = _columns(self.backend, self.x, chunk, self.groups)
        return self.backend.products(terms, cols.swapaxes(2, 3)).sum(0)

    def run(self, window: Window, term: "Callable[[_Chunk, Array], Array]") -> None:
        """Add what ``term`` returns for each chunk.

        Neighbouring chunks of a sample add to the same rows of the input's gradient, so one thread
        works on a whole sample. The samples' sums are added in the order of the samples, so that
        the result does not depend on which thread finishes first.
        """
        xp = self.backend.xp

        def of_sample(chunks: list[_Chunk]) -> Array:
            total = xp.zeros_like(self.sum)
            for chunk in chunks:
                total += term(chunk, _terms(self.gradient, chunk, self.groups))
            return total

        self.backend.run_in_order(
            of_sample,
            _by_sample(self.backend, self.x, window),
            lambda total: xp.add(self.sum, total, out=self.sum),
        )


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


def _by_sample(backend: Steps, x: Array, window: Window) -> "list[list[_Chunk]]":
    """The chunks, in one list for each start of samples."""
    of_samples = groupby(_chunks(backend, x, window), key=lambda chunk: chunk.samples.start)
    return [list(of_sample) for _, of_sample in of_samples]


def _terms(gradient: Array, chunk: _Chunk, groups: int) -> Array:
    """The output gradient of a chunk, (n, groups, F / groups, outputs)."""
    terms = gradient[chunk.samples, :, chunk.outputs]
    return terms.reshape(len(terms), groups, terms.shape[1] // groups, prod(terms.shape[2:]))


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
