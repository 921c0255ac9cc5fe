"""Learner: fit, evaluate, predict."""

import copy
import pickle

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml.data import load_digits
from tinyml.layers import Conv2D, Linear
from tinyml.learner import Learner
from tinyml.losses import MSE, BCEWithLogits, SoftmaxCrossEntropy, Sum
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam


def learner(optimizer=None):
    model = segnet((1, 8, 8), 2, depth=2, channels=4, rng=0)
    return Learner(model, SoftmaxCrossEntropy(), optimizer or Adam(0.01))


def ink(backend, n=48):
    """Digits, and as classes whether each pixel is dark."""
    images = load_digits().images[:n, None] / np.float32(16)
    return backend.asarray(images), backend.asarray((images[:, 0] > 0.5).astype(np.int64))


def weights(backend, of):
    buffers = (*of.model.parameters, *of.model.buffers)
    return [backend.to_numpy(b.tensor).copy() for b in buffers]


def test_it_learns(backend):
    x, y = ink(backend)
    ours = learner()
    before = ours.evaluate((x, y))
    history = ours.fit((x, y), (x, y), epochs=8, batch_size=20)
    assert history is ours.history
    assert len(history["loss"]) == 8 * 3
    assert len(history["validation"]) == 8
    assert history["validation"][-1] == ours.evaluate((x, y), batch_size=20)
    assert set(before) == {"loss", "accuracy"}
    assert ours.evaluate((x, y))["accuracy"] > before["accuracy"] + 0.2


def test_the_same_seed_gives_the_same_bits(backend):
    runs = []
    for seed in (1, 1, 2):
        ours = learner()
        ours.fit(ink(backend), epochs=2, batch_size=16, seed=seed)
        runs.append(weights(backend, ours))
    for one, two in zip(runs[0], runs[1], strict=True):
        assert_same_bits(one, two)
    assert any((one != two).any() for one, two in zip(runs[0], runs[2], strict=True))


def test_batches_are_taken_as_they_come(backend):
    x, y = ink(backend)
    batches = [(x[:16], y[:16]), (x[16:48], y[16:48])]
    ours, other = learner(), learner()
    ours.fit(batches, epochs=2)
    for _ in range(2):
        for batch in batches:
            other.step(*batch)
    for one, two in zip(weights(backend, ours), weights(backend, other), strict=True):
        assert_same_bits(one, two)


def test_evaluate_weighs_batches_by_their_samples(backend):
    x, y = ink(backend)
    whole = learner().evaluate((x, y), batch_size=48)
    parts = learner().evaluate((x, y), batch_size=20)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert parts["accuracy"] == whole["accuracy"]


def test_predict(backend):
    x, _ = ink(backend)
    ours = learner()
    whole = ours.predict(x, batch_size=100)
    assert backend.handles(whole)
    assert whole.shape == (48, 2, 8, 8)
    np.testing.assert_allclose(
        backend.to_numpy(ours.predict(x, batch_size=7)), backend.to_numpy(whole), atol=1e-5
    )
    assert ours.predict(x[:0]).shape == (0, 2, 8, 8)


def test_an_interrupt_keeps_the_history(backend):
    x, y = ink(backend)

    def interrupted():
        yield x, y
        yield x, y
        raise KeyboardInterrupt

    ours = learner()
    with pytest.raises(KeyboardInterrupt):
        ours.fit(interrupted())
    assert len(ours.history["loss"]) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_model(backend, value):
    x, y = ink(backend)
    bad = backend.to_numpy(x).copy()
    bad[0, 0, 0, 0] = value
    ours = learner(SGD(0.125))
    ours.fit((x, y), batch_size=24)
    before = weights(backend, ours)
    message = (
        r"x of step 2 holds NaN or infinity, so its loss is not finite; the model keeps the weights"
    )
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=message),
    ):
        ours.fit([(x, y), (backend.asarray(bad), y)])
    one_more = learner(SGD(0.125))
    one_more.fit((x, y), batch_size=24)
    one_more.step(x, y)
    assert any((a != b).any() for a, b in zip(weights(backend, ours), before, strict=True))
    for a, b in zip(weights(backend, ours), weights(backend, one_more), strict=True):
        assert_same_bits(a, b)


