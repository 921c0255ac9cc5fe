"""What the kernels allocate in addition to their results."""

import tracemalloc

import numpy as np
import pytest

import tinyml
from tinyml_backends.numpy_backend import chunks, pool, scratch, unpool

pytestmark = pytest.mark.host

MIB = 1 << 20


def peak(call):
    """Peak bytes during a call, and its result; without scratch buffers of earlier calls."""
    scratch._scratch.memory = np.empty(0, np.uint8)
    scratch._scratch.sets.clear()
    unpool.first_cells.cache_clear()
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def size_of(*arrays):
    return sum(array.nbytes for array in arrays)


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), (3, 1, 1)], ids=["2/2", "3/2", "3/1"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("channels_first", (1, 1, 4096, 4096)),  # one plane, larger than any cache
        ("channels_first", (4, 64, 256, 256)),
        ("channels_last", (1, 512, 512, 64)),
        ("channels_last", (4, 256, 256, 64)),
    ],
)
def test_beside_output_and_winners(window, dtype, layout, shape):
    x = np.zeros(shape, dtype)
    assert x.nbytes >= 32 * MIB
    x.reshape(-1)[::7] = 1
    limit = max(x.nbytes // 8, 4 * MIB)
    size, stride, padding = window

    used, (y, switches) = peak(lambda: tinyml.max_pool(x, size, stride, padding, layout=layout))
    assert used - size_of(y, switches.winners) <= limit
    for operation, given in (
        (tinyml.max_unpool, y),
        (tinyml.max_pool_gradient, y),
        (tinyml.max_unpool_gradient, x),
    ):
        used, out = peak(lambda f=operation, a=given: f(a, switches))
        assert used - size_of(out) <= limit, operation.__name__
    used, y = peak(lambda: tinyml.avg_pool(x, size, stride, padding, layout=layout))
    assert used - size_of(y) <= limit
    used, out = peak(
        lambda: tinyml.avg_pool_gradient(
            y,
            shape[2:] if layout == "channels_first" else shape[1:3],
            size,
            stride,
            padding,
            layout=layout,
        )
    )
    assert used - size_of(out) <= limit


@pytest.mark.parametrize("threads_used", [1, 2, 5])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 64, 112, 112), np.float32),
        ((1, 1, 900, 1000), np.float32),
        ((1, 1, 1024, 1040), np.float32),
        ((1, 1, 1260, 1260), np.float32),
        ((1, 1, 1280, 1300), np.float32),
        ((1, 16, 512, 512), np.uint8),
        ((1, 16, 256, 512), np.float64),
        ((1, 1, 64, 32768), np.float64),
        ((1, 1, 16, 65536), np.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("other", [1.0, -0.0])
def test_beside_the_results_of_smaller_images(monkeypatch, shape, dtype, threads_used, other):
    """Adds up what single chunks need, because it is random which thread takes which chunk."""
    monkeypatch.setattr(chunks, "thread_count", lambda: threads_used)
    x = np.zeros(shape, dtype)
    x.reshape(-1)[::7] = other
    made, starts, totals = [], {}, []

    def run(work, slices, count):
        needs = []
        starts.clear()
        for chunk in slices:
            made.clear()
            work(chunk)
            needs.append(max(made, default=0))  # all sets of a thread share its memory
        if totals:  # not pooling, which comes first
            first_cells(slices[0].stop, shape[-1] // 2)
        totals.append(sum(sorted(needs)[-count:]))
        assert totals[-1] + sum(starts.values()) <= 4 * MIB

    def first_cells(*pairs):
        found = unpool.first_cells(*pairs)
        starts[pairs] = found.nbytes  # shared by all threads
        return found

    def counted(kind, *shape):
        before = scratch._scratch.memory
        scratch._scratch.memory = np.empty(0, np.uint8)
        found = kind(*shape)
        made.append(scratch._scratch.memory.nbytes)
        scratch._scratch.memory = before
        return found

    monkeypatch.setattr(pool, "first_cells", first_cells)
    for module in (pool, unpool):
        monkeypatch.setattr(module, "run", run)
        monkeypatch.setattr(module, "buffer_set", counted)
    y, switches = tinyml.max_pool(x, 2)
    tinyml.max_unpool(y, switches)
    tinyml.max_unpool_gradient(x, switches)
    assert [total > 0 for total in totals] == [shape[-1] <= unpool.LONGEST_ROW] * 3
