"""Convolution and its transpose in one to three dimensions, as layers and as functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F
from support.gradients import check_gradients, in_float64
from tinyml import layers
from tinyml.layers import Conv2D, ConvTranspose2D, Linear
from tinyml.net import Sequential

CLOSE = {"rtol": 1e-6, "atol": 1e-10}


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def convolutions(draw, transposed):
    """Number of axes, input, weight, bias and the options of a convolution."""
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2]))

    def ints(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    size, stride, dilation = ints(1, 3), ints(1, 3), ints(1, 2)
    padding = tuple(draw(st.integers(0, d * (k - 1))) for d, k in zip(dilation, size, strict=True))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    if transposed:
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        lengths = [
            draw(st.integers(1 + -(-2 * p // s), 4 + -(-2 * p // s)))
            for p, s in zip(padding, stride, strict=True)
        ]
    else:
        lengths = [draw(st.integers(e, e + 4)) for e in extent]
        if max(stride) == 1 and draw(st.booleans()):
            options["padding"] = "same"
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    samples = draw(st.integers(1, 3))
    ends = (channels, filters // groups) if transposed else (filters, channels // groups)
    x = normal(samples, channels, *lengths)
    weight = normal(*ends, *size, seed=1)
    bias = normal(filters, seed=2) if draw(st.booleans()) else None
    return axes, x, weight, bias, options


def of_pytorch(torch, name, x, weight, bias, options, gradient):
    tensors = [
        None if a is None else torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)
    ]
    y = getattr(torch.nn.functional, name)(*tensors, **options)
    given = gradient(tuple(y.shape))
    y.backward(torch.from_numpy(given))
    return y.detach().numpy(), given, [None if t is None else t.grad.numpy() for t in tensors]


def as_layer(kind, axes, x, weight, bias, options, backend):
    name = f"{kind}{axes}D"
    filters = weight.shape[1] * options["groups"] if "Transpose" in kind else len(weight)
    layer = getattr(layers, name)(
        "it", x.shape[1:], filters, weight.shape[2:], rng=0, bias=bias is not None, **options
    )
    layer.weight.tensor = backend.asarray(weight.astype("float32"))
    in_float64(layer, backend)
    layer.weight.tensor = backend.asarray(weight)
    if bias is not None:
        layer.bias.tensor = backend.asarray(bias)
    return layer


@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_equals_pytorch(backend, torch, transposed, data):
    axes, x, weight, bias, options = data.draw(convolutions(transposed))
    name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
    expected, g, (of_x, of_weight, of_bias) = of_pytorch(
        torch, name, x, weight, bias, options, lambda shape: normal(*shape, seed=3)
    )
    ours = [None if a is None else backend.asarray(a) for a in (x, weight, bias)]
    y = getattr(F, name)(*ours, **options)
    np.testing.assert_allclose(backend.to_numpy(y), expected, **CLOSE)

    gradient = backend.asarray(g)
    plain = {k: v for k, v in options.items() if k != "output_padding"}
    more = options.get("output_padding", (0,) * axes)
    if any(n >= s for n, s in zip(more, options["stride"], strict=True)):
        back = of_w = None  # only the layer has these gradients
    elif transposed:
        back = getattr(F, f"conv{axes}d")(gradient, ours[1], **plain)
        of_w = getattr(F, f"conv{axes}d_weight")(gradient, weight.shape, ours[0], **plain)
    else:
        back = getattr(F, f"conv{axes}d_input")(x.shape, ours[1], gradient, **plain)
        of_w = getattr(F, f"conv{axes}d_weight")(ours[0], weight.shape, gradient, **plain)
    if back is not None:
        np.testing.assert_allclose(backend.to_numpy(back), of_x, **CLOSE)
        np.testing.assert_allclose(backend.to_numpy(of_w), of_weight, **CLOSE)

    layer = as_layer(
        "ConvTranspose" if transposed else "Conv", axes, x, weight, bias, options, backend
    )
    y = layer(ours[0])
    assert tuple(y.shape[1:]) == layer.out_dim
    np.testing.assert_allclose(backend.to_numpy(y), expected, **CLOSE)
    np.testing.assert_allclose(backend.to_numpy(layer.backward(gradient)), of_x, **CLOSE)
    np.testing.assert_allclose(backend.to_numpy(layer.weight.gradient), of_weight, **CLOSE)
    if bias is not None:
        np.testing.assert_allclose(backend.to_numpy(layer.bias.gradient), of_bias, **CLOSE)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gradients(backend, kind, axes):
    make = getattr(layers, f"{kind}{axes}D")
    layer = make("it", (2, *(4, 3, 2)[:axes]), 2, 2, 2, 1, groups=2, rng=0)
    check_gradients(layer, normal(2, 2, *(4, 3, 2)[:axes]), backend)


def test_one_image_without_samples(backend):
    x, weight = backend.asarray(normal(2, 5, 6)), backend.asarray(normal(3, 2, 2, 2))
    y = F.conv2d(x, weight)
    assert y.shape == (3, 4, 5)
    assert F.conv2d_input((2, 5, 6), weight, y).shape == (2, 5, 6)
    assert F.conv2d_weight(x, (3, 2, 2, 2), y).shape == (3, 2, 2, 2)
    assert F.conv_transpose2d(y, weight).shape == (2, 5, 6)


@pytest.mark.parametrize("name", ["Conv2D", "ConvTranspose2D", "Linear"])
@pytest.mark.parametrize("dtype", ["int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("of_parameters", ["float16", "float32", "float64"])
def test_dtypes(backend, name, dtype, of_parameters):
    """The input decides; float16 is summed in float32, so that partial sums may be large."""
    make = {
        "Conv2D": lambda: Conv2D("it", (64, 3, 3), 2, 3, rng=0),
        "ConvTranspose2D": lambda: ConvTranspose2D("it", (64, 3, 3), 2, 3, rng=0),
        "Linear": lambda: Linear("it", 64, 2, rng=0),
    }
    layer = make[name]()
    signs = np.resize([1, -1], layer.weight.tensor.shape[1 if name != "ConvTranspose2D" else 0])
    signs = signs.reshape(-1, *(1,) * (layer.weight.tensor.ndim - 2)) if name == "Conv2D" else signs
    weight = np.ones(layer.weight.tensor.shape) * (
        signs.reshape(-1, 1, 1, 1) if name == "ConvTranspose2D" else signs
    )
    for parameter, values in ((layer.weight, weight), (layer.bias, np.ones(2))):
        parameter.tensor = backend.asarray(values.astype(of_parameters))
        parameter.gradient = backend.xp.zeros_like(parameter.tensor)
    x = np.full((2, 64) if name == "Linear" else (2, 64, 3, 3), 30000).astype(dtype)
    y = layer(backend.asarray(x))
    floating = np.float32 if dtype == "int32" else np.dtype(dtype)
    assert y.dtype == floating
    np.testing.assert_array_equal(backend.to_numpy(y), np.ones(y.shape))
    back = layer.backward(y)
    assert back.dtype == floating
    assert np.isfinite(backend.to_numpy(back)).all()
    assert all(p.gradient.dtype == of_parameters for p in layer.parameters)


@pytest.mark.parametrize("name", ["Conv1D", "ConvTranspose1D"])
def test_float16_is_rounded_once(backend, name):
    """The bias is added before: 90000 is infinite in float16, and 2049 would be 2048."""
    for x, weight, bias, sums in ((60000, 1.5, -30000, 60000), (2049 / 3, 3, 1, 2050)):
        layer = getattr(layers, name)("it", (1, 1), 1, 1, rng=0)
        layer.weight.tensor[:] = weight
        layer.bias.tensor[:] = bias
        x = backend.asarray(np.full((1, 1, 1), x, "float16"))
        of_function = getattr(F, "conv_transpose1d" if "Transpose" in name else "conv1d")
        for y in (layer(x), of_function(x, layer.weight.tensor, layer.bias.tensor)):
            assert y.dtype == np.float16
            assert float(y[0, 0, 0]) == sums


@pytest.mark.host
@pytest.mark.parametrize("value", [1, (2, 0)])
def test_output_padding_that_is_too_large(value):
    with pytest.raises(
        ValueError, match=r"output_padding is .*; it must be below the stride .* or the dilation"
    ):
        ConvTranspose2D("up", (1, 4, 4), 1, 3, stride=1, output_padding=value)
    with pytest.raises(
        ValueError, match=r"output_padding is .*; it must be below the stride .* or the dilation"
    ):
        F.conv_transpose2d(normal(1, 1, 4, 4), normal(1, 1, 3, 3), output_padding=value)


@pytest.mark.host
def test_bad_arguments():
    x, weight = normal(1, 4, 5, 5), normal(6, 2, 3, 3)
    with pytest.raises(ValueError, match=r"stride is 2; padding='same' needs stride 1"):
        F.conv2d(x, weight, stride=2, padding="same", groups=2)
    with pytest.raises(ValueError, match="'same' or 'valid'"):
        F.conv2d(x, weight, padding="full", groups=2)
    with pytest.raises(ValueError, match="groups is 4; it must divide the first length of weight"):
        F.conv2d(x, weight, groups=4)
    with pytest.raises(ValueError, match=r"input has shape \(1, 4, 5, 5\)"):
        F.conv2d(x, weight)
    with pytest.raises(ValueError, match=r"bias has shape \(5,\)"):
        F.conv2d(x, weight, normal(5), groups=2)
    with pytest.raises(ValueError, match=r"grad_output has shape \(1, 6, 2, 2\)"):
        F.conv2d_weight(x, weight.shape, normal(1, 6, 2, 2), groups=2)
    with pytest.raises(ValueError, match=r"input_size is \(1, 3, 5, 5\)"):
        F.conv2d_input((1, 3, 5, 5), weight, normal(1, 6, 3, 3), groups=2)
    with pytest.raises((TypeError, ValueError), match="input_size is 5; it must be"):
        F.conv2d_input(5, weight, normal(1, 6, 3, 3), groups=2)
    with pytest.raises(ValueError, match=r"Conv2D\('it'\): input_dim is \(4, 5\)"):
        Conv2D("it", (4, 5), 2, 3)
    with pytest.raises(ValueError, match="leaves an output of shape"):
        F.conv_transpose2d(normal(1, 6, 1, 1), weight, padding=3)
    with pytest.raises(ValueError, match="leaves an output of shape"):
        ConvTranspose2D("up", (6, 1, 1), 2, 3, padding=3)


@pytest.mark.host
def test_wrong_channels_name_both_layers():
    conv = Conv2D("first", (1, 8, 8), 4, 3)
    with pytest.raises(ValueError, match=r"(?s)first.*second|second.*first"):
        Sequential([conv, ConvTranspose2D("second", (3, 6, 6), 2, 2)])


@pytest.mark.host
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_transposed_convolution_takes_no_padding_by_name(padding):
    message = f"padding is '{padding}'; it must be ints, since 'same' and 'valid' are for"
    with pytest.raises(TypeError, match=rf"ConvTranspose1D\('up'\): {message}"):
        layers.ConvTranspose1D("up", (2, 5), 3, 3, padding=padding)
    with pytest.raises(TypeError, match=f"^{message}"):
        F.conv_transpose1d(np.zeros((1, 2, 5)), np.zeros((2, 3, 3)), padding=padding)
