"""Summaries: shapes and bytes are those of a real pass, counts those of the formulas."""

import numpy as np
import pytest

from tinyml.graph import Graph
from tinyml.layers import (
    AdaptiveMaxPool2D,
    Add,
    Conv2D,
    ConvTranspose2D,
    Flatten,
    Layer,
    Linear,
    MaxPool2D,
    ReLU,
    Reshape,
)
from tinyml.models import inverse_vgg, lenet, mlp, resnet18, segnet, unet, vgg11
from tinyml.net import Sequential

pytestmark = pytest.mark.host

MODELS = {
    "lenet": lambda: lenet((1, 28, 28), 10),
    "resnet": lambda: resnet18((3, 32, 32), 5, width=4),
    "unet": lambda: unet((1, 16, 24), 2, depth=2, channels=4),
    "segnet": lambda: segnet((1, 21, 30), 2, depth=2, channels=4),
    "inverse": lambda: inverse_vgg(vgg11((3, 32, 32), 10, width=4, hidden=8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_bytes_are_those_of_a_pass(name, monkeypatch):
    model = MODELS[name]().eval()
    ran = []
    call = Layer.__call__

    def recorded(layer, *inputs):
        y = call(layer, *inputs)
        if not isinstance(layer, Graph):
            ran.append((layer, inputs, y))
        return y

    monkeypatch.setattr(Layer, "__call__", recorded)
    model.forward(np.zeros((1, *model.input_dim), np.float32))
    rows = model.summary().rows
    assert len(rows) == len(ran) > 5
    for row, (layer, inputs, y) in zip(rows, ran, strict=True):
        assert row.name.split(".")[-1] == layer.name
        assert row.type == type(layer).__name__
        assert row.input_dims == tuple(x.shape[1:] for x in inputs)
        assert row.output_dim == y.shape[1:]
        assert row.activation_bytes == y.nbytes
        pools = isinstance(layer, MaxPool2D)
        assert row.switch_bytes == (layer.switches.winners.nbytes if pools else 0)


def test_counts_by_hand():
    net = Sequential(
        [
            Conv2D("conv", (4, 9, 8), 6, (3, 2), (2, 1), groups=2),
            ConvTranspose2D("up", (6, 4, 7), 3, 2, 2, bias=False),
            AdaptiveMaxPool2D("pool", (3, 8, 14), 2),
            Flatten("flatten"),
            Linear("classes", 12, 5),
        ]
    )
    conv, up, pool, flatten, linear = net.summary().rows
    assert conv.multiply_adds == 6 * 4 * 7 * (2 * 3 * 2)  # outputs times terms of each
    assert conv.parameters == 6 * 2 * 3 * 2 + 6
    assert up.multiply_adds == 6 * 4 * 7 * (3 * 2 * 2)  # inputs times cells that each reaches
    assert up.parameters == 6 * 3 * 2 * 2
    assert (pool.switch_bytes, pool.multiply_adds) == (8 * 12, 0)
    assert flatten.parameters == 0
    assert (linear.multiply_adds, linear.parameters) == (60, 65)
    total = net.summary()
    assert total.multiply_adds == sum(row.multiply_adds for row in total.rows)
    assert total.activation_bytes == 4 * (6 * 28 + 3 * 8 * 14 + 12 + 12 + 5)


def test_known_networks():
    """Counts that torchvision publishes: 1.81 GMAC for its ResNet-18, 15.47 for its VGG16."""
    assert round(resnet18((3, 224, 224), 1000).summary().multiply_adds / 1e9, 2) == 1.81
    small = vgg11((3, 32, 32), 10, width=4, hidden=8)
    assert inverse_vgg(small).summary().parameters == sum(
        p.tensor.size for p in inverse_vgg(small).parameters
    )


def test_another_input_size_and_the_table():
    model = segnet((1, 16, 16), 2, depth=1, channels=4)
    text = str(model.summary((1, 47, 33)))
    assert "4×23×16" in text
    assert f"{model.summary((1, 47, 33)).multiply_adds:,}" in text
    assert "encoder1" in text
    assert text.splitlines()[-2].startswith("segnet")


def test_a_layer_of_ones_own_is_one_row():
    class Block(Layer):
        def __init__(self, name):
            super().__init__(name)
            self.body = Linear("body", 3, 3)

        def forward(self, x):
            return x + self.body(x)

    net = Graph("net", (3,))
    block = net.add(Block("block"))
    net.add(Add("add"), block, net.add(ReLU("relu"), net.input))
    rows = net.summary().rows
    assert [row.name for row in rows] == ["block", "relu", "add"]
    assert rows[0].parameters == 12
    assert rows[2].input_dims == ((3,), (3,))
    assert Linear("alone", 3, 2).summary().parameters == 8


def test_errors():
    with pytest.raises(ValueError, match=r"was not built for a shape; give that of one sample"):
        Sequential([Reshape("r", (2, 2))]).summary()
    with pytest.raises(ValueError, match=r"conv_encoder1.*dim is \(4, 47, 33\)"):
        segnet((3, 48, 48), 2, depth=1).summary((4, 47, 33))
    with pytest.raises(TypeError, match="takes 1 inputs; got 2"):
        mlp(4, 2).summary((4,), (4,))
    with pytest.raises(TypeError, match="dims holds 1; it must hold the shape of one sample of"):
        mlp(4, 2).summary(1, 28, 28)
    with pytest.raises(
        ValueError, match=r"a shape in dims is \(0,\); every value must be at least"
    ):
        mlp(4, 2).summary((0,))
