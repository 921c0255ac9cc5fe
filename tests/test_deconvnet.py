"""Deconvnet and its relatives, against gradients, plain loops and hooks of PyTorch."""

import threading
from functools import partial

import numpy as np
import pytest

from support.gradients import in_float64
from support.reversals import Hooked, loops
from tinyml import models, to_numpy
from tinyml.core import Parameter
from tinyml.graph import Graph
from tinyml.layers import (
    AdaptiveMaxPool2D,
    Add,
    AvgPool2D,
    BatchNorm2D,
    Concat,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Dropout,
    Flatten,
    GroupNorm,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool1D,
    MaxPool2D,
    PReLU,
    ReLU,
    Sigmoid,
)
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.net import Sequential
from tinyml.optims import Adam
from tinyml.training import Snapshot, eval_mode
from tinyml.visualize import deconvnet

RULES = ("deconvnet", "gradient", "guided", "desalinet")

MODELS = {
    "mlp": lambda: models.mlp((3, 8, 8), 4, hidden=(6, 5), dropout=0.5),
    "lenet": lambda: models.lenet((3, 8, 8), 4, dropout=0.5),
    **{
        name: partial(getattr(models, name), (3, 32, 32), 4, width=2, hidden=4)
        for name in ("vgg11", "vgg13", "vgg16", "vgg19")
    },
    "inverse_vgg": lambda: models.inverse_vgg(models.vgg11((3, 32, 32), 4, width=2, hidden=4)),
    **{
        name: partial(getattr(models, name), (3, 32, 32), 4, width=2)
        for name in ("resnet18", "resnet34", "resnet50")
    },
    "segnet": lambda: models.segnet((3, 16, 16), 4, depth=2, channels=3),
    "segnet_vgg16": lambda: models.segnet_vgg16((3, 32, 32), 4, width=2),
    "unet": lambda: models.unet((3, 16, 16), 4, depth=2, channels=4),
    "autoencoder": lambda: models.autoencoder((3, 32, 32)),
    "enet": lambda: models.enet((3, 16, 16), 4, channels=4),
}


def randomised(model, backend, seed=0):
    """The model in float64 with statistics and offsets like those of a trained one."""
    rng = np.random.default_rng(seed)
    in_float64(model, backend)
    for buffer in model.buffers:
        buffer.tensor = backend.asarray(rng.uniform(0.5, 1.5, buffer.tensor.shape))
    for parameter in model.parameters:
        if parameter.tensor.ndim == 1:
            parameter.tensor = backend.asarray(rng.uniform(-0.2, 0.9, parameter.tensor.shape))
    return model


def image_for(model, backend, samples=2, seed=1):
    dim = getattr(model, "input_dim", None) or (3, 8, 8)
    return backend.asarray(np.random.default_rng(seed).standard_normal((samples, *dim)))


@pytest.mark.host
def test_every_model_is_here():
    assert MODELS.keys() == set(models.__all__)


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_the_true_one(backend, name):
    """At the output that of ``backward``, in the middle also a difference quotient."""
    model = randomised(MODELS[name](), backend)
    x = image_for(model, backend)
    found = to_numpy(deconvnet(model, x, model.layers[-1], rule="gradient"))
    with eval_mode(model):
        y = to_numpy(model(x))
        seed = np.zeros_like(y)
        for sample, values in enumerate(y):
            seed[sample][np.unravel_index(values.argmax(), values.shape)] = 1
        expected = to_numpy(model.backward(backend.asarray(seed)))
    assert found.dtype == np.float64
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["lenet", "resnet18", "enet"])
def test_the_gradient_of_an_inner_layer(backend, name):
    model = randomised(MODELS[name](), backend).eval()
    layer = {"lenet": "relu2", "resnet18": "block2_1.add", "enet": "bottleneck3_1.add"}[name]
    x = image_for(model, backend, samples=1)
    gradient = to_numpy(deconvnet(model, x, layer, 1, "all", "gradient"))
    rng = np.random.default_rng(2)
    for _ in range(3):
        direction = rng.standard_normal(x.shape)

        def total(step, direction=direction):
            run = Probe(model, layer)
            return run(backend.asarray(to_numpy(x) + step * direction))[:, 1].sum()

        quotient = (total(1e-6) - total(-1e-6)) / 2e-6
        np.testing.assert_allclose((gradient * direction).sum(), quotient, rtol=1e-5, atol=1e-7)


