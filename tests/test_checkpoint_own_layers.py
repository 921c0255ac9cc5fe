"""Checkpoints of layers of the user's own."""

import enum
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinyml
from support.compare import assert_same_bits
from tinyml import CheckpointError
from tinyml.checkpoint import configuration
from tinyml.core import Buffer, Parameter
from tinyml.graph import Graph
from tinyml.layers import Add, BatchNorm2D, Conv2D, Dropout, Flatten, Layer, Linear, MaxPool2D, ReLU
from tinyml.net import Sequential

pytestmark = pytest.mark.host


class Residual(Layer):
    """A layer of the user's own, with layers and tensors in a list and a dict."""

    def __init__(self, name, body, *more, scale=1.0, others=(), settings=None):
        super().__init__(name)
        self.body = body
        self.more = list(more)
        self.scale = scale
        self.settings = settings
        self.others = {"first": list(others)}
        self.weights = [Parameter(np.full(2, 0.5, np.float32)) for _ in range(2)]
        self.tables = {"mean": Buffer(np.zeros(3, np.float32))}

    def forward(self, x):
        y = self.body(x)
        for layer in self.more:
            y = layer(y)
        return x + self.scale * y


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TestOwnLayers:
    def model(self):
        body = Linear("body", 4, 4, rng=0)
        more = Sequential([Linear("one", 4, 4, rng=1), ReLU("relu")], name="more")
        return Residual(
            "res", body, more, scale=float("inf"), others=[ReLU("r")], settings={"a": (1, [None])}
        )

    def test_names(self, path):
        tinyml.save(self.model(), path)
        assert set(load_file(path)) == {
            "body.weight",
            "body.bias",
            "more.one.weight",
            "more.one.bias",
            "weights.0",
            "weights.1",
            "tables.mean",
        }

    def test_it_must_be_known(self, path):
        tinyml.save(self.model(), path)
        with pytest.raises(CheckpointError, match=r"layer 'Residual' is not known here; call tiny"):
            tinyml.load(path)

    def test_passed_in(self, path):
        model = self.model()
        model.weights[1].tensor[:] = 7
        tinyml.save(model, path)
        loaded = tinyml.load(path, layers=[Residual])
        assert loaded.scale == float("inf")
        assert loaded.settings == {"a": (1, [None])}
        assert [layer.name for layer in loaded.walk()] == [layer.name for layer in model.walk()]
        assert_same_bits(loaded.weights[1].tensor, model.weights[1].tensor)
        assert_same_bits(
            loaded.more[0].layers[0].weight.tensor, model.more[0].layers[0].weight.tensor
        )

    def test_registered(self, path, monkeypatch):
        monkeypatch.setattr(configuration, "_registered", {})
        assert tinyml.register_layer(Residual) is Residual
        tinyml.save(self.model(), path)
        assert isinstance(tinyml.load(path), Residual)
        with pytest.raises(TypeError, match="must be a class of layers"):
            tinyml.register_layer(self.model())

    def test_a_name_of_ours(self, path):
        own = type("ReLU", (ReLU,), {})
        with pytest.raises(ValueError, match="ReLU is the name of a layer of tinyml"):
            tinyml.register_layer(own)
        with pytest.raises(CheckpointError, match="named as one of tinyml; rename it"):
            tinyml.save(own("relu"), path)

    def test_a_layer_that_stands_elsewhere(self, path):
        class Tied(Layer):
            def __init__(self, name, to):
                super().__init__(name)
                self.to_layer = to

        net = Graph("net", (1, 4, 4))
        conv = Conv2D("conv", (1, 4, 4), 2, 3, rng=0)
        net.add(conv)
        pair = Residual("pair", Tied("tied", conv), others=[conv])
        tinyml.save(pair, path)
        loaded = tinyml.load(path, layers=[Residual, Tied])
        assert loaded.body.to_layer is loaded.others["first"][0]

    def test_arguments_that_cannot_be_saved(self, path):
        with pytest.raises(
            CheckpointError, match=r"Residual\('r'\): settings is <built-in function abs>"
        ):
            tinyml.save(Residual("r", ReLU("a"), settings=abs), path)
        with pytest.raises(CheckpointError, match="model must be what JSON can hold: Exceeds"):
            tinyml.save(Residual("r", ReLU("a"), settings=10**5000), path)
        assert not path.exists()

    @pytest.mark.parametrize(
        "value",
        [
            enum.IntEnum("Kind", "ONE").ONE,
            namedtuple("Pair", "a b")(1, 2),
            OrderedDict(a=1),
            {1: 2},
            np.zeros((1000, 1000)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_arguments_that_would_be_others(self, path, value):
        with pytest.raises(CheckpointError, match=r"settings is .*; a checkpoint") as caught:
            tinyml.save(Residual("r", ReLU("a"), settings=value), path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250

    def test_an_argument_that_holds_itself(self, path):
        endless = []
        endless.append(endless)
        with pytest.raises(CheckpointError, match="argument in it is nested too deeply"):
            tinyml.save(Residual("r", ReLU("a"), settings=endless), path)

    def test_arguments_without_a_name(self, path):
        class Only(Residual):
            def __init__(self, name, rng, scale=2.0, /, **more):
                super().__init__(name, ReLU("body"), scale=scale)
                self.rng, self.more = rng, more

        class Rest(Residual):
            def __init__(self, name, rng=5, *layers):
                super().__init__(name, *layers)
                self.rng = rng

        tinyml.save(Sequential([Only("a", 7), Only("b", 7, 3.0, z=1)]), path)
        first, second = tinyml.load(path, layers=[Only]).layers
        assert (first.rng, first.scale, second.scale) == (None, 2.0, 3.0)
        assert second.more == {"z": 1}
        tinyml.save(Rest("c", 7, ReLU("one"), ReLU("two")), path)
        loaded = tinyml.load(path, layers=[Rest])
        assert [layer.name for layer in loaded.walk()] == ["c", "one", "two"]
        assert loaded.rng == 5

    def test_a_tensor_in_a_tuple_that_the_constructor_shares(self, path):
        class Tied(Layer):
            def __init__(self, name):
                super().__init__(name)
                self.weight = Parameter(np.zeros(2, np.float32))
                self.all = (self.weight,)

        tinyml.save(Tied("tied"), path)
        loaded = tinyml.load(path, layers=[Tied])
        assert loaded.all[0] is loaded.weight

    def test_what_is_no_layer(self, path):
        with pytest.raises(TypeError, match="model is 'model'; it must be a layer or a network"):
            tinyml.save("model", path)

    def test_numbers_that_were_set_later(self, path):
        net = Sequential([BatchNorm2D("norm", (1, 4, 4)), Dropout("drop", 0.2, rng=3)])
        net.layers[0].momentum, net.layers[1].probability = 0.25, np.float32(0.75)
        tinyml.save(net, path)
        loaded = tinyml.load(path)
        assert (loaded.layers[0].momentum, loaded.layers[1].probability) == (0.25, 0.75)

    def test_a_network_that_was_extended_and_its_output(self, path):
        net = Sequential([Conv2D("conv", (1, 6, 6), 2, 3, padding=1, rng=0)])
        relu = net.add(ReLU("relu"))
        net.add(Add("add"), relu, relu)
        chosen = net.add(MaxPool2D("pool", (2, 6, 6), 2, 2), relu)
        net.add(Flatten("flat"), relu)
        net.output = chosen
        tinyml.save(net, path)
        x = np.random.default_rng(0).standard_normal((1, 1, 6, 6), np.float32)
        assert_same_bits(tinyml.load(path)(x), net(x))

    def test_siblings_of_one_name(self, path):
        pair = Residual("pair", ReLU("same"), ReLU("same"))
        with pytest.raises(CheckpointError, match=r"two layers of .* are named 'same'"):
            tinyml.save(pair, path)
