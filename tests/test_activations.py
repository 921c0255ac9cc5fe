"""Activations: values, gradients, dtypes and extreme inputs, against PyTorch."""

import inspect
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F
from support.compare import assert_same_bits
from support.gradients import check_gradients, in_float64
from support.strategies import laid_out
from tinyml import layers
from tinyml.layers import ELU, GELU, LeakyReLU, LogSoftmax, PReLU, Softmax

#: Layer, name of its function, and the keywords of that function.
CASES = {
    "relu": (layers.ReLU, "relu", {}),
    "leaky_relu": (partial(LeakyReLU, slope=0.2), "leaky_relu", {"negative_slope": 0.2}),
    "leaky_negative": (partial(LeakyReLU, slope=-0.5), "leaky_relu", {"negative_slope": -0.5}),
    "elu": (ELU, "elu", {}),
    "elu_negative": (partial(ELU, alpha=-0.7), "elu", {"alpha": -0.7}),
    "gelu": (GELU, "gelu", {}),
    "gelu_tanh": (partial(GELU, approximate="tanh"), "gelu", {"approximate": "tanh"}),
    "silu": (layers.SiLU, "silu", {}),
    "sigmoid": (layers.Sigmoid, "sigmoid", {}),
    "tanh": (layers.Tanh, "tanh", {}),
    "softmax": (Softmax, "softmax", {"dim": 1}),
    "softmax_last": (partial(Softmax, axis=-1), "softmax", {"dim": -1}),
    "log_softmax": (LogSoftmax, "log_softmax", {"dim": 1}),
}
each_case = pytest.mark.parametrize("case", CASES)
#: PyTorch computes some of them with larger errors, next to 0.
CLOSE = {"rtol": 1e-9, "atol": 1e-13}


@each_case
@given(data=st.data())
def test_layers_and_functions_equal_pytorch(backend, torch, case, data):
    make, name, options = CASES[case]
    shape = data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    layout = data.draw(st.sampled_from(["C", "F", "strided", "reversed"]))
    spread = data.draw(st.sampled_from([0.01, 1, 5]))
    x, gradient = spread * rng.standard_normal(shape), rng.standard_normal(shape)
    source = torch.from_numpy(x).requires_grad_()
    expected = getattr(torch.nn.functional, name)(source, **options)
    expected.backward(torch.from_numpy(gradient))
    given, of_output = (backend.asarray(laid_out(a, layout)) for a in (x, gradient))
    layer = make("layer")
    for y, ours in (
        (layer(given), layer.backward(of_output)),
        (
            getattr(F, name)(given, **options),
            getattr(F, f"{name}_gradient")(of_output, given, **options),
        ),
    ):
        np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(backend.to_numpy(ours), source.grad.numpy(), **CLOSE)


@each_case
def test_gradients(backend, case):
    x = np.random.default_rng(0).choice([-2.0, -1.0, -0.3, 0.2, 1.0, 2.0], (2, 3, 4))
    check_gradients(CASES[case][0]("layer"), x, backend)