class Probe:
    """Output of an inner layer, from the layers one after another."""

    def __init__(self, model, name):
        self.model, self.name = model, name

    def __call__(self, x):
        return self._run(self.model, x, "")

    def _run(self, graph, x, prefix):
        values = [x]
        for layer, inputs in graph.steps:
            given = [values[i] for i in inputs]
            name = prefix + layer.name
            if self.name.startswith(f"{name}."):
                return self._run(layer, *given, f"{name}.")
            values.append(layer(*given))
            if name == self.name:
                return to_numpy(values[-1])
        raise KeyError(self.name)


# -- plain loops -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("overlapping", [False, True])
def test_plain_loops(backend, rule, overlapping):
    first = Conv2D("conv1", (2, 9, 8), 4, (3, 2), padding=1, rng=0)
    size, stride = ((3, 2), (2, 1)) if overlapping else (2, 2)
    pooled = MaxPool2D("pool", first.out_dim, size, stride)
    second = Conv2D("conv2", pooled.out_dim, 3, 2, dilation=(2, 1), rng=1)
    last = Linear("linear", int(np.prod(second.out_dim)), 5, bias=False, rng=2)
    layers = [first, ReLU("relu1"), pooled, second, LeakyReLU("relu2", 0.3), Flatten("f"), last]
    model = randomised(Sequential(layers), backend)
    x = np.random.default_rng(3).standard_normal((2, 2, 9, 8))
    found = to_numpy(deconvnet(model, backend.asarray(x), "linear", rule=rule))
    expected = np.stack([loops(model, image, rule) for image in x])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


# -- PyTorch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["vgg", "resnet18"])
def test_hooks_of_pytorch(backend, torch, name, rule):
    build = models.vgg16 if name == "vgg" else models.resnet18
    options = {"width": 4, "hidden": 16} if name == "vgg" else {"width": 4}
    model = randomised(build((3, 32, 32), 7, **options), backend)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    given = torch.from_numpy(x).requires_grad_()
    y = getattr(Hooked(torch, model, rule), name)(given)
    best = y.argmax(1)
    seed = torch.zeros_like(y)
    for sample in range(2):
        seed[sample, best[sample]] = 1 if rule == "gradient" else y[sample, best[sample]].item()
    y.backward(seed)
    expected = given.grad.numpy()
    found = to_numpy(deconvnet(model, backend.asarray(x), "classes", rule=rule))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    if backend.name == "numpy":
        single = deconvnet(model, x.astype(np.float32), "classes", int(best[0]), rule=rule)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single[0], expected[0], atol=1e-4 * np.abs(expected).max())


# -- every kind of layer ---------------------------------------------------------------------


def joined(rng=0):
    """Residuals, concatenation, depthwise and transposed convolution, pools, norms, dropout."""
    net = Graph("joined", (2, 8, 8))
    stem = net.add(BatchNorm2D("norm", (2, 8, 8)))
    deep = net.add(Conv2D("deep", (2, 8, 8), 4, 3, padding=1, groups=2, rng=rng), stem)
    deep = net.add(PReLU("prelu", 4), deep)
    wide = net.add(Conv2D("wide", (2, 8, 8), 4, 1, rng=rng), stem)
    total = net.add(Add("add"), deep, wide)
    small = net.add(AvgPool2D("average", (4, 8, 8), 2, 2), total)
    large = net.add(ConvTranspose2D("up", (4, 4, 4), 3, 2, 2, rng=rng), small)
    both = net.add(Concat("concat"), large, total)
    net.add(GroupNorm("group", (7, 8, 8), 7), both)
    net.add(Sigmoid("sigmoid"))
    net.add(Dropout("dropout", 0.5, rng=rng))
    net.add(AdaptiveMaxPool2D("adaptive", (7, 8, 8), 3))
    return net


