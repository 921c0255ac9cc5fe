"""Batch norm and ReLU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.compare import assert_same_bits
from support.gradients import check_gradients, in_float64
from support.strategies import laid_out
from tinyml.layers import BatchNorm2D, ReLU

CLOSE = {"rtol": 1e-6, "atol": 1e-10}


@given(data=st.data())
def test_batch_norm_equals_pytorch(backend, torch, data):
    """Two training batches, then one in use: outputs, gradients and running statistics."""
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * 4).filter(lambda s: s[0] * s[2] * s[3] > 1))
    momentum, epsilon = data.draw(st.sampled_from([(0.1, 1e-5), (0.5, 1e-3)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    layer = in_float64(BatchNorm2D("norm", shape[1:], momentum=momentum, epsilon=epsilon), backend)
    theirs = torch.nn.BatchNorm2d(shape[1], eps=epsilon, momentum=momentum, dtype=torch.float64)
    for parameter, tensor in zip(layer.parameters, (theirs.weight, theirs.bias), strict=True):
        values = rng.standard_normal(shape[1])
        parameter.tensor = backend.asarray(values)
        tensor.data = torch.from_numpy(values.copy())
    for training in (True, True, False):
        layer.train(training)
        theirs.train(training)
        x, gradient = 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)
        layout = data.draw(st.sampled_from(["C", "F", "strided", "reversed"]))
        y = layer(backend.asarray(laid_out(x, layout)))
        layer.zero_gradients()
        ours = layer.backward(backend.asarray(laid_out(gradient, layout)))
        source = torch.from_numpy(x).requires_grad_()
        expected = theirs(source)
        theirs.zero_grad()
        expected.backward(torch.from_numpy(gradient))
        for array, tensor in (
            (y, expected.detach()),
            (ours, source.grad),
            (layer.scale.gradient, theirs.weight.grad),
            (layer.shift.gradient, theirs.bias.grad),
            (layer.running_mean.tensor, theirs.running_mean),
            (layer.running_variance.tensor, theirs.running_var),
        ):
            # sums over a few elements that nearly cancel are as exact as their largest term
            np.testing.assert_allclose(backend.to_numpy(array), tensor.numpy(), **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradients(backend, training):
    rng = np.random.default_rng(0)
    layer = BatchNorm2D("norm", (2, 3, 4)).train(training)
    layer.scale.tensor = backend.asarray(np.array([1.5, -0.5]))
    check_gradients(layer, rng.standard_normal((3, 2, 3, 4)), backend)


def test_batch_norm_keeps_float32(backend):
    layer = BatchNorm2D("norm", (2, 3, 4))
    x = backend.asarray(np.random.default_rng(0).standard_normal((3, 2, 3, 4), np.float32))
    y = layer(x)
    assert y.dtype == layer.backward(y).dtype == np.float32
    assert layer.running_mean.tensor.dtype == layer.scale.gradient.dtype == np.float32
    normalized = backend.to_numpy(y)
    np.testing.assert_allclose(normalized.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(normalized.std((0, 2, 3)), 1, rtol=1e-3)


def test_batch_norm_far_from_zero(backend):
    """A mean a thousand times the deviation must not eat the variance (E[x²] − E[x]² would)."""
    x = 1000 + np.random.default_rng(0).standard_normal((8, 1, 16, 16)).astype(np.float32)
    y = backend.to_numpy(BatchNorm2D("norm", (1, 16, 16))(backend.asarray(x)))
    np.testing.assert_allclose(y.std(), 1, rtol=1e-3)


def test_relu(backend):
    x = np.array([[-1.0, -0.0, 0.0, 2.0, np.inf, -np.inf, np.nan]], np.float32)
    layer = ReLU("relu")
    y = backend.to_numpy(layer(backend.asarray(x)))
    np.testing.assert_array_equal(y, np.array([[0, 0, 0, 2, np.inf, 0, np.nan]], np.float32))
    gradient = backend.asarray(np.full(x.shape, 7, np.float32))
    back = backend.to_numpy(layer.backward(gradient))
    assert_same_bits(back, np.array([[0, 0, 0, 7, 7, 0, 0]], np.float32))


@given(data=st.data())
def test_relu_equals_pytorch(backend, torch, data):
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, gradient = rng.standard_normal(shape), rng.standard_normal(shape)
    layer = ReLU("relu")
    y, ours = layer(backend.asarray(x)), layer.backward(backend.asarray(gradient))
    source = torch.from_numpy(x).requires_grad_()
    expected = torch.relu(source)
    expected.backward(torch.from_numpy(gradient))
    assert_same_bits(backend.to_numpy(y), expected.detach().numpy())
    assert_same_bits(backend.to_numpy(ours), source.grad.numpy())


def test_relu_gradient(backend):
    x = np.random.default_rng(0).choice([-2.0, -1.0, 1.0, 2.0], (2, 3, 4))  # away from the kink
    check_gradients(ReLU("relu"), x, backend)


@pytest.mark.parametrize("make", [lambda: BatchNorm2D("norm", (2, 3, 4)), lambda: ReLU("relu")])
def test_bad_input(backend, make):
    layer = make()
    x = backend.asarray(np.ones((3, 2, 3, 4), np.float32))
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layer.backward(x)
    with pytest.raises(TypeError, match="no array of a known library"):
        layer([[1.0]])
    layer(x)
    with pytest.raises(
        ValueError, match=r"gradient has shape \(2, 2, 3, 4\); it must be \(3, 2, 3"
    ):
        layer.backward(x[:2])


def test_batch_norm_refuses_other_channels(backend):
    layer = BatchNorm2D("norm", (2, 3, 4))
    before = backend.to_numpy(layer.running_mean.tensor).copy()
    with pytest.raises(
        ValueError, match=r"'norm'\): input has shape .* \(samples, 2, height, width\)"
    ):
        layer(backend.asarray(np.ones((1, 3, 3, 4), np.float32)))
    assert_same_bits(backend.to_numpy(layer.running_mean.tensor), before)
    with pytest.raises(ValueError, match=r"'norm'\): the input's dim is .* \(2, height, width\)"):
        layer.output_dim((3, 3, 4))
    assert layer(backend.asarray(np.ones((1, 2, 5, 7), np.float32))).shape == (1, 2, 5, 7)


def test_batch_norm_remembers_the_mode_of_its_forward(backend):
    rng = np.random.default_rng(0)
    x, gradient = (backend.asarray(rng.standard_normal((2, 2, 3, 4))) for _ in range(2))
    layer = BatchNorm2D("norm", (2, 3, 4))
    layer(x)
    expected = backend.to_numpy(layer.backward(gradient))
    layer.eval()
    assert_same_bits(backend.to_numpy(layer.backward(gradient)), expected)


def test_batch_norm_does_not_overflow_in_float16(backend):
    x = np.random.default_rng(0).normal(0, 3, (2, 1, 128, 128)).astype(np.float16)
    y = BatchNorm2D("norm", (1, 128, 128))(backend.asarray(x))
    assert y.dtype == np.float16
    np.testing.assert_allclose(backend.to_numpy(y).std(), 1, rtol=1e-3)
