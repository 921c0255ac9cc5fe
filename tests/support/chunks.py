"""Chunks of another size for the generic kernels, and for compiled ones."""

from collections.abc import Callable
from typing import Any

import pytest

from tinyml_backends.generic import chunks, convolution, indices

_divide = chunks.chunks


def use_chunk_bytes(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Make all generic kernels divide their work into chunks of ``size`` bytes."""

    def of_size(count, rows, row_bytes, chunk_bytes):  # type: ignore[no-untyped-def]
        return _divide(count, rows, row_bytes, size)

    for module in (chunks, convolution, indices):
        monkeypatch.setattr(module, "chunks", of_size)


def backwards(step: int) -> Callable[..., None]:
    """As `scheduling.run`, with chunks of ``step`` items, the last ones first."""

    def run(kernel: Callable[..., None], arguments: tuple[Any, ...], items: int, size: int) -> None:
        for stop in range(items, 0, -step):
            kernel(*arguments, max(0, stop - step), stop)

    return run


def use_small_compiled_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Numba's kernels run in many chunks, in three threads."""
    from tinyml_backends import threads
    from tinyml_backends.numba_backend import scheduling

    monkeypatch.setattr(scheduling, "SHARED_BYTES", 0)
    monkeypatch.setattr(scheduling, "CHUNK_BYTES", 1)
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
