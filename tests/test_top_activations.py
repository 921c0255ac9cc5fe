"""Exact receptive fields of single positions, and the strongest activations of a data set."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyml
from support.gradients import in_float64
from tinyml import models, to_numpy
from tinyml.graph import Graph
from tinyml.layers import (
    AdaptiveAvgPool2D,
    Add,
    AvgPool2D,
    Concat,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Layer,
    Linear,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
    Upsample,
)
from tinyml.net import Sequential
from tinyml.visualize import deconvnet, top_activations
from tinyml.visualize.boxes import Boxes
from tinyml.visualize.run import Run


def boxes_of(model, layer, shape):
    run = Run(model)
    node = run.node(layer)
    run.forward(np.zeros((1, *shape), np.float32), node)
    return Boxes(run.flat, node, run.shapes), run.shapes[node]


@st.composite
def windows(draw, axes=2, full=False):
    """Keywords of a convolution; with ``full``, no cell is skipped between two windows."""
    size = draw(st.tuples(*[st.integers(1, 4)] * axes))
    dilation = draw(st.tuples(*[st.sampled_from([1, 1, 2, 3])] * axes))
    extents = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    most = [min(3, extent) if full else 3 for extent in extents]
    stride = tuple(draw(st.integers(1, n)) for n in most)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes))
    return {"size": size, "stride": stride, "padding": padding, "dilation": dilation}


@st.composite
def stacks(draw, positive=False):
    """A network of convolutions, ReLUs, poolings and branches, in float64."""
    dim = (1, draw(st.integers(6, 20)), draw(st.integers(6, 20)))
    net = Graph("net", dim)
    node = net.input
    kinds = ["conv", "conv", "branch", "average"] + ([] if positive else ["pool", "pool"])
    number = 0

    def add(make, source):
        nonlocal number
        number += 1
        try:
            return net.add(make(f"layer{number}", source.dim), source)
        except ValueError:  # the window does not fit
            return source

    def conv(source, **options):
        seed = draw(st.integers(0, 9))
        made = add(lambda n, d: Conv2D(n, d, 2, **options, rng=seed), source)
        return made if positive else add(lambda n, d: ReLU(n), made)

    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)):
        window = draw(windows(full=positive))
        if kind == "conv":
            node = conv(node, **window)
        elif kind == "branch":
            others = [draw(st.integers(0, 2)) * 2 + 1 for _ in range(2)]
            ends = [conv(node, size=k, padding=k // 2) for k in others]
            joined = Concat if draw(st.booleans()) else Add
            number += 1
            node = net.add(joined(f"layer{number}"), *ends)
        else:
            size, stride = window["size"], window["stride"]
            if positive:
                stride = tuple(min(pair) for pair in zip(size, stride, strict=True))
            make = AvgPool2D if kind == "average" else MaxPool2D
            node = add(partial(pooled, make, size=size, stride=stride), node)
    if not net.steps:
        node = net.add(ReLU("only"), node)
    for parameter in net.parameters:
        parameter.tensor = parameter.tensor.astype(np.float64)
        if positive:
            parameter.tensor = np.abs(parameter.tensor) + 0.1
    return net


def pooled(make, name, dim, size, stride):
    return make(name, dim, size, stride)


def outside(array, box):
    """The array with zeros inside of the box."""
    array = array.copy()
    array[:, :, *box] = 0
    return array


#: 500 stacks with the profile "full", which has 2000 examples of each property.
MANY = settings(max_examples=max(25, settings().max_examples // 4))


@pytest.mark.host
@MANY
@given(stacks(), st.data())
def test_reconstructions_are_zero_outside_of_the_box(net, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.standard_normal((1, *net.input_dim))
    layer = data.draw(st.sampled_from(net.layers))
    boxes, (_, channels, *spatial) = boxes_of(net, layer, net.input_dim)
    channel = data.draw(st.integers(0, channels - 1))
    position = tuple(data.draw(st.integers(0, n - 1)) for n in spatial)
    box = boxes(position)
    for rule in ("deconvnet", "gradient"):
        seen = deconvnet(net, x, layer, channel, position, rule)
        assert not outside(seen, box).any()
    run, changed = Run(net), x + outside(rng.standard_normal(x.shape), box)
    node = run.node(layer)
    before, after = (run.forward(image, node)[node] for image in (x, changed))
    at = (0, channel, *position)
    np.testing.assert_allclose(before[at], after[at], rtol=1e-12, atol=1e-12)


@pytest.mark.host
@MANY
@given(stacks(positive=True), st.data())
def test_boxes_are_not_too_large(net, data):
    """With positive weights and no gaps between windows, all four edges of a box are seen."""
    fields = tinyml.receptive_field(net)
    boxes, (_, channels, *spatial) = boxes_of(net, net.layers[-1], net.input_dim)
    whole = [
        [
            i
            for i in range(n)
            if field.step * i + field.first >= 0 and field.step * i + field.last <= length - 1
        ]
        for field, n, length in zip(fields, spatial, net.input_dim[1:], strict=True)
    ]
    if not all(whole):
        return
    position = tuple(data.draw(st.sampled_from(places)) for places in whole)
    rows, columns = boxes(position)
    for axis, (field, i, part) in enumerate(zip(fields, position, (rows, columns), strict=True)):
        first = field.step * i + field.first
        assert (part.start, part.stop) == (first, first + field.size), axis
    image, last = np.ones((1, *net.input_dim)), net.layers[-1]
    seen = sum(  # channels that were concatenated have seen different parts of the box
        deconvnet(net, image, last, channel, position, "gradient")[0] for channel in range(channels)
    )
    for row in (rows.start, rows.stop - 1):
        assert seen[:, row, columns].any()
    for column in (columns.start, columns.stop - 1):
        assert seen[:, rows, column].any()


class Twice(Layer):
    """A user's own layer; nothing is known of its geometry."""

    def forward(self, x):
        return 2 * x

    def backward(self, in_gradient):
        return 2 * in_gradient


