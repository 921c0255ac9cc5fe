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
    axes = data.draw(st.integers(1, len(shape))) if mode == "constant" else len(shape) - 2
    pads = []
    for n in shape[::-1][:axes]:
        low, high = {
            "constant": (-(n // 2), 4),
            "reflect": (0, n - 1),
            "replicate": (0, 6),
            "circular": (0, n),
        }[mode]
        pads += [data.draw(st.integers(low, high)), data.draw(st.integers(low, high))]
    assume(all(n + a + b > 0 for n, a, b in zip(shape[::-1], pads[::2], pads[1::2], strict=False)))
    value = data.draw(st.sampled_from([None, 2.5])) if mode == "constant" else None
    x = normal(*shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.pad(tensor, pads, mode, value)
    g = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    y = F.pad(backend.asarray(x), pads, mode, value)
    np.testing.assert_array_equal(backend.to_numpy(y), expected.detach().numpy())
    back = F.pad_gradient(backend.asarray(g), shape, pads, mode)
    np.testing.assert_allclose(backend.to_numpy(back), tensor.grad.numpy(), rtol=1e-6, atol=1e-12)


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
        (((4, 0), "reflect"), "allows 0 to 3 cells for an axis of length 4"),
        (((-1, 0), "replicate"), "mode='replicate' allows 0 to"),
        (((-3, -3),), "for an axis of length 4"),
        (((1, 1), "reflect", 2.0), "value is 2.0; it is for mode='constant'"),
    ):
        with pytest.raises(ValueError, match=message):
            F.pad(x, *arguments)
    with pytest.raises(ValueError, match="must be a multiple of the 4 cells"):
        F.fold(normal(1, 6, 9), (4, 4), 2)
    with pytest.raises(ValueError, match=r"input has shape \(1, 4, 8\)"):
        F.fold(normal(1, 4, 8), (4, 4), 2)
    with pytest.raises(ValueError, match="spans 5 cells"):
        F.unfold(x, 5)
