"""The models against twins in PyTorch, with the same weights."""

from math import prod

import numpy as np
import pytest

from support.weightless import parameter_shapes
from tinyml.arrays import to_numpy
from tinyml.data import load_digits, load_nuclei
from tinyml.layers import BatchNorm2D, Conv2D, ConvTranspose2D, Linear, MaxPool2D, MaxUnpool2D
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import (
    autoencoder,
    inverse_vgg,
    lenet,
    mlp,
    resnet18,
    resnet50,
    unet,
    vgg11,
    vgg13,
    vgg16,
    vgg19,
)
from tinyml.optims import SGD
from tinyml_backends import resolve


@pytest.mark.host
@pytest.mark.parametrize(
    ("build", "count"),
    [
        (vgg11, 132_863_336),
        (vgg16, 138_357_544),
        (resnet18, 11_689_512),
        (resnet50, 25_557_032),
    ],
)
def test_number_of_parameters(build, count, monkeypatch):
    shapes = parameter_shapes(build, (3, 224, 224), 1000, monkeypatch=monkeypatch)
    assert sum(map(prod, shapes)) == count


def of_layer(torch, layer):
    """Twin of one layer in PyTorch, in float64."""
    nn, t = torch.nn, lambda p: torch.nn.Parameter(torch.from_numpy(to_numpy(p.tensor).copy()))
    if isinstance(layer, ConvTranspose2D):
        filters, channels = layer.weight.tensor.shape[:2]
        twin = nn.ConvTranspose2d(
            filters, channels, layer.window.size, layer.stride, layer.window.padding_before
        )
    elif isinstance(layer, Conv2D):
        filters, channels = layer.weight.tensor.shape[:2]
        has_bias = layer.bias is not None
        pads = layer.window.padding_before
        twin = nn.Conv2d(channels, filters, layer.window.size, layer.stride, pads, bias=has_bias)
    elif isinstance(layer, Linear):
        twin = nn.Linear(*layer.weight.tensor.shape[::-1])
    elif isinstance(layer, BatchNorm2D):
        twin = nn.BatchNorm2d(layer.input_channel)
        twin.weight, twin.bias = t(layer.scale), t(layer.shift)
        return twin.double()
    twin.weight = t(layer.weight)
    if layer.bias is not None:
        twin.bias = t(layer.bias)
    return twin


class Twin:
    """PyTorch's modules for the layers of a model, found by their names."""

    def __init__(self, torch, model):
        self.torch, self.modules = torch, {}
        self.model = model
        kinds = Conv2D | ConvTranspose2D | Linear | BatchNorm2D
        self.of = {
            layer: of_layer(torch, layer) for layer in model.walk() if isinstance(layer, kinds)
        }
        self.parameters = [p for module in self.of.values() for p in module.parameters()]

    def __getitem__(self, name):
        *groups, name = name.split("/")
        graph = self.model
        for group in groups:
            graph = next(layer for layer in graph.layers if layer.name == group)
        return self.of[next(layer for layer in graph.layers if layer.name == name)]


def lenet_forward(twin, x):
    F = twin.torch.nn.functional
    for number in (1, 2):
        x = F.max_pool2d(F.relu(twin[f"conv{number}"](x)), 2)
    x = x.flatten(1)
    for number in (1, 2):
        x = F.relu(twin[f"linear{number}"](x))
    return twin["classes"](x)


def vgg_forward(twin, x, counts=(2, 2, 3, 3, 3)):
    F = twin.torch.nn.functional
    for level, count in enumerate(counts, 1):
        for number in range(1, count + 1):
            x = F.relu(twin[f"conv{level}_{number}"](x))
        x = F.max_pool2d(x, 2)
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for number in (1, 2):
        x = F.relu(twin[f"linear{number}"](x))
    return twin["classes"](x)


def resnet18_forward(twin, x):
    F = twin.torch.nn.functional
    x = F.max_pool2d(F.relu(twin["norm"](twin["conv"](x))), 3, 2, 1)
    for level in (1, 2, 3, 4):
        for number in (1, 2):
            name = f"block{level}_{number}/"
            y = F.relu(twin[f"{name}norm1"](twin[f"{name}conv1"](x)))
            y = twin[f"{name}norm2"](twin[f"{name}conv2"](y))
            if level > 1 and number == 1:
                x = twin[f"{name}norm_shortcut"](twin[f"{name}conv_shortcut"](x))
            x = F.relu(x + y)
    return twin["classes"](x.mean((2, 3)))


def unet_forward(twin, x, depth=2):
    torch, skips = twin.torch, []
    F = torch.nn.functional

    def twice(name, x):
        for number in (1, 2):
            x = F.relu(twin[f"{name}_norm{number}"](twin[f"{name}_conv{number}"](x)))
        return x

    for level in range(1, depth + 1):
        skips.append(twice(f"encoder{level}", x))
        x = F.max_pool2d(skips[-1], 2)
    x = twice("bottom", x)
    for level in range(depth, 0, -1):
        x = twice(f"decoder{level}", torch.cat([skips.pop(), twin[f"up{level}"](x)], 1))
    return twin["classes"](x)


def assert_outputs_equal_pytorch(backend, torch, model, forward, shape):
    """In float32, within 1e-5 of the largest output; in training first, then in eval mode."""
    twin = Twin(torch, model)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    for training in (True, False):
        for module in twin.of.values():
            module.float().train(training)
        y = backend.to_numpy(model.train(training)(backend.asarray(x)))
        with torch.no_grad():
            expected = forward(twin, torch.from_numpy(x)).numpy()
        assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("build", "forward", "shape"),
    [
        (lambda: vgg16((3, 40, 33), 5, width=4, hidden=8, dropout=0), vgg_forward, (3, 40, 33)),
        (lambda: resnet18((3, 40, 33), 5, width=4), resnet18_forward, (3, 40, 33)),
        (lambda: unet((1, 16, 20), 3, depth=2, channels=4), unet_forward, (1, 16, 20)),
    ],
    ids=["vgg16", "resnet18", "unet"],
)
def test_outputs_equal_pytorch(backend, torch, build, forward, shape):
    assert_outputs_equal_pytorch(backend, torch, build(), forward, shape)