@given(data=st.data())
def test_prelu_equals_pytorch(backend, torch, data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    channels = data.draw(st.sampled_from([1, shape[1]]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, gradient = rng.standard_normal(shape), rng.standard_normal(shape)
    slope = rng.standard_normal(channels)
    source, weight = (torch.from_numpy(a).requires_grad_() for a in (x, slope))
    expected = torch.nn.functional.prelu(source, weight)
    expected.backward(torch.from_numpy(gradient))
    layer = in_float64(PReLU("prelu", channels), backend)
    layer.slope.tensor = backend.asarray(slope)
    y, ours = layer(backend.asarray(x)), layer.backward(backend.asarray(gradient))
    layer.backward(backend.asarray(gradient))  # gradients accumulate
    for array, tensor in (
        (y, expected.detach()),
        (F.prelu(backend.asarray(x), backend.asarray(slope)), expected.detach()),
        (ours, source.grad),
        (layer.slope.gradient, 2 * weight.grad),
    ):
        np.testing.assert_allclose(backend.to_numpy(array), tensor.numpy(), **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
def test_prelu_gradients(backend, channels):
    x = np.random.default_rng(0).choice([-2.0, -1.0, 1.0, 2.0], (2, 3, 4))
    check_gradients(PReLU("prelu", channels), x, backend)


@each_case
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8"])
def test_dtypes(backend, torch, case, dtype):
    """As in float64, rounded to the input's dtype; float16 is not computed in float16."""
    make, name, options = CASES[case]
    rng = np.random.default_rng(0)
    x = (4 * rng.standard_normal((2, 3, 50))).astype(dtype)
    wanted = np.dtype(dtype if dtype.startswith("float") else "float32")
    layer = make("layer")
    for number in ("slope", "alpha"):  # a NumPy scalar must not widen the result
        if hasattr(layer, number):
            setattr(layer, number, np.float64(getattr(layer, number)))
    y = layer(backend.asarray(x))
    gradient = rng.standard_normal(x.shape)
    back = layer.backward(backend.asarray(gradient))
    assert y.dtype == back.dtype == wanted
    source = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    expected = getattr(torch.nn.functional, name)(source, **options)
    expected.backward(torch.from_numpy(gradient))
    close = {"rtol": 4 * np.finfo(wanted).eps, "atol": 100 * np.finfo(wanted).eps}
    if wanted == np.float16:
        close = {"rtol": 6e-4, "atol": 3e-3}  # a gradient is computed from a rounded output
    np.testing.assert_allclose(
        backend.to_numpy(y).astype(float), expected.detach().numpy(), **close
    )
    np.testing.assert_allclose(backend.to_numpy(back).astype(float), source.grad.numpy(), **close)


@each_case
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_extreme_inputs(backend, case, dtype):
    """Finite numbers give finite results without warnings, and NaN stays NaN."""
    largest = float(np.finfo(dtype).max)
    x = np.array([[0, -0.0, 100, -100, 1e4, -1e4, largest, -largest, 6e-8, -6e-8]], dtype)
    make = CASES[case][0]
    layer = make("layer")
    with np.errstate(all="raise"):
        for values in (x, x.T):  # softmax over one and over ten classes
            y = layer(backend.asarray(values))
            back = layer.backward(backend.asarray(np.ones_like(values)))
            assert np.isfinite(backend.to_numpy(back)).all()
            finite = np.isfinite(backend.to_numpy(y))
            # differences of the largest numbers overflow
            assert finite.all() or case == "log_softmax" or "negative" in case
        if case == "gelu":
            ours = backend.to_numpy(layer(backend.asarray(x)))
            assert_same_bits(ours[:, [2, 4, 6]], x[:, [2, 4, 6]])
            np.testing.assert_array_equal(ours[:, [3, 5, 7]], 0)
        nan = layer(backend.asarray(np.full((1, 2), np.nan, dtype)))
        assert np.isnan(backend.to_numpy(nan)).all()


def test_infinities_as_in_pytorch(backend, torch):
    x = np.array([[np.inf, -np.inf]])
    for make, name, options in CASES.values():
        expected = getattr(torch.nn.functional, name)(torch.from_numpy(x), **options)
        y = backend.to_numpy(make("layer")(backend.asarray(x)))
        np.testing.assert_array_equal(y, expected.numpy(), err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_normal_distribution(backend, dtype):
    """GELU of x, divided by x, from its definition with the error function of `math`."""
    from math import erfc, sqrt

    x = np.linspace(-6, 6, 2000).astype(dtype)
    y = backend.to_numpy(GELU("gelu")(backend.asarray(x)))
    expected = np.array([v * erfc(-v / sqrt(2)) / 2 for v in x.astype(float)])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=80 * eps, atol=0)  # the error of x² / 2 is 18 eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_numbers_keep_their_digits(backend, dtype):
    from math import expm1, tanh

    x = np.concatenate([s * np.logspace(-9, 0.5, 1000) for s in (-1, 1)]).astype(dtype)
    for layer, exact in (
        (layers.Tanh("tanh"), tanh),
        (ELU("elu"), lambda v: v if v > 0 else expm1(v)),
    ):
        y = backend.to_numpy(layer(backend.asarray(x)))
        expected = np.array([exact(v) for v in x.astype(float)])
        np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


def test_numpy_scalars_compute_as_floats_do(backend):
    x = backend.asarray(np.random.default_rng(0).standard_normal(1000).astype(np.float32))
    for make in (LeakyReLU, ELU):
        ours, theirs = (backend.to_numpy(make("layer", of(0.7))(x)) for of in (np.float64, float))
        assert_same_bits(ours, theirs)


def test_large_arrays_in_any_layout(backend):
    """Arrays of several chunks, whose last one is smaller."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 190, 193)).astype(np.float32)
    for make, _, _ in CASES.values():
        layer = make("layer")
        y, back = (
            backend.to_numpy(a)
            for a in (layer(backend.asarray(x)), layer.backward(backend.asarray(x)))
        )
        turned = laid_out(x, "F")
        close = {"rtol": 1e-5, "atol": 1e-5 if "softmax" in layer.kind else 1e-7}
        ours = backend.to_numpy(layer(backend.asarray(turned)))
        np.testing.assert_allclose(ours, y, **close)
        ours = backend.to_numpy(layer.backward(backend.asarray(turned)))
        np.testing.assert_allclose(ours, back, **close)
        start = slice(None), slice(None), slice(None), slice(3)
        if "softmax" not in layer.kind:
            part = backend.to_numpy(layer(backend.asarray(x[start])))
            np.testing.assert_allclose(part, y[start], rtol=1e-6, atol=1e-7)


@pytest.mark.host
def test_signatures(torch):
    theirs = torch.nn.functional
    for name in ("relu", "leaky_relu", "elu", "silu", "sigmoid", "tanh"):
        ours, wanted = (inspect.signature(getattr(f, name)) for f in (F, theirs))
        assert [(p.name, p.default) for p in ours.parameters.values()] == [
            (p.name, p.default) for p in wanted.parameters.values()
        ]
    assert layers.ReLu is layers.ReLU


def test_in_place(backend):
    for name in ("relu", "leaky_relu", "elu", "silu"):
        function = getattr(F, name)
        x = backend.asarray(np.array([-1.0, 2.0]))
        expected = backend.to_numpy(function(x))
        assert function(x, inplace=True) is x
        assert_same_bits(backend.to_numpy(x), expected)
        with pytest.raises(TypeError, match="dtype int64; with inplace=True it must hold floats"):
            function(backend.asarray(np.array([-1])), inplace=True)


def test_errors(backend):
    x = backend.asarray(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="approximate is 'erf'; it must be 'none' or 'tanh'"):
        GELU("gelu", "erf")
    with pytest.raises(ValueError, match=r"'p'\): axis is 2; for an input of shape \(2, 3\) it"):
        Softmax("p", axis=2)(x)
    with pytest.raises(TypeError, match=r"dim is 1\.0; it must be an int"):
        F.softmax(x, 1.0)
    with pytest.raises(ValueError, match=r"'p'\): input has shape \(2, 3\); it must be \(samples,"):
        PReLU("p", 4)(x)
    with pytest.raises(ValueError, match=r"'p'\): channels is 0; it must be at least 1"):
        PReLU("p", 0)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\); it must hold one number, or"):
        F.prelu(x, backend.asarray(np.zeros(2)))
    with pytest.raises(TypeError, match="input has dtype complex128; it must hold real numbers"):
        F.relu(backend.asarray(np.zeros(2, complex)))
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\); it must be \(2, 3\)"):
        F.gelu_gradient(x[:, 0], x)
