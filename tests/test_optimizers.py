"""Optimizers, schedules and clipping against PyTorch's."""

import numpy as np
import pytest

from tinyml.clipping import Clipped, clip_norm, clip_value
from tinyml.core import Parameter
from tinyml.optims import SGD, Adagrad, Adam, AdamW, ParameterGroups, RMSprop
from tinyml.schedules import Cosine, OneCycle, Schedule, StepDecay, WarmUp

SHAPES = ((3, 4), (5,), ())

OPTIMIZERS = {
    "SGD": (SGD(0.1), "SGD", {"lr": 0.1}),
    "momentum": (SGD(0.1, 0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "SGD decay": (
        SGD(0.1, 0.9, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2},
    ),
    "Nesterov": (
        SGD(0.1, 0.9, nesterov=True, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2},
    ),
    "Adam": (
        Adam(0.1, weight_decay=0.2),
        "Adam",
        {"lr": 0.1, "weight_decay": 0.2},
    ),
    "AdamW": (AdamW(0.1), "AdamW", {"lr": 0.1}),
    "RMSprop": (RMSprop(0.1), "RMSprop", {"lr": 0.1}),
    "RMSprop momentum": (
        RMSprop(0.1, 0.9, 1e-3, momentum=0.8, weight_decay=0.1),
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "momentum": 0.8, "weight_decay": 0.1},
    ),
    "Adagrad": (Adagrad(0.1, weight_decay=0.1), "Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
}

SCHEDULES = {
    "StepDecay": (StepDecay(0.1, 7, 0.5), "StepLR", {"step_size": 7, "gamma": 0.5}),
    "Cosine": (Cosine(0.1, 50, 0.01), "CosineAnnealingLR", {"T_max": 50, "eta_min": 0.01}),
    "OneCycle": (OneCycle(0.1, 50), "OneCycleLR", {"max_lr": 0.1, "total_steps": 50}),
    "WarmUp": (WarmUp(0.1, 9, 0.25), "LinearLR", {"start_factor": 0.25, "total_iters": 9}),
}


def gradients(step):
    rng = np.random.default_rng(step)
    return [rng.standard_normal(shape) for shape in SHAPES]


def parameters_of(backend, dtype="float64"):
    return [Parameter(backend.asarray(np.asarray(g, dtype))) for g in gradients(99)]


def follow(backend, torch, optimizer, theirs, tensors, *, steps=50, between=None, after=None):
    """Take the same steps with both, and compare the parameters after each."""
    ours = parameters_of(backend)
    for step in range(steps):
        for p, tensor, g in zip(ours, tensors, gradients(step), strict=True):
            p.gradient = backend.asarray(g.copy())
            tensor.grad = torch.from_numpy(g.copy())
        if between:
            between(tensors)
        optimizer.update(ours)
        theirs.step()
        if after:
            after.step()
        for p, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(
                backend.to_numpy(p.tensor), tensor.detach().numpy(), rtol=1e-12, atol=1e-12
            )


def of_pytorch(torch, name, options):
    tensors = [torch.from_numpy(np.asarray(g)).requires_grad_() for g in gradients(99)]
    return getattr(torch.optim, name)(tensors, **options), tensors


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_pytorch(backend, torch, name):
    optimizer, their_name, options = OPTIMIZERS[name]
    theirs, tensors = of_pytorch(torch, their_name, options)
    follow(backend, torch, optimizer, theirs, tensors)


@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_pytorch(backend, torch, name):
    schedule, their_name, options = SCHEDULES[name]
    theirs, tensors = of_pytorch(torch, "SGD", {"lr": 0.1})
    if name == "OneCycle":
        options = {**options, "cycle_momentum": False}
    scheduler = getattr(torch.optim.lr_scheduler, their_name)(theirs, **options)
    steps = 49 if name == "OneCycle" else 50  # PyTorch refuses the step after the last
    follow(backend, torch, SGD(schedule), theirs, tensors, steps=steps, after=scheduler)


def test_clipping_equals_pytorch(backend, torch):
    nn = torch.nn.utils
    for clipped, between in (
        (Clipped(SGD(0.1), norm=0.5), lambda t: nn.clip_grad_norm_(t, 0.5)),
        (Clipped(SGD(0.1), norm=50), lambda t: nn.clip_grad_norm_(t, 50)),
        (Clipped(SGD(0.1), value=0.5), lambda t: nn.clip_grad_value_(t, 0.5)),
    ):
        theirs, tensors = of_pytorch(torch, "SGD", {"lr": 0.1})
        follow(backend, torch, clipped, theirs, tensors, steps=5, between=between)
        assert clipped.learning_rate == 0.1


def test_groups(backend, torch):
    theirs, tensors = of_pytorch(torch, "SGD", {"lr": 0.1})
    theirs = torch.optim.SGD(
        [{"params": tensors[:1], "weight_decay": 0.5}, {"params": tensors[1:], "lr": 0.02}], lr=0.1
    )
    ours = parameters_of(backend)
    optimizer = ParameterGroups(SGD(0.1, weight_decay=0.5), [(ours[1:], SGD(0.02))])
    for step in range(3):
        for p, tensor, g in zip(ours, tensors, gradients(step), strict=True):
            p.gradient, tensor.grad = backend.asarray(g.copy()), torch.from_numpy(g.copy())
        optimizer.update(ours)
        theirs.step()
    for p, tensor in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(
            backend.to_numpy(p.tensor), tensor.detach().numpy(), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("make", [lambda: RMSprop(0.1, momentum=0.5), lambda: Adagrad(0.1)])
def test_dtypes(backend, make, dtype):
    """Squares of these gradients overflow in float16."""
    optimizer, (p, *_) = make(), parameters_of(backend, dtype)
    p.gradient = backend.asarray(np.full(SHAPES[0], 1000, dtype))
    before = backend.to_numpy(p.tensor).copy()
    optimizer.update([p])
    assert p.tensor.dtype == dtype
    after = backend.to_numpy(p.tensor)
    assert np.isfinite(after).all()
    assert (after < before).all()


@pytest.mark.host
@pytest.mark.parametrize(
    "make", [lambda: SGD(0.1, 0.9), lambda: Adam(), lambda: RMSprop(), lambda: Adagrad()]
)
def test_another_shape_changes_nothing(make):
    optimizer = make()
    first, second = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer.update([first, second])
    before = first.tensor.copy()
    first.gradient += 1
    second.tensor, second.gradient = np.ones(4), np.ones(4)
    with pytest.raises(ValueError, match=r"of a parameter has shape \(3,\), and its tensor \(4,\)"):
        optimizer.update([first, second])
    second.gradient = np.ones(3)
    with pytest.raises(ValueError, match=r"gradient of a parameter has shape"):
        optimizer.update([first, second])
    np.testing.assert_array_equal(first.tensor, before)


@pytest.mark.host
@pytest.mark.parametrize(
    "wrap",
    [
        lambda first, second: ParameterGroups(SGD(1.0), [([first], SGD(0.1)), ([second], Adam())]),
        lambda first, second: Clipped(SGD(1.0), norm=0.5),
        lambda first, second: Clipped(ParameterGroups(SGD(1.0), [([first], SGD(0.1))]), value=0.5),
    ],
)
def test_a_wrong_shape_changes_nothing_in_any_group(wrap):
    first, second = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = wrap(first, second)
    first.gradient += 1
    second.gradient = np.ones(4)
    with pytest.raises(ValueError, match="gradient of a parameter has shape"):
        optimizer.update([first, second])
    for array in (first.tensor, first.gradient, second.gradient):
        np.testing.assert_array_equal(array, np.ones(array.shape))


@pytest.mark.host
@pytest.mark.parametrize("rate", [-1.0, float("nan"), "fast"])
def test_a_bad_rate_of_a_schedule_changes_nothing(rate):
    p, optimizer = Parameter(np.ones(1)), Adam(Schedule(lambda step: rate))
    p.gradient += 1
    with pytest.raises((TypeError, ValueError), match=r"Schedule\(0\) is .*; it must be"):
        optimizer.update([p])
    assert p.tensor[0] == 1
    assert optimizer.steps == 0


@pytest.mark.host
@pytest.mark.parametrize("rising", [0.05, 0.1, 0.5])
def test_one_cycle_whose_first_step_is_the_highest(rising):
    rates = [OneCycle(0.5, 10, rising)(step) for step in range(12)]
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert rates[9] == rates[11] == pytest.approx(0.5 / 25 / 1e4)


@pytest.mark.host
def test_bad_arguments():
    with pytest.raises(ValueError, match="nesterov is True and momentum is 0"):
        SGD(0.1, nesterov=True)
    with pytest.raises(ValueError, match="weight_decay is -1; it must be at least 0"):
        Adam(weight_decay=-1)
    with pytest.raises(ValueError, match="limit is 0; it must be more than 0"):
        clip_norm([], 0)
    with pytest.raises(ValueError, match="limit is -1"):
        clip_value([], -1)
    with pytest.raises(ValueError, match="Clipped: norm is 0"):
        Clipped(SGD(0.1), norm=0)
    with pytest.raises(ValueError, match="every is 0"):
        StepDecay(0.1, 0)
    with pytest.raises(ValueError, match="rising is 1; it must be"):
        OneCycle(0.1, 10, rising=1)
    p = Parameter(np.ones(1))
    with pytest.raises(ValueError, match="a parameter is in two of them"):
        ParameterGroups(SGD(0.1), [([p], SGD(0.1)), ([p], SGD(0.1))])


@pytest.mark.host
def test_reprs_and_own_schedules():
    assert repr(Cosine(0.1, 5)) == "Cosine(rate=0.1, steps=5, lowest=0.0)"
    assert repr(SGD(StepDecay(0.5, 2), 0.5)) == (
        "SGD(learning_rate=StepDecay(rate=0.5, every=2, factor=0.1), momentum=0.5, "
        "nesterov=False, weight_decay=0.0)"
    )
    assert Schedule(lambda step: np.float32(step))(2) == 2.0
    p = Parameter(np.zeros(1))
    optimizer = SGD(Schedule(lambda step: 10.0**-step))
    for _ in range(3):
        p.gradient = np.ones(1)
        optimizer.update([p])
    np.testing.assert_allclose(p.tensor, -1.11)
