"""The other pooling layers: one and three dimensions, averages."""

import inspect

import numpy as np
import pytest

import tinyml
from support.compare import assert_same_bits
from support.gradients import check_gradients
from tinyml.layers import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool2D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
)
from tinyml.net import Sequential

DIMS = {1: (2, 9), 2: (2, 7, 6), 3: (2, 5, 4, 6)}
MAX = {1: (MaxPool1D, MaxUnpool1D), 2: (MaxPool2D, MaxUnpool2D), 3: (MaxPool3D, MaxUnpool3D)}
AVG = {1: AvgPool1D, 2: AvgPool2D, 3: AvgPool3D}


def values(backend, axes):
    shape = (3, *DIMS[axes])
    return np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(float)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_pool_and_unpool(backend, axes):
    pool_type, unpool_type = MAX[axes]
    x = backend.asarray(values(backend, axes))
    pool = pool_type("pool", DIMS[axes], 2, 2, return_index=True)
    assert pool.type == f"MaxPool{axes}D"
    y, indices = pool(x)
    expected, switches = tinyml.max_pool(x, 2)
    assert y.shape == (3, *pool.out_dim)
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(expected))
    assert_same_bits(backend.to_numpy(indices), backend.to_numpy(switches.to("window")))
    unpool = unpool_type("unpool", pool.out_dim, 2, 2, pool=pool)
    assert unpool.out_dim == DIMS[axes]
    out = backend.to_numpy(tinyml.max_unpool(y, switches))
    assert_same_bits(backend.to_numpy(unpool(y)), out)
    assert_same_bits(backend.to_numpy(unpool(y, switches)), out)
    plain = unpool_type("plain", pool.out_dim, 2, 2)
    assert plain(y, indices).shape == (3, 2, *[2 * (n // 2) for n in DIMS[axes][1:]])
    assert_same_bits(
        backend.to_numpy(pool.backward(y)), backend.to_numpy(tinyml.max_pool_gradient(y, switches))
    )
    assert_same_bits(
        backend.to_numpy(unpool.backward(x)),
        backend.to_numpy(tinyml.max_unpool_gradient(x, switches)),
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"padding": 1, "ceil_mode": True}])
def test_max_gradients(backend, axes, options):
    pool_type, unpool_type = MAX[axes]
    pool = pool_type("pool", DIMS[axes], 3, 2, **options)
    options.pop("ceil_mode", None)
    unpool = unpool_type("unpool", pool.out_dim, 3, 2, pool=pool, **options)
    check_gradients(Sequential([pool, unpool]), values(backend, axes), backend, step=0.25)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1, "count_include_pad": False},
        {"dilation": 2, "divisor_override": 3},
        {"ceil_mode": True},
    ],
)
def test_average(backend, axes, options):
    layer = AVG[axes]("pool", DIMS[axes], 2, 2, **options)
    assert layer.type == f"AvgPool{axes}D"
    x = values(backend, axes)
    y = layer(backend.asarray(x))
    assert y.shape == (3, *layer.out_dim)
    expected = tinyml.avg_pool(backend.asarray(x), 2, 2, **options)
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(expected))
    check_gradients(layer, x / x.size, backend)


def test_global_average(backend):
    x = values(backend, 2)
    layer = GlobalAvgPool2D("pool", DIMS[2])
    assert layer.out_dim == (2, 1, 1)
    y = backend.to_numpy(layer(backend.asarray(x)))
    np.testing.assert_allclose(y[..., 0, 0], x.mean((2, 3)), rtol=1e-12)
    check_gradients(layer, x / x.size, backend)
    assert layer.output_dim((2, 3, 4)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("axes", "names"),
    [(1, ["length"]), (2, ["height", "width"]), (3, ["depth", "height", "width"])],
)
def test_attributes(backend, axes, names):
    for layer in (MAX[axes][0]("pool", DIMS[axes], 2, 2), AVG[axes]("pool", DIMS[axes], 2, 2)):
        assert layer.input_channel == 2
        for name, length, out in zip(names, DIMS[axes][1:], layer.out_dim[1:], strict=True):
            assert getattr(layer, f"input_{name}") == length
            assert getattr(layer, f"out_{name}") == out
        layer(backend.asarray(values(backend, axes)))
        assert layer.num_of_entries == 3


def test_bad_input(backend):
    for axes in (1, 2, 3):
        for layer in (MAX[axes][0]("pool", DIMS[axes], 2, 2), AVG[axes]("pool", DIMS[axes], 2, 2)):
            with pytest.raises(ValueError, match=r"'pool'\): input has shape"):
                layer(backend.asarray(np.zeros((1, 3, *DIMS[axes][1:]))))
            layer(backend.asarray(values(backend, axes)))
            with pytest.raises(ValueError, match="gradient has shape"):
                layer.backward(backend.asarray(np.zeros((3, *DIMS[axes]))))
        with pytest.raises(ValueError, match="input_dim is"):
            AVG[axes]("pool", (*DIMS[axes], 4), 2, 2)
    with pytest.raises(ValueError, match="divisor_override is 0"):
        AvgPool2D("pool", DIMS[2], 2, 2, divisor_override=0)
    with pytest.raises(TypeError, match="input_dim is"):
        GlobalAvgPool2D("pool", 4)


def test_switches_of_another_layout(backend):
    x = backend.asarray(np.zeros((1, 4, 4, 4)))
    _, switches = tinyml.max_pool(x, 2, layout="channels_last")
    unpool = MaxUnpool2D("unpool", (4, 2, 2), 2, 2)
    with pytest.raises(ValueError, match="switches of channels_last; this layer is channels_first"):
        unpool(backend.asarray(np.zeros((1, 4, 2, 2))), switches)


@pytest.mark.host
def test_signatures():
    for pools in MAX.values():
        for layer, names in zip(
            pools,
            (
                ["name", "input_dim", "size", "stride", "return_index"],
                ["name", "input_dim", "size", "stride"],
            ),
            strict=True,
        ):
            parameters = inspect.signature(layer).parameters.values()
            assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == names
