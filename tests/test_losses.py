"""The losses against PyTorch's, and by central differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml.functional as F
from support.gradients import numerical_gradient
from tinyml import losses
from tinyml.losses import L1, MSE, BCEWithLogits, Dice, Huber, SoftmaxCrossEntropy, Sum

CLOSE = {"rtol": 1e-6, "atol": 1e-12}

OF_ELEMENTS = {
    "MSE": (MSE(), "mse_loss", {}),
    "L1": (L1(), "l1_loss", {}),
    "Huber": (Huber(0.5), "huber_loss", {"delta": 0.5}),
    "BCE": (BCEWithLogits(), "binary_cross_entropy_with_logits", {}),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def check(backend, torch, loss, theirs, x, target):
    tensor = torch.from_numpy(x).requires_grad_()
    expected = theirs(tensor, torch.from_numpy(target))
    expected.backward()
    ours = loss.forward(backend.asarray(x), backend.asarray(target))
    assert isinstance(ours, float)
    np.testing.assert_allclose(ours, expected.item(), **CLOSE)
    gradient = backend.to_numpy(loss.backward())
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), **CLOSE)


@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=4),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    weighted=st.booleans(),
    scale=st.sampled_from([1, 100]),
)
@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_elements_equal_pytorch(backend, torch, name, shape, reduction, weighted, scale):
    loss, function, options = OF_ELEMENTS[name]
    x, target = np.asarray(normal(*shape) * scale), np.asarray(normal(*shape, seed=1))
    if name == "BCE":
        target = np.asarray(1 / (1 + np.exp(-target)))
    theirs = getattr(torch.nn.functional, function)
    check(backend, torch, loss, lambda a, b: theirs(a, b, **options), x, target)

    weight = np.asarray(normal(*shape, seed=2) ** 2) if weighted else None
    tensor = torch.from_numpy(x).requires_grad_()
    of_torch = {**options, "reduction": reduction}
    ours = dict(of_torch)
    if weighted:
        of_torch["weight"] = torch.from_numpy(weight)
        ours["weight"] = backend.asarray(weight)
    expected = theirs(tensor, torch.from_numpy(target), **of_torch)
    g = np.asarray(normal(*expected.shape, seed=3))
    expected.backward(torch.from_numpy(g))
    arrays = backend.asarray(x), backend.asarray(target)
    value = getattr(F, function)(*arrays, **ours)
    np.testing.assert_allclose(backend.to_numpy(value), expected.detach().numpy(), **CLOSE)
    gradient = getattr(F, f"{function}_gradient")(backend.asarray(g), *arrays, **ours)
    np.testing.assert_allclose(backend.to_numpy(gradient), tensor.grad.numpy(), **CLOSE)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "loss",
    [
        *(loss for loss, _, _ in OF_ELEMENTS.values()),
        Dice(),
        SoftmaxCrossEntropy(),
        SoftmaxCrossEntropy(label_smoothing=0.1),
        SoftmaxCrossEntropy(class_weights=[1, 2, 3]),
        Sum([Dice(), SoftmaxCrossEntropy()], [0.5, 2]),
    ],
    ids=repr,
)
def test_the_gradient_has_the_dtype_of_the_output(backend, loss, dtype):
    x = backend.asarray(normal(2, 3).astype(dtype))
    of_elements = isinstance(loss, tuple(type(known) for known, _, _ in OF_ELEMENTS.values()))
    target = np.zeros((2, 3), np.float32) if of_elements else np.array([0, 2])
    loss.forward(x, backend.asarray(target))
    assert loss.backward().dtype == dtype


def test_positive_weights_equal_pytorch(backend, torch):
    x, target, weight = normal(4, 3), np.eye(4, 3), np.array([0.5, 1.0, 4.0])
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        tensor, torch.from_numpy(target), pos_weight=torch.from_numpy(weight)
    )
    expected.backward()
    arrays = backend.asarray(x), backend.asarray(target)
    options = {"pos_weight": backend.asarray(weight)}
    value = F.binary_cross_entropy_with_logits(*arrays, **options)
    np.testing.assert_allclose(backend.to_numpy(value), expected.item(), **CLOSE)
    gradient = F.binary_cross_entropy_with_logits_gradient(1.0, *arrays, **options)
    np.testing.assert_allclose(backend.to_numpy(gradient), tensor.grad.numpy(), **CLOSE)


@given(
    spatial=st.lists(st.integers(1, 3), max_size=2),
    classes=st.integers(1, 4),
    smoothing=st.sampled_from([0, 0.1, 1]),
    weighted=st.booleans(),
    probabilities=st.booleans(),
    ignored=st.booleans(),
)
def test_cross_entropy_equals_pytorch(
    backend, torch, spatial, classes, smoothing, weighted, probabilities, ignored
):
    x = normal(3, classes, *spatial)
    rng = np.random.default_rng(1)
    target = rng.integers(0, classes, (3, *spatial))
    if ignored:
        target.reshape(-1)[0] = 7
    if probabilities:
        target = rng.dirichlet(np.ones(classes), (3, *spatial))
        target = np.ascontiguousarray(np.moveaxis(target, -1, 1))
    weights = [0.5 + c for c in range(classes)] if weighted else None
    options = {"label_smoothing": float(smoothing)}
    if not probabilities:
        options["ignore_index"] = 7
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    check(
        backend,
        torch,
        SoftmaxCrossEntropy(7, class_weights=weights, label_smoothing=smoothing),
        lambda a, b: torch.nn.functional.cross_entropy(a, b, tensor, **options),
        x,
        target,
    )


@given(
    spatial=st.lists(st.integers(1, 3), max_size=2),
    classes=st.integers(1, 3),
    ignored=st.booleans(),
)
def test_dice_and_sums_equal_pytorch(backend, torch, spatial, classes, ignored):
    x = normal(2, classes, *spatial)
    target = np.random.default_rng(1).integers(0, classes, (2, *spatial))
    if ignored:
        target.reshape(-1)[0] = -100

    def dice(logits, wanted):
        counted = (wanted != -100)[:, None]
        p = torch.softmax(logits, 1) * counted
        t = torch.nn.functional.one_hot(wanted.clamp(min=0), classes).movedim(-1, 1) * counted
        axes = [a for a in range(p.ndim) if a != 1]
        return 1 - ((2 * (p * t).sum(axes) + 1) / ((p + t).sum(axes) + 1)).mean()

    check(backend, torch, Dice(), dice, x, target)
    both = Sum([SoftmaxCrossEntropy(), Dice()], [2, 0.5])

    def total(logits, wanted):
        entropy = torch.nn.functional.cross_entropy(logits, wanted)
        return 2 * entropy + 0.5 * dice(logits, wanted)

    check(backend, torch, both, total, x, target)


@pytest.mark.parametrize("make", [lambda: Dice(0.5), lambda: Sum([Dice(), SoftmaxCrossEntropy()])])
def test_gradients(backend, make):
    loss, x = make(), normal(2, 3, 2)
    target = backend.asarray(np.array([[0, 2], [1, 1]]))
    loss.forward(backend.asarray(x), target)
    ours = backend.to_numpy(loss.backward())
    expected = numerical_gradient(lambda a: loss.forward(backend.asarray(a), target), x, 1e-5)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


def test_class_weights_have_the_precision_of_the_logits(backend, torch):
    x, target, weights = normal(4, 3), np.array([0, 1, 2, 1]), [0.1, 0.3, 0.7]
    ours = SoftmaxCrossEntropy(class_weights=weights)
    value = ours.forward(backend.asarray(x), backend.asarray(target))
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(x), torch.tensor(target), torch.tensor(weights, dtype=torch.float64)
    )
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-14)
    half = backend.asarray(x.astype(np.float16))
    whole = [ours.forward(a, backend.asarray(target)) for a in (half, half.astype(np.float32))]
    assert whole[0] == whole[1]  # the loss itself is not rounded to float16


def test_an_evaluation_makes_no_gradient(backend, monkeypatch):
    made = []
    module = losses.cross_entropy
    gradient_of = module.cross_entropy_gradient
    monkeypatch.setattr(
        module, "cross_entropy_gradient", lambda *a, **k: made.append(1) or gradient_of(*a, **k)
    )
    loss = SoftmaxCrossEntropy(label_smoothing=0.1)
    loss.forward(backend.asarray(normal(2, 3)), backend.asarray(np.zeros(2, int)))
    assert made == []
    assert loss.backward() is loss.backward()
    assert made == [1]


def test_a_failed_sum_has_no_gradient(backend):
    """One of its losses has seen the new batch, and the other has not."""
    loss = Sum([MSE(), SoftmaxCrossEntropy()])
    x, target = backend.asarray(normal(2, 3)), backend.asarray(np.full((2, 3), 1 / 3))
    loss.forward(x, target)
    loss.backward()
    with pytest.raises(TypeError, match="target has dtype bool"):
        loss.forward(x, target > 0)
    with pytest.raises(RuntimeError, match="Sum: backward needs a forward pass"):
        loss.backward()


@pytest.mark.host
def test_what_a_sum_ignores():
    assert Sum([MSE(), Dice(ignore_index=9)]).ignore_index == 9
    assert Sum([MSE()]).ignore_index is None


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_a_weight_that_does_not_broadcast(backend, name):
    x, wrong = backend.asarray(normal(3)), backend.asarray(normal(2, 3))
    for function, first in (
        (F.binary_cross_entropy_with_logits, ()),
        (F.binary_cross_entropy_with_logits_gradient, (1.0,)),
    ):
        with pytest.raises(ValueError, match=rf"^{name} has shape \(2, 3\); it must broadcast"):
            function(*first, x, x, **{name: wrong})
        with pytest.raises(ValueError, match=rf"^{name} has shape \(2,\); it must broadcast"):
            function(*first, x, x, **{name: wrong[:, 0]})
    with pytest.raises(ValueError, match=r"weight has shape \(1,\); it must be \(3\)"):
        F.huber_loss(x, x, weight=x[:1])


def test_nothing_counted(backend):
    loss = SoftmaxCrossEntropy(label_smoothing=0.1)
    logits, target = backend.asarray(normal(2, 3)), backend.asarray(np.full(2, -100))
    with pytest.warns(UserWarning, match="every target is -100"):
        assert loss.forward(logits, target) == 0
    assert not backend.to_numpy(loss.backward()).any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "loss", [MSE(), Huber(), BCEWithLogits(), Dice(), SoftmaxCrossEntropy(label_smoothing=0.1)]
)
def test_dtypes(backend, loss, dtype):
    x = backend.asarray(np.full((2, 3), 300, dtype))  # squares overflow in float16
    shape = (2,) if isinstance(loss, Dice | SoftmaxCrossEntropy) else (2, 3)
    value = loss.forward(x, backend.asarray(np.zeros(shape, np.int64)))
    assert np.isfinite(value)
    assert loss.backward().dtype == dtype


@pytest.mark.host
def test_bad_arguments():
    x = normal(2, 3)
    for loss in (MSE(), Dice(), Sum([L1()])):
        with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
            loss.backward()
    for loss in (MSE(), L1(), Huber(), BCEWithLogits()):
        with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
            loss.forward(x, np.zeros(2))
        with pytest.raises(ValueError, match="target holds NaN"):
            loss.forward(x, np.where(x > 9, 0, np.nan))
    with pytest.raises(ValueError, match="target holds NaN"):
        SoftmaxCrossEntropy().forward(x, np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="target holds 3; it must be a class from 0 to 2"):
        Dice().forward(x, np.array([0, 3]))
    with pytest.raises(TypeError, match="target has dtype float64; it must hold integers"):
        Dice().forward(x, np.zeros(2))
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.5; it must be"):
        SoftmaxCrossEntropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="class_weights is -1"):
        SoftmaxCrossEntropy(class_weights=[1, -1])
    with pytest.raises(TypeError, match="class_weights is 5; it must hold a number for each"):
        SoftmaxCrossEntropy(class_weights=5)
    with pytest.raises(ValueError, match=r"class_weights has 2 numbers; .* each of the 3 classes"):
        SoftmaxCrossEntropy(class_weights=[1, 1]).forward(x, np.zeros(2, int))
    with pytest.raises(ValueError, match="one for each of the 1 losses"):
        Sum([MSE()], [1, 2])