def test_bad_data(backend):
    x, y = ink(backend)
    ours = learner()
    with pytest.raises(ValueError, match="x has 48 samples and y 20; they must have the same"):
        ours.fit((x, y[:20]))
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        ours.fit((x, y), batch_size=0)
    with pytest.raises(ValueError, match="train has no batch in epoch 1"):
        ours.fit([])
    with pytest.raises(ValueError, match=r"train has no batch in epoch 2; .* such as a list"):
        ours.fit(iter([(x, y)]), epochs=2)
    with pytest.raises(ValueError, match="data has no target that counts"):
        ours.evaluate([])
    with pytest.raises(ValueError, match="target holds 2; it must be a class from 0 to 1"):
        ours.fit((x, y + 1))
    with pytest.raises(ValueError, match=r"input has shape \(32, 2, 8, 8\)"):
        ours.fit((backend.xp.concatenate([x, x], 1), y))


@pytest.mark.host
def test_the_bar_is_quiet_without_a_terminal(capfd):
    model = Sequential([Conv2D("conv", (1, 4, 4), 2, 1, rng=0)])
    x, y = np.zeros((4, 1, 4, 4), np.float32), np.zeros((4, 4, 4), int)
    Learner(model, SoftmaxCrossEntropy(), SGD(0.1)).fit((x, y))
    assert capfd.readouterr() == ("", "")


