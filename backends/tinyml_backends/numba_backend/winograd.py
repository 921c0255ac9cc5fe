"""Winograd's minimal filtering for 3×3 windows of stride 1, in float32: F(4×4, 3×3).

A tile of 4×4 outputs takes 36 products for each channel instead of 144. Inputs and weights are
transformed to 36 planes, which are multiplied as matrices, and the products are transformed back.
The derivation is on the page docs/convolution.md. The points 0, ±√½, ±√2 and ∞ give less rounding
error than whole numbers do (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", ACM TOMS 46(4), 2020).

A value that is not finite would spread over its tile. So where an output is not finite, nothing is
returned, and the caller convolves directly.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyml_backends import threads
from tinyml_backends.arrays import Array
from tinyml_backends.geometry import Window
from tinyml_backends.memory import empty, zeros
from tinyml_backends.numba_backend import products, scheduling
from tinyml_backends.numba_backend import winograd_kernels as kernels
from tinyml_backends.numba_backend.direct import LANES
from tinyml_backends.numba_backend.kept import kept
from tinyml_backends.numba_backend.winograd_kernels import PLANES, TILE
from tinyml_backends.numpy_backend.scratch import buffer_set, buffers
from tinyml_backends.precision import current_precision

#: Bytes of the planes and the products of a chunk of tiles, about: they stay in the cache. And the
#: least number of tiles, for which the transformed weights are read.
CHUNK_BYTES, TILES = 1 << 20, 32
#: Tiles of a chunk whose products are summed: each sum ends with the sum of a vector's lanes.
SUMMED = 256
#: Parts into which the sum over all tiles is divided, at most, and bytes of their sums.
SUMS, SUMS_BYTES = 8, 1 << 26
#: With fewer channels or filters, or fewer tiles, the transforms take longer than the products that
#: they save.
CHANNELS, LEAST = 16, 16


class _Tiles(NamedTuple):
    """Tiles of outputs of a spatial shape; tile rows count through all samples."""

    samples: int
    height: int
    width: int

    @property
    def per_image(self) -> int:
        return -(-self.height // TILE)

    @property
    def across(self) -> int:
        return -(-self.width // TILE)

    @property
    def total(self) -> int:
        return self.samples * self.per_image * self.across

    def chunks(self, tiles: int) -> list[slice]:
        """Ranges of tile rows, of about so many tiles, that best fill the vectors."""
        rows = self.samples * self.per_image

        def cost(step: int) -> tuple[int, int]:
            padded = sum(
                _padded(len(range(rows)[i : i + step]) * self.across) for i in range(0, rows, step)
            )
            return padded, abs(step * self.across - tiles)

        middle = max(1, round(tiles / self.across))
        step = min(range(-(-middle // 2), 2 * middle + 1), key=cost)
        return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]

    def place(self, rows: slice) -> tuple[int, ...]:
        """The last arguments of the kernels."""
        count = rows.stop - rows.start
        return rows.start, count, self.per_image, self.across, _padded(count * self.across)


def _padded(tiles: int) -> int:
    """The next multiple of a vector."""
    return -(-tiles // LANES) * LANES


def _divided(filters: int, chunks: int) -> tuple[slice, ...]:
    """Parts of the filters, if there are too few chunks for all threads."""
    count = threads.thread_count()
    return threads.divide(filters, 1 if chunks >= 4 * count or chunks % count == 0 else count)


class _Buffers:
    """Scratch memory of a thread for chunks with so many tiles.

    The planes and the products are followed by the rows that `products.add_outer_products` reads.
    """

    def __init__(self, channels: int, filters: int, pitch: int, across: int) -> None:
        rows = channels + len(products.RIGHT), filters + len(products.LEFT)
        cells = *(PLANES * n * pitch for n in rows), 12 * (TILE * across + 2), channels * pitch
        found = buffers(*(4 * n for n in cells))
        self.planes, self.products, self.rows, self.panels = (b.view(np.float32) for b in found)
        self.cells = [
            memory[: PLANES * n * pitch].reshape(-1, pitch)
            for memory, n in ((self.planes, channels), (self.products, filters))
        ]

    def clear_after(self, tiles: int) -> None:
        """Set what is left of the last vectors to zero."""
        for cells in self.cells:
            cells[:, tiles:] = 0


def fits(
    x: Array, dtype: "np.dtype[Any]", shape: tuple[int, ...], window: Window, groups: int
) -> bool:
    """Whether this algorithm convolves ``x`` with weights of a dtype and shape."""
    return (
        x.dtype == dtype == np.float32
        and groups == 1
        and min(shape[:2]) >= CHANNELS
        and window.size == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and _Tiles(len(x), *window.output_shape(x.shape[2:])).total >= LEAST
        and current_precision() == "high"
    )


def conv(
    x: Array, weight: Array, bias: Array | None, window: Window, is_turned: bool = False
) -> Array | None:
    """As `Backend.conv`; None if an output is not finite.

    ``is_turned``: with the weights' first two axes swapped and the others reversed.
    """
    filters, channels = weight.shape[1::-1] if is_turned else weight.shape[:2]
    blocks = -(-filters // products.ROWS)
    block = -(-filters // blocks)
    left = _transformed(weight, is_turned, blocks, block)
    (pad_h, _), (pad_w, _) = window.padding
    tiles = _Tiles(len(x), *window.output_shape(x.shape[2:]))
    biases = np.zeros(filters, np.float32) if bias is None else np.ascontiguousarray(bias)
    out = empty(np, (len(x), filters, tiles.height, tiles.width), np.dtype(np.float32))
    source, target, are_finite = x.ravel(), out.ravel(), []
    chunks = tiles.chunks(max(TILES, CHUNK_BYTES // (4 * PLANES * (channels + filters))))

    def run(job: tuple[slice, slice]) -> None:
        rows, some = job
        place = tiles.place(rows)
        begin, end = some.start * block, min(some.stop * block, filters)
        kept = buffer_set(_Buffers, channels, end - begin, place[-1], tiles.across)
        kernels.inputs(source, kept.planes, kept.rows, channels, *x.shape[2:], pad_h, pad_w, *place)
        sizes = blocks, some.start, end - begin, channels, place[-1], (0,) * block
        products.multiply(left, kept.planes, kept.products, kept.panels, *sizes, 0, PLANES)
        of_filters = filters, begin, end, tiles.height, tiles.width
        is_finite = kernels.outputs(kept.products, target, biases, kept.rows, *of_filters, *place)
        are_finite.append(is_finite)

    parts = _divided(blocks, len(chunks))
    threads.run(run, [(rows, some) for rows in chunks for some in parts])
    return out if all(are_finite) else None


def _transformed(weight: Array, is_turned: bool, blocks: int, block: int) -> Array:
    """The left operands of the products, flat."""
    filters, channels = weight.shape[1::-1] if is_turned else weight.shape[:2]
    flat = weight.ravel()

    def make() -> Array:
        planes = empty(np, (PLANES * blocks * channels * block,), np.dtype(np.float32))
        arguments = flat, planes, filters, channels, is_turned, block
        scheduling.run(kernels.weights, arguments, blocks, planes.nbytes)
        return planes

    return kept(weight, "turned" if is_turned else "planes", make)


def conv_weight(gradient: Array, x: Array, window: Window) -> Array | None:
    """As `Backend.conv_weight`; None if a sum is not finite."""
    filters, channels = gradient.shape[1], x.shape[1]
    (pad_h, _), (pad_w, _) = window.padding
    tiles = _Tiles(len(x), *gradient.shape[2:])
    source, given = x.ravel(), gradient.ravel()
    chunks = tiles.chunks(SUMMED)
    of_sums = threads.divide(
        len(chunks), max(1, min(SUMS, SUMS_BYTES // (4 * PLANES * filters * channels)))
    )
    parts = _divided(filters, len(of_sums))
    sums = zeros(np, (len(of_sums), PLANES * filters * channels), np.dtype(np.float32))

    def run(job: tuple[int, slice]) -> None:
        part, some = job
        for rows in chunks[of_sums[part]]:
            place = tiles.place(rows)
            kept = buffer_set(_Buffers, channels, some.stop - some.start, place[-1], tiles.across)
            kept.clear_after(place[1] * tiles.across)
            kernels.inputs(
                source, kept.planes, kept.rows, channels, *x.shape[2:], pad_h, pad_w, *place
            )
            sizes = filters, some.start, some.stop, tiles.height, tiles.width
            kernels.gradients(given, kept.products, kept.rows, *sizes, *place)
            operands = kept.products, kept.planes, sums[part]
            sizes = some.start, some.stop, filters, channels, place[-1]
            products.add_outer_products(*operands, *sizes, 0, PLANES)

    jobs = [(part, some) for part in range(len(of_sums)) for some in parts]
    threads.run(run, jobs)
    weight = empty(np, (filters, channels, 3, 3), np.dtype(np.float32))
    total = sums[0] if len(sums) == 1 else sums.sum(0)
    items = -(-filters * channels // kernels.WIDTH)
    scheduling.run(kernels.of_sums, (total, weight.ravel()), items, total.nbytes)
    return weight if np.isfinite(weight).all() else None
