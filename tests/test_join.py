"""Add and Concat, and the contract's methods that join arrays and scale channels."""

import numpy as np
import pytest

from support.compare import assert_same_bits
from support.gradients import numerical_gradient
from tinyml.layers import Add, Concat


def arrays(backend, *shapes, dtype=np.float32, strided=False):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    if strided:
        return values, [backend.asarray(np.repeat(v, 2, -1))[..., ::2] for v in values]
    return values, [backend.asarray(v) for v in values]


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_add(backend, count, dtype, strided):
    """Added from left to right in the inputs' dtype; with one input, the result is a copy."""
    values, given = arrays(backend, *[(2, 3, 5)] * count, dtype=dtype, strided=strided)
    expected = values[0]
    for value in values[1:]:
        expected = expected + value
    y = Add("add")(*given)
    assert_same_bits(backend.to_numpy(y), expected)
    y += 1
    assert_same_bits(backend.to_numpy(given[0]), values[0])


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_concat(backend, dtype, strided):
    shapes = ((2, 3, 4, 5), (2, 1, 4, 5), (2, 0, 4, 5), (2, 2, 4, 5))
    values, given = arrays(backend, *shapes, dtype=dtype, strided=strided)
    layer = Concat("concat")
    y = layer(*given)
    assert_same_bits(backend.to_numpy(y), np.concatenate(values, 1))
    for gradient, value in zip(layer.backward(y), values, strict=True):
        assert_same_bits(backend.to_numpy(gradient), value)


@pytest.mark.parametrize("layer", [Add("add"), Concat("concat")], ids=["add", "concat"])
def test_gradients(backend, layer):
    values, given = arrays(backend, (2, 3, 4), (2, 3, 4), dtype=np.float64)
    weights = np.random.default_rng(1).standard_normal(layer(*given).shape)
    found = layer.backward(backend.asarray(weights))

    for number in range(2):

        def loss(x, number=number):
            inputs = list(given)
            inputs[number] = backend.asarray(x)
            return float((backend.to_numpy(layer(*inputs)) * weights).sum())

        expected = numerical_gradient(loss, values[number], 1e-5)
        np.testing.assert_allclose(backend.to_numpy(found[number]), expected, rtol=1e-7, atol=1e-8)


def test_channels(backend):
    (x, scale), (given, factors) = arrays(backend, (3, 4, 2, 5), (4,), dtype=np.float64)
    np.testing.assert_allclose(
        backend.to_numpy(backend.sum_channels(given)), x.sum((0, 2, 3)), rtol=1e-12
    )
    assert_same_bits(
        backend.to_numpy(backend.scale_channels(given, factors)), x * scale[:, None, None]
    )
