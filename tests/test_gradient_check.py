"""`tinyml.testing.gradient_check`: right layers pass, wrong ones are named."""

import numpy as np
import pytest

from tinyml.graph import Graph
from tinyml.layers import BatchNorm2D, Conv2D, Dropout, Flatten, Layer, Linear, MaxPool2D, ReLU
from tinyml.losses import MSE, Dice, SoftmaxCrossEntropy
from tinyml.net import Sequential
from tinyml.testing import gradient_check


class Wrong(Layer):
    """A layer whose gradient is wrong in one element."""

    def forward(self, x):
        return x * x

    def backward(self, in_gradient):
        self.saved = None
        return in_gradient * 0


def network():
    return Sequential(
        [
            Conv2D("conv", (1, 4, 4), 2, 3, padding=1, rng=0),
            BatchNorm2D("norm", (2, 4, 4)),
            ReLU("relu"),
            MaxPool2D("pool", (2, 4, 4), 2, 2),
            Flatten("flat"),
            Linear("classes", 8, 3, rng=0),
        ]
    )


def test_a_network(backend):
    model = network()
    before = [backend.to_numpy(p.tensor).copy() for p in model.parameters]
    compared = gradient_check(model, (2, 1, 4, 4))
    everything = 32 + sum(p.tensor.size for p in model.parameters)
    assert 0.9 * everything < compared <= everything
    for p, tensor in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(p.tensor), tensor)
        assert p.tensor.dtype == np.float32
        assert not backend.to_numpy(p.gradient).any()


def test_losses(backend):
    target = backend.asarray(np.array([0, 2, 1]))
    for loss in (SoftmaxCrossEntropy(label_smoothing=0.1), Dice()):
        assert gradient_check(loss, (3, 3), target=target) == 9
    assert gradient_check(MSE(), (2, 3), target=backend.asarray(np.zeros((2, 3)))) == 6


def test_a_wrong_input_gradient_is_named(backend):
    with pytest.raises(AssertionError, match=r"Wrong\('it'\): gradient of the input\[\d, \d\] is"):
        gradient_check(Wrong("it"), (2, 3))


def test_a_wrong_parameter_gradient_is_named(backend):
    class Forgets(Linear):
        def backward(self, in_gradient):
            gradient = super().backward(in_gradient)
            self.bias.gradient[...] = 0
            return gradient

    net = Graph("net", (3,))
    net.add(Forgets("dense", 3, 2, rng=0))
    with pytest.raises(AssertionError, match=r"gradient of dense\.bias\[0\] is 0\.0; differences"):
        gradient_check(net, (2, 3))


def test_points_without_a_derivative_are_left_out(backend):
    class Noise(Layer):
        def forward(self, x):
            return backend.xp.sin(x * 1e9)

        def backward(self, in_gradient):
            return in_gradient * 0

    with pytest.raises(AssertionError, match=r"\d+ of 12 points have no derivative"):
        gradient_check(Noise("it"), (3, 4))


@pytest.mark.host
def test_bad_arguments():
    with pytest.raises(ValueError, match=r"two forward passes of Dropout\('drop'\) differ"):
        gradient_check(Dropout("drop", 0.5, rng=0), (4, 4))
    with pytest.raises(ValueError, match="target is missing; the loss MSE"):
        gradient_check(MSE(), (2, 2))
