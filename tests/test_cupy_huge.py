"""Index arithmetic of arrays with more than 2**31 elements, on emulated devices.

Such an array is a sparse mapping, and only the thread blocks that compute the last results run.
"""

import numpy as np
import pytest

from emulation import cupy, only_blocks, record
from emulation.backend import EmulatedCupyBackend
from support.compare import assert_same_bits
from tinyml_backends.cupy_backend.launcher import BLOCK, MAX_BLOCKS
from tinyml_backends.geometry import Window

pytestmark = [pytest.mark.host, pytest.mark.emulation]

LENGTH = 2**31 + 2**22
LAST = 12  # elements at the end that the tests compare


def block_of_last(threads):
    """The block of the grid whose threads compute the last results."""
    return (threads - 1) // BLOCK % MAX_BLOCKS


@pytest.fixture
def emulated():
    record.clear()
    return EmulatedCupyBackend()


def sparse(shape, dtype, tail):
    """An array whose last elements are ``tail`` and all others zero."""
    array = cupy.empty(shape, dtype)
    assert array._memory.zero  # writing zeros would allocate all pages
    array._host.reshape(-1)[-len(tail) :] = tail
    array._memory.fresh = False
    return array


def tail(array, count):
    return array._host.reshape(-1)[-count:].copy()


def was_64_bit():
    assert len(record) == 1
    return "long long" in record[0].name


VALUES = np.array([1, 5, 2, 2, -3, -4, np.nan, 7, 9, 9, 0, 3], np.float16)


@pytest.mark.parametrize(
    ("shape", "size", "lanes"),
    [((1, LENGTH), (2,), 4), ((1, LENGTH // 2, 2), (1, 2), 1), ((1, LENGTH // 4, 4), (1,), 1)],
    ids=["tiled rows", "columns", "channels last"],
)
def test_max_pool(emulated, shape, size, lanes):
    x = sparse(shape, np.float16, VALUES)
    window = Window.of(len(size), size)
    threads = LENGTH // (2 if window.count == 2 else 1) // lanes
    with only_blocks(block_of_last(threads) - 1, 2):
        y, winners = emulated.max_pool(x, window)
    assert was_64_bit()
    if window.count == 1:
        np.testing.assert_array_equal(tail(y, LAST), VALUES)
    else:
        np.testing.assert_array_equal(tail(y, 6), np.array([5, 2, -3, np.nan, 9, 3], np.float16))
        np.testing.assert_array_equal(tail(winners, 6), [1, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("duplicates", ["last", "sum"])
@pytest.mark.parametrize(
    ("shape", "size", "lanes"),
    [((LENGTH,), (2,), 8), ((LENGTH // 2, 2), (1, 2), 1)],
    ids=["tiled rows", "columns"],
)
def test_max_unpool(emulated, duplicates, shape, size, lanes):
    window = Window.of(len(size), size)
    pooled = (1, *window.output_shape(shape))
    y = sparse(pooled, np.float16, np.array([1, 2, 3], np.float16))
    winners = sparse(pooled, np.uint8, np.array([1, 0, 1], np.uint8))
    with only_blocks(block_of_last(LENGTH // lanes) - 1, 2):
        x = emulated.max_unpool(y, winners, window, shape, duplicates)
    assert was_64_bit()
    np.testing.assert_array_equal(tail(x, 8), np.array([0, 0, 0, 1, 2, 0, 0, 3], np.float16))


@pytest.mark.parametrize("duplicates", ["last", "sum"])
def test_max_unpool_gradient(emulated, duplicates):
    """Overlapping windows: the last one keeps its cell."""
    window = Window.of(1, 2, 1)
    gradient = sparse((1, LENGTH), np.float16, np.array([1, 2, 3, 4], np.float16))
    winners = sparse((1, LENGTH - 1), np.uint8, np.array([1, 1, 0], np.uint8))
    with only_blocks(block_of_last(LENGTH - 1) - 1, 2):
        out = emulated.max_unpool_gradient(gradient, winners, window, duplicates)
    assert was_64_bit()
    expected = [2, 0, 3] if duplicates == "last" else [2, 3, 3]
    np.testing.assert_array_equal(tail(out, 3), np.array(expected, np.float16))


def test_avg_pool(emulated):
    x = sparse((1, LENGTH), np.float16, np.array([1, 2, 3, 4], np.float16))
    with only_blocks(block_of_last(LENGTH // 2) - 1, 2):
        y = emulated.avg_pool(x, Window.of(1, 2), True, None)
    assert was_64_bit()
    np.testing.assert_array_equal(tail(y, 2), np.array([1.5, 3.5], np.float16))


def test_below_the_limit_indices_have_32_bits(emulated):
    emulated.max_pool(cupy.ones((1, 8, 8), "f4"), Window.of(2, 2))
    assert not was_64_bit()


def test_activation(emulated):
    x = sparse((LENGTH,), np.float16, VALUES)
    with only_blocks(block_of_last(LENGTH // 8), 1):
        y, positive = emulated.activate("relu", x)
    assert was_64_bit()
    assert_same_bits(tail(y, LAST), np.maximum(VALUES, np.float16(0)))
    np.testing.assert_array_equal(tail(positive, LAST), VALUES > 0)