def _unpooled():
    pool = MaxPool2D("pool", (1, 11, 9), 3, 2)
    conv = Conv2D("conv", pool.out_dim, 1, 1, rng=0)
    unpool = MaxUnpool2D("unpool", conv.out_dim, 3, 2, pool=pool)
    return Sequential([pool, conv, unpool])


EXACT = {
    "transposed": lambda: Sequential(
        [
            Conv2D("conv", (1, 11, 9), 1, 1, 2, rng=0),
            ConvTranspose2D("up", (1, 6, 5), 1, 3, 2, 1, rng=1),
        ]
    ),
    "nearest": lambda: Sequential(
        [Conv2D("conv", (1, 11, 9), 1, 3, 2, rng=0), Upsample("up", (1, 5, 4), (2, 3))]
    ),
    "adaptive": lambda: Sequential([AdaptiveAvgPool2D("average", (1, 11, 9), (4, 2))]),
    "padding": lambda: Sequential(
        [
            Conv2D("conv", (1, 11, 9), 1, 2, padding=3, rng=0),
            Conv2D("conv2", (1, 16, 14), 1, 1, rng=0),
        ]
    ),
}


@pytest.mark.host
@pytest.mark.parametrize("name", EXACT)
def test_boxes_of_every_position(name):
    """Each is the smallest box that holds all pixels with an influence."""
    model = in_float64(EXACT[name](), tinyml.current_backend())
    boxes, (_, _, *spatial) = boxes_of(model, model.layers[-1], model.input_dim)
    for position in np.ndindex(*spatial):
        gradient = deconvnet(
            model, np.ones((1, 1, 11, 9)), model.layers[-1], 0, position, "gradient"
        )
        rows, columns = np.nonzero(gradient[0, 0])
        box = boxes(position)
        assert [len(range(part.start, part.stop)) > 0 for part in box] == [len(rows) > 0] * 2
        if len(rows):
            expected = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            assert box == expected


@pytest.mark.host
def test_an_unpooled_position_depends_on_its_windows():
    """On the windows that hold it, since their values and their switches decide."""
    model = _unpooled()
    boxes, _ = boxes_of(model, "unpool", model.input_dim)
    assert boxes((4, 3)) == (slice(2, 7), slice(2, 5))
    assert boxes((0, 0)) == (slice(0, 3), slice(0, 3))
    layers = [MaxPool2D("pool", (1, 8, 8), 2, 2), Conv2D("conv", (1, 4, 4), 1, 3, padding=1, rng=0)]
    wider = Sequential([*layers, MaxUnpool2D("unpool", (1, 4, 4), 2, 2, pool=layers[0])])
    assert boxes_of(wider, "unpool", (1, 8, 8))[0]((3, 3)) == (slice(0, 6), slice(0, 6))


