"""A small network with batch norm and dropout, its data, and a learner to train it."""

import numpy as np

from support.compare import assert_same_bits
from tinyml.callbacks import Callback
from tinyml.layers import BatchNorm2D, Conv2D, Dropout
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.net import Sequential
from tinyml.optims import Adam
from tinyml.schedules import Cosine


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
