"""A thread owns a network from its forward to its backward pass in training; all may predict."""

import gc
import re
import threading

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml.layers import Layer, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import SGD

OWNED = r"Sequential\('segnet'\) is in training by another thread.*model.replica\(\)"


@pytest.fixture
def model(backend):
    return segnet((1, 8, 8), 2, depth=2, channels=2, rng=0)


@pytest.fixture
def x(backend):
    return backend.asarray(np.random.default_rng(0).standard_normal((2, 1, 8, 8), np.float32))


def elsewhere(call):
    """What ``call()`` returns or raises in another thread, which then ends."""
    results = []

    def run():
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


class Other:
    """A thread that stays alive and runs the functions that it is given."""

    def __enter__(self):
        self.calls, self.results = [], []
        self.wake, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def _serve(self):
        while self.wake.acquire() and (call := self.calls.pop()):
            try:
                self.results.append(call())
            except BaseException as error:
                self.results.append(error)
            self.done.release()

    def __call__(self, call):
        self.calls.append(call)
        self.wake.release()
        self.done.acquire()
        return self.results.pop()

    def __exit__(self, *_):
        self.calls.append(None)
        self.wake.release()
        self.thread.join()


def refused(result, message=OWNED):
    """Whether another thread got this RuntimeError."""
    return isinstance(result, RuntimeError) and bool(re.search(message, str(result)))


class Slow(Layer):
    """Waits in its forward pass until it may leave."""

    def __init__(self):
        super().__init__("slow")
        self.inside, self.leave = threading.Event(), threading.Event()

    def forward(self, x):
        self.inside.set()
        assert self.leave.wait(30)
        return x


def test_a_forward_between_forward_and_backward_is_refused(backend, model, x):
    y = model(x)
    assert refused(elsewhere(lambda: model(-x)))
    before = model.replica()
    before(x)
    assert_same_bits(backend.to_numpy(model.backward(y)), backend.to_numpy(before.backward(y)))
    assert elsewhere(lambda: model(x)).shape == y.shape


@pytest.mark.parametrize("release", ["backward", "forget", "eval", "to"])
def test_what_releases_it(backend, model, x, release):
    y = model(x)
    {
        "backward": lambda: model.backward(y),
        "forget": model.forget,
        "eval": model.eval,
        "to": lambda: model.to(backend.name),
    }[release]()
    assert elsewhere(lambda: model(x)).shape == y.shape


def test_the_next_forward_of_the_same_thread(model, x, backend):
    model(x)
    model(x)
    assert refused(elsewhere(lambda: model(x)))


def test_the_end_of_its_thread(model, x, backend):
    y = elsewhere(lambda: model(x))
    gc.collect()
    assert model(x).shape == y.shape


def test_a_thread_that_stays_alive(model, x, backend):
    with Other() as other:
        y = other(lambda: model(x))
        with pytest.raises(RuntimeError, match=OWNED):
            model(x)
        with pytest.raises(RuntimeError, match="the last forward pass was another thread's"):
            model.backward(y)
        assert other(lambda: model.backward(y)).shape == x.shape


def test_every_thread_may_predict(model, x, backend):
    """In eval mode only the pass itself is guarded, and a backward belongs to its forward."""
    model.eval()
    y = model(x)
    assert_same_bits(backend.to_numpy(elsewhere(lambda: model(x))), backend.to_numpy(y))
    with pytest.raises(RuntimeError, match=r"another thread's; .* model.replica\(\)"):
        model.backward(y)
    model(x)
    assert model.backward(y).shape == x.shape


def test_a_network_that_is_running(backend):
    slow = Slow()
    model = Sequential([slow])
    for mode in (True, False):
        model.train(mode)
        thread = threading.Thread(target=model, args=(1,))
        thread.start()
        assert slow.inside.wait(30)
        with pytest.raises(RuntimeError, match=r"run by another thread.*model.replica\(\)"):
            model(1)
        slow.leave.set()
        thread.join()
        assert model(2) == 2
        slow.inside.clear()
        slow.leave.clear()
        model.forget()


def test_networks_inside_are_owned_too(backend, x):
    inner = Sequential([ReLU("relu")], name="inner")
    model = Sequential([inner])
    y = model(x)
    assert refused(elsewhere(lambda: inner(x)), r"Sequential\('inner'\) is in training by another")
    model.backward(y)
    assert elsewhere(lambda: inner(x)).shape == x.shape


def test_a_refused_pass_keeps_what_another_thread_saved(backend, x):
    inner = Sequential([ReLU("relu")], name="inner")
    model = Sequential([ReLU("first"), inner])
    with Other() as other:
        y = other(lambda: inner(x))
        with pytest.raises(RuntimeError, match=r"Sequential\('inner'\) is in training by another"):
            model(x)
        assert other(lambda: inner.backward(y)).shape == x.shape


def test_learner_leaves_a_network_alone_that_predicts(backend, x):
    slow = Slow()
    model = Sequential([slow]).eval()
    learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.1))
    thread = threading.Thread(target=model, args=(x,))
    thread.start()
    assert slow.inside.wait(30)
    with pytest.raises(RuntimeError, match="is being run by another thread"):
        learner.step(x, x)
    assert not any(layer.training for layer in model.walk())
    slow.leave.set()
    thread.join()
    model.train()(x)


def test_a_pass_that_fails_owns_nothing(backend, x):
    class Failing(Layer):
        def forward(self, x):
            raise ValueError("no")

    inner = Sequential([ReLU("relu")], name="inner")
    model = Sequential([inner, Failing("failing")])
    with pytest.raises(ValueError, match="no"):
        model(x)
    assert elsewhere(lambda: inner(x)).shape == x.shape


def test_an_error_in_learner_releases_it(backend, model, x):
    learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.1))
    wrong = backend.asarray(np.full((2, 8, 8), 7))
    with pytest.raises(ValueError, match="target holds 7"):
        learner.step(x, wrong)
    assert elsewhere(lambda: model(x)).shape == (2, 2, 8, 8)


def test_learner_leaves_a_network_alone_that_another_thread_trains(backend, model, x):
    learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.1))
    target = backend.asarray(np.zeros((2, 8, 8), int))
    with Other() as other:
        y = other(lambda: model(x))
        before = backend.to_numpy(model.buffers[0].tensor).copy()
        model.parameters[0].gradient += 1
        for call in (lambda: learner.step(x, target), lambda: learner.predict(x)):
            with pytest.raises(RuntimeError, match=OWNED):
                call()
        assert_same_bits(backend.to_numpy(model.buffers[0].tensor), before)
        assert backend.to_numpy(model.parameters[0].gradient).any()
        assert other(lambda: model.backward(y)).shape == x.shape


def test_evaluate_and_predict_leave_the_mode(backend, model, x):
    learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.1))
    target = backend.asarray(np.zeros((2, 8, 8), int))
    frozen = model.layers[1].eval()
    modes = [layer.training for layer in model.walk()]
    assert not frozen.training
    learner.predict(x)
    learner.evaluate((x, target))
    assert [layer.training for layer in model.walk()] == modes
    model.eval()
    learner.predict(x)
    assert not any(layer.training for layer in model.walk())