@pytest.mark.parametrize("rule", RULES)
def test_joins_branches_and_other_layers(backend, rule):
    model = randomised(joined(), backend)
    x = image_for(model, backend)
    found = to_numpy(deconvnet(model, x, "adaptive", 2, "all", rule))
    if rule == "gradient":
        with eval_mode(model):
            seed = np.zeros(model(x).shape)
            seed[:, 2] = 1
            expected = to_numpy(model.backward(backend.asarray(seed)))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    assert np.abs(found).max() > 0


def test_shared_parameters_and_one_dimension(backend):
    first, second = Conv1D("a", (2, 12), 2, 3, rng=0), Conv1D("b", (2, 10), 2, 3, rng=0)
    second.weight, second.bias = first.weight, first.bias
    layers = [first, ReLU("r"), second, MaxPool1D("pool", (2, 8), 2, 2)]
    model = randomised(Sequential(layers), backend)
    x = backend.asarray(np.random.default_rng(0).standard_normal((1, 2, 12)))
    found = to_numpy(deconvnet(model, x, "pool", position=(1,), rule="gradient"))
    with eval_mode(model):
        seed = np.zeros((1, 2, 4))
        seed[0, to_numpy(model(x))[0, :, 1].argmax(), 1] = 1
        expected = to_numpy(model.backward(backend.asarray(seed)))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_an_unpooled_layer_sees_through_the_pool(backend):
    model = randomised(models.segnet((1, 8, 8), 2, depth=1, channels=3), backend)
    x = backend.asarray(np.random.default_rng(0).standard_normal((1, 1, 8, 8)))
    for layer in ("pool1", "unpool1", "norm_decoder1"):
        assert np.abs(to_numpy(deconvnet(model, x, layer))).max() > 0


@pytest.mark.host
def test_seeds():
    """The strongest of each sample, one position, or the whole channel."""
    layer = ReLU("relu")
    x = np.array([[[[1.0, -2.0], [3.0, 0.5]], [[0.0, 7.0], [-1.0, 2.0]]]])
    x = np.concatenate([x, -x])
    zero = np.zeros((2, 2, 2, 2))

    def only(*cells):
        expected = zero.copy()
        for cell, value in cells:
            expected[cell] = value
        return expected

    strongest = only(((0, 1, 0, 1), 7), ((1, 0, 0, 1), 2))
    np.testing.assert_array_equal(deconvnet(layer, x, "relu"), strongest)
    np.testing.assert_array_equal(
        deconvnet(layer, x, layer, 0, "max", "gradient"), only(((0, 0, 1, 0), 1), ((1, 0, 0, 1), 1))
    )
    np.testing.assert_array_equal(
        deconvnet(layer, x, "relu", 1, "all"),
        only(((0, 1, 0, 1), 7), ((0, 1, 1, 1), 2), ((1, 1, 1, 0), 1)),
    )
    np.testing.assert_array_equal(
        deconvnet(layer, x, "relu", None, (1, 1)), only(((0, 1, 1, 1), 2))
    )


# -- nothing changes -------------------------------------------------------------------------


def test_a_running_training_is_not_touched(backend):
    """Between a forward and a backward pass; the same bits follow."""

    def gradients(look):
        model = models.vgg11((3, 32, 32), 4, width=2, hidden=4, batch_norm=True)
        rng = np.random.default_rng(0)
        x = backend.asarray(rng.standard_normal((4, 3, 32, 32)).astype(np.float32))
        y = model(x)
        saved = [layer.saved for layer in model.walk()]
        if look:
            for rule in RULES:
                deconvnet(model, x, "relu3_1", rule=rule)
            assert all(layer.training for layer in model.walk())
            assert all(a is b.saved for a, b in zip(saved, model.walk(), strict=True))
        model.backward(backend.asarray(np.ones(y.shape, np.float32)))
        states = Snapshot(model)._states
        values = [to_numpy(p.gradient) for p in model.parameters]
        return [*values, *(to_numpy(b.tensor) for b in model.buffers)], [s for _, s in states]

    (plain, states), (looked, after) = gradients(False), gradients(True)
    assert states == after
    for a, b in zip(plain, looked, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.host
def test_another_thread_may_be_training():
    model = models.lenet((1, 8, 8), 10)
    Learner(model, SoftmaxCrossEntropy(), Adam())
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    found = []
    model(x)  # this thread owns the network now
    thread = threading.Thread(target=lambda: found.append(deconvnet(model, x, "relu2")))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], deconvnet(model, x, "relu2"))
    model.backward(np.ones((2, 10), np.float32))


