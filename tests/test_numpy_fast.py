"""NumPy's own kernels: equal to the generic ones bit for bit, and used where they should be."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from support.compare import assert_same_bits, assert_same_sums
from support.strategies import FLOATS, INTEGERS, arrays, geometries
from tinyml_backends import Backend, Window, threads
from tinyml_backends.numpy_backend import NumpyBackend, chunks, pool, scratch, unpool

pytestmark = pytest.mark.host

TILES = Window.of(2, 2)


class Generic(Backend):
    """Only the generic kernels."""

    name = library = "numpy"
    xp = np


GENERIC, FAST = Generic(), NumpyBackend()


@pytest.fixture(params=["usual chunks", "small chunks"])
def chunked(request, monkeypatch):
    """The usual chunks, or chunks of one row of tiles or one plane, in three threads."""
    if request.param == "small chunks":
        monkeypatch.setattr(chunks, "LARGEST_CHUNK", 1)
        monkeypatch.setattr(chunks, "SHARED_BYTES", 1)
        monkeypatch.setattr(chunks, "LEAST_HELD", 1 << 30)
        for module in (chunks, threads):
            monkeypatch.setattr(module, "thread_count", lambda: 3)


def count(monkeypatch, module, name):
    """A list that gets an element at each call of a function of a module."""
    calls, function = [], getattr(module, name)

    def counted(*arguments, **options):
        calls.append(name)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


def same(data, window, spatial, channels=()):
    """All four kernels on a drawn stack, and all but the first on values other than its maxima."""
    planes = data.draw(st.integers(0, 3))
    x = data.draw(arrays((planes, *spatial, *channels)))
    y, winners = GENERIC.max_pool(x, window)
    out = np.full_like(y, 77, order="C"), np.full_like(winners, 77, order="C")
    assert FAST.max_pool(x, window, out=out) is out
    for result in (out, FAST.max_pool(x, window)):
        assert_same_bits(result[0], y)
        assert_same_bits(result[1], winners)
    values = data.draw(arrays(y.shape, dtypes=[x.dtype.name]))
    calls = [
        ("max_unpool", (values, winners, window, spatial, "last"), assert_same_bits),
        ("max_unpool", (values, winners, window, spatial, "sum"), assert_same_sums),
        ("max_pool_gradient", (values, winners, window, spatial), assert_same_sums),
        ("max_unpool_gradient", (x, winners, window, "last"), assert_same_bits),
        ("max_unpool_gradient", (x, winners, window, "sum"), assert_same_bits),
    ]
    for name, arguments, check in calls:
        with np.errstate(all="ignore"):
            expected = getattr(GENERIC, name)(*arguments)
        check(getattr(FAST, name)(*arguments), expected)
        memory = np.full(expected.size + 2, 77, expected.dtype)  # not aligned for wide integers
        out = memory[1:-1].reshape(expected.shape)
        assert getattr(FAST, name)(*arguments, out=out) is out
        check(out, expected)
        assert memory[0] == memory[-1] == 77


@hypothesis.given(data=st.data())
def test_tiles(chunked, data):
    rows, columns = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    same(data, TILES, (2 * rows, 2 * columns))


@hypothesis.given(data=st.data())
def test_tiles_that_leave_cells_over(chunked, data):
    same(data, TILES, data.draw(st.tuples(st.integers(2, 9), st.integers(2, 9))))


@hypothesis.given(data=st.data())
def test_other_windows(chunked, data):
    spatial, geometry = data.draw(geometries())
    channels = data.draw(st.sampled_from([(), (1,), (3,)]))
    same(data, Window.of(len(spatial), **geometry), spatial, channels)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("kinds", [6, 4], ids=["with NaN", "without"])
def test_every_window_of_four_values(kinds, dtype, order):
    """All ties, zeros and NaNs that four cells can hold, next to windows without any of them."""
    floating = [-1.5, -0.0, 0.0, 1.5, np.nan, -np.nan][:kinds]
    cells = np.array(floating if np.dtype(dtype).kind == "f" else [0, 1, 2]).astype(dtype)
    several = np.stack(np.meshgrid(*[cells] * 4, indexing="ij")).reshape(2, 2, -1)
    x = np.asarray(several.transpose(2, 0, 1), order=order)
    for stack in (x, x.transpose(1, 0, 2).reshape(1, 2, -1)):  # small planes, and one long row
        for result, expected in zip(
            FAST.max_pool(stack, TILES), GENERIC.max_pool(stack, TILES), strict=True
        ):
            assert_same_bits(result, expected)


@pytest.mark.parametrize("special", [0.0, -0.0, np.nan, -np.inf])
def test_many_chunks(monkeypatch, special):
    """Arrays of several megabytes, with a zero, NaN or infinity in one of the chunks."""
    monkeypatch.setattr(chunks, "LARGEST_CHUNK", 1 << 19)
    for module in (chunks, threads):
        monkeypatch.setattr(module, "thread_count", lambda: 3)
    x = np.random.default_rng(0).integers(-9, 9, (9, 514, 302)).astype(np.float32)
    x += 0.0 if special == 0 else 0.5
    x[4, 100:200] = special
    y, winners = GENERIC.max_pool(x, TILES)
    taken = count(monkeypatch, pool, "_pool")
    generic = count(monkeypatch, pool.pool, "max_pool")
    corrected = count(monkeypatch, pool, "take_winners")
    fast = FAST.max_pool(x, TILES)
    assert_same_bits(fast[0], y)
    assert_same_bits(fast[1], winners)
    assert len(taken) == 12  # a multiple of two: memory allows two threads
    assert len(generic) == (str(special) == "nan")
    assert len(corrected) == (str(special) == "-0.0")
    for name, *arguments in (
        ("max_unpool", y, winners, TILES, (514, 302), "last"),
        ("max_pool_gradient", y, winners, TILES, (514, 302)),
        ("max_unpool_gradient", x, winners, TILES, "last"),
    ):
        assert_same_sums(getattr(FAST, name)(*arguments), getattr(GENERIC, name)(*arguments))


@pytest.mark.parametrize(
    ("window", "shape", "dtype", "taken"),
    [
        (TILES, (3, 6, 8), np.float32, True),
        (Window.of(2, 2, ceil_mode=True), (3, 6, 8), np.float16, True),
        (TILES, (3, 6, 8), np.uint8, True),
        (TILES, (3, 6, 8), np.float64, True),
        (TILES, (3, 7, 8), np.float32, False),
        (TILES, (3, 6, 9), np.float32, False),
        (TILES, (3, 6, 8, 4), np.float32, False),  # channels last
        (Window.of(2, 2, padding=1), (3, 6, 8), np.float32, False),
        (Window.of(2, 2, dilation=(1, 2)), (3, 6, 8), np.float32, False),
        (Window.of(2, 2, 1), (3, 6, 8), np.float32, False),
        (Window.of(2, (2, 3)), (3, 6, 6), np.float32, False),
        (Window.of(1, 2), (3, 6), np.float32, False),
        (Window.of(3, 2), (3, 6, 8, 4), np.float32, False),
        (TILES, (1, 2, unpool.LONGEST_ROW), np.float32, True),
        (TILES, (1, 2, unpool.LONGEST_ROW + 2), np.float32, False),
    ],
    ids=str,
)
def test_which_path_is_taken(monkeypatch, window, shape, dtype, taken):
    pooled = count(monkeypatch, pool, "_pool")
    unpooled = count(monkeypatch, unpool._Buffers, "find")
    x = np.ones(shape, dtype)
    y, winners = FAST.max_pool(x, window)
    spatial = shape[1 : window.axes + 1]
    FAST.max_unpool(y, winners, window, spatial, "last")
    FAST.max_pool_gradient(y, winners, window, spatial)
    FAST.max_unpool_gradient(x, winners, window, "last")
    assert len(pooled) == (taken and dtype != np.float16)  # whose maximum is slow in NumPy
    assert len(unpooled) == 3 * taken


def test_memory_is_for_longer_chunks_before_it_is_for_more_threads(monkeypatch):
    monkeypatch.setattr(chunks, "thread_count", lambda: 2)

    def of(megabytes):
        return chunks.chunks_of(1 << 20, np.empty(megabytes << 18, np.float32))

    assert [of(size).threads for size in (1, 2, 4, 100)] == [1, 2, 2, 2]
    assert [len(of(size).slices) for size in (1, 2, 4, 12, 100)] == [1, 2, 4, 8, 52]


@pytest.mark.parametrize("items", [0, 1, 2, 3, 7, 100, 3001])
@pytest.mark.parametrize("megabytes", [1, 3, 12])
def test_chunks_cover_all_items_and_the_last_is_the_smallest(monkeypatch, items, megabytes):
    monkeypatch.setattr(chunks, "thread_count", lambda: 2)
    found = chunks.chunks_of(items, np.empty(megabytes << 18, np.float32))
    lengths = [len(range(items)[chunk]) for chunk in found.slices]
    assert [i for chunk in found.slices for i in range(items)[chunk]] == list(range(items))
    assert lengths[:-1] == [found.largest] * (len(lengths) - 1)
    assert found.largest >= max(lengths, default=0)
    if items > 100 and megabytes > 1:
        assert 0.5 < lengths[-1] / found.largest < 0.8


def test_few_items_are_shared_evenly(monkeypatch):
    monkeypatch.setattr(chunks, "thread_count", lambda: 2)
    for items in range(2, 9):
        found = chunks.chunks_of(items, np.empty(2 << 18, np.float32))
        assert found.largest == -(-items // 2)
        assert len(found.slices) == 2


@pytest.mark.parametrize("number", [None, 4, 7, 128, 255])
@pytest.mark.parametrize("window", [TILES, Window.of(2, 3)], ids=str)
def test_winners_that_were_overwritten_stay_inside(window, number):
    """A caller may overwrite winners given as ``out``; kernels stay inside their arrays."""
    x = np.ones((2, 6, 6), np.float32)
    y, winners = FAST.max_pool(x, window)
    winners[...] = number or np.random.default_rng(0).integers(0, 256, winners.shape)
    memory = np.full(x.size + 64, 77, np.float32)
    out = memory[32:-32].reshape(x.shape)
    for kernel in (FAST.max_unpool, FAST.max_pool_gradient):
        rule = ("last",) if kernel == FAST.max_unpool else ()
        try:
            kernel(y, winners, window, (6, 6), *rule, out=out)
        except IndexError:  # the generic kernels index a table with the winners
            assert window != TILES
        else:
            assert window != TILES or (out.reshape(2, 3, 2, 3, 2).sum((2, 4)) == 1).all()
    if window == TILES:
        cells = np.arange(x.size, dtype=np.float32).reshape(x.shape)
        found = FAST.max_unpool_gradient(cells, winners, window, "last")
        assert ((found // 12 == cells[:, ::2, ::2] // 12) & (found % 6 // 2 == np.arange(3))).all()
    assert (memory[:32] == 77).all()
    assert (memory[-32:] == 77).all()


def test_buffer_sets_are_kept_until_their_memory_is_not(monkeypatch):
    monkeypatch.setattr(scratch, "_scratch", scratch._Scratch())

    def kind(count, _):
        return scratch.buffers(count, 2 * count)

    first = scratch.buffer_set(kind, 100, "one")
    assert [len(buffer) for buffer in first] == [100, 200]
    assert all(buffer.ctypes.data % scratch.LINE == 0 for buffer in first)
    assert scratch.buffer_set(kind, 100, "one") is first
    other = scratch.buffer_set(kind, 100, "another")
    assert other is not first
    assert np.shares_memory(other[1], first[1])  # a thread runs one kernel at a time
    larger = scratch.buffer_set(kind, 200, "one")
    assert not np.shares_memory(larger[0], first[0])
    again = scratch.buffer_set(kind, 100, "one")
    assert np.shares_memory(again[0], larger[0])
    for number in range(2 * scratch.SETS_KEPT):
        scratch.buffer_set(kind, 100, number)
    assert len(scratch._scratch.sets) <= scratch.SETS_KEPT
