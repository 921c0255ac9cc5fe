"""`numpy.seterr(all="raise")` does not stop a layer, loss, optimizer, pooling or training.

Underflow is harmless, and a result shows overflow and NaN by itself, on every backend alike.
"""

import numpy as np
import pytest

import tinyml
from support.compare import assert_same_bits
from tinyml import functional, layers, losses, optims
from tinyml.core import Parameter
from tinyml.layers import (
    Add,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    BatchNorm2D,
    Concat,
    Conv2D,
    GlobalAvgPool2D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
    ReLU,
)
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import SGD, Adagrad, Adam, AdamW, RMSprop

FLOATS = ("float16", "float32", "float64")


def values(dtype, kind, shape, seed=0):
    """Numbers whose products, quotients or sums raise a floating-point error if nobody ignores it.

    Those of "tiny" are around the smallest normal number, those of "huge" near the largest.
    """
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    x = rng.standard_normal(shape)
    with np.errstate(all="ignore"):
        if kind == "tiny":
            return (4 * x * float(info.tiny)).astype(dtype)
        x = np.clip(x, -0.9, 0.9) * float(info.max)
        if kind == "special":
            third = x.reshape(-1)[::3]
            third[:] = np.resize([np.nan, np.inf, -np.inf, 0], third.shape)
        return x.astype(dtype)


def outcome(call):
    """What a call returns, as NumPy arrays, with errors ignored and then raised; the same bits."""
    with np.errstate(all="ignore"):
        expected = [tinyml.to_numpy(array) for array in call()]
    with np.errstate(all="raise"):
        arrays = call()
    for array, its in zip(arrays, expected, strict=True):
        assert_same_bits(tinyml.to_numpy(array), its)


LAYERS = {
    "AdaptiveAvgPool1D": lambda: layers.AdaptiveAvgPool1D("it", (2, 6), 4),
    "AdaptiveAvgPool2D": lambda: layers.AdaptiveAvgPool2D("it", (2, 6, 6), 4),
    "AdaptiveAvgPool3D": lambda: layers.AdaptiveAvgPool3D("it", (2, 6, 6, 6), 4),
    "AdaptiveMaxPool1D": lambda: layers.AdaptiveMaxPool1D("it", (2, 6), 4),
    "AdaptiveMaxPool2D": lambda: layers.AdaptiveMaxPool2D("it", (2, 6, 6), 4),
    "AdaptiveMaxPool3D": lambda: layers.AdaptiveMaxPool3D("it", (2, 6, 6, 6), 4),
    "Upsample": lambda: layers.Upsample("it", (2, 6, 6), 2, "linear"),
    "Add": lambda: Add("it"),
    "AvgPool1D": lambda: AvgPool1D("it", (2, 6), 3, 1),
    "AvgPool2D": lambda: AvgPool2D("it", (2, 6, 6), 3, 1),
    "AvgPool3D": lambda: AvgPool3D("it", (2, 6, 6, 6), 3, 3),
    "BatchNorm2D": lambda: BatchNorm2D("it", (2, 6, 6)),
    "BatchNorm1D": lambda: layers.BatchNorm1D("it", (2, 6)),
    "BatchNorm3D": lambda: layers.BatchNorm3D("it", (2, 6, 6, 6)),
    "GroupNorm": lambda: layers.GroupNorm("it", (2, 6, 6), 2),
    "LayerNorm": lambda: layers.LayerNorm("it", 6),
    "Concat": lambda: Concat("it"),
    "Conv2D": lambda: Conv2D("it", (2, 6, 6), 3, 3, padding=1, rng=0),
    "Conv1D": lambda: layers.Conv1D("it", (2, 6), 3, 3, padding=1, rng=0),
    "Conv3D": lambda: layers.Conv3D("it", (2, 6, 6, 6), 3, 3, rng=0),
    "ConvTranspose1D": lambda: layers.ConvTranspose1D("it", (2, 6), 3, 3, rng=0),
    "ConvTranspose2D": lambda: layers.ConvTranspose2D("it", (2, 6, 6), 3, 2, 2, rng=0),
    "ConvTranspose3D": lambda: layers.ConvTranspose3D("it", (2, 6, 6, 6), 3, 2, rng=0),
    "Flatten": lambda: layers.Flatten("it"),
    "PadChannels2D": lambda: layers.PadChannels2D("it", (2, 6, 6), 3),
    "Linear": lambda: Sequential([layers.Flatten("flat"), layers.Linear("it", 72, 3, rng=0)]),
    "Reshape": lambda: layers.Reshape("it", (6, 12)),
    "GlobalAvgPool2D": lambda: GlobalAvgPool2D("it", (2, 6, 6)),
    "MaxPool1D": lambda: MaxPool1D("it", (2, 6), 3, 1),
    "MaxPool2D": lambda: MaxPool2D("it", (2, 6, 6), 2, 2),
    "MaxPool3D": lambda: MaxPool3D("it", (2, 6, 6, 6), 3, 1),
    "MaxUnpool1D": lambda: MaxUnpool1D("it", (2, 6), 3, 1),
    "MaxUnpool2D": lambda: MaxUnpool2D("it", (2, 6, 6), 3, 1),
    "MaxUnpool3D": lambda: MaxUnpool3D("it", (2, 6, 6, 6), 2, 1),
    "Dropout": lambda: layers.Dropout("it", 1),
    "Dropout2D": lambda: layers.Dropout2D("it", 1),
    "ELU": lambda: layers.ELU("it"),
    "GELU": lambda: layers.GELU("it"),
    "LeakyReLU": lambda: layers.LeakyReLU("it"),
    "LogSoftmax": lambda: layers.LogSoftmax("it"),
    "PReLU": lambda: layers.PReLU("it", 2),
    "ReLU": lambda: ReLU("it"),
    "SiLU": lambda: layers.SiLU("it"),
    "Sigmoid": lambda: layers.Sigmoid("it"),
    "Softmax": lambda: layers.Softmax("it"),
    "Tanh": lambda: layers.Tanh("it"),
}


