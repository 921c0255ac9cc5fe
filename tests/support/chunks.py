"""Chunks of another size for the generic kernels."""

import pytest

from tinyml_backends.generic import chunks, convolution, indices

_divide = chunks.chunks


def use_chunk_bytes(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Make all generic kernels divide their work into chunks of ``size`` bytes."""

    def of_size(count, rows, row_bytes, chunk_bytes):  # type: ignore[no-untyped-def]
        return _divide(count, rows, row_bytes, size)

    for module in (chunks, convolution, indices):
        monkeypatch.setattr(module, "chunks", of_size)
