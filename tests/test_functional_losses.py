"""cross_entropy and mse_loss of tinyml.functional, and their gradients, against PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F

CLOSE = {"rtol": 1e-9, "atol": 1e-14}


def gradient_of(loss, rng):
    """A gradient with respect to a loss of PyTorch, as NumPy's."""
    return rng.standard_normal(tuple(loss.shape)) if loss.ndim else float(rng.standard_normal())


def check(backend, torch, name, x, others, options, rng):
    """Compare loss and gradient; ``others`` are NumPy arrays and numbers by keyword."""
    source = torch.from_numpy(x).requires_grad_()
    theirs = {k: torch.from_numpy(a) for k, a in others.items()}
    expected = getattr(torch.nn.functional, name)(source, **theirs, **options)
    upstream = gradient_of(expected, rng)
    expected.backward(torch.as_tensor(upstream, dtype=torch.float64))
    ours = {k: backend.asarray(a) for k, a in others.items()}
    loss = getattr(F, name)(backend.asarray(x), **ours, **options)
    given_gradient = upstream if isinstance(upstream, float) else backend.asarray(upstream)
    gradient = getattr(F, f"{name}_gradient")(given_gradient, backend.asarray(x), **ours, **options)
    assert loss.dtype == gradient.dtype == np.float64
    assert tuple(loss.shape) == tuple(expected.shape)
    actual = backend.to_numpy(loss) if backend.handles(loss) else loss
    np.testing.assert_allclose(actual, expected.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(backend.to_numpy(gradient), source.grad.numpy(), **CLOSE)


@given(data=st.data())
def test_cross_entropy(backend, torch, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    classes = data.draw(st.integers(1, 4))
    lead = data.draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3)]))
    shape = (*lead[:1], classes, *lead[1:])
    ignore_index = data.draw(st.sampled_from([-100, 0, 1]))
    options = {
        "ignore_index": ignore_index,
        "reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0])),
    }
    others = {}
    if data.draw(st.booleans()):
        others["weight"] = rng.uniform(0.5, 2, classes)
    if data.draw(st.booleans()):
        others["target"] = (
            rng.dirichlet(np.ones(classes), lead)
            .transpose(*range(len(lead[:1])), len(lead), *range(1, len(lead)))
            .copy()
        )
        del options["ignore_index"]  # PyTorch refuses it for probabilities
    else:
        others["target"] = np.asarray(rng.integers(0, classes, lead))
        if data.draw(st.booleans()):
            others["target"] = np.where(rng.random(lead) < 0.3, ignore_index, others["target"])
    check(backend, torch, "cross_entropy", 2 * rng.standard_normal(shape), others, options, rng)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_counts(backend, torch, smoothing):
    """The mean is NaN, and the gradient 0, without a warning."""
    others = {"target": np.full((2, 3), 1)}
    options = {"ignore_index": 1, "label_smoothing": smoothing}
    rng = np.random.default_rng(0)
    check(backend, torch, "cross_entropy", np.zeros((2, 4, 3)), others, options, rng)


@given(data=st.data())
def test_mse_loss(backend, torch, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = data.draw(st.lists(st.integers(1, 4), max_size=4))
    others = {"target": np.asarray(rng.standard_normal(shape))}
    if data.draw(st.booleans()):
        others["weight"] = np.asarray(rng.uniform(0.5, 2, shape))
    options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"]))}
    check(backend, torch, "mse_loss", np.asarray(rng.standard_normal(shape)), others, options, rng)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_dtypes_and_large_logits(backend, dtype):
    x = backend.asarray(np.array([[3e4, -3e4, 0], [0, 1, 2]]).astype(dtype))
    weight = backend.asarray(np.ones(3))
    wanted = np.float16 if dtype == "float16" else np.float32
    target = backend.asarray(np.array([0, 2]))
    for smoothing in (0.0, np.float64(0.1)):
        options = {"weight": weight, "label_smoothing": smoothing}
        loss = F.cross_entropy(x, target, **options)
        gradient = F.cross_entropy_gradient(1.0, x, target, **options)
        assert loss.dtype == gradient.dtype == wanted
        assert np.isfinite(float(loss))
        assert np.isfinite(backend.to_numpy(gradient)).all()
    assert abs(float(F.cross_entropy(x, target)) - 0.2038) < 1e-3
    assert F.mse_loss(x, x).dtype == F.mse_loss_gradient(1.0, x, x).dtype == wanted


def test_errors(backend):
    x = backend.asarray(np.zeros((2, 3)))
    target = backend.asarray(np.array([0, 3]))
    good = backend.asarray(np.array([0, 1]))
    for call, message in (
        (lambda: F.cross_entropy(x, target), "target holds 3; it must be a class from 0 to 2"),
        (lambda: F.cross_entropy(x, x[:, 0]), r"target has shape \(2,\); it must be \(2, 3\)"),
        (lambda: F.cross_entropy(x, target[:1]), r"target has shape \(1,\); it must be \(2\)"),
        (lambda: F.cross_entropy(x, good, x[0, :2]), r"weight has shape \(2,\); it must be \(3\)"),
        (lambda: F.cross_entropy(x, good, reduction="avg"), "reduction is 'avg'; it must be"),
        (lambda: F.cross_entropy(x, good, label_smoothing=2), "label_smoothing is 2; it must be"),
        (lambda: F.mse_loss(x, x[0]), r"target has shape \(3,\); it must be \(2, 3\)"),
        (lambda: F.mse_loss(x, x, weight=x[0]), r"weight has shape \(3,\); it must be \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="target has dtype bool; it must hold classes"):
        F.cross_entropy(x, good > 0)
