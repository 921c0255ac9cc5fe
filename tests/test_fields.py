"""Receptive fields: numbers by hand, and the pixels that a gradient reaches."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest

import tinyml
from tinyml.fields import fields_and_grid, receptive_field
from tinyml.layers import (
    AvgPool2D,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Layer,
    LayerNorm,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
    Softmax,
    Upsample,
)
from tinyml.models import autoencoder, lenet, resnet18, segnet, unet, vgg16
from tinyml.net import Sequential

pytestmark = pytest.mark.host


def stack(*makes):
    layers, dim = [], (2, 48, 48)
    for number, make in enumerate(makes):
        layers.append(make(f"layer{number}", dim))
        dim = getattr(layers[-1], "out_dim", dim)
    return Sequential(layers)


STACKS = {
    "convolutions": stack(
        lambda n, d: Conv2D(n, d, 2, (3, 5), (2, 1), (1, 2), rng=0),
        lambda n, d: ReLU(n),
        lambda n, d: Conv2D(n, d, 2, 3, dilation=(2, 3), rng=1),
    ),
    "poolings": stack(
        lambda n, d: MaxPool2D(n, d, 3, 2, padding=1),
        lambda n, d: AvgPool2D(n, d, 2, 1),
        lambda n, d: Conv2D(n, d, 2, 3, 2, 1, rng=0),
    ),
    "transposed": stack(
        lambda n, d: Conv2D(n, d, 2, 3, 2, 1, rng=0),
        lambda n, d: ConvTranspose2D(n, d, 2, 5, 2, 2, output_padding=1, rng=1),
        lambda n, d: ConvTranspose2D(n, d, 2, 2, 3, rng=1),
    ),
    "nearest": stack(
        lambda n, d: Conv2D(n, d, 2, 3, 2, 1, rng=0),
        lambda n, d: Upsample(n, d, (2, 3)),
        lambda n, d: Conv2D(n, d, 2, 3, rng=0),
    ),
    "linear": stack(
        lambda n, d: Conv2D(n, d, 2, 3, 2, 1, rng=0),
        lambda n, d: Upsample(n, d, (2, 3), "linear"),
    ),
    "unet": unet((2, 48, 48), 2, depth=2, channels=4),
    "segnet": segnet((2, 48, 48), 2, depth=2, channels=4),
    "autoencoder": autoencoder((2, 48, 48)),
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients_stay_inside_and_reach_the_edges(name):
    model = STACKS[name].eval()
    fields = receptive_field(model)
    rng = np.random.default_rng(0)
    reached = [[inf, -inf], [inf, -inf]]
    for _ in range(30):
        x = rng.standard_normal((1, 2, 48, 48))
        y = model(x)
        at = [int(rng.integers(n)) for n in y.shape[2:]]
        gradient = np.zeros_like(y)
        gradient[0, :, at[0], at[1]] = rng.standard_normal(y.shape[1])
        found = np.nonzero(model.backward(gradient)[0].any(0))
        for axis, (field, i) in enumerate(zip(fields, at, strict=True)):
            for position in (found[axis].min(), found[axis].max()) if len(found[0]) else ():
                assert field.step * i + field.first <= position <= field.step * i + field.last
                offset = position - field.step * i
                reached[axis] = [min(reached[axis][0], offset), max(reached[axis][1], offset)]
    for (low, high), field in zip(reached, fields, strict=True):
        assert low - field.first < 2 + 2 * field.step  # the bound is not far away
        assert field.last - high < 2 + 2 * field.step


def test_a_change_outside_changes_nothing():
    """An unpooling layer depends on the windows of its pooling layer, which gradients do not."""
    model, rng = segnet((1, 96, 96), 2, depth=3, channels=4).eval(), np.random.default_rng(0)
    field = receptive_field(model)[0]
    x = rng.standard_normal((1, 1, 96, 96))
    y = model(x)
    for row in rng.integers(96, size=20):
        changed = x.copy()
        changed[:, :, row] += 3 * rng.standard_normal(96)
        rows = np.nonzero((model(changed) != y).any((0, 1, 3)))[0]
        assert all(i + field.first <= row <= i + field.last for i in rows)


def test_published_numbers():
    """Those of Araujo, Norris and Sim for VGG16 and ResNet; 435 of ResNet-18 at its end."""
    vgg = vgg16((3, 32, 32), 10, width=1, hidden=1)
    assert receptive_field(vgg, "pool5")[0].size == 212
    assert receptive_field(vgg, vgg.layers[0])[0].size == 3
    last = receptive_field(resnet18((1, 64, 64), 3, width=1), "block4_2")
    assert [(field.size, field.step) for field in last] == [(435, 32), (435, 32)]
    inner = receptive_field(resnet18((1, 64, 64), 3, width=1), "block1_1.conv1")
    assert [(field.size, field.step, field.first) for field in inner] == [(19, 4, -9)] * 2
    assert tinyml.receptive_field is receptive_field


def test_grids_margins_and_one_dimension():
    fields, grid = fields_and_grid(segnet((1, 48, 48), 2, depth=3, channels=1))
    assert grid == (8, 8)
    assert fields[0].margin == 21
    (field,) = receptive_field(Conv1D("conv", (1, 9), 1, 4, 2, 1, rng=0))
    assert (field.step, field.first, field.last, field.size) == (Fraction(2), -1, 2, 4)


def test_whole_images():
    for model in (
        lenet((1, 8, 8), 3),
        Softmax("softmax", axis=2),
        LayerNorm("norm", (2, 3)),
        resnet18((1, 32, 32), 3, width=1),
        Upsample("up", (1, 4, 4), size=(8, 8)),
        Upsample("up", (1, 4, 4), 1.5),
        Upsample("up", (1, 4, 4), 2, "linear", align_corners=True),
    ):
        field = receptive_field(model)[0]
        assert (field.size, field.margin) == (inf, inf)
    assert receptive_field(Softmax("softmax"))[0].size == 1


def test_switches_from_outside_of_the_network():
    """The field is then that of the values alone."""
    field = receptive_field(MaxUnpool2D("unpool", (1, 4, 4), 2, 2))[0]
    assert (field.step, field.first, field.last) == (Fraction(1, 2), Fraction(-1, 2), 0)


def test_errors():
    class Own(Layer):
        pass

    with pytest.raises(TypeError, match=r"the geometry of Own\('own'\) is not known"):
        receptive_field(Sequential([Own("own")]))
    with pytest.raises(ValueError, match=r"layer is 'no', which .*'lenet'\) lacks; it has"):
        receptive_field(lenet((1, 8, 8), 3), "no")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = tinyml.nothing
