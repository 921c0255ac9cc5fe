"""Max-unpooling and both gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits, assert_same_sums
from support.gradients import numerical_gradient
from support.strategies import FLOATS, arrays, geometries


def pooled_case(backend, data, case):
    """Switches from drawn values, the plain-loop winners, and a drawn array of their shape."""
    shape, geometry = case
    x = data.draw(arrays((data.draw(st.integers(0, 3)), *shape)))
    _, winners, _ = reference.max_pool(x, **geometry)
    _, switches = tinyml.max_pool(backend.asarray(x), geometry.pop("size"), **geometry)
    return switches, winners


@given(data=st.data(), case=geometries())
def test_unpool_equals_plain_loops(backend, data, case):
    shape, geometry = case
    switches, winners = pooled_case(backend, data, (shape, dict(geometry)))
    y = data.draw(arrays(winners.shape))
    out = tinyml.max_unpool(backend.asarray(y), switches)
    assert_same_bits(backend.to_numpy(out), reference.max_unpool(y, winners, shape, **geometry))


@given(data=st.data(), case=geometries())
def test_unpool_gradient_equals_plain_loops(backend, data, case):
    shape, geometry = case
    switches, winners = pooled_case(backend, data, (shape, dict(geometry)))
    gradient = data.draw(arrays((len(winners), *shape)))
    out = tinyml.max_unpool_gradient(backend.asarray(gradient), switches)
    assert_same_bits(
        backend.to_numpy(out), reference.max_unpool_gradient(gradient, winners, **geometry)
    )


@given(data=st.data(), case=geometries())
def test_pool_gradient_equals_plain_loops(backend, data, case):
    shape, geometry = case
    switches, winners = pooled_case(backend, data, (shape, dict(geometry)))
    gradient = data.draw(arrays(winners.shape))
    out = tinyml.max_pool_gradient(backend.asarray(gradient), switches)
    assert_same_sums(
        backend.to_numpy(out), reference.max_pool_gradient(gradient, winners, shape, **geometry)
    )


@given(data=st.data(), case=geometries(symmetric=True))
def test_pool_gradient_equals_pytorch(backend, torch, data, case):
    shape, geometry = case
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = torch.from_numpy(rng.integers(0, 5, (2, 1, *shape)).astype(dtype)).requires_grad_()
    padding = tuple(before for before, _ in geometry["padding"])
    pool = getattr(torch.nn.functional, f"max_pool{len(shape)}d")
    y = pool(x, **_torch_names(geometry), padding=padding)
    gradient = rng.standard_normal(y.shape).astype(dtype)
    y.backward(torch.from_numpy(gradient))
    _, switches = tinyml.max_pool(backend.asarray(x.detach().numpy()), **geometry)
    ours = tinyml.max_pool_gradient(backend.asarray(gradient), switches)
    assert_same_bits(backend.to_numpy(ours), x.grad.numpy())


@given(data=st.data(), case=geometries(symmetric=True))
def test_unpool_equals_pytorch(backend, torch, data, case):
    """Only where no cell is written twice: otherwise PyTorch's result is undefined."""
    shape, geometry = case
    geometry["stride"] = tuple(
        max(s, d * (k - 1) + 1)
        for s, d, k in zip(*(geometry[n] for n in ("stride", "dilation", "size")), strict=True)
    )
    x = data.draw(arrays((2, 1, *shape), FLOATS))
    y, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    values = torch.from_numpy(backend.to_numpy(y))
    indices = torch.from_numpy(backend.to_numpy(switches.to("plane")))
    expected = _pytorch_unpool(torch, values, indices, shape)
    assert_same_bits(backend.to_numpy(tinyml.max_unpool(y, switches)), expected.numpy())


def _pytorch_unpool(torch, y, indices, shape):
    """The operators below ``max_unpool*d``, which take any output size."""
    if len(shape) == 1:
        out = torch.ops.aten.max_unpool2d(y[..., None, :], indices[..., None, :], [1, *shape])
        return out[..., 0, :]
    if len(shape) == 2:
        return torch.ops.aten.max_unpool2d(y, indices, list(shape))
    return torch.ops.aten.max_unpool3d(y, indices, list(shape), [1, 1, 1], [0, 0, 0])


def _torch_names(geometry):
    return {
        "kernel_size": geometry["size"],
        "stride": geometry["stride"],
        "dilation": geometry["dilation"],
        "ceil_mode": geometry["ceil_mode"],
    }


