"""Average pooling, adaptive pooling, and their gradients."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits, assert_same_sums
from support.gradients import numerical_gradient
from support.strategies import FLOATS, arrays, geometries, laid_out

LAYOUTS = ("channels_first", "channels_last")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [3, 7])
def test_a_mean_is_a_quotient(backend, dtype, size):
    """In many of these, multiplying by the reciprocal would change the last bit."""
    x = np.random.default_rng(0).standard_normal((1, 2, 40 * size)).astype(dtype)
    geometry = {
        "size": (size,),
        "stride": (size,),
        "padding": ((0, 0),),
        "dilation": (1,),
        "ceil_mode": False,
    }
    y = backend.to_numpy(tinyml.avg_pool(backend.asarray(x), **geometry))
    expected = reference.avg_pool(x[0], **geometry)
    assert_same_bits(y[0], expected)
    gradient = tinyml.avg_pool_gradient(backend.asarray(y), x.shape[2:], **geometry)
    expected = reference.avg_pool_gradient(expected, x.shape[2:], **geometry)
    assert_same_bits(backend.to_numpy(gradient)[0], expected)


@given(data=st.data(), case=geometries())
def test_average_equals_plain_loops(backend, data, case):
    shape, geometry = case
    options = {
        "count_include_pad": data.draw(st.booleans()),
        "divisor_override": data.draw(st.sampled_from([None, None, 3, -2])),
    }
    layout = data.draw(st.sampled_from(LAYOUTS))
    x = data.draw(arrays((data.draw(st.integers(0, 2)), 2, *shape)))
    if x.dtype.kind == "u" and options["divisor_override"] == -2:
        options["divisor_override"] = 2
    given_x = np.moveaxis(x, 1, -1) if layout == "channels_last" else x
    y = backend.to_numpy(
        tinyml.avg_pool(backend.asarray(given_x), **geometry, **options, layout=layout)
    )
    y = np.moveaxis(y, -1, 1) if layout == "channels_last" else y
    planes = x.reshape(2 * len(x), *shape)
    expected = reference.avg_pool(planes, **options, **geometry)
    if geometry["size"] == shape and expected.shape[1:] == (1,) * len(shape):
        with np.errstate(all="ignore"):  # one window over all: summed in another order
            wide = planes.astype(np.float64) if x.dtype.kind == "f" else planes
            exact = reference.avg_pool(wide, **options, **geometry).astype(x.dtype)
            close = 1e-3 if x.dtype == np.float16 else 1e-6
            np.testing.assert_allclose(y.reshape(exact.shape), exact, rtol=close, atol=1e-12)
    else:
        assert_same_sums(y.reshape(expected.shape), expected)


@given(data=st.data(), case=geometries(symmetric=True))
def test_average_equals_pytorch(backend, torch, data, case):
    shape, geometry = case
    geometry["dilation"] = (1,) * len(shape)
    if reference.output_shape(shape, **geometry) is None or geometry["size"] == shape:
        return
    dtype = data.draw(st.sampled_from([*FLOATS, "int64"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = (100 * rng.standard_normal((2, 1, *shape))).astype(dtype)
    options = {"count_include_pad": data.draw(st.booleans())}
    if len(shape) > 1:
        options["divisor_override"] = data.draw(st.sampled_from([None, 3]))
    padding = tuple(before for before, _ in geometry["padding"])
    pool = getattr(torch.nn.functional, f"avg_pool{len(shape)}d")
    arguments = (geometry["size"], geometry["stride"], padding, geometry["ceil_mode"])
    try:
        expected = pool(torch.from_numpy(x), *arguments, **options).numpy()
    except RuntimeError as error:
        # integers in 1-D and 3-D; volumes that only with their padding are as large as the window
        assert re.search("not implemented|smaller than kernel", str(error))  # noqa: PT017
        return
    ours = tinyml.avg_pool(backend.asarray(x), **geometry, **options)
    assert_same_bits(backend.to_numpy(ours), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (64, 65)])
def test_global_average(backend, dtype, shape):
    x = np.random.default_rng(0).integers(0, 90, (2, 3, *shape)).astype(dtype)
    y = backend.to_numpy(tinyml.avg_pool(backend.asarray(x), shape))
    total = x.astype(np.float64 if y.dtype.kind == "f" else np.int64).sum((2, 3), keepdims=True)
    mean = total / x[0, 0].size if y.dtype.kind == "f" else total // x[0, 0].size
    assert_same_bits(y, mean.astype(dtype))
    gradient = backend.asarray(np.ones(y.shape, dtype))
    back = backend.to_numpy(tinyml.avg_pool_gradient(gradient, shape, shape))
    each = 1 / x[0, 0].size if y.dtype.kind == "f" else 1 // x[0, 0].size
    np.testing.assert_allclose(back, np.broadcast_to(each, x.shape), rtol=1e-3)


def test_integer_means_are_truncated_toward_zero(backend):
    x = backend.asarray(np.array([[[-3, -4, 3, 4]]], np.int8))
    assert backend.to_numpy(tinyml.avg_pool(x, 2)).tolist() == [[[-3, 3]]]
    full = backend.asarray(np.full((1, 1, 4), 255, np.uint8))
    assert backend.to_numpy(tinyml.avg_pool(full, 2)).tolist() == [[[255, 255]]]


@given(data=st.data(), case=geometries())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_average_gradient_is_the_derivative(backend, layout, data, case):
    shape, geometry = case
    options = {
        "count_include_pad": data.draw(st.booleans()),
        "divisor_override": data.draw(st.sampled_from([None, 3])),
    }
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((1, 2, *shape) if layout == "channels_first" else (1, *shape, 2))

    def pool(values):
        y = tinyml.avg_pool(backend.asarray(values), **geometry, **options, layout=layout)
        return backend.to_numpy(y)

    weights = rng.standard_normal(pool(x).shape)
    ours = tinyml.avg_pool_gradient(
        backend.asarray(weights), shape, **geometry, **options, layout=layout
    )
    numeric = numerical_gradient(lambda v: float((pool(v) * weights).sum()), x, 0.25)
    np.testing.assert_allclose(backend.to_numpy(ours), numeric, rtol=1e-8, atol=1e-9)


@given(data=st.data(), case=geometries())
def test_average_gradient_equals_plain_loops(backend, data, case):
    shape, geometry = case
    outputs = reference.output_shape(shape, **geometry)
    if geometry["size"] == shape and outputs == (1,) * len(shape):
        return  # one window over all
    gradient = data.draw(arrays((2, *outputs)))
    options = {"count_include_pad": data.draw(st.booleans())}
    ours = tinyml.avg_pool_gradient(backend.asarray(gradient), shape, **geometry, **options)
    expected = reference.avg_pool_gradient(gradient, shape, **options, **geometry)
    assert_same_sums(backend.to_numpy(ours), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_average_gradients_are_summed_in_order(backend, dtype):
    gradient = np.random.default_rng(0).standard_normal((1, 2, 7, 6)).astype(dtype)
    ours = tinyml.avg_pool_gradient(backend.asarray(gradient), (9, 8), 3, 1)
    expected = reference.avg_pool_gradient(
        gradient[0],
        (9, 8),
        size=(3, 3),
        stride=(1, 1),
        padding=((0, 0),) * 2,
        dilation=(1, 1),
        ceil_mode=False,
    )
    assert_same_bits(backend.to_numpy(ours)[0], expected)


def test_adaptive_max_follows_the_rules_of_max_pooling(backend):
    x = np.array([[[2.0, np.nan, 5.0, np.nan, 1.0], [-0.0, 0.0, -1.0, -2.0, -3.0]]])
    y, indices = tinyml.adaptive_max_pool(backend.asarray(x), 1)
    assert np.isnan(backend.to_numpy(y)[0, 0, 0])
    assert np.signbit(backend.to_numpy(y)[0, 1, 0])
    assert backend.to_numpy(indices).tolist() == [[[3], [0]]]


@st.composite
def adaptive_cases(draw):
    """Spatial shape and output size, larger and smaller ones."""
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    lengths = st.integers(1, {1: 12, 2: 7, 3: 5}[axes])
    return tuple(draw(st.tuples(*[st.tuples(lengths, lengths)] * axes)))


@given(data=st.data(), case=adaptive_cases())
def test_adaptive_max_equals_loops_and_pytorch(backend, torch, data, case):
    shape, outputs = zip(*case, strict=True)
    x = data.draw(arrays((2, 1, *shape)))
    y, indices = tinyml.adaptive_max_pool(backend.asarray(x), outputs)
    values, places = reference.adaptive_max_pool(x.reshape(2, *shape), outputs)
    assert_same_bits(backend.to_numpy(y), values.reshape(2, 1, *outputs))
    assert_same_bits(backend.to_numpy(indices), places.reshape(2, 1, *outputs))
    if x.dtype.kind == "f":
        pool = getattr(torch.nn.functional, f"adaptive_max_pool{len(shape)}d")
        expected, its = pool(torch.from_numpy(x.copy(order="C")), outputs, return_indices=True)
        assert_same_bits(backend.to_numpy(y), expected.numpy())
        assert_same_bits(backend.to_numpy(indices), its.numpy())


@given(data=st.data(), case=adaptive_cases())
def test_adaptive_average_equals_pytorch(backend, torch, data, case):
    shape, outputs = zip(*case, strict=True)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    x = rng.uniform(1, 2, (2, 1, *shape)).astype(dtype)
    y = tinyml.adaptive_avg_pool(backend.asarray(laid_out(x, "strided")), outputs)
    pool = getattr(torch.nn.functional, f"adaptive_avg_pool{len(shape)}d")
    assert y.dtype == dtype
    np.testing.assert_allclose(
        backend.to_numpy(y), pool(torch.from_numpy(x), outputs).numpy(), rtol=1e-6
    )


@given(data=st.data(), case=adaptive_cases())
def test_adaptive_gradients_are_derivatives(backend, data, case):
    shape, outputs = zip(*case, strict=True)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.permutation(2 * int(np.prod(shape))).astype(np.float64).reshape(2, 1, *shape)
    weights = rng.standard_normal((2, 1, *outputs))
    _, indices = tinyml.adaptive_max_pool(backend.asarray(x), outputs)
    ours = (
        tinyml.adaptive_max_pool_gradient(backend.asarray(weights), indices, shape),
        tinyml.adaptive_avg_pool_gradient(backend.asarray(weights), shape),
    )
    functions = (
        lambda v: tinyml.adaptive_max_pool(backend.asarray(v), outputs)[0],
        lambda v: tinyml.adaptive_avg_pool(backend.asarray(v), outputs),
    )
    for gradient, function in zip(ours, functions, strict=True):
        numeric = numerical_gradient(
            lambda v, f=function: float((backend.to_numpy(f(v)) * weights).sum()), x, 0.25
        )
        np.testing.assert_allclose(backend.to_numpy(gradient), numeric, rtol=1e-8, atol=1e-9)


def test_adaptive_gradient_sums_in_order(backend):
    """float16: 2048 + 1 + 1 is 2050 if summed in float32."""
    indices = backend.asarray(np.array([[[0, 0, 0]]]))
    gradient = backend.asarray(np.array([[[2048, 1, 1]]], np.float16))
    out = tinyml.adaptive_max_pool_gradient(gradient, indices, (2,))
    assert_same_bits(backend.to_numpy(out), np.array([[[2050, 0]]], np.float16))


class TestBadInput:
    def test_average(self, backend):
        x = backend.asarray(np.zeros((1, 1, 4, 4)))
        for arguments, error, message in (
            ({"divisor_override": 0}, ValueError, "divisor_override is 0"),
            ({"divisor_override": 1.5}, TypeError, "divisor_override is 1.5"),
            ({"padding": 2}, ValueError, "would hold none of them"),
            ({"layout": "nchw"}, ValueError, "layout is 'nchw'"),
        ):
            with pytest.raises(error, match=message):
                tinyml.avg_pool(x, 2, **arguments)
        with pytest.raises(ValueError, match=r"gradient has shape \(1, 1, 4, 4\); it must be"):
            tinyml.avg_pool_gradient(x, (4, 4), 2)
        with pytest.raises(ValueError, match=r"input_shape is \(4,\); it must be 2 ints"):
            tinyml.avg_pool_gradient(x, (4,), 2)

    def test_adaptive(self, backend):
        x = backend.asarray(np.zeros((1, 1, 4, 4)))
        for size, error in ((-1, ValueError), ((2, 2, 2, 2), ValueError), (2.0, TypeError)):
            with pytest.raises(error, match=r"output_size is|size is"):
                tinyml.adaptive_max_pool(x, size)
            with pytest.raises(error, match=r"output_size is|size is"):
                tinyml.adaptive_avg_pool(x, size)
        y, indices = tinyml.adaptive_max_pool(x, 2)
        with pytest.raises(
            tinyml.SwitchIndexError, match=r"indices\[0, 0, 0, 0\] is 16; .* 0 to 15"
        ):
            tinyml.adaptive_max_pool_gradient(y, indices + 16, (4, 4))
        with pytest.raises(TypeError, match="indices have dtype float64"):
            tinyml.adaptive_max_pool_gradient(y, y, (4, 4))
        with pytest.raises(ValueError, match="gradient has shape"):
            tinyml.adaptive_max_pool_gradient(x, indices, (4, 4))
        with pytest.raises(ValueError, match="channels, and 1 spatial axes"):
            tinyml.adaptive_avg_pool_gradient(y, (4,))
        with pytest.raises(ValueError, match="must not be empty"):
            tinyml.adaptive_avg_pool(backend.asarray(np.zeros((1, 1, 0, 4))), 2)
