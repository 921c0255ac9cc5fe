"""Warnings where a shape may be meant otherwise than it is read."""

import warnings

import numpy as np
import pytest

import tinyml
from tinyml.layers import MaxPool1D
from tinyml_backends import Window

POOLS = {
    "max_pool": lambda x, size, **options: tinyml.max_pool(x, size, **options)[0],
    "avg_pool": tinyml.avg_pool,
}
ADAPTIVE = {
    "adaptive_max_pool": lambda x, size: tinyml.adaptive_max_pool(x, size)[0],
    "adaptive_avg_pool": tinyml.adaptive_avg_pool,
}


@pytest.fixture(autouse=True)
def every_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def zeros(backend):
    return lambda *shape: backend.asarray(np.zeros(shape, np.float32))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("size", [2, 3])
def test_an_int_for_three_axes(zeros, pool, size):
    rows = 20 + size + 10 * list(POOLS).index(pool)  # a shape is looked at once
    x = zeros(3, rows, 31)
    with pytest.warns(UserWarning, match=rf"\(3, {rows}, 31\) and size is {size}") as caught:
        y = POOLS[pool](x, size)
    message = str(caught[0].message)
    assert f"size=({size}, {size})" in message
    assert "layout=" in message
    assert caught[0].filename == __file__
    assert y.shape == (3, rows, 31 // size)  # the meaning stays


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_last_without_a_layout(zeros, pool, channels):
    x = zeros(2, 16, 16 + channels + 10 * list(POOLS).index(pool), channels)
    size = 1 if channels < 2 else 2
    with pytest.warns(UserWarning, match="read as .samples, channels, height, width") as caught:
        POOLS[pool](x, size, stride=2)
    assert 'layout="channels_last"' in str(caught[0].message)
    assert f"size=({size}, {size})" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("pool", POOLS)
def test_what_does_not_warn(zeros, pool):
    run = POOLS[pool]
    run(zeros(3, 20, 31), (2, 2))
    run(zeros(3, 20, 31), (2,))
    run(zeros(3, 20, 31), 2, layout="channels_first")
    run(zeros(3, 20, 32), [2, 2])
    run(zeros(2, 18, 18, 3), 2, layout="channels_last")
    run(zeros(2, 18, 18, 3), 2, layout="channels_first")
    run(zeros(2, 18, 18, 3), (2, 2))
    run(zeros(2, 18, 18, 5), 2)
    run(zeros(2, 15, 18, 3), 2)
    run(zeros(2, 18, 15, 3), 2)
    run(zeros(2, 3, 18, 18), 2)
    run(zeros(2, 3, 18, 18, 3), 2)


@pytest.mark.parametrize("pool", ADAPTIVE)
def test_adaptive(zeros, pool):
    with pytest.warns(UserWarning, match=r"Pass output_size=\(2, 2\) for one image") as caught:
        ADAPTIVE[pool](zeros(3, 20, 31), 2)
    assert caught[0].filename == __file__
    ADAPTIVE[pool](zeros(3, 20, 31), (2,))
    ADAPTIVE[pool](zeros(2, 3, 20, 31), 2)


def test_layers_and_windows_say_their_axes(zeros):
    pool = MaxPool1D("pool", (3, 30), 2, 2)
    assert pool(zeros(2, 3, 30)).shape == (2, 3, 15)
    assert Window.of(1, 2).output_shape((4,)) == (2,)
