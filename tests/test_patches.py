"""Padding, unfold and fold against PyTorch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinyml.functional as F


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@given(data=st.data(), mode=st.sampled_from(["constant", "reflect", "replicate", "circular"]))
def test_pad_equals_pytorch(backend, torch, data, mode):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=5))
    shape[0] = data.draw(st.integers(0, 2))
    axes = data.draw(st.integers(1, len(shape))) if mode == "constant" else len(shape) - 2
    pads = []
    for n in shape[::-1][:axes]:
        low, high = {
            "constant": (-(n // 2), 4),
            "reflect": (-(n // 3), n - 1),
            "replicate": (-(n // 3), 6),
            "circular": (-(n // 3), n - n // 3),
        }[mode]
        pads += [data.draw(st.integers(low, high)), data.draw(st.integers(low, high))]
    pairs = zip(shape[::-1], pads[::2], pads[1::2], strict=False)
    assume(mode == "constant" or all(n + a + b > 0 for n, a, b in pairs))
    values = [None, 2.5, np.inf, -np.inf, np.nan]
    value = data.draw(st.sampled_from(values)) if mode == "constant" else None
    x = normal(*shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.pad(tensor, pads, mode, value)
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    y = F.pad(backend.asarray(x), pads, mode, value)
    np.testing.assert_array_equal(backend.to_numpy(y), expected.detach().numpy())
    back = F.pad_gradient(backend.asarray(g), shape, pads, mode)
    np.testing.assert_allclose(backend.to_numpy(back), tensor.grad.numpy(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32"])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_keeps_the_dtype(backend, torch, dtype, mode):
    x = np.arange(12).reshape(1, 3, 4).astype(dtype)
    if dtype == "int64":
        x += 2**60 + 1  # no float64 holds it
    y = F.pad(backend.asarray(x), (2, 1), mode)
    assert y.dtype == dtype
    wanted = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    expected = np.pad(x, ((0, 0), (0, 0), (2, 1)), wanted.get(mode, mode))
    np.testing.assert_array_equal(backend.to_numpy(y), expected)
    if dtype != "bool":
        back = F.pad_gradient(y, x.shape, (2, 1), mode)
        assert back.dtype == (dtype if "float" in dtype else "float32")


def test_pad_returns_no_view(backend):
    x = backend.asarray(np.zeros((1, 2, 3)))
    for mode in ("constant", "reflect"):
        F.pad(x, (0, 0), mode)[...] = 1
        assert not backend.to_numpy(x).any()


@pytest.mark.parametrize(("dtype", "value"), [("bool", True), ("bool", -2.5), ("int8", 2.7)])
def test_values_of_pad(backend, torch, dtype, value):
    x = np.zeros((2, 3), dtype)
    expected = torch.nn.functional.pad(torch.from_numpy(x), (1, 1), value=value).numpy()
    y = backend.to_numpy(F.pad(backend.asarray(x), (1, 1), value=value))
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("samples", [None, 0, 1])
def test_a_single_image_and_empty_batches(backend, torch, samples):
    shape = (3, 4, 5) if samples is None else (samples, 3, 4, 5)
    x = normal(*shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.unfold(tensor, (2, 3), padding=1)
    y = F.unfold(backend.asarray(x), (2, 3), padding=1)
    assert tuple(y.shape) == tuple(expected.shape)
    np.testing.assert_array_equal(backend.to_numpy(y), expected.detach().numpy())
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    folded = F.fold(backend.asarray(g), (4, 5), (2, 3), padding=1)
    of_torch = torch.nn.functional.fold(torch.from_numpy(g), (4, 5), (2, 3), padding=1)
    for theirs in (of_torch, tensor.grad):
        np.testing.assert_allclose(backend.to_numpy(folded), theirs.numpy(), rtol=1e-12)
    back = F.unfold(folded, (2, 3), padding=1)  # the gradient of fold
    assert back.shape == y.shape


@given(data=st.data())
def test_unfold_and_fold_equal_pytorch(backend, torch, data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    size, stride, padding, dilation = pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 2)
    shape = tuple(
        d * (k - 1) + 1 + more for d, k, more in zip(dilation, size, pair(0, 4), strict=True)
    )
    x = normal(2, 3, *shape)
    tensor = torch.from_numpy(x).requires_grad_()
    options = {"dilation": dilation, "padding": padding, "stride": stride}
    expected = torch.nn.functional.unfold(tensor, size, **options)
    y = F.unfold(backend.asarray(x), size, **options)
    np.testing.assert_array_equal(backend.to_numpy(y), expected.detach().numpy())
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    folded = F.fold(backend.asarray(g), shape, size, **options)
    of_torch = torch.nn.functional.fold(torch.from_numpy(g), shape, size, **options)
    for theirs in (of_torch, tensor.grad):
        np.testing.assert_allclose(backend.to_numpy(folded), theirs.numpy(), rtol=1e-6, atol=1e-12)


@pytest.mark.host
def test_bad_arguments():
    x = normal(1, 2, 4, 4)
    for arguments, message in (
        (((1, 1), "mirror"), "mode is 'mirror'; it must be one of"),
        (((1, 1, 1),), "two numbers for each of at most 4 axes"),
        (((4, 0), "reflect"), "allows at most 3 cells at an end of an axis of length 4"),
        (((5, 0), "circular"), "allows at most 4 cells at an end of an axis of length 4"),
        (((-2, 3), "circular"), "allows at most 2 cells at an end of an axis of length 4"),
        (((-3, -3),), r"\(-3, -3\) crops too much of an axis of length 4"),
        (((-2, -2), "replicate"), r"\(-2, -2\) crops too much of an axis of length 4"),
        (((-5, 6),), r"\(-5, 6\) crops too much of an axis of length 4"),
        (((1, 1), "reflect", 2.0), "value is 2.0; it is for mode='constant'"),
    ):
        with pytest.raises(ValueError, match=message):
            F.pad(x, *arguments)
    with pytest.raises(ValueError, match="'reflect' allows none of an axis of length 0"):
        F.pad(x[..., :0], (1, 1), "reflect")
    for wrong in (1, (1.0, 1), ("1", "1")):
        with pytest.raises(TypeError, match="it must be a sequence of ints"):
            F.pad(x, wrong)
    with pytest.raises(TypeError, match="input has dtype complex128"):
        F.pad(x.astype(complex), (1, 1))
    with pytest.raises(TypeError, match="value is '0'; it must be a number"):
        F.pad(x, (1, 1), value="0")
    for dtype, value in (
        ("float16", 1e6),
        ("int8", 300),
        ("int64", 2**63),
        ("uint8", -1),
        ("int32", np.inf),
        ("int32", np.nan),
    ):
        with pytest.raises(ValueError, match=f"it must fit the input's dtype, {dtype}"):
            F.pad(np.zeros(3, dtype), (1, 1), value=value)
    with pytest.raises(ValueError, match="must be a multiple of the 4 cells"):
        F.fold(normal(1, 6, 9), (4, 4), 2)
    with pytest.raises(ValueError, match=r"input has shape \(1, 4, 8\)"):
        F.fold(normal(1, 4, 8), (4, 4), 2)
    with pytest.raises(ValueError, match="spans 5 cells"):
        F.unfold(x, 5)
