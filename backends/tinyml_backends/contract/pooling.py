"""The methods of the contract for pooling and unpooling.

Kernels run on stacks of planes: axis 0 counts the planes (one for each sample and channel), and the
spatial axes follow. Where channels come last, axis 0 counts the samples and one more axis holds the
channels. ``out``, where given, is contiguous and shares no memory with the inputs; every element of
it is written, and it is returned.
"""

import numpy as np

from tinyml_backends.arrays import Array, Arrays
from tinyml_backends.generic import adaptive, average, indices, pool, unpool
from tinyml_backends.geometry import Window

#: Element types of pooling, unpooling and their gradients; the result has the input's.
DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)


class Pooling(Arrays):
    """Kernels of the pooling family."""

    max_pool = pool.max_pool
    max_unpool = unpool.max_unpool
    max_unpool_gradient = unpool.max_unpool_gradient
    first_duplicate = unpool.first_duplicate
    unpool_plane_indices = unpool.unpool_plane_indices

    def max_pool_gradient(
        self,
        gradient: Array,
        winners: Array,
        window: Window,
        input_shape: tuple[int, ...],
        *,
        out: Array | None = None,
    ) -> Array:
        """For each input cell, the sum of the gradients of the windows whose maximum it was.

        This is `max_unpool` with ``duplicates="sum"``.
        """
        return self.max_unpool(gradient, winners, window, input_shape, "sum", out=out)

    avg_pool = average.avg_pool
    avg_pool_gradient = average.avg_pool_gradient

    adaptive_max_pool = adaptive.adaptive_max_pool
    adaptive_max_pool_gradient = adaptive.adaptive_max_pool_gradient
    adaptive_avg_pool = adaptive.adaptive_avg_pool
    adaptive_avg_pool_gradient = adaptive.adaptive_avg_pool_gradient

    winners_from_indices = indices.winners_from_indices
    indices_from_winners = indices.indices_from_winners
    renumber = indices.renumber
