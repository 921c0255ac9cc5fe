"""Prefetch: items made in a thread, in order, which ends when the iteration does."""

import contextvars
import gc
import operator
import signal
import threading
import time
import traceback
import weakref

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml.data import Prefetch
from tinyml.layers import Linear
from tinyml.learner import Learner
from tinyml.losses import MSE
from tinyml.net import Sequential
from tinyml.optims import SGD


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "tinyml-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


def batches(backend, n=12):
    rng = np.random.default_rng(0)
    return [
        tuple(backend.asarray(rng.standard_normal((4, 2)).astype(np.float32)) for _ in range(2))
        for _ in range(n)
    ]


def learner():
    return Learner(Sequential([Linear("l", 2, 2, rng=0)]), MSE(), SGD(0.1, 0.9))


@pytest.mark.host
@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_the_order_is_kept(depth):
    def slowly():
        for number in range(30):
            time.sleep(0.001 * (number % 3))
            yield number

    for number, item in enumerate(Prefetch(slowly(), depth)):
        time.sleep(0.001 * (number % 2))
        assert item == number
    assert number == 29
    many = Prefetch([None, 1, StopIteration(), None], depth)
    assert [*many][:2] == [*many][:2] == [None, 1]
    assert len([*many]) == 4
    assert list(Prefetch([], depth)) == []


@pytest.mark.host
@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_items_are_made_ahead(depth):
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    iterator = iter(Prefetch(items(), depth))
    for number in range(5):
        assert next(iterator) == number
        deadline = time.monotonic() + 10
        while len(made) < number + 1 + depth and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(made) == number + 1 + depth
    iterator.close()
    time.sleep(0.02)
    assert len(made) == 5 + depth


@pytest.mark.host
def test_an_error_is_raised_where_its_item_would_be_with_its_traceback():
    def breaks_down():
        raise ZeroDivisionError("a broken file")

    def items():
        yield 1
        yield 2
        breaks_down()

    iterator = iter(Prefetch(items(), 5))
    assert next(iterator) == 1
    time.sleep(0.01)
    assert next(iterator) == 2
    with pytest.raises(ZeroDivisionError, match="a broken file") as caught:
        next(iterator)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-3:] == ["_make", "items", "breaks_down"]
    assert names[0] == "test_an_error_is_raised_where_its_item_would_be_with_its_traceback"


@pytest.mark.host
def test_an_iterable_that_cannot_be_iterated():
    class Broken:
        def __iter__(self):
            raise OSError("no folder")

    with pytest.raises(OSError, match="no folder"):
        list(Prefetch(Broken()))
    with pytest.raises(TypeError, match="iterable is 3; it must be an iterable"):
        Prefetch(3)
    with pytest.raises(ValueError, match="depth is 0; it must be at least 1"):
        Prefetch([], 0)
    assert repr(Prefetch([1])) == "Prefetch([1], depth=2)"
    assert operator.length_hint(Prefetch([1, 2])) == 2
    assert operator.length_hint(Prefetch(map(str, [1])), 7) == 7


@pytest.mark.host
def test_the_thread_ends_with_the_iteration():
    iterator = iter(Prefetch(range(100)))
    assert next(iterator) == 0
    assert len(threads()) == 1
    iterator.close()
    assert threads() == []
    for item in Prefetch(range(100)):
        if item == 3:
            break
    del item
    gc.collect()
    assert threads() == []
    assert iter(Prefetch(range(3)))  # never started
    assert threads() == []


@pytest.mark.host
def test_items_are_not_kept():
    class Item:
        pass

    iterator = iter(Prefetch((Item() for _ in range(3)), 1))
    item = next(iterator)
    gone = weakref.ref(item)
    del item
    next(iterator)
    gc.collect()
    assert gone() is None
    iterator.close()


@pytest.mark.host
def test_the_thread_has_the_callers_context():
    variable = contextvars.ContextVar("variable")
    variable.set("ours")
    with np.errstate(over="raise"):
        (seen,) = Prefetch((variable.get(), np.geterr()["over"]) for _ in range(1))
    assert seen == ("ours", "raise")


def test_a_learner_trains_the_same(backend):
    ours, other = learner(), learner()
    data = batches(backend)
    ours.fit(Prefetch(data), Prefetch(data), epochs=2)
    assert ours.history == other.fit(data, data, epochs=2)
    for one, two in zip(ours.model.parameters, other.model.parameters, strict=True):
        assert_same_bits(backend.to_numpy(one.tensor), backend.to_numpy(two.tensor))


def test_data_drawn_anew_for_each_epoch(backend):
    class Shuffled:
        def epoch(self, rng):
            order = rng.permutation(12)
            return (data[number] for number in order)

    data = batches(backend)
    ours, other = learner(), learner()
    history = ours.fit(Prefetch(Shuffled()), epochs=3)
    assert history == other.fit(Shuffled(), epochs=3)
    assert len(history["loss"]) == 36


def test_a_training_that_stops_leaves_no_thread(backend):
    data = Prefetch(batches(backend))
    ours = learner()

    def interrupt(*_):
        raise KeyboardInterrupt

    class Bad:
        def reset(self):
            pass

        def update(self, output, target):
            raise RuntimeError("here")

        def value(self):
            return 0

    ours.model.layers[0].forward, forward = interrupt, ours.model.layers[0].forward
    with pytest.raises(KeyboardInterrupt) as kept:
        ours.fit(data)
    assert threads() == []  # although the traceback keeps all frames
    ours.model.layers[0].forward = forward
    with pytest.raises(RuntimeError, match="here"):
        ours.evaluate(data, metrics=[Bad()])
    assert threads() == []
    assert kept


@pytest.mark.host
def test_ctrl_c_while_waiting_for_an_item():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    here = threading.main_thread().ident

    def items():
        yield 1
        signal.pthread_kill(here, signal.SIGINT)
        time.sleep(0.05)
        yield 2

    try:
        with pytest.raises(KeyboardInterrupt):
            list(Prefetch(items()))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert threads() == []
