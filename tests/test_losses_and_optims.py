"""Softmax cross-entropy, SGD and Adam."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.compare import assert_same_bits
from support.gradients import numerical_gradient
from tinyml.core import Parameter
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.optims import SGD, Adam


@given(data=st.data())
def test_loss_equals_pytorch(backend, torch, data):
    shape = (
        *data.draw(st.tuples(*[st.integers(1, 4)] * 2)),
        *data.draw(st.sampled_from([(), (3,), (2, 3)])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    logits = rng.standard_normal(shape) * data.draw(st.sampled_from([1, 300]))
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    ignored = data.draw(st.sampled_from([-100, 0, 255]))
    target[rng.random(target.shape) < 0.3] = ignored
    if (target == ignored).all():
        target.flat[0] = shape[1] - 1
        if shape[1] - 1 == ignored:
            return
    loss = SoftmaxCrossEntropy(ignored)
    value = loss.forward(backend.asarray(logits), backend.asarray(target))
    source = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        source, torch.from_numpy(target), ignore_index=ignored
    )
    expected.backward()
    assert isinstance(value, float)
    assert value == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(
        backend.to_numpy(loss.backward()), source.grad.numpy(), rtol=1e-6, atol=1e-12
    )


def test_the_gradient_is_made_when_asked_for(backend, monkeypatch):
    """An evaluation pays for the loss alone; the gradient is made once."""
    made = []
    kind = type(backend)
    gradient_of = kind.class_losses_gradient
    monkeypatch.setattr(
        kind, "class_losses_gradient", lambda *saved: made.append(1) or gradient_of(*saved)
    )
    loss = SoftmaxCrossEntropy()
    logits = backend.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)))
    loss.forward(logits, backend.asarray(np.zeros((2, 4), int)))
    assert made == []
    assert loss.backward() is loss.backward()
    assert made == [1]


def test_loss_gradient(backend):
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((2, 3, 4)), rng.integers(0, 3, (2, 4))
    target[0, 1] = -100
    loss = SoftmaxCrossEntropy()
    before = logits.copy()
    loss.forward(backend.asarray(logits), backend.asarray(target))
    assert_same_bits(logits, before)
    ours = backend.to_numpy(loss.backward())

    def value(x):
        return SoftmaxCrossEntropy().forward(backend.asarray(x), backend.asarray(target))

    expected = numerical_gradient(value, logits, 1e-5)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


def test_large_logits_stay_finite(backend):
    logits = backend.asarray(np.array([[1e30, -1e30], [-1e30, 1e30]], np.float32))
    loss = SoftmaxCrossEntropy()
    assert loss.forward(logits, backend.asarray(np.array([0, 1]))) == 0
    assert np.isfinite(backend.to_numpy(loss.backward())).all()


def test_nothing_counted(backend):
    loss = SoftmaxCrossEntropy(ignore_index=9)
    logits = backend.asarray(np.ones((2, 3), np.float32))
    with pytest.warns(
        UserWarning, match=r"^every target is 9, the ignore_index .*; leave such"
    ) as caught:
        assert loss.forward(logits, backend.asarray(np.array([9, 9], np.uint8))) == 0
    assert caught[0].filename == __file__
    assert not backend.to_numpy(loss.backward()).any()
    assert SoftmaxCrossEntropy().forward(logits[:0], backend.asarray(np.zeros(0, int))) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_target_dtypes(backend, dtype):
    logits = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    target = np.array([0, 1, 2, 2])
    values = [
        SoftmaxCrossEntropy().forward(backend.asarray(logits), backend.asarray(target.astype(t)))
        for t in (dtype, np.int64)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([0, 3], ValueError, "target holds 3; it must be a class from 0 to 2, or -100"),
        ([-1, 0], ValueError, "target holds -1"),
        ([0, 1, 2], ValueError, r"target has shape \(3,\); it must be \(2\)"),
        ([0.0, 1.0], TypeError, "target has dtype float64; it must hold integers"),
    ],
)
def test_bad_targets(backend, target, error, message):
    loss = SoftmaxCrossEntropy()
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        loss.backward()
    with pytest.raises(error, match=message):
        loss.forward(backend.asarray(np.ones((2, 3))), backend.asarray(np.array(target)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: SGD(0.1), lambda torch, p: torch.optim.SGD(p, 0.1)),
        (lambda: SGD(0.1, 0.9), lambda torch, p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (lambda: Adam(), lambda torch, p: torch.optim.Adam(p)),
        (
            lambda: Adam(0.01, (0.5, 0.9), 1e-3),
            lambda torch, p: torch.optim.Adam(p, 0.01, betas=(0.5, 0.9), eps=1e-3),
        ),
    ],
)
def test_twenty_steps_equal_pytorch(backend, torch, ours, theirs):
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    parameters = [Parameter(backend.asarray(start.copy())) for start in starts]
    tensors = [torch.from_numpy(start.copy()).requires_grad_() for start in starts]
    optimizer, reference = ours(), theirs(torch, tensors)
    for _ in range(20):
        for parameter, tensor in zip(parameters, tensors, strict=True):
            gradient = rng.standard_normal(tensor.shape)
            parameter.zero_gradient()
            parameter.gradient += backend.asarray(gradient)
            tensor.grad = torch.from_numpy(gradient)
        optimizer.update(parameters)
        reference.step()
        for parameter, tensor in zip(parameters, tensors, strict=True):
            np.testing.assert_allclose(
                backend.to_numpy(parameter.tensor), tensor.detach().numpy(), rtol=1e-12
            )


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), "learning_rate is 0; it must be more than 0"),
        (lambda: SGD(float("nan")), "learning_rate is nan"),
        (lambda: SGD(1, 1.0), "momentum is 1.0; it must be at least 0 and less than 1"),
        (lambda: Adam(-1), "learning_rate is -1"),
        (lambda: Adam(betas=(0.9, 1)), r"betas is \(0.9, 1\)"),
        (lambda: Adam(epsilon=0), "epsilon is 0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
