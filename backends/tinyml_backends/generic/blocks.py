"""Cutting a stack of planes into blocks that fit the cache."""

from collections.abc import Iterator

from tinyml_backends.arrays import Array

#: Bytes worked on at a time: with its temporaries a block stays inside a core's L2 cache.
BLOCK_BYTES = 1 << 19
#: On a GPU, where few large steps are best.
GPU_BLOCK_BYTES = 1 << 27


def blocks(
    count: int, rows: int, row_bytes: float, limit: int | None = None
) -> Iterator[tuple[slice, range]]:
    """Cut ``count`` planes of ``rows`` rows into blocks of about ``limit`` bytes.

    A block is some whole planes, or some neighbouring rows of one plane if a plane is too large.
    The blocks of a plane come in the order of its rows and are of about equal height.
    """
    limit = BLOCK_BYTES if limit is None else limit
    plane_bytes = max(1, int(rows * row_bytes))
    height = max(1, -(-rows // -(-plane_bytes // limit)))
    together = max(1, limit // plane_bytes) if height >= rows else 1
    for plane in range(0, count, together):
        for row in range(0, rows, height):
            yield slice(plane, plane + together), range(row, min(row + height, rows))


def blocks_of(array: Array, rows: int) -> Iterator[tuple[slice, range]]:
    """Blocks of ``rows``, each with about `BLOCK_BYTES` of ``array``.

    Elements count as four bytes at least: small ones are worked on in wider temporaries.
    """
    size = array.size * max(4, array.dtype.itemsize)
    limit = GPU_BLOCK_BYTES if hasattr(array, "__cuda_array_interface__") else BLOCK_BYTES
    return blocks(len(array), rows, size / max(1, len(array) * rows), limit)


def slice_of(rows: range) -> slice:
    """The rows as a slice."""
    return slice(rows.start, rows.stop)
