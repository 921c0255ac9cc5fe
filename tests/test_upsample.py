"""Interpolation and the layers of adaptive pooling."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinyml.functional as F
from support.compare import assert_same_bits, assert_same_sums
from support.gradients import check_gradients
from support.strategies import laid_out
from tinyml import layers
from tinyml.layers import Upsample

CLOSE = {"rtol": 1e-6, "atol": 1e-12}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    data=st.data(),
    linear=st.booleans(),
    align=st.booleans(),
)
def test_interpolate_equals_pytorch(backend, torch, shape, data, linear, align):
    options = {"mode": LINEAR[len(shape)] if linear else "nearest"}
    if linear:
        options["align_corners"] = align
    if data.draw(st.booleans()):
        options["size"] = [data.draw(st.integers(1, 12)) for _ in shape]
    else:
        scales = st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0])
        options["scale_factor"] = [data.draw(scales) for _ in shape]
    x = normal(2, 2, *shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.interpolate(tensor, **options)
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    y = F.interpolate(backend.asarray(x), **options)
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
    gradient = F.interpolate_gradient(backend.asarray(g), x.shape, **options)
    np.testing.assert_allclose(backend.to_numpy(gradient), tensor.grad.numpy(), **CLOSE)


@given(data=st.data(), terms=st.integers(1, 6), dtype=st.sampled_from(["float32", "float64"]))
def test_resample_equals_a_loop(backend, data, terms, dtype):
    """To the bit, also where a cell that does not count is NaN."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    results, length = data.draw(st.integers(1, 5)), shape[axis]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    cells = rng.integers(0, length, (terms, results))
    weights = rng.choice([0, 0.25, 1], (terms, results)).astype(dtype)
    x = rng.choice([1.1, -3.3, -0.0, np.nan, np.inf], shape).astype(dtype)
    along = np.moveaxis(x, axis, 0)
    expected = np.empty((results, *along.shape[1:]), dtype)
    for i in range(results):
        summands = [
            along[cells[k, i]] * weights[k, i] if weights[k, i] else np.zeros_like(along[0])
            for k in range(terms)
        ]
        expected[i] = summands[0]
        for summand in summands[1:]:
            expected[i] += summand
    layout = data.draw(st.sampled_from(["C", "F", "strided", "reversed"]))
    y = backend.resample(backend.asarray(laid_out(x, layout)), axis, cells, weights.astype(float))
    assert_same_sums(backend.to_numpy(y), np.ascontiguousarray(np.moveaxis(expected, 0, axis)))


