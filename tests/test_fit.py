"""Learner.fit: gradient accumulation, and a training that is interrupted and goes on."""

import copy
import json
import signal
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml.callbacks import Callback
from tinyml.interrupts import Interrupts
from tinyml.layers import BatchNorm2D, Conv2D, Dropout, Layer, Linear
from tinyml.learner import Learner
from tinyml.losses import MSE, SoftmaxCrossEntropy, Sum
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam
from tinyml.schedules import Cosine
from tinyml.training import Position


def data(backend, n=22, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2, 4, 4)).astype(np.float32)
    return backend.asarray(x), backend.asarray(rng.integers(0, 3, (n, 4, 4)))


def network(normalised=True):
    """Batch norm has buffers, and dropout a generator."""
    conv = Conv2D("conv1", (2, 4, 4), 4, 3, padding=1, rng=0)
    middle = [BatchNorm2D("norm", (4, 4, 4)), Dropout("dropout", 0.3, rng=1)] if normalised else []
    return Sequential([conv, *middle, Conv2D("conv2", (4, 4, 4), 3, 1, rng=2)])


def learner(optimizer=None, loss=None, normalised=True):
    optimizer = optimizer or Adam(Cosine(0.01, steps=40))
    return Learner(network(normalised), loss or SoftmaxCrossEntropy(), optimizer)


def weights(backend, of):
    buffers = (*of.model.parameters, *of.model.buffers)
    return [backend.to_numpy(b.tensor).copy() for b in buffers]


def assert_same_weights(backend, one, other):
    for a, b in zip(weights(backend, one), weights(backend, other), strict=True):
        assert_same_bits(a, b)


class At(Callback):
    """Calls a function after some step of the training."""

    def __init__(self, step, function):
        self.step, self.function = step, function

    def on_step_end(self, learner):
        if len(learner.history["loss"]) == self.step:
            self.function(learner)


def interrupt(learner):
    raise KeyboardInterrupt


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


# -- Ctrl-C ----------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c():
    """Sends this process SIGINT, whose handler is Python's own."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda *_: signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


class Presses(Layer):
    """Presses Ctrl-C in some forward or backward pass."""

    def __init__(self, press, in_pass, at):
        super().__init__("presses")
        self.press, self.in_pass, self.at, self.passes = press, in_pass, at, 0

    def forward(self, x):
        self.passes += 1
        if self.in_pass == "forward" and self.passes == self.at:
            self.press()
        return x

    def backward(self, in_gradient):
        if self.in_pass == "backward" and self.passes == self.at:
            self.press()
        return in_gradient


def test_ctrl_c_during_a_pass_undoes_the_step(backend, ctrl_c):
    for in_pass in ("forward", "backward"):
        ours, whole = learner(), learner()
        ours.model.add(Presses(ctrl_c, in_pass, 4))
        with pytest.raises(KeyboardInterrupt):
            ours.fit(data(backend), epochs=2, batch_size=8, accumulate=1)
        assert len(ours.history["loss"]) == 3
        assert ours.position.batches == 0  # of the second epoch
        ours.fit(data(backend), epochs=2, batch_size=8, start=ours.position)
        assert ours.history == whole.fit(data(backend), epochs=2, batch_size=8)
        assert_same_weights(backend, ours, whole)


def test_ctrl_c_during_an_update_waits_for_its_end(backend, ctrl_c):
    """No parameter is left behind, and history and position know of the step."""

    class Slow(SGD):
        def _step(self, p, *rest):
            super()._step(p, *rest)
            if self.steps == 1:
                ctrl_c()

    ours, whole = learner(Slow(0.1)), learner(SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        ours.fit(data(backend), batch_size=8)
    assert len(ours.history["loss"]) == ours.position.batches == 2
    ours.fit(data(backend), batch_size=8, start=ours.position)
    assert ours.history == whole.fit(data(backend), batch_size=8)
    assert_same_weights(backend, ours, whole)
    ours.optimizer.steps = 1
    before = weights(backend, ours)
    with pytest.raises(KeyboardInterrupt):
        ours.step(*data(backend))
    assert all((a != b).any() for a, b in zip(weights(backend, ours)[:1], before, strict=False))


def count_calls(function, at=None):
    """The number of calls and returns in this thread while ``function`` runs; SIGINT ``at`` one."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a __del__
def test_ctrl_c_at_random_moments(backend, ctrl_c):
    """However often a training is interrupted, it goes on with the same bits."""
    options = {"epochs": 4, "batch_size": 4, "accumulate": 2}
    ours, whole = learner(), learner()
    calls = count_calls(lambda: whole.fit(data(backend), data(backend, 9, 1), **options))
    rng, interrupted = np.random.default_rng(0), 0

    def go_on():
        ours.fit(data(backend), data(backend, 9, 1), start=ours.position, **options)

    while ours.position is None or ours.position.epoch <= 4:
        try:
            count_calls(go_on, at=rng.integers(1, int(calls / 8 * 1.2**interrupted)))
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted > 2
    assert ours.history == whole.history
    assert_same_weights(backend, ours, whole)


@pytest.mark.host
def test_interrupts_wait_except_where_they_are_allowed(ctrl_c):
    done = []

    def before():
        with Interrupts() as interrupts:
            ctrl_c()
            done.append("before")
            with interrupts.allowed():
                done.append("never")

    def after():
        with Interrupts() as interrupts:
            with interrupts.allowed():
                done.append("within")
            ctrl_c()
            done.append("after")

    def twice():
        with Interrupts() as interrupts:
            try:
                with interrupts.allowed():
                    ctrl_c()
            except KeyboardInterrupt:
                ctrl_c()  # a second one does not interrupt what cleans up
                done.append("clean")
                raise

    for call in (before, after, twice):
        with pytest.raises(KeyboardInterrupt):
            call()
    assert done == ["before", "within", "after", "clean"]


@pytest.mark.host
def test_other_handlers_of_ctrl_c_are_respected(ctrl_c):
    pressed = []
    for handler in (signal.SIG_IGN, lambda number, frame: pressed.append(number)):
        signal.signal(signal.SIGINT, handler)
        with Interrupts() as interrupts:
            ctrl_c()
            with interrupts.allowed():
                ctrl_c()
            ctrl_c()
        assert signal.getsignal(signal.SIGINT) is handler
    assert len(pressed) == 3
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.host
def test_a_second_ctrl_c_waits_while_the_first_is_handled(ctrl_c):
    pressed = []

    def handler(number, frame):
        pressed.append(number)
        if len(pressed) == 1:
            ctrl_c()
            assert len(pressed) == 1

    signal.signal(signal.SIGINT, handler)
    with Interrupts() as interrupts, interrupts.allowed():
        ctrl_c()
    assert len(pressed) == 2
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_training_in_another_thread(backend):
    ours, other = learner(), learner()
    thread = threading.Thread(target=ours.fit, args=(data(backend),), kwargs={"batch_size": 8})
    thread.start()
    thread.join()
    other.fit(data(backend), batch_size=8)
    assert_same_weights(backend, ours, other)


def test_a_layer_trains_without_a_network(backend):
    x = backend.asarray(np.ones((4, 3), np.float32))
    history = Learner(Linear("linear", 3, 3), MSE(), SGD(0.1)).fit((x, x), epochs=2)
    assert history["loss"][1] < history["loss"][0]
