"""ENet and SegNet against networks written in PyTorch, and every model on every backend."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest

from support.gradients import in_float64
from support.weightless import parameter_shapes
from tinyml import models
from tinyml.data import load_nuclei
from tinyml.layers import BatchNorm2D, Conv2D
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.optims import Adam


def torch_enet(torch, inputs, classes, width=16, dropout=(0.0, 0.0)):
    """ENet after table 1 of the paper; modules stand in the order of tinyml's parameters."""
    nn = torch.nn

    def normed(conv):
        return [conv, nn.BatchNorm2d(conv.out_channels)]

    class Initial(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(inputs, width - inputs, 3, 2, 1, bias=False)
            self.after = nn.Sequential(nn.BatchNorm2d(width), nn.PReLU(width))

        def forward(self, x):
            pooled = nn.functional.max_pool2d(x, 2)
            return self.after(torch.cat([self.conv(x), pooled], 1))

    class Bottleneck(nn.Module):
        def __init__(self, before, after, drop, kind="regular", dilation=1):
            super().__init__()
            inner, self.kind, self.after = after // 4, kind, after
            k = 2 if kind == "down" else 1
            middle = {
                "up": [nn.ConvTranspose2d(inner, inner, 3, 2, 1, 1, bias=False)],
                "asymmetric": [
                    nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                    nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
                ],
            }.get(kind)
            if middle is None:
                options = {"padding": dilation, "dilation": dilation, "bias": False}
                middle = [nn.Conv2d(inner, inner, 3, **options)]
            body = []
            for conv in [nn.Conv2d(before, inner, k, k, bias=False), *middle]:
                body += [*normed(conv), nn.PReLU(inner)]
            body += [*normed(nn.Conv2d(inner, after, 1, bias=False)), nn.Dropout2d(drop)]
            self.body = nn.Sequential(*body)
            if kind == "up":
                self.reduce = nn.Sequential(*normed(nn.Conv2d(before, after, 1, bias=False)))
            self.prelu = nn.PReLU(after)

        def forward(self, x, indices=None):
            y = self.body(x)
            if self.kind == "up":
                x = nn.functional.max_unpool2d(self.reduce(x), indices, 2)
            elif self.kind == "down":
                x, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
                zeros = x.new_zeros(len(x), self.after - x.shape[1], *x.shape[2:])
                x = torch.cat([x, zeros], 1)
            y = self.prelu(x + y)
            return (y, indices) if self.kind == "down" else y

    class ENet(nn.Module):
        def __init__(self):
            super().__init__()
            early, late = dropout
            wide, widest = 4 * width, 8 * width
            self.initial = Initial()
            self.down1 = Bottleneck(width, wide, early, "down")
            self.stage1 = nn.Sequential(*(Bottleneck(wide, wide, early) for _ in range(4)))
            self.down2 = Bottleneck(wide, widest, late, "down")
            kinds = [("regular", 1), ("regular", 2), ("asymmetric", 1), ("regular", 4)]
            kinds += [("regular", 1), ("regular", 8), ("asymmetric", 1), ("regular", 16)]
            context = (Bottleneck(widest, widest, late, *kind) for kind in kinds * 2)
            self.stage23 = nn.Sequential(*context)
            self.up4 = Bottleneck(widest, wide, late, "up")
            self.stage4 = nn.Sequential(*(Bottleneck(wide, wide, late) for _ in range(2)))
            self.up5 = Bottleneck(wide, width, late, "up")
            self.stage5 = Bottleneck(width, width, late)
            self.classes = nn.ConvTranspose2d(width, classes, 2, 2)

        def forward(self, x):
            x, first = self.down1(self.initial(x))
            x, second = self.down2(self.stage1(x))
            x = self.stage4(self.up4(self.stage23(x), second))
            return self.classes(self.stage5(self.up5(x, first)))

    return ENet()


def torch_segnet_vgg16(torch, inputs, classes, width=64):
    """SegNet after figure 2 of the paper."""
    nn = torch.nn

    def convolutions(widths):
        body = []
        for before, after in pairwise(widths):
            body += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return body

    class SegNet(nn.Module):
        def __init__(self):
            super().__init__()
            w = width
            encoders = [[inputs, w, w], [w, 2 * w, 2 * w], [2 * w, 4 * w, 4 * w, 4 * w]]
            encoders += [[4 * w, 8 * w, 8 * w, 8 * w], [8 * w, 8 * w, 8 * w, 8 * w]]
            decoders = [[8 * w] * 4, [8 * w, 8 * w, 8 * w, 4 * w], [4 * w, 4 * w, 4 * w, 2 * w]]
            decoders += [[2 * w, 2 * w, w], [w, w]]
            self.encoders = nn.ModuleList(nn.Sequential(*convolutions(e)) for e in encoders)
            self.decoders = nn.ModuleList(nn.Sequential(*convolutions(d)) for d in decoders)
            self.classes = nn.Conv2d(w, classes, 3, padding=1)

        def forward(self, x):
            pools = []
            for encoder in self.encoders:
                x = encoder(x)
                size = x.shape[2:]
                x, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
                pools.append((indices, size))
            for decoder in self.decoders:
                indices, size = pools.pop()
                x = decoder(nn.functional.max_unpool2d(x, indices, 2, output_size=size))
            return self.classes(x)

    return SegNet()


@pytest.mark.host
@pytest.mark.parametrize(
    ("build", "build_torch", "classes", "millions"),
    [
        (models.enet, torch_enet, 20, (0.36, 0.37)),
        (models.segnet_vgg16, torch_segnet_vgg16, 11, (29.4, 29.5)),
    ],
)
def test_number_of_parameters(torch, build, build_torch, classes, millions, monkeypatch):
    shapes = parameter_shapes(build, (3, 64, 64), classes, monkeypatch=monkeypatch)
    with torch.device("meta"):
        twin = build_torch(torch, 3, classes)
    assert shapes == [tuple(p.shape) for p in twin.parameters()]
    assert millions[0] <= sum(map(prod, shapes)) / 1e6 <= millions[1]


@pytest.mark.parametrize(
    ("build", "build_torch", "shape"),
    [
        (
            lambda: models.enet((2, 16, 144), 5, channels=4, dropout=(0, 0)),
            lambda torch: torch_enet(torch, 2, 5, 4),
            (2, 16, 144),  # in the middle 18 columns, so that dilation 16 reads more than zeros
        ),
        (
            lambda: models.segnet_vgg16((2, 33, 46), 3, width=2),
            lambda torch: torch_segnet_vgg16(torch, 2, 3, 2),
            (2, 33, 46),
        ),
    ],
    ids=["enet", "segnet_vgg16"],
)
def test_outputs_and_gradients_equal_pytorch(backend, torch, build, build_torch, shape):
    """In float64; in training first, so that in eval mode the running statistics count."""
    model = in_float64(build(), backend)
    twin = build_torch(torch).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for ours, theirs in zip(model.parameters, twin.parameters(), strict=True):
            if ours.tensor.ndim == 1:  # not all scales 1, shifts 0 and slopes 1/4
                ours.tensor = ours.tensor + backend.asarray(rng.uniform(0, 0.5, ours.tensor.shape))
            theirs.copy_(torch.from_numpy(backend.to_numpy(ours.tensor)))
    x = rng.standard_normal((2, *shape))
    for training in (True, False):
        model.train(training).zero_gradients()
        twin.train(training).zero_grad()
        given = torch.from_numpy(x).requires_grad_()
        expected = twin(given)
        y = model(backend.asarray(x))
        g = rng.standard_normal(tuple(expected.shape))
        expected.backward(torch.from_numpy(g))
        pairs = [(y, expected.detach()), (model.backward(backend.asarray(g)), given.grad)]
        pairs += [
            (ours.gradient, theirs.grad)
            for ours, theirs in zip(model.parameters, twin.parameters(), strict=True)
        ]
        largest = max(theirs.grad.abs().max().item() for theirs in twin.parameters())
        for number, (ours, theirs) in enumerate(pairs):
            scale = theirs.abs().max().item() if number < 2 else largest
            error = np.abs(backend.to_numpy(ours) - theirs.numpy()).max()
            assert error <= 1e-9 * scale, (training, number)


@pytest.mark.host
def test_dropout_of_enet():
    """As in the paper: 0.01 before bottleneck 2.0 and 0.1 afterwards; whole channels."""
    model = models.enet((1, 16, 16), 2, channels=4)
    found = {
        block.name: layer.probability
        for block in model.layers
        for layer in getattr(block, "layers", ())
        if layer.type == "Dropout2D"
    }
    assert len(found) == 5 + 9 + 8 + 3 + 2
    for name, probability in found.items():
        assert probability == (0.01 if name < "bottleneck2" else 0.1)


@pytest.mark.host
@pytest.mark.parametrize(
    "build",
    [
        lambda: models.enet((1, 32, 32), 2, channels=8),
        lambda: models.segnet_vgg16((1, 32, 32), 2, width=4),
    ],
    ids=["enet", "segnet_vgg16"],
)
def test_loss_falls_on_nuclei(build):
    image, instances = load_nuclei()
    crops = [np.s_[r : r + 32, c : c + 32] for r in (0, 32, 64) for c in (0, 32, 64)]
    x = np.stack([image[crop] / 255.0 for crop in crops])[:, None].astype(np.float32)
    y = np.stack([(instances[crop] > 0).astype(np.int64) for crop in crops])
    model, loss, optimizer, losses = build(), SoftmaxCrossEntropy(), Adam(0.02), []
    for _ in range(16):
        model.zero_gradients()
        losses.append(loss.forward(model(x), y))
        model.backward(loss.backward())
        optimizer.update(model.parameters)
    assert losses[-1] < 0.6 * losses[0]


def test_segnet_with_the_encoder_of_a_vgg(backend):
    """Layers of the same name can share their Parameters."""
    vgg = models.vgg16((1, 32, 32), 2, width=2, hidden=2, batch_norm=True, rng=1)
    segnet = models.segnet_vgg16((1, 32, 32), 3, width=2)
    of_vgg = {layer.name: layer for layer in vgg.layers}
    for layer in segnet.layers:
        theirs = of_vgg.get(layer.name)
        if isinstance(theirs, Conv2D):
            layer.weight, layer.bias = theirs.weight, theirs.bias
        elif isinstance(theirs, BatchNorm2D):
            layer.scale, layer.shift = theirs.scale, theirs.shift
    shared = {id(p) for p in vgg.parameters} & {id(p) for p in segnet.parameters}
    assert len(shared) == 13 * 4
    x = backend.asarray(np.random.default_rng(0).random((2, 1, 32, 32), np.float32))
    expected = x
    for layer in vgg.layers[: [layer.name for layer in vgg.layers].index("average")]:
        expected = layer(expected)
    y = x
    for layer in segnet.layers[: [layer.name for layer in segnet.layers].index("unpool5")]:
        y = layer(y)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(expected))