@given(data=st.data(), case=geometries())
def test_pool_gradient_is_the_derivative(backend, data, case):
    shape, geometry = case
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.permutation(2 * int(np.prod(shape))).astype(np.float64).reshape(2, *shape)
    y, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    weights = rng.standard_normal(y.shape)
    ours = backend.to_numpy(tinyml.max_pool_gradient(backend.asarray(weights), switches))

    def loss(values):
        pooled, _ = tinyml.max_pool(backend.asarray(values), **geometry)
        return float((backend.to_numpy(pooled) * weights).sum())

    np.testing.assert_allclose(ours, numerical_gradient(loss, x, 0.25), rtol=1e-9, atol=1e-9)


@given(data=st.data(), case=geometries())
def test_unpool_gradient_is_the_derivative(backend, data, case):
    shape, geometry = case
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.permutation(2 * int(np.prod(shape))).astype(np.float64).reshape(2, *shape)
    y, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    weights = rng.standard_normal(x.shape)
    ours = backend.to_numpy(tinyml.max_unpool_gradient(backend.asarray(weights), switches))

    def loss(values):
        out = tinyml.max_unpool(backend.asarray(values), switches)
        return float((backend.to_numpy(out) * weights).sum())

    numeric = numerical_gradient(loss, backend.to_numpy(y), 0.25)
    np.testing.assert_allclose(ours, numeric, rtol=1e-9, atol=1e-9)


def test_the_last_overlapping_window_writes(backend):
    x = np.array([[[0.0, 9.0, 0.0]]])
    _, switches = tinyml.max_pool(backend.asarray(x), 2, 1)
    out = tinyml.max_unpool(backend.asarray(np.array([[[3.0, 4.0]]])), switches)
    assert_same_bits(backend.to_numpy(out), np.array([[[0.0, 4.0, 0.0]]]))
    back = tinyml.max_unpool_gradient(backend.asarray(np.array([[[1.0, 2.0, 3.0]]])), switches)
    assert_same_bits(backend.to_numpy(back), np.array([[[0.0, 2.0]]]))


@pytest.mark.parametrize("stride", [1, 2])
def test_sums_start_at_plus_zero(backend, stride):
    x = backend.asarray(np.array([[[1.0, 0.0, 2.0, 0.0]]], np.float32))
    y, switches = tinyml.max_pool(x, 2, stride)
    gradient = backend.asarray(np.full(y.shape, -0.0, np.float32))
    out = backend.to_numpy(tinyml.max_pool_gradient(gradient, switches))
    assert not np.signbit(out).any()


def test_float16_is_summed_in_float32(backend):
    """2048 + 1 + 1 is 2050, but 2048 in float16 if rounded after every addition."""
    _, switches = tinyml.max_pool(backend.asarray(np.array([[[0, 0, 9, 0, 0]]])), 3, 1)
    gradient = backend.asarray(np.array([[[2048, 1, 1]]], np.float16))
    out = backend.to_numpy(tinyml.max_pool_gradient(gradient, switches))
    assert_same_bits(out, np.array([[[0, 0, 2050, 0, 0]]], np.float16))


def test_integer_sums_wrap(backend):
    _, switches = tinyml.max_pool(backend.asarray(np.array([[[0, 9, 0]]])), 2, 1)
    out = tinyml.max_pool_gradient(backend.asarray(np.array([[[127, 1]]], np.int8)), switches)
    assert_same_bits(backend.to_numpy(out), np.array([[[0, -128, 0]]], np.int8))


@pytest.mark.parametrize(
    "operation", [tinyml.max_unpool, tinyml.max_pool_gradient, tinyml.max_unpool_gradient]
)
class TestBadInput:
    @pytest.fixture
    def switches(self, backend):
        return tinyml.max_pool(backend.asarray(np.zeros((2, 3, 5, 4), np.float32)), 2)[1]

    def test_shape(self, backend, operation, switches):
        for shape in [(2, 3, 3, 2), (3, 3, 2, 2), (2, 2, 2), (2, 3, 4, 4), (12,)]:
            with pytest.raises(ValueError, match=r"has shape .*; it must be \(2, 3, "):
                operation(backend.asarray(np.zeros(shape, np.float32)), switches)

    def test_dtype(self, backend, operation, switches):
        with pytest.raises(TypeError, match=r"has dtype bool; allowed are"):
            operation(backend.asarray(np.zeros((2, 3, 2, 2), bool)), switches)

    def test_no_array(self, backend, operation, switches):
        with pytest.raises(TypeError, match="no array of a known library"):
            operation([[1.0]], switches)

    def test_no_switches(self, backend, operation, switches):
        y = backend.asarray(np.zeros((2, 3, 2, 2), np.float32))
        with pytest.raises(TypeError, match=r"switches is a .*; it must be Switches"):
            operation(y, switches.winners)