@pytest.mark.parametrize("shape", [(3, 50, 170, 19), (1, 2, 3, 30000), (70000, 2, 1, 2)])
def test_large_arrays(backend, shape):
    """Arrays of several chunks."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = x.repeat(2, 2).repeat(2, 3)
    assert_same_bits(backend.to_numpy(F.interpolate(backend.asarray(x), None, 2)), expected)
    ones = backend.asarray(np.ones(expected.shape, np.float32))
    fours = F.interpolate_gradient(ones, shape, None, 2, "bilinear")
    np.testing.assert_array_equal(backend.to_numpy(fours), 4)


@given(
    length=st.integers(1, 40),
    scale=st.one_of(st.floats(0.3, 4), st.sampled_from([1.1, 2.1, 1 / 3, 4 / 3])),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    mode=st.sampled_from(["nearest", "linear"]),
    recompute=st.sampled_from([None, False, True]),
)
def test_any_scale_equals_pytorch(backend, torch, length, scale, dtype, mode, recompute):
    assume(length * scale >= 1)
    options = {"scale_factor": scale, "mode": mode, "recompute_scale_factor": recompute}
    x = normal(2, 3, length).astype(dtype)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), **options).numpy()
    y = backend.to_numpy(F.interpolate(backend.asarray(x), **options))
    assert y.dtype == dtype
    if mode == "nearest":
        np.testing.assert_array_equal(y, expected)
    else:  # PyTorch computes the weights in float32, too
        close = {"float16": 2e-3, "float32": 1e-4, "float64": 1e-9}[dtype]
        np.testing.assert_allclose(y, expected, rtol=close, atol=close)
    # the adjoint; PyTorch's own gradient of "nearest" uses other cells than its result
    g = normal(*y.shape, seed=1).astype(dtype)
    back = F.interpolate_gradient(backend.asarray(g), x.shape, **options)
    both = [(y, g), (x, backend.to_numpy(back))]
    ours, theirs = ((a.astype(float) * b.astype(float)).sum() for a, b in both)
    close = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(ours, theirs, rtol=close, atol=30 * close)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_scale_that_keeps_the_length(backend, mode):
    x = backend.asarray(np.arange(5.0).reshape(1, 1, 5))
    y = F.interpolate(x, scale_factor=1.1, mode=mode)
    expected = [0, 0, 1, 2, 3] if mode == "nearest" else [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(backend.to_numpy(y)[0, 0], expected)
    y = F.interpolate(x, scale_factor=1.1, mode=mode, recompute_scale_factor=True)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(x))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("layout", ["transposed", "strided", "reversed"])
def test_layouts_and_empty_batches(backend, torch, mode, samples, layout):
    def laid_out(values):
        if layout == "transposed":
            return backend.asarray(values.T.copy()).T
        step = 2 if layout == "strided" else -1
        wide = np.zeros((*values.shape[:-1], abs(step) * values.shape[-1]))
        wide[..., ::step] = values
        return backend.asarray(wide)[..., ::step]

    x = normal(samples, 2, 3, 4)
    options = {"scale_factor": (1.5, 2.25), "mode": mode}
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.interpolate(tensor, **options)
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    y = F.interpolate(laid_out(x), **options)
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
    back = F.interpolate_gradient(laid_out(g), x.shape, **options)
    np.testing.assert_allclose(backend.to_numpy(back), tensor.grad.numpy(), **CLOSE)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("to", ["size", "scale_factor"])
def test_layer_to_any_size(backend, torch, axes, mode, to):
    """Sizes that are no multiples, and images of another size than ``input_dim``."""
    given = {"size": (5, 2, 3), "scale_factor": (1.7, 0.6, 2.5)}[to][:axes]
    layer = Upsample("up", (2, *(4, 3, 2)[:axes]), mode=mode, **{to: given})
    of_torch = mode if mode == "nearest" else LINEAR[axes]
    twin = torch.nn.Upsample(mode=of_torch, **{to: given})
    for shape in ((4, 3, 2)[:axes], (3, 5, 4)[:axes]):
        x = normal(2, 2, *shape)
        expected = twin(torch.from_numpy(x)).numpy()
        y = layer(backend.asarray(x))
        assert tuple(y.shape[1:]) == layer.output_dim((2, *shape))
        np.testing.assert_allclose(backend.to_numpy(y), expected, **CLOSE)
        check_gradients(layer, x, backend)
    assert layer.out_dim == layer.output_dim((2, *(4, 3, 2)[:axes]))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layer(backend, torch, axes, mode):
    shape, factor = (4, 3, 2)[:axes], (2, 1, 3)[:axes]
    layer = Upsample("up", (2, *shape), factor, mode)
    x = normal(2, 2, *shape)
    of_torch = {"mode": "nearest"} if mode == "nearest" else {"mode": LINEAR[axes]}
    expected = torch.nn.Upsample(scale_factor=factor, **of_torch)(torch.from_numpy(x))
    y = layer(backend.asarray(x))
    assert tuple(y.shape[1:]) == layer.out_dim
    np.testing.assert_allclose(backend.to_numpy(y), expected.numpy(), **CLOSE)
    check_gradients(layer, x, backend)


def test_align_corners(backend):
    layer = Upsample("up", (1, 2), 3, "linear", align_corners=True)
    y = backend.to_numpy(layer(backend.asarray(np.array([[[0.0, 5.0]]]))))
    np.testing.assert_allclose(y, [[[0, 1, 2, 3, 4, 5]]])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
@given(data=st.data())
def test_adaptive_layers_equal_pytorch(backend, torch, kind, axes, data):
    shape = [data.draw(st.integers(1, 6)) for _ in range(axes)]
    size = tuple(data.draw(st.integers(1, 6)) for _ in range(axes))
    x = np.random.default_rng(0).permutation(4 * np.prod(shape)).reshape(2, 2, *shape) * 0.5
    tensor = torch.from_numpy(x).requires_grad_()
    expected = getattr(torch.nn, f"Adaptive{kind}Pool{axes}d")(size)(tensor)
    g = normal(*expected.shape)
    expected.backward(torch.from_numpy(g))
    layer = getattr(layers, f"Adaptive{kind}Pool{axes}D")("pool", (2, *shape), size)
    y = layer(backend.asarray(x))
    assert tuple(y.shape[1:]) == layer.out_dim
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
    back = layer.backward(backend.asarray(g))
    np.testing.assert_allclose(backend.to_numpy(back), tensor.grad.numpy(), **CLOSE)


@pytest.mark.parametrize("dtype", ["int32", "float16", "float32", "float64"])
def test_dtypes(backend, dtype):
    layer = Upsample("up", (1, 2, 2), 2, "bilinear")
    y = layer(backend.asarray(np.full((1, 1, 2, 2), 60000).astype(dtype)))
    assert y.dtype == (np.float32 if dtype == "int32" else np.dtype(dtype))
    assert layer.backward(y).dtype == y.dtype
    assert np.isfinite(backend.to_numpy(y)).all()


@pytest.mark.host
def test_bad_arguments():
    x = np.zeros((1, 1, 4, 4))
    for options, message in (
        ({}, "exactly one of them"),
        ({"size": 2, "scale_factor": 2}, "exactly one of them"),
        ({"size": 0}, "size is 0"),
        ({"size": 2, "mode": "cubic"}, "mode is 'cubic'; it must be one of 'nearest'"),
        ({"size": 2, "mode": "linear"}, r"mode='linear' takes \(samples, channels\) and 1"),
        ({"size": 2, "align_corners": True}, "align_corners is for linear modes"),
        ({"scale_factor": [2.0]}, "it must be one or 2 numbers"),
        ({"scale_factor": "22"}, "scale_factor is '22'; it must be one or 2 numbers"),
        ({"scale_factor": -1.0}, "scale_factor is -1.0; it must be more than 0"),
        ({"scale_factor": 0.2}, r"scale_factor is \(0.2, 0.2\); times the spatial shape \(4, 4\)"),
        ({"scale_factor": 1e308}, "every length must be from 1 to"),
        ({"size": 2, "recompute_scale_factor": True}, "it is for scale_factor, not size"),
        ({"size": 2, "mode": "bilinear", "antialias": True}, "antialias is True; it must be False"),
    ):
        with pytest.raises(ValueError, match=message):
            F.interpolate(x, **options)
    with pytest.raises(TypeError, match="align_corners is 2; it must be True or False"):
        F.interpolate(x, 2, mode="bilinear", align_corners=2)
    with pytest.raises(ValueError, match=r"input has shape \(1, 1, 0, 4\); every spatial length"):
        F.interpolate(x[:, :, :0], scale_factor=2)
    with pytest.raises(TypeError, match="gradient has dtype bool"):
        F.interpolate_gradient(np.zeros((1, 1, 8, 8), bool), x.shape, 8)
    for arguments, options, message in (
        ((2, "trilinear"), {}, "mode is 'trilinear'"),
        ((0,), {}, "scale_factor is 0; it must be more than 0"),
        (((2, 2, 2),), {}, r"scale_factor is \(2, 2, 2\); it must be one or 2 numbers"),
        ((0.2,), {}, r"scale_factor is \(0.2, 0.2\); times the spatial shape"),
        ((), {}, "exactly one of scale_factor and size must be given"),
        ((2,), {"size": 8}, "exactly one of scale_factor and size must be given"),
        ((), {"size": (8, 0)}, r"size is \(8, 0\); every value must be at least 1"),
        ((), {"size": (8, 8, 8)}, r"size is \(8, 8, 8\); it must be an int or 2 ints"),
        ((2,), {"align_corners": True}, "align_corners is True; it is for mode='linear'"),
    ):
        with pytest.raises(ValueError, match=r"Upsample\('up'\): " + message):
            Upsample("up", (1, 4, 4), *arguments, **options)
    with pytest.raises(ValueError, match="output_size is 0"):
        layers.AdaptiveAvgPool2D("pool", (1, 4, 4), 0)