@pytest.mark.host
def test_layers_that_see_everything_and_one_dimension():
    model = models.lenet((1, 8, 8), 3)
    boxes, _ = boxes_of(model, "classes", (1, 8, 8))
    assert boxes(()) == (slice(0, 8), slice(0, 8))
    boxes, _ = boxes_of(Sequential([Twice("twice"), ReLU("relu")]), "relu", (2, 5, 6))
    assert boxes((1, 1)) == (slice(0, 5), slice(0, 6))
    boxes, _ = boxes_of(Conv1D("conv", (1, 9), 1, 4, 2, 1, rng=0), "conv", (1, 9))
    assert [boxes((i,)) for i in (0, 1)] == [(slice(0, 3),), (slice(1, 5),)]
    vgg = models.vgg16((3, 32, 32), 2, width=1, hidden=1)
    boxes, _ = boxes_of(vgg, "average", (3, 32, 32))
    assert boxes((0, 0)) == boxes_of(vgg, "pool5", (3, 32, 32))[0]((0, 0))


# -- the strongest activations ---------------------------------------------------------------


def test_the_strongest_of_a_data_set(backend):
    model = models.lenet((2, 12, 12), 3, channels=(5, 6))
    images = np.random.default_rng(0).standard_normal((23, 2, 12, 12)).astype(np.float32)
    run = Run(model)
    node = run.node("pool2")
    y = to_numpy(run.forward(backend.asarray(images), node)[node])
    boxes = Boxes(run.flat, node, run.shapes)
    found = top_activations(model, images, "pool2", [4, 0], top=5, batch_size=4)
    assert list(found) == [4, 0]
    for channel, best in found.items():
        assert len(best) == 5
        maxima = y[:, channel].max((1, 2))
        assert [b.image for b in best] == np.argsort(-maxima, kind="stable")[:5].tolist()
        for b in best:
            assert b.channel == channel
            np.testing.assert_allclose(b.value, maxima[b.image], rtol=1e-5)
            assert b.position == np.unravel_index(y[b.image, channel].argmax(), y.shape[2:])
            assert b.box == boxes(b.position)
    batches = [backend.asarray(images[:7]), backend.asarray(images[7:])]
    again = top_activations(model, iter(batches), model.layers[5], [4, 0], top=5)
    for channel, best in again.items():
        assert [b[:3] for b in best] == [b[:3] for b in found[channel]]


@pytest.mark.host
def test_images_of_several_sizes_and_ties():
    layer = Conv2D("conv", (1, 4, 4), 1, 3, padding=1, bias=False, rng=0)
    layer.weight.tensor[:] = 0
    layer.weight.tensor[0, 0, 1, 1] = 1
    small, large = np.zeros((2, 1, 4, 4)), np.zeros((2, 1, 6, 5))
    small[0, 0, 3, 3] = small[1, 0, 0, 0] = large[1, 0, 5, 4] = 7
    best = top_activations(layer, [small, large], "conv", top=9)[0]
    assert [(b.image, b.position, b.value) for b in best] == [
        (0, (3, 3), 7),
        (1, (0, 0), 7),
        (3, (5, 4), 7),
        (2, (0, 0), 0),
    ]
    assert [b.box for b in best][1:3] == [(slice(0, 2),) * 2, (slice(4, 6), slice(3, 5))]
    linear = Linear("linear", 3, 2, rng=0)
    (best, *_), _ = top_activations(linear, np.ones((1, 3)), linear).values()
    assert (best.position, best.box) == ((), ())


@pytest.mark.host
def test_memory_does_not_grow_with_the_data():
    model = models.lenet((1, 16, 16), 3)

    def peak(batches):
        tracemalloc.start()
        rng = np.random.default_rng(0)
        stream = (rng.random((8, 1, 16, 16), np.float32) for _ in range(batches))
        top_activations(model, stream, "relu2")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)
    assert peak(40) < 1.1 * peak(4)


@pytest.mark.host
def test_errors():
    model, x = models.lenet((1, 8, 8), 3), np.zeros((2, 1, 8, 8))
    for options, message in [
        ({"layer": "no"}, "layer is 'no', which .* lacks; it has conv1"),
        ({"channels": [9]}, "channel is 9; the layer has 6, 0 to 5"),
        ({"top": 0}, "top is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"images": x[:0]}, "images are empty; there must be at least one"),
        ({"images": np.zeros((2, 3, 8, 8))}, r"Conv2D\('conv1'\): input has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            top_activations(**({"model": model, "images": x, "layer": "relu1"} | options))
    with pytest.raises(TypeError, match="x has dtype uint8; it must hold floats"):
        top_activations(model, x.astype(np.uint8), "relu1")
