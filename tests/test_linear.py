"""Linear, Flatten, Reshape and PadChannels2D."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F
from support.gradients import check_gradients, in_float64
from tinyml.layers import Conv2D, Flatten, Linear, PadChannels2D, Reshape
from tinyml.net import Sequential

CLOSE = {"rtol": 1e-6, "atol": 1e-12}


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    with_bias=st.booleans(),
)
def test_equals_pytorch(backend, torch, shape, inputs, outputs, with_bias):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((*shape, inputs)), rng.standard_normal((outputs, inputs))
    bias = rng.standard_normal(outputs)
    g = rng.standard_normal((*shape, outputs))
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    expected = torch.nn.functional.linear(*tensors[: 2 + with_bias])
    expected.backward(torch.from_numpy(g))
    ours = [backend.asarray(a) for a in (x, weight, bias)]
    y = F.linear(*ours[: 2 + with_bias])
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
    gradients = F.linear_gradient(backend.asarray(g), *ours[:2])
    for gradient, tensor in zip(gradients, tensors[: 2 + with_bias], strict=False):
        np.testing.assert_allclose(backend.to_numpy(gradient), tensor.grad.numpy(), **CLOSE)
    if len(shape) == 1:
        layer = in_float64(Linear("it", inputs, outputs, bias=with_bias), backend)
        layer.weight.tensor = ours[1]
        if with_bias:
            layer.bias.tensor = ours[2]
        np.testing.assert_array_equal(backend.to_numpy(layer(ours[0])), backend.to_numpy(y))
        back = layer.backward(backend.asarray(g))
        for got, gradient in zip(
            [back, *(p.gradient for p in layer.parameters)], gradients, strict=False
        ):
            np.testing.assert_allclose(backend.to_numpy(got), backend.to_numpy(gradient), **CLOSE)


def test_gradients(backend):
    check_gradients(Linear("it", (4,), 3, rng=0), np.random.default_rng(0).random((2, 4)), backend)
    body = [Reshape("image", (2, 3, -1)), Flatten("flat"), Linear("out", 12, 2, rng=0)]
    check_gradients(Sequential(body), np.random.default_rng(0).random((2, 12)), backend)


def test_shapes(backend):
    x = backend.asarray(np.arange(24).reshape(2, 3, 4))
    flat = Flatten("flat")
    assert flat(x).shape == (2, 12)
    assert flat.backward(flat(x)).shape == (2, 3, 4)
    y = Reshape("it", (4, 3))(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(backend.to_numpy(y), np.arange(24).reshape(2, 4, 3))


def test_channels_of_zeros(backend):
    x = np.random.default_rng(0).random((2, 3, 4, 5))
    pad = PadChannels2D("pad", (3, 6, 6), 5)
    assert pad.out_dim == (5, 6, 6)
    expected = np.concatenate([x, np.zeros((2, 2, 4, 5))], 1)
    np.testing.assert_array_equal(backend.to_numpy(pad(backend.asarray(x))), expected)
    check_gradients(pad, x, backend)
    same = PadChannels2D("pad", (3, 6, 6), 3)
    np.testing.assert_array_equal(backend.to_numpy(same(backend.asarray(x))), x)


@pytest.mark.host
def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\('it'\): channels is 2; it must be at least the 3 of"):
        PadChannels2D("it", (3, 4, 4), 2)
    with pytest.raises(ValueError, match=r"PadChannels2D\('it'\): input_dim is \(3, 4\)"):
        PadChannels2D("it", (3, 4), 4)
    with pytest.raises(ValueError, match=r"PadChannels2D\('it'\): input has shape \(2, 2, 4, 4\)"):
        PadChannels2D("it", (3, 4, 4), 4)(np.zeros((2, 2, 4, 4)))
    for given_dim in (0, -1, (0,)):
        with pytest.raises(ValueError, match="input_dim is"):
            Linear("it", given_dim, 3)
    with pytest.raises(ValueError, match=r"Linear\('it'\): input_dim is \(2, 3\)"):
        Linear("it", (2, 3), 3)
    with pytest.raises(ValueError, match=r"Linear\('it'\): output_dim is 0"):
        Linear("it", 3, 0)
    with pytest.raises((TypeError, ValueError), match="input_dim is"):
        Linear("it", 2.5, 3)
    for shape in ((-1, -1), (0, 2), (2.5,), 3, (), "ab"):
        with pytest.raises(ValueError, match=r"Reshape\('it'\): shape is"):
            Reshape("it", shape)
    with pytest.raises(ValueError, match=r"dim is \(5,\), 5 values; they do not fit"):
        Reshape("it", (2, -1)).output_dim((5,))
    with pytest.raises(ValueError, match=r"(?s)conv.*out.*Flatten|out.*conv.*Flatten"):
        Sequential([Conv2D("conv", (1, 4, 4), 2, 3), Linear("out", 8, 2)])
    with pytest.raises(ValueError, match=r"Linear\('it'\): input has shape \(2, 4\)"):
        Linear("it", 3, 2)(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="its last length must be that of weight, 3"):
        F.linear(np.zeros((2, 4)), np.zeros((5, 3)))
