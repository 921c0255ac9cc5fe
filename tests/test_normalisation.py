"""Batch, layer and group normalisation, as layers and as functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F
from support.gradients import check_gradients
from tinyml.layers import BatchNorm1D, BatchNorm2D, BatchNorm3D, GroupNorm, LayerNorm

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def compare(backend, torch, ours, theirs, ours_gradient, x, weight, bias):
    """Values and gradients of a function of (input, weight, bias)."""
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    expected = theirs(*tensors)
    g = normal(*expected.shape, seed=3)
    expected.backward(torch.from_numpy(g))
    arrays = [backend.asarray(a) for a in (x, weight, bias)]
    y = ours(*arrays)
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
    gradients = ours_gradient(backend.asarray(g), *arrays[:2])
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(backend.to_numpy(gradient), tensor.grad.numpy(), **CLOSE)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    normalized=st.integers(1, 3),
    eps=st.sampled_from([1e-5, 0.1]),
)
def test_layer_norm_equals_pytorch(backend, torch, shape, normalized, eps):
    last = (*shape[-normalized:-1], shape[-1] + 1)
    shape = (*shape[:-normalized], *last)
    weight, bias = normal(*last, seed=1), normal(*last, seed=2)
    compare(
        backend,
        torch,
        lambda x, w, b: F.layer_norm(x, last, w, b, eps),
        lambda x, w, b: torch.nn.functional.layer_norm(x, last, w, b, eps),
        lambda g, x, w: F.layer_norm_gradient(g, x, last, w, eps),
        *(normal(*shape), weight, bias),
    )


@given(
    samples=st.integers(1, 3),
    groups=st.integers(1, 3),
    each=st.integers(1, 3),
    spatial=st.lists(st.integers(2, 4), min_size=1, max_size=3),
)
def test_group_norm_equals_pytorch(backend, torch, samples, groups, each, spatial):
    channels = groups * each
    compare(
        backend,
        torch,
        lambda x, w, b: F.group_norm(x, groups, w, b),
        lambda x, w, b: torch.nn.functional.group_norm(x, groups, w, b),
        lambda g, x, w: F.group_norm_gradient(g, x, groups, w),
        *(normal(samples, channels, *spatial), normal(channels, seed=1), normal(channels, seed=2)),
    )


@given(
    samples=st.integers(2, 4),
    channels=st.integers(1, 3),
    spatial=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    training=st.booleans(),
    momentum=st.sampled_from([0.1, 0.75]),
)
def test_batch_norm_equals_pytorch(backend, torch, samples, channels, spatial, training, momentum):
    mean, variance = normal(channels, seed=4), normal(channels, seed=5) ** 2 + 0.5
    ours = [backend.asarray(a) for a in (mean, variance)]
    given_before = [a.copy() for a in ours]
    theirs = [torch.from_numpy(a.copy()) for a in (mean, variance)]
    torch_norm = torch.nn.functional.batch_norm
    compare(
        backend,
        torch,
        lambda x, w, b: F.batch_norm(x, *ours, w, b, training, momentum),
        lambda x, w, b: torch_norm(x, *theirs, w, b, training, momentum),
        lambda g, x, w: F.batch_norm_gradient(g, x, *given_before, w, training),
        *(normal(samples, channels, *spatial), normal(channels, seed=1), normal(channels, seed=2)),
    )
    for running, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(backend.to_numpy(running), tensor.numpy(), **CLOSE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNorm1D("it", (3,)),
        lambda: BatchNorm1D("it", (3, 4)),
        lambda: BatchNorm3D("it", (3, 2, 2, 2)),
        lambda: LayerNorm("it", (3, 4)),
        lambda: LayerNorm("it", 4),
        lambda: GroupNorm("it", (4, 3), 2),
    ],
)
def test_gradients(backend, make):
    layer = make()
    dim = getattr(layer, "input_dim", (3, 4))
    for number, parameter in enumerate(layer.parameters):
        parameter.tensor = backend.asarray(normal(*parameter.tensor.shape, seed=number))
    check_gradients(layer, normal(3, *dim), backend)


@pytest.mark.parametrize("dtype", ["int32", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNorm2D("it", (2, 3, 3)),
        lambda: LayerNorm("it", (2, 3, 3)),
        lambda: GroupNorm("it", (2, 3, 3), 2),
    ],
)
def test_dtypes(backend, make, dtype):
    """float16 whose squares overflow: the arithmetic is float32's."""
    layer = make()
    x = backend.asarray((normal(2, 2, 3, 3) * 20000).clip(-6e4, 6e4).astype(dtype))
    for _ in range(2):
        y = layer(x)
        back = layer.backward(y)
        floating = np.float32 if dtype == "int32" else np.dtype(dtype)
        assert y.dtype == back.dtype == floating
        assert np.isfinite(backend.to_numpy(y)).all()
        assert np.isfinite(backend.to_numpy(back)).all()
        if isinstance(layer, BatchNorm2D):
            layer.eval()


@pytest.mark.host
def test_bad_arguments():
    for shape in ((1, 3), (1, 3, 1)):
        layer = BatchNorm1D("norm", shape[1:])
        before = layer.running_mean.tensor.copy()
        with pytest.raises(ValueError, match=r"BatchNorm1D\('norm'\): input has one value for"):
            layer(np.ones(shape))
        np.testing.assert_array_equal(layer.running_mean.tensor, before)
        assert layer.eval()(np.ones(shape)).shape == shape
    with pytest.raises(ValueError, match="groups is 2; it must divide the 3 channels"):
        GroupNorm("norm", (3, 4), 2)
    with pytest.raises(ValueError, match=r"must be \(samples, 4, …\)"):
        GroupNorm("norm", (4, 4), 2)(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"input has shape \(2, 3\); it must end with \(4,\)"):
        LayerNorm("norm", 4)(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"dim is \(3,\); it must end with \(4,\)"):
        LayerNorm("norm", 4).output_dim((3,))
    with pytest.raises(ValueError, match="running_mean and running_var are missing"):
        F.batch_norm(np.ones((2, 3)), None, None)
    with pytest.raises(ValueError, match="weight has shape"):
        F.layer_norm(np.ones((2, 3)), (3,), np.ones(2))
