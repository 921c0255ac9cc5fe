"""`tinyml.testing.gradient_check`: right layers pass, wrong ones are named."""

import numpy as np
import pytest

import tinyml
from tinyml.core import Parameter
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
    message = r"gradient of dense\.bias\[\d\] is 0\.0; differences give .*; the worst of 2 wrong"
    with pytest.raises(AssertionError, match=message):
        gradient_check(net, (2, 3))


def test_the_worst_entry_is_named(backend):
    class Scaled(Linear):
        """Every gradient is wrong, one of a weight by far the most."""

        def backward(self, in_gradient):
            gradient = super().backward(in_gradient)
            self.weight.gradient[0, 1] += 100
            self.bias.gradient += 1
            return gradient + 1

    message = r"gradient of dense\.weight\[0, 1\] is .*; the worst of 9 wrong derivatives"
    with pytest.raises(AssertionError, match=message):
        gradient_check(Scaled("dense", 3, 2, rng=0), (2, 3))


class Bias(Layer):
    """|x · 0 + bias|, where the first bias is 0, so at the kink."""

    def __init__(self, name, gradient):
        super().__init__(name)
        self.of_bias = gradient
        self.bias = Parameter(tinyml.asarray(np.array([0.0, 1.0])))

    def forward(self, x):
        return abs(x * 0 + self.bias.tensor)

    def backward(self, in_gradient):
        self.bias.gradient += in_gradient.sum(0) * tinyml.asarray(np.array([self.of_bias, 1.0]))
        return in_gradient * 0


def test_a_point_at_the_kink_is_left_out(backend):
    for of_bias in (-1.0, 0.0, 1.0):  # each is a subgradient
        assert gradient_check(Bias("it", of_bias), (3, 2)) == 6 + 1  # not the first bias


def test_curvature_is_no_kink(backend):
    class Steep(Layer):
        def forward(self, x):
            self.saved = x
            return 1e4 * x * x

        def backward(self, in_gradient):
            return 2e4 * self.saved * in_gradient

    assert gradient_check(Steep("it"), (3, 4)) == 12


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_must_be_finite(backend, value):
    """Also where no derivative is compared: at a kink, or an element that is not drawn."""
    with pytest.raises(AssertionError, match=r"it\.bias\[0\] is -?(nan|inf); it must be finite"):
        gradient_check(Bias("it", value), (3, 2), most=0)


def test_an_output_must_be_finite(backend):
    class Log(Layer):
        def forward(self, x):
            return x / 0.0 * 0.0

    with (
        np.errstate(all="ignore"),
        pytest.raises(AssertionError, match=r"Log\('it'\): the output, or its sum, is nan"),
    ):
        gradient_check(Log("it"), (3, 4))


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