@pytest.mark.host
def test_gradients_of_parameters_stay():
    class Scale(Layer):
        """A user's layer, whose backward adds to a gradient."""

        def __init__(self, name):
            super().__init__(name)
            self.factor = Parameter(np.full(1, 2.0))

        def forward(self, x):
            self.saved = x
            return x * self.factor.tensor

        def backward(self, in_gradient):
            self.factor.gradient += (in_gradient * self.saved).sum()
            return in_gradient * self.factor.tensor

    model = Sequential([Scale("scale"), ReLU("relu")])
    found = deconvnet(model, np.ones((1, 1, 2)), "relu", position="all", rule="gradient")
    np.testing.assert_array_equal(found, np.full((1, 1, 2), 2.0))
    np.testing.assert_array_equal(model.parameters[0].gradient, [0])


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.host
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "relu3"}, r"layer is 'relu3', which .*'lenet'\) lacks; it has conv1, relu1"),
        ({"layer": ReLU("relu1")}, r"layer is ReLU\('relu1'\), which .* lacks"),
        ({"channel": 6}, "channel is 6; the layer has 6, 0 to 5"),
        ({"channel": -1}, "channel is -1; it must be at least 0"),
        ({"position": (8, 0)}, r"position is \(8, 0\); the layer's output has \(8, 8\) positions"),
        ({"position": (1,)}, r"position is \(1,\); it must be 'max', 'all' or 2 ints"),
        ({"position": "min"}, "position is 'min'; it must be 'max', 'all' or 2 ints"),
        ({"rule": "relu"}, "rule is 'relu'; it must be one of deconvnet, gradient, guided"),
        ({"x": np.zeros((1, 3, 8, 8))}, r"Conv2D\('conv1'\): input has shape \(1, 3, 8, 8\)"),
    ],
)
def test_wrong_arguments(options, message):
    model = models.lenet((1, 8, 8), 10)
    given = {"x": np.zeros((1, 1, 8, 8)), "layer": "relu1"} | options
    with pytest.raises(ValueError, match=message):
        deconvnet(model, **given)


@pytest.mark.host
def test_what_cannot_be_seen():
    class Ceil(Layer):
        def forward(self, x):
            raise AssertionError("named before work starts")

    class Both(Layer):
        def __init__(self, name):
            super().__init__(name)
            self.body = ReLU("body")

        def forward(self, x):
            return self.body(x)

        def backward(self, in_gradient):
            return self.body.backward(in_gradient)

    x = np.ones((1, 1, 2))
    with pytest.raises(ValueError, match=r"Ceil\('ceil'\) has no backward, so that it cannot be"):
        deconvnet(Sequential([Ceil("ceil"), ReLU("relu")]), x, "relu")
    with pytest.raises(ValueError, match=r"Both\('both'\) has rectifiers inside of it, whose rule"):
        deconvnet(Both("both"), x, "both")
    np.testing.assert_array_equal(deconvnet(Both("both"), x, "both", rule="gradient"), [[[1, 0]]])
    two = Graph("two", (1, 2), (1, 2))
    two.add(Add("add"), *two.inputs)
    with pytest.raises(
        ValueError, match=r"model is Graph\('two'\), which takes 2 inputs; it must take one"
    ):
        deconvnet(two, x, "add")
    with pytest.raises(TypeError, match="x has dtype int64; it must hold floats, scaled as"):
        deconvnet(ReLU("relu"), np.ones((1, 1, 2), np.int64), "relu")
    with pytest.raises(TypeError, match=r"tinyml\.asarray"):
        deconvnet(ReLU("relu"), [[1.0]], "relu")
    many = models.vgg16((3, 32, 32), 2, width=1, hidden=1)
    with pytest.raises(ValueError, match="the closest are relu5_3"):
        deconvnet(many, np.zeros((1, 3, 32, 32)), "relu5_33")
