"""Power-average pooling against PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data())
def test_equals_pytorch(backend, torch, axes, data):
    size = tuple(data.draw(st.integers(1, 3)) for _ in range(axes))
    stride = data.draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 3)] * axes)))
    shape = [k + data.draw(st.integers(0, 3)) for k in size]
    norms = st.sampled_from([1, 2, 3, 2.5, np.inf, -np.inf])
    options = {"norm_type": data.draw(norms), "kernel_size": size}
    options |= {"stride": stride, "ceil_mode": data.draw(st.booleans())}
    x = np.random.default_rng(0).random((2, 2, *shape)) + 0.1
    tensor = torch.from_numpy(x).requires_grad_()
    of_torch = {k: v[0] if axes == 1 and isinstance(v, tuple) else v for k, v in options.items()}
    expected = getattr(torch.nn.functional, f"lp_pool{axes}d")(tensor, **of_torch)
    g = np.random.default_rng(1).standard_normal(expected.shape)
    expected.backward(torch.from_numpy(g))
    y = getattr(F, f"lp_pool{axes}d")(backend.asarray(x), **options)
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), rtol=1e-6)
    back = getattr(F, f"lp_pool{axes}d_gradient")(backend.asarray(g), backend.asarray(x), **options)
    np.testing.assert_allclose(backend.to_numpy(back), tensor.grad.numpy(), rtol=1e-6, atol=1e-12)


def test_zeros_and_float16(backend):
    x = backend.asarray(np.zeros((1, 1, 4), np.float32))
    back = F.lp_pool1d_gradient(backend.asarray(np.ones((1, 1, 2), np.float32)), x, 2, 2)
    np.testing.assert_array_equal(backend.to_numpy(back), np.zeros((1, 1, 4)))
    large = backend.asarray(np.full((1, 1, 4), 300, np.float16))  # its square overflows
    y = F.lp_pool1d(large, 2, 4)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(backend.to_numpy(y), [[[600]]])


@pytest.mark.parametrize("norm_type", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["int32", "float16", "float64"])
def test_the_maximum_of_absolute_values(backend, torch, norm_type, dtype):
    """Also of negative numbers, ties, NaN and a single sample."""
    x = np.array([[1, -5, 3, -2, 0, 0, 4, -4, 6, 7]], dtype)
    if dtype != "int32":
        x[0, -1] = np.nan
    floats = x.astype("float32" if dtype == "int32" else dtype)
    tensor = torch.from_numpy(floats.astype(float)).requires_grad_()
    expected = torch.nn.functional.lp_pool1d(tensor, norm_type, 2)
    expected.backward(torch.ones_like(expected))
    y = F.lp_pool1d(backend.asarray(x), norm_type, 2)
    assert y.dtype == floats.dtype
    np.testing.assert_array_equal(backend.to_numpy(y), expected.detach().numpy())
    back = F.lp_pool1d_gradient(backend.xp.ones_like(y), backend.asarray(x), norm_type, 2)
    assert back.dtype == floats.dtype
    np.testing.assert_array_equal(backend.to_numpy(back), tensor.grad.numpy())


@pytest.mark.host
def test_bad_arguments():
    x = np.ones((1, 1, 4))
    with pytest.raises(ValueError, match="norm_type is 0; it must be more than 0"):
        F.lp_pool1d(x, 0, 2)
    with pytest.raises(ValueError, match="norm_type is nan; it must be more than 0"):
        F.lp_pool1d(x, np.nan, 2)
    with pytest.raises(ValueError, match=r"gradient has shape \(1, 1, 3\)"):
        F.lp_pool1d_gradient(np.ones((1, 1, 3)), x, np.inf, 2)
    with pytest.raises(ValueError, match=r"gradient has shape \(1, 1, 3\)"):
        F.lp_pool1d_gradient(np.ones((1, 1, 3)), x, 2, 2)