@pytest.mark.host
def test_all_layers_losses_and_optimizers_are_here():
    """A new one gets its line in this file."""
    names = {name for name in layers.__all__ if getattr(layers, name).__name__ == name}
    assert {*LAYERS, "Layer"} == names
    for module, known in (
        (losses, {"SoftmaxCrossEntropy", "MSE", "L1", "Huber", "BCEWithLogits", "Dice", "Sum"}),
        (optims, {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "ParameterGroups"}),
    ):
        public = {
            name
            for name, found in vars(module).items()
            if str(getattr(found, "__module__", "")).startswith(module.__name__) and name[0] != "_"
        }
        assert public - {"Optimizer"} == known


@pytest.mark.parametrize("kind", ["tiny", "huge", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(backend, name, dtype, kind):
    layer = LAYERS[name]()
    axes = {"1": 1, "3": 3}.get(name[-2], 2)
    x = backend.asarray(values(dtype, kind, (2, 2, *[6] * axes)))
    inputs = (x, x) if name in ("Add", "Concat") else (x,)
    if "Unpool" in name:
        inputs = (x, backend.asarray(np.zeros(x.shape, np.uint8)))

    def call(training=True):
        layer.zero_gradients()
        for buffer in layer.buffers:
            buffer.tensor = backend.asarray(np.full(buffer.tensor.shape, 0.5, np.float32))
        y = layer.train(training).forward(*inputs)  # not __call__: backward has none either
        gradient = backend.asarray(values(dtype, kind, y.shape, 1))
        back = layer.backward(gradient)
        back = back if isinstance(back, tuple) else (back,)
        return [
            y,
            *back,
            *(p.gradient for p in layer.parameters),
            *(b.tensor for b in layer.buffers),
        ]

    outcome(call)
    outcome(lambda: call(training=False))


@pytest.mark.parametrize("kind", ["tiny", "huge", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_pooling(backend, dtype, kind):
    x = backend.asarray(values(dtype, kind, (2, 2, 6, 6)))

    def call():
        y, switches = tinyml.max_pool(x, 3, 1, 1)
        mean = tinyml.avg_pool(x, 3, 2, 1)
        most, indices = tinyml.adaptive_max_pool(x, 4)
        return [
            y,
            tinyml.max_unpool(x, switches, "sum"),
            tinyml.max_pool_gradient(x, switches),
            tinyml.max_unpool_gradient(x, switches, "sum"),
            mean,
            tinyml.avg_pool_gradient(mean, (6, 6), 3, 2, 1),
            tinyml.avg_pool_gradient(tinyml.avg_pool(x, 6), (6, 6), 6),
            most,
            tinyml.adaptive_max_pool_gradient(most, indices, (6, 6)),
            tinyml.adaptive_avg_pool_gradient(tinyml.adaptive_avg_pool(x, 4), (6, 6)),
            functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
        ]

    outcome(call)


@pytest.mark.parametrize("kind", ["tiny", "huge", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_convolution_and_linear(backend, dtype, kind):
    x = backend.asarray(values(dtype, kind, (2, 2, 6)))
    weight = backend.asarray(values("float32", kind, (2, 2, 1), 1))
    bias = backend.asarray(values("float32", kind, (2,), 2))

    def call():
        return [
            functional.conv1d(x, weight, bias),
            functional.conv1d_input(x.shape, weight, x),
            functional.conv1d_weight(x, weight.shape, x),
            functional.conv_transpose1d(x, weight, bias),
            functional.linear(x[..., 0], weight[..., 0], bias),
            *functional.linear_gradient(x[..., 0], x[..., 1], weight[..., 0]),
        ]

    outcome(call)


@pytest.mark.parametrize("kind", ["tiny", "huge", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_losses(backend, dtype, kind):
    logits = backend.asarray(values(dtype, kind, (5, 3, 4)))
    far = np.zeros((5, 3, 4), dtype)
    far[:, 0] = 80  # exp(-80) / 20 underflows in float32
    target = backend.asarray(np.arange(20).reshape(5, 4) % 3)
    loss = SoftmaxCrossEntropy()
    for x in (logits, backend.asarray(far), backend.asarray(far * 9)):
        outcome(lambda x=x: (np.float64(loss.forward(x, target)).reshape(1), loss.backward()))


@pytest.mark.parametrize("kind", ["tiny", "huge", "special"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0.01),
        lambda: SGD(0.01, 0.9),
        lambda: SGD(0.01, 0.9, nesterov=True, weight_decay=0.1),
        lambda: Adam(0.01),
        lambda: AdamW(0.01),
        lambda: RMSprop(0.01, momentum=0.9, weight_decay=0.1),
        lambda: Adagrad(0.01),
    ],
)
def test_optimizers(backend, make, dtype, kind):
    def call():
        parameter, optimizer = Parameter(backend.asarray(values(dtype, kind, (40,)))), make()
        for step in range(3):
            parameter.gradient = backend.asarray(values(dtype, kind, (40,), step))
            optimizer.update([parameter])
        return [parameter.tensor, *(v for v in parameter.state.values() if hasattr(v, "dtype"))]

    outcome(call)


@pytest.mark.parametrize("make", [lambda: SGD(0.01, 0.9), lambda: Adam(0.01)])
def test_training(backend, make):
    """Dark images on a bright ground, whose gradients soon underflow."""
    x = np.zeros((8, 1, 8, 8), np.float32)
    x[:, :, 2:6] = np.float32(1e-30)
    x, y = backend.asarray(x), backend.asarray((x[:, 0] > 0).astype(np.int64))

    def call():
        learner = Learner(
            segnet((1, 8, 8), 2, depth=2, channels=4, rng=0), SoftmaxCrossEntropy(), make()
        )
        learner.fit((x, y), (x, y), epochs=2, batch_size=4)
        return [p.tensor for p in learner.model.parameters] + [learner.predict(x)]

    outcome(call)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_loss_that_is_not_finite_is_the_learners_error(backend, value):
    x = backend.asarray(np.full((2, 1, 4, 4), value, np.float32))
    y = backend.asarray(np.zeros((2, 4, 4), np.int64))
    tried = [Conv2D("conv", (1, 4, 4), 2, 3, padding=1, rng=0)]
    if not np.isfinite(value):  # a backend may compute the mean in float64
        tried.append(BatchNorm2D("n", (1, 4, 4)))
    for layer in tried:
        learner = Learner(layer, SoftmaxCrossEntropy(), SGD(0.1))
        with (
            np.errstate(all="raise"),
            pytest.raises(FloatingPointError, match=r"(at|of) step 1 "),
        ):
            learner.step(x, y)


@pytest.mark.host
def test_a_users_own_arithmetic_still_raises():
    """Only the library's own is quiet."""

    class Square(layers.Layer):
        def forward(self, x):
            self.saved = x
            return x * x

        def backward(self, in_gradient):
            return 2 * self.saved * in_gradient

    model = Sequential([ReLU("relu"), Square("square")])
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="underflow"):
        model(np.full((1, 1), 1e-30, np.float32))
