"""Layers form a tree: a user's composite of six lines trains, moves and is copied like a layer."""

import copy
import pickle

import numpy as np
import pytest

from support.compare import assert_same_bits
from support.elsewhere import Elsewhere
from support.gradients import check_gradients
from tinyml.layers import Add, BatchNorm2D, Conv2D, Layer, MaxPool2D, MaxUnpool2D, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam


class Residual(Layer):
    """A user's composite; it registers nothing."""

    def __init__(self, name, body):
        super().__init__(name)
        self.body = body

    def forward(self, x):
        return x + self.body(x)

    def backward(self, in_gradient):
        return in_gradient + self.body.backward(in_gradient)


class Branches(Layer):
    """Children in a list, in a dict of tuples, and one of them twice."""

    def __init__(self, name, dim):
        super().__init__(name)
        self.convs = [conv(f"conv{i}", dim, rng=i) for i in range(2)]
        self.others = {"a": (conv("conv2", dim, rng=2), [BatchNorm2D("norm", dim)]), "b": 5}
        self.first = self.convs[0]

    def forward(self, x):
        (last, (norm,)) = self.others["a"]
        return norm(last(x)) + sum(layer(x) for layer in self.convs)

    def backward(self, in_gradient):
        (last, (norm,)) = self.others["a"]
        total = last.backward(norm.backward(in_gradient))
        for layer in self.convs:
            total = total + layer.backward(in_gradient)
        return total


def conv(name, dim, **options):
    return Conv2D(name, dim, dim[0], 3, padding=1, **options)


def residual(name="block", dim=(2, 5, 6)):
    return Residual(name, Sequential([conv("conv", dim, rng=0), BatchNorm2D("norm", dim)]))


def network(dim=(2, 5, 6)):
    return Sequential([conv("first", dim, rng=1), residual(dim=dim), Branches("branches", dim)])


def images(backend, n=2, dim=(2, 5, 6)):
    return backend.asarray(np.random.default_rng(0).standard_normal((n, *dim), np.float32))


def test_children_are_found_in_attributes_lists_and_dicts(backend):
    names = [layer.name for layer in network().walk()]
    assert names == [
        *("model", "first", "block", "model", "conv", "norm"),
        *("branches", "conv0", "conv1", "conv2", "norm"),
    ]


def test_parameters_and_buffers_are_counted_once(backend):
    model = network()
    assert len(model.parameters) == 2 + 4 + 3 * 2 + 2
    assert len(set(model.parameters)) == len(model.parameters)
    assert len(model.buffers) == 4
    first, branches = model.layers[0], model.layers[2]
    branches.convs[1].weight = first.weight  # shared: one parameter less
    assert len(model.parameters) == 13


def test_cycles_are_allowed(backend):
    block = residual()
    block.body.parent = block
    block.friends = [block, [block]]
    block.friends.append(block.friends)
    assert [layer.name for layer in block.walk()] == ["block", "model", "conv", "norm"]
    assert len(block.parameters) == 4
    assert block.replica().body.parent is not block


def test_a_composite_in_a_network_trains(backend):
    model = network()
    before = [backend.to_numpy(p.tensor).copy() for p in model.parameters]
    model(images(backend))
    model.backward(images(backend))
    SGD(0.1).update(model.parameters)
    for old, parameter in zip(before, model.parameters, strict=True):
        if parameter is not model.layers[1].body.layers[0].bias:  # batch norm subtracts it again
            assert (backend.to_numpy(parameter.tensor) != old).any()


def test_a_composite_alone_trains(backend):
    model = residual()
    learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.05))
    x = images(backend, 8)
    y = backend.asarray((backend.to_numpy(x)[:, 0] > 0).astype(np.int64))
    losses = learner.fit((x, y), epochs=10)["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert learner.predict(x).shape == x.shape


def test_gradients(backend):
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 3))
    check_gradients(network((2, 4, 3)), x, backend, step=1e-6, tolerance=1e-5)


def test_the_mode_reaches_every_layer(backend):
    model = network()
    assert model.eval() is model
    assert not any(layer.training for layer in model.walk())
    assert all(layer.training for layer in model.train().walk())


def test_everything_is_forgotten(backend):
    model = network()
    y = model(images(backend))
    assert all(layer.saved is not None for layer in model.walk() if layer.type == "Conv2D")
    model.forget()
    assert all(layer.saved is None for layer in model.walk())
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        model.backward(y)


