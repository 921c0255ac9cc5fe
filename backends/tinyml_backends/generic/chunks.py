"""Division of a stack of planes into chunks that fit in the cache."""

from collections.abc import Iterator

from tinyml_backends.arrays import Array

#: Some planes, and some rows of each.
Chunk = tuple[slice, slice]


def chunks(count: int, rows: int, row_bytes: float, chunk_bytes: int) -> Iterator[Chunk]:
    """Divide ``count`` planes of ``rows`` rows into chunks of about ``chunk_bytes``.

    A chunk is some whole planes, or some neighbouring rows of one plane if a plane is too large.
    The chunks of a plane come in the order of its rows and are of about equal height.
    """
    plane_bytes = max(1, int(rows * row_bytes))
    height = max(1, -(-rows // -(-plane_bytes // chunk_bytes)))
    together = max(1, chunk_bytes // plane_bytes) if height >= rows else 1
    for plane in range(0, count, together):
        for row in range(0, rows, height):
            yield slice(plane, plane + together), slice(row, min(row + height, rows))


def chunks_of(array: Array, rows: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Chunks of ``rows``, each with about ``chunk_bytes`` of ``array``.

    Elements count as at least four bytes, because temporaries of small dtypes are wider.
    """
    size = array.size * max(4, array.dtype.itemsize)
    return chunks(len(array), rows, size / max(1, len(array) * rows), chunk_bytes)
