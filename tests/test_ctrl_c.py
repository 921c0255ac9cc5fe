"""Ctrl-C during a training, which then goes on as if it had not been interrupted."""

import signal
import sys
import threading

import numpy as np
import pytest

from support.training import assert_same_weights, data, learner, weights
from tinyml.interrupts import Interrupts
from tinyml.layers import Layer
from tinyml.optims import SGD


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