@pytest.mark.host
@pytest.mark.parametrize(
    ("build", "forward", "shape"),
    [
        (lambda: vgg16((3, 32, 32), 5, hidden=64, dropout=0), vgg_forward, (3, 32, 32)),
        (lambda: resnet18((3, 40, 33), 5), resnet18_forward, (3, 40, 33)),
        (lambda: unet((1, 16, 24), 3, depth=2), unet_forward, (1, 16, 24)),
    ],
    ids=["vgg16", "resnet18", "unet"],
)
def test_outputs_equal_pytorch_at_full_width(torch, build, forward, shape):
    """The image of ResNet-18 is larger than 32×32, at which its last batch norms would have two
    values a channel and depend on rounding: PyTorch's float32 is then 1e-3 from its float64."""
    assert_outputs_equal_pytorch(resolve("numpy"), torch, build(), forward, shape)


def digits():
    images, labels = load_digits()
    return images[:, None] / 16.0, labels.astype(np.int64)


def nuclei():
    image, instances = load_nuclei()
    crops = [np.s_[r : r + 16, c : c + 16] for r in range(0, 96, 16) for c in range(0, 480, 16)]
    x = np.stack([image[crop] / 255.0 for crop in crops])[:, None]
    return x, np.stack([(instances[crop] > 0).astype(np.int64) for crop in crops])


@pytest.mark.host
@pytest.mark.parametrize(
    ("build", "forward", "data"),
    [
        (lambda: lenet((1, 8, 8), 10, rng=0), lenet_forward, digits),
        (lambda: resnet18((1, 8, 8), 10, width=4, rng=0), resnet18_forward, digits),
        (lambda: unet((1, 16, 16), 2, depth=2, channels=4, rng=0), unet_forward, nuclei),
    ],
    ids=["lenet", "resnet18", "unet"],
)
def test_training_follows_pytorch(torch, build, forward, data):
    """Fifty steps from the same weights, in float64; other tests compare the backends."""
    backend = resolve("numpy")
    model = build()
    for buffer in {*model.buffers, *model.parameters}:
        buffer.tensor = buffer.tensor.astype(np.float64)
    model.zero_gradients()
    for p in model.parameters:
        p.gradient = p.gradient.astype(np.float64)
    twin = Twin(torch, model)
    for module in twin.of.values():
        module.double().train()
    x, y = data()
    optimizer, theirs = SGD(0.01, 0.9), torch.optim.SGD(twin.parameters, lr=0.01, momentum=0.9)
    loss, ours, expected = SoftmaxCrossEntropy(), [], []
    for step in range(50):
        some = np.arange(step * 8, step * 8 + 8) % len(x)
        model.zero_gradients()
        output = model(backend.asarray(x[some]))
        ours.append(loss.forward(output, backend.asarray(y[some])))
        model.backward(loss.backward())
        optimizer.update(model.parameters)
        theirs.zero_grad()
        value = torch.nn.functional.cross_entropy(
            forward(twin, torch.from_numpy(x[some])), torch.from_numpy(y[some])
        )
        value.backward()
        theirs.step()
        expected.append(value.item())
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    assert ours[-1] < ours[0]


def test_inverse_vgg_is_a_loop_of_its_layers(backend):
    vgg = vgg11((3, 32, 36), 5, width=4, hidden=8)
    inverse = inverse_vgg(vgg)
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 3, 32, 36), np.float32))
    expected, pools = x, {}
    features = list(vgg.layers[: [n.name for n in vgg.layers].index("average")])
    for layer in features:
        expected = layer(expected)
        if isinstance(layer, MaxPool2D):
            pools[layer] = layer.switches
    for layer in reversed(features):
        if isinstance(layer, MaxPool2D):
            unpool = MaxUnpool2D("unpool", layer.out_dim, 2, 2)
            expected = unpool(expected, pools[layer])
        elif isinstance(layer, Conv2D):
            up = ConvTranspose2D("up", layer.out_dim, layer.input_channel, 3, padding=1, bias=False)
            up.weight = layer.weight
            expected = up(expected)
        else:
            expected = expected * (expected > 0)
    y = inverse(x)
    assert y.shape == x.shape
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(expected))
    assert {id(p) for p in inverse.parameters} < {id(p) for p in vgg.parameters}
    assert inverse.backward(y).shape == x.shape


@pytest.mark.host
def test_bad_arguments():
    for build, dim in ((lenet, (1, 3, 8)), (vgg13, (3, 31, 64)), (unet, (1, 12, 16))):
        with pytest.raises(ValueError, match=r"input_dim is .* need a height and width"):
            build(dim, 2)
    with pytest.raises(ValueError, match="there must be one encoder"):
        autoencoder((1, 8, 8), channels=())
    with pytest.raises(ValueError, match="width is 0"):
        vgg19((3, 32, 32), 2, width=0)
    with pytest.raises(ValueError, match=r"BatchNorm2D\('norm5_2'\), which has no inverse"):
        inverse_vgg(vgg11((3, 32, 32), 2, width=2, hidden=2, batch_norm=True))
    with pytest.raises(ValueError, match="output_dim is 0"):
        mlp(4, 0)