def test_zero_gradients(backend):
    model = network()
    model.backward(model(images(backend)))
    model.zero_gradients()
    assert not any(backend.to_numpy(p.gradient).any() for p in model.parameters)


def test_everything_moves(backend):
    model = network()
    model.backward(model(images(backend)))
    Adam().update(model.parameters)
    model.to(Elsewhere())
    tensors = [b.tensor for b in (*model.parameters, *model.buffers)]
    tensors += [p.gradient for p in model.parameters]
    tensors += [p.state[key] for p in model.parameters for key in ("first", "second")]
    assert all(isinstance(tensor, np.memmap) for tensor in tensors)


def test_copies_own_everything(backend):
    model = network().eval()
    x = images(backend)
    expected = backend.to_numpy(model(x))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert len(twin.parameters) == len(model.parameters)
        assert not set(twin.parameters) & set(model.parameters)
        assert twin.layers[2].first is twin.layers[2].convs[0]
        for parameter in twin.parameters:
            parameter.tensor[...] = 9
        assert_same_bits(backend.to_numpy(model(x)), expected)


def test_a_replica_shares_parameters_and_has_its_own_saved_state(backend):
    model = network()
    x = images(backend)
    y = model(x)
    twin = model.replica()
    assert twin.parameters == model.parameters
    assert twin.buffers == model.buffers
    assert not set(twin.walk()) & set(model.walk())
    assert all(layer.saved is None for layer in twin.walk())
    expected = backend.to_numpy(model.backward(y))
    model(x)
    twin(backend.asarray(-backend.to_numpy(x)))
    assert_same_bits(backend.to_numpy(model.backward(y)), expected)


def test_a_replica_does_not_copy_a_pool_outside(backend):
    """The copy of a decoder alone is tied to the encoder's original pool layer."""
    pool = MaxPool2D("pool", (2, 6, 6), 2, 2)
    decoder = Sequential([MaxUnpool2D("unpool", pool.out_dim, 2, 2, pool=pool)], name="decoder")
    twin = decoder.replica()
    assert twin.layers[0].pool is pool
    x = images(backend, dim=(2, 6, 6))
    both = Sequential([pool, decoder]).replica()
    assert both.layers[1].layers[0].pool is both.layers[0]
    assert both(x).shape == x.shape


def test_saved_state_is_one_attribute(backend):
    """`forget` changes no other attribute of a layer."""
    x = images(backend)
    pool = MaxPool2D("pool", (2, 5, 6), 2, 2)
    layers = [conv("conv", (2, 5, 6)), BatchNorm2D("norm", (2, 5, 6)), ReLU("relu"), pool]
    for layer in [*layers, Add("add")]:
        layer(x)
        kept = {k: v for k, v in vars(layer).items() if k not in ("saved", "num_of_entries")}
        assert layer.saved is not None
        layer.forget()
        assert layer.saved is None
        assert kept == {k: v for k, v in vars(layer).items() if k in kept}
    assert pool.switches is None


def test_a_layer_may_set_its_dims(backend):
    """A network is checked with plain attributes of a user's layer when it is built."""

    class Double(Layer):
        def __init__(self, name, input_dim):
            super().__init__(name)
            self.input_dim = input_dim
            self.out_dim = (2 * input_dim[0], *input_dim[1:])

        def forward(self, x):
            return backend.xp.concatenate([x, x], 1)

    model = Sequential([Double("double", (2, 5, 6)), conv("conv", (4, 5, 6), rng=0)])
    assert model(images(backend)).shape == (2, 4, 5, 6)
    with pytest.raises(
        ValueError, match=r"takes input_dim \(2, 5, 6\); \w+\('conv'\) before it gives"
    ):
        Sequential([conv("conv", (3, 5, 6)), Double("double", (2, 5, 6))])


def test_what_is_saved_is_not_part_of_the_tree(backend):
    """`saved` may refer to anything; `walk` and `parameters` do not look into it."""
    block = residual()
    count = len(block.parameters)
    block.saved = [conv("other", (2, 5, 6)), block.parameters]
    assert [layer.name for layer in block.walk()] == ["block", "model", "conv", "norm"]
    assert len(block.parameters) == count
