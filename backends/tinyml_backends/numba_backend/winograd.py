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
from tinyml_backends.memory import empty
from tinyml_backends.numba_backend import winograd_kernels as kernels
from tinyml_backends.numba_backend.winograd_kernels import INPUTS, TILE
from tinyml_backends.numpy_backend.scratch import buffer_set, buffers
from tinyml_backends.precision import current_precision

PLANES = INPUTS * INPUTS
#: Tiles of a chunk, about: their planes stay in the L3 cache.
TILES = 256
#: If there are fewer chunks, filters are divided too, into parts of at least so many.
CHUNKS, FILTERS = 8, 32
#: With fewer channels or filters the transforms take longer than the products that they save. So
#: do those of the weights, if there are fewer tiles for each channel.
CHANNELS, TILES_PER_CHANNEL = 48, 0.75

_A, _B = 0.5**0.5, 2**0.5
#: Transform of the weights: their polynomials at the points, over the products of the distances.
_G = np.array(
    [
        [1, 0, 0],
        [-2 / 3, -2 / 3 * _A, -1 / 3],
        [-2 / 3, 2 / 3 * _A, -1 / 3],
        [1 / 6, _B / 6, 1 / 3],
        [1 / 6, -_B / 6, 1 / 3],
        [0, 0, 1],
    ]
)
#: The same for all 9 weights of a window at once, (36, 9).
_OF_WEIGHTS = np.kron(_G, _G).astype(np.float32)


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

    def chunks(self) -> list[slice]:
        """Ranges of tile rows, of about `TILES` tiles each."""
        rows = self.samples * self.per_image
        count = max(1, -(-rows * self.across // TILES))
        step = -(-rows // count)
        return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


class _Buffers:
    """Scratch memory of a thread for chunks of so many tile rows."""

    def __init__(self, channels: int, filters: int, tiles: int, across: int) -> None:
        cells = PLANES * channels * tiles, PLANES * filters * tiles, 12 * (TILE * across + 2)
        planes, products, self.rows = (
            memory.view(np.float32) for memory in buffers(*(4 * n for n in cells))
        )
        self.flat = planes, products
        self.planes = planes.reshape(PLANES, channels, tiles)
        self.products = products.reshape(PLANES, filters, tiles)


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
        and _Tiles(len(x), *window.output_shape(x.shape[2:])).total
        >= max(1, TILES_PER_CHANNEL * min(shape[:2]))
        and current_precision() == "high"
    )


def conv(x: Array, weight: Array, bias: Array | None, window: Window) -> Array | None:
    """As `Backend.conv`; None if an output is not finite."""
    filters, channels = weight.shape[:2]
    (pad_h, _), (pad_w, _) = window.padding
    tiles = _Tiles(len(x), *window.output_shape(x.shape[2:]))
    flat = weight.reshape(filters * channels, 9)
    planes = np.matmul(_OF_WEIGHTS, flat.T).reshape(PLANES, filters, channels)
    biases = np.zeros(filters, np.float32) if bias is None else np.ascontiguousarray(bias)
    out = empty(np, (len(x), filters, tiles.height, tiles.width), np.dtype(np.float32))
    source, target, finite = x.ravel(), out.ravel(), True
    chunks = tiles.chunks()
    parts = max(1, min(CHUNKS // len(chunks), filters // FILTERS))
    of_filters = threads.divide(filters, parts)

    def run(job: tuple[slice, slice]) -> bool:
        rows, some = job
        count = (rows.stop - rows.start) * tiles.across
        shape = channels, some.stop - some.start, count, tiles.across
        kept = buffer_set(_Buffers, *shape)
        place = rows.start, rows.stop - rows.start, tiles.per_image, tiles.across
        kernels.inputs(
            source, kept.flat[0], kept.rows, channels, *x.shape[2:], pad_h, pad_w, *place
        )
        np.matmul(planes[:, some], kept.planes, out=kept.products)
        sizes = filters, some.start, some.stop, tiles.height, tiles.width
        return bool(kernels.outputs(kept.flat[1], target, biases, kept.rows, *sizes, *place))

    def collect(is_finite: bool) -> None:
        nonlocal finite
        finite = finite and is_finite

    threads.run_in_order(run, [(rows, some) for rows in chunks for some in of_filters], collect)
    return out if finite else None


def conv_weight(gradient: Array, x: Array, window: Window) -> Array | None:
    """As `Backend.conv_weight`; None if a sum is not finite."""
    filters, channels = gradient.shape[1], x.shape[1]
    (pad_h, _), (pad_w, _) = window.padding
    tiles = _Tiles(len(x), *gradient.shape[2:])
    total = np.zeros((PLANES, filters, channels), np.float32)
    source, given = x.ravel(), gradient.ravel()

    def run(rows: slice) -> Array:
        count = (rows.stop - rows.start) * tiles.across
        kept = buffer_set(_Buffers, channels, filters, count, tiles.across)
        place = rows.start, rows.stop - rows.start, tiles.per_image, tiles.across
        kernels.inputs(
            source, kept.flat[0], kept.rows, channels, *x.shape[2:], pad_h, pad_w, *place
        )
        sizes = filters, tiles.height, tiles.width
        kernels.gradients(given, kept.flat[1], kept.rows, *sizes, *place)
        return np.matmul(kept.products, kept.planes.swapaxes(1, 2))

    threads.run_in_order(run, tiles.chunks(), lambda term: np.add(total, term, out=total))
    weight = np.matmul(total.reshape(PLANES, -1).T, _OF_WEIGHTS).reshape(filters, channels, 3, 3)
    return weight if np.isfinite(weight).all() else None