ALL = {
    "autoencoder": lambda build: build((1, 9, 8), channels=(2, 3)),
    "enet": lambda build: build((1, 8, 16), 3, channels=4),
    "inverse_vgg": lambda build: build(models.vgg11((1, 32, 32), 3, width=1, hidden=2)),
    "lenet": lambda build: build((1, 8, 8), 3, channels=(2, 2), hidden=(4,)),
    "mlp": lambda build: build((1, 8, 8), 3, hidden=(4,), dropout=0.5),
    **dict.fromkeys(
        ("resnet18", "resnet34", "resnet50"), lambda build: build((1, 32, 32), 3, width=1)
    ),
    "segnet": lambda build: build((1, 9, 8), 3, depth=2, channels=2),
    "segnet_vgg16": lambda build: build((1, 32, 33), 3, width=1),
    "unet": lambda build: build((1, 8, 8), 3, depth=2, channels=2),
    **dict.fromkeys(
        ("vgg11", "vgg13", "vgg16", "vgg19"),
        lambda build: build((1, 32, 32), 3, width=1, hidden=2),
    ),
}


@pytest.mark.host
def test_all_models_are_here():
    assert set(ALL) == set(models.__all__)


@pytest.mark.parametrize("name", sorted(ALL))
def test_forward_and_backward(backend, name):
    """Finite gradients for every parameter; the last one's is not all zeros."""
    model = ALL[name](getattr(models, name))
    dim = getattr(model, "input_dim", (1, 8, 8))
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, *dim), np.float32))
    y = model(x)
    assert y.dtype == np.float32
    g = np.random.default_rng(1).standard_normal(tuple(y.shape), np.float32)
    assert model.backward(backend.asarray(g)).shape == x.shape
    gradients = [backend.to_numpy(p.gradient) for p in model.parameters]
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert gradients[-1].any()
    assert model.eval()(x).shape == y.shape


@pytest.mark.host
def test_bad_arguments():
    with pytest.raises(ValueError, match=r"input_dim is .*multiples of 8"):
        models.enet((1, 12, 16), 2)
    for channels in (6, 4):
        with pytest.raises(ValueError, match=f"channels is {channels}; it must be a multiple of 4"):
            models.enet((4, 16, 16), 2, channels=channels)
    with pytest.raises(ValueError, match=r"dropout is 0\.1; it must be two probabilities"):
        models.enet((1, 16, 16), 2, dropout=0.1)
    with pytest.raises(ValueError, match="probability is 2"):
        models.enet((1, 16, 16), 2, dropout=(0, 2))
    with pytest.raises(ValueError, match=r"input_dim is .*five poolings"):
        models.segnet_vgg16((1, 31, 32), 2)
    with pytest.raises(ValueError, match="width is 0"):
        models.segnet_vgg16((1, 32, 32), 2, width=0)
    for build in (models.enet, models.segnet_vgg16):
        with pytest.raises(ValueError, match="n_classes is 0"):
            build((1, 32, 32), 0)
