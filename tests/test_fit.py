"""Learner.fit: gradient accumulation, and a training that is interrupted and goes on."""

import copy
import json
from itertools import pairwise

import numpy as np
import pytest

from support.compare import assert_same_bits
from support.training import At, assert_same_weights, data, interrupt, learner, weights
from tinyml.layers import Linear
from tinyml.learner import Learner
from tinyml.losses import MSE, SoftmaxCrossEntropy, Sum
from tinyml.optims import SGD
from tinyml.training import Position

# -- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_that_goes_on_has_the_same_bits(backend, step, accumulate):
    """All that is kept is copied; a new learner goes on with the copies."""
    options = {"epochs": 3, "batch_size": 4, "seed": 5, "accumulate": accumulate}  # 6 batches
    whole, first = learner(), learner()
    history = whole.fit(data(backend), data(backend, 9, 1), **options)
    steps = -(-6 // accumulate)
    assert history["steps"] == [steps, 2 * steps, 3 * steps]
    assert whole.position.epoch == 4

    with pytest.raises(KeyboardInterrupt):
        first.fit(data(backend), data(backend, 9, 1), callbacks=[At(step, interrupt)], **options)
    assert len(first.history["loss"]) == step
    position = Position(**json.loads(json.dumps(vars(first.position))))
    assert position == first.position
    assert position.batches == min(6, (step - steps * (position.epoch - 1)) * accumulate)
    second = Learner(copy.deepcopy(first.model), SoftmaxCrossEntropy(), first.optimizer)
    second.history = json.loads(json.dumps(first.history))
    again = second.fit(data(backend), data(backend, 9, 1), start=position, **options)
    assert again == history
    assert second.position == whole.position
    assert_same_weights(backend, whole, second)


def test_at_the_end_there_is_nothing_to_do_but_more_epochs(backend):
    ours, whole = learner(), learner()
    first = ours.fit(data(backend), epochs=1, batch_size=8)
    kept = copy.deepcopy(first)
    assert ours.fit(data(backend), epochs=1, batch_size=8, start=ours.position) == kept
    ours.fit(data(backend), epochs=2, batch_size=8, start=ours.position)
    assert ours.history == whole.fit(data(backend), epochs=2, batch_size=8)
    assert_same_weights(backend, ours, whole)


def test_an_interrupt_in_the_validation(backend):
    """The epoch has no result yet, and its validation is done again."""

    class Interrupted(list):
        def __iter__(self):
            raise KeyboardInterrupt

    ours, whole = learner(), learner()
    batch = data(backend)
    with pytest.raises(KeyboardInterrupt):
        ours.fit(batch, Interrupted([batch]), batch_size=8)
    assert ours.history["steps"] == []
    assert ours.position.batches == 3
    ours.fit(batch, [batch], batch_size=8, start=ours.position)
    assert ours.history == whole.fit(batch, [batch], batch_size=8)
    assert_same_weights(backend, ours, whole)


class Noisy:
    """Batches that are drawn anew for each epoch."""

    def __init__(self, batch):
        self.batch = batch
        self.seen = []

    def epoch(self, rng):
        for _ in range(3):
            self.seen.append(float(rng.random()))
            start = int(self.seen[-1] * 18)
            yield tuple(array[start : start + 4] for array in self.batch)


def test_data_drawn_anew_for_each_epoch(backend):
    ours, whole = learner(), learner()
    here, there = Noisy(data(backend)), Noisy(data(backend))
    whole.fit(there, epochs=3, seed=3)
    assert len(set(there.seen)) == 9
    ours.fit(here, epochs=3, seed=3, callbacks=[At(5, lambda learner: learner.stop())])
    assert here.seen == there.seen[:5]
    ours.fit(here, epochs=3, start=ours.position)
    assert here.seen[5:] == there.seen[3:]  # the second epoch is drawn again, and skipped
    assert ours.history == whole.history
    assert_same_weights(backend, ours, whole)


def test_a_wrong_start_changes_nothing(backend):
    ours = learner()
    assert ours.position is None
    history = ours.fit(data(backend), batch_size=8)
    position = ours.position
    with pytest.raises(TypeError, match="start is 3; it must be a Position"):
        ours.fit(data(backend), start=3)
    with pytest.raises(ValueError, match=r"start is in epoch 2; learner\.history must be that of"):
        learner().fit(data(backend), start=position)
    with pytest.raises((TypeError, ValueError, KeyError)):
        ours.fit(data(backend), start=Position(2, 0, {"bit_generator": "other"}))
    with pytest.raises(ValueError, match="accumulate is 0; it must be at least 1"):
        ours.fit(data(backend), accumulate=0)
    assert ours.history is history
    assert ours.position is position


# -- gradient accumulation -------------------------------------------------------------------


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(2), MSE(), Sum([SoftmaxCrossEntropy(2)])])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (5, 1, 6), (11, 1)])
def test_a_step_of_several_batches_is_one_of_a_larger_batch(backend, loss, sizes):
    """Also where the batches differ in size, and in how many targets count."""
    x, y = data(backend, 12)
    if isinstance(loss, MSE):
        y = backend.xp.concatenate([x, x[:, :1]], 1)
    ours, large = (learner(SGD(0.1), loss, normalised=False) for _ in range(2))
    ends = np.cumsum((0, *sizes))
    batches = [(x[a:b], y[a:b]) for a, b in pairwise(ends)]
    history = ours.fit(batches, epochs=3, accumulate=len(sizes))
    expected = large.fit([(x, y)], epochs=3)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for a, b in zip(weights(backend, ours), weights(backend, large), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_last_step_of_an_epoch_may_have_fewer_batches(backend):
    ours, other = learner(normalised=False), learner(normalised=False)
    x, y = data(backend, 20)
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 20, 4)]
    assert ours.fit(batches, epochs=2, accumulate=2)["steps"] == [3, 6]
    alike = [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:])]
    other.fit(alike, epochs=2)
    for a, b in zip(weights(backend, ours), weights(backend, other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_batches_without_targets_that_count(backend):
    x, y = data(backend, 8)
    loss = SoftmaxCrossEntropy(1)
    ours, other = (learner(SGD(0.1), loss, normalised=False) for _ in range(2))
    with pytest.warns(UserWarning, match="every target is 1"):
        ours.fit([(x[:4], y[:4] * 0 + 1), (x[4:], y[4:])], accumulate=2)
    other.fit([(x[4:], y[4:])])
    assert_same_weights(backend, ours, other)
    assert ours.fit([(x, y * 0 + 1)] * 2, accumulate=2)["loss"] == [0.0]
    assert_same_weights(backend, ours, other)


def test_an_error_in_a_later_batch_undoes_the_step(backend):
    x, y = data(backend, 8)
    ours = learner()
    before = weights(backend, ours)
    state = copy.deepcopy(ours.model.layers[2].rng.bit_generator.state)
    for wrong in (x[:0], x * np.float32(np.nan)):
        with np.errstate(invalid="ignore"), pytest.raises((ValueError, FloatingPointError)):
            ours.fit([(x, y), (wrong, y[: len(wrong)])], accumulate=2)
        assert ours.history["loss"] == []
        assert ours.model.layers[2].rng.bit_generator.state == state
        for a, b in zip(weights(backend, ours), before, strict=True):
            assert_same_bits(a, b)


def test_a_layer_trains_without_a_network(backend):
    x = backend.asarray(np.ones((4, 3), np.float32))
    history = Learner(Linear("linear", 3, 3), MSE(), SGD(0.1)).fit((x, x), epochs=2)
    assert history["loss"][1] < history["loss"][0]