@pytest.mark.host
def test_the_bar_shows_loss_and_speed(monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    model = Sequential([Conv2D("conv", (1, 4, 4), 2, 1, rng=0)])
    x, y = np.zeros((40, 1, 4, 4), np.float32), np.zeros((40, 4, 4), int)
    Learner(model, SoftmaxCrossEntropy(), SGD(0.1)).fit((x, y), epochs=2, batch_size=10)
    shown = capfd.readouterr().err
    assert "epoch 2/2: 100%" in shown
    assert "loss 0." in shown
    assert "images/s" in shown
    assert "4/4" in shown


def test_an_empty_batch_is_refused_and_changes_nothing(backend):
    x, y = ink(backend)
    ours = learner()
    before = weights(backend, ours)
    with pytest.raises(ValueError, match="a batch has no samples"):
        ours.fit([(x[:0], y[:0])])
    with pytest.raises(ValueError, match="an empty batch has no mean"):
        ours.model.train()(x[:0])
    with pytest.raises(ValueError, match="target holds"):
        ours.fit((x, y + 5))
    for one, two in zip(weights(backend, ours), before, strict=True):
        assert_same_bits(one, two)


def test_a_gradient_that_is_not_finite_stops_too(backend):
    x, y = ink(backend)
    ours = learner()
    before = weights(backend, ours)
    whole = ours.loss.backward
    ours.loss.backward = lambda: whole() * np.float32(np.nan)
    with pytest.raises(FloatingPointError, match="the gradient is nan at step 1"):
        ours.step(x, y)
    for one, two in zip(weights(backend, ours), before, strict=True):
        assert_same_bits(one, two)


def test_what_the_loss_ignores_does_not_count(backend):
    x, _ = ink(backend, 8)
    ours = Learner(learner().model, SoftmaxCrossEntropy(255), Adam(0.01))
    right = backend.to_numpy(ours.predict(x)).argmax(1)
    target = np.where(np.arange(8) < 2, right, 255)
    result = ours.evaluate((x, backend.asarray(target)))
    assert result["accuracy"] == 1
    assert result["loss"] < np.log(2)


def test_bad_arguments(backend):
    x, y = ink(backend, 8)
    ours = learner()
    for call in (
        lambda: ours.predict(x, batch_size=0),
        lambda: ours.fit((x, y), epochs=0),
        lambda: ours.evaluate((x, y), batch_size=-1),
    ):
        with pytest.raises(ValueError, match=r"(batch_size|epochs) is -?\d; it must be at least 1"):
            call()
    with pytest.raises(TypeError, match="x is a list; data must be"):
        ours.fit((x.tolist(), y.tolist()))
    assert len(ours.fit([x, y])["loss"]) == 1  # a list of two arrays is a pair too


@pytest.mark.parametrize("first", [lambda: Adam(0.01), lambda: SGD(0.1, 0.9), lambda: SGD(0.1)])
@pytest.mark.parametrize("second", [lambda: Adam(0.01), lambda: SGD(0.1, 0.9)])
def test_a_new_optimizer_starts_afresh(backend, first, second):
    """As on a model with the same weights whose parameters no optimizer has updated."""
    data = ink(backend, 16)
    ours, fresh = learner(first()), learner()
    ours.fit(data, epochs=2)
    for mine, theirs in zip(
        (*ours.model.parameters, *ours.model.buffers),
        (*fresh.model.parameters, *fresh.model.buffers),
        strict=True,
    ):
        theirs.tensor = mine.tensor.copy()
    for of in (ours, fresh):
        of.optimizer = second()
        of.fit(data, epochs=2)
    for one, two in zip(weights(backend, ours), weights(backend, fresh), strict=True):
        assert_same_bits(one, two)


@pytest.mark.parametrize("optimizer", [lambda: Adam(0.01), lambda: SGD(0.1, 0.9)])
@pytest.mark.parametrize("pause", ["fit again", "pickle", "deepcopy the model", "move"])
def test_the_same_optimizer_goes_on(backend, optimizer, pause):
    x, y = ink(backend, 16)
    ours, other = learner(optimizer()), learner(optimizer())
    first = ours.fit((x, y), epochs=2, seed=1)
    kept = {key: list(values) for key, values in first.items()}
    if pause == "pickle":
        ours.model, ours.optimizer = (
            pickle.loads(pickle.dumps(part)) for part in (ours.model, ours.optimizer)
        )
    elif pause == "deepcopy the model":
        ours.model = copy.deepcopy(ours.model)
    elif pause == "move":
        ours.model.to(backend)
    second = ours.fit((x, y), epochs=1, seed=2)
    assert first == kept  # the history of the first call is not changed
    assert second is ours.history
    assert len(second["loss"]) == 1
    other.fit((x, y), epochs=2, seed=1)
    other.fit((x, y), epochs=1, seed=2)
    for one, two in zip(weights(backend, ours), weights(backend, other), strict=True):
        assert_same_bits(one, two)


def test_targets_that_are_all_ignored_warn_once(backend):
    x, y = ink(backend, 16)
    ours = Learner(learner().model, SoftmaxCrossEntropy(255), SGD(0.1))
    nothing = (x, y * 0 + 255)
    before = [backend.to_numpy(p.tensor).copy() for p in ours.model.parameters]
    message = (
        "every target is 255, the ignore_index of SoftmaxCrossEntropy, so that the loss and its "
        "gradient are 0; leave such batches out, or give another ignore_index"
    )
    with pytest.warns(UserWarning, match="^every target is 255") as caught:
        history = ours.fit([nothing, nothing, (x, y), nothing])
    assert [str(warning.message) for warning in caught] == [message]
    assert history["loss"][0] == history["loss"][1] == history["loss"][3] == 0
    after = [backend.to_numpy(p.tensor) for p in ours.model.parameters]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    ours.fit([nothing])  # no second warning: it would be an error here


@pytest.mark.parametrize("loss", [MSE(), Sum([MSE(), BCEWithLogits()]), SoftmaxCrossEntropy()])
def test_targets_of_the_output_s_shape_have_no_accuracy(backend, loss):
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.random((5, 3), np.float32))
    y = backend.asarray(rng.dirichlet(np.ones(2), 5).astype(np.float32))
    model = Sequential([Linear("linear", 3, 2)])
    history = Learner(model, loss, SGD(0.1)).fit((x, y), (x, y), epochs=9, batch_size=2)
    first, *_, last = history["validation"]
    assert set(first) == {"loss"}
    assert last["loss"] < first["loss"]
    assert last["loss"] == pytest.approx(loss.forward(model(x), y), rel=1e-5)
