"""Networks as graphs: joins, branches, several inputs, free sizes, ties."""

import numpy as np
import pytest

from support.compare import assert_same_bits
from support.gradients import check_gradients
from tinyml.graph import Graph
from tinyml.layers import (
    Add,
    BatchNorm2D,
    Concat,
    Conv2D,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    MaxUnpool2D,
    ReLU,
)
from tinyml.layers.base import Tie
from tinyml.models import segnet
from tinyml.net import Sequential

DIM = (2, 6, 4)


def conv(name, dim, filters, size=3, rng=0):
    return Conv2D(name, dim, filters, size, padding=size // 2, rng=rng)


def images(backend, *shape, dtype=np.float32):
    return backend.asarray(np.random.default_rng(0).standard_normal(shape).astype(dtype))


def resnet_block(name="block", dim=DIM):
    """A block of ResNet: two convolutions, and a shortcut that is added to their result."""
    net = Graph(name, dim)
    node = net.add(conv("conv1", dim, 3, rng=1))
    node = net.add(BatchNorm2D("norm1", node.dim))
    node = net.add(ReLU("relu1"))
    node = net.add(conv("conv2", node.dim, 3, rng=2))
    shortcut = net.add(conv("shortcut", dim, 3, size=1, rng=3), net.input)
    net.add(ReLU("relu2"), net.add(Add("add"), node, shortcut))
    return net


def unet(dim=DIM):
    """A U-Net of pool, unpool, Add and Concat, with a graph inside."""
    net = Graph("unet", dim)
    skip = net.add(conv("conv1", dim, 2, rng=1))
    pool = MaxPool2D("pool", skip.dim, 2, 2)
    node = net.add(pool)
    node = net.add(resnet_block("inner", node.dim), node)
    node = net.add(conv("conv2", node.dim, 2, rng=4))
    up = net.add(MaxUnpool2D("unpool", node.dim, 2, 2, pool=pool))
    both = net.add(Concat("concat"), up, skip)
    total = net.add(Add("add"), net.add(conv("conv3", both.dim, 2, rng=5)), skip, net.input)
    net.add(conv("classes", total.dim, 3, size=1, rng=6))
    return net


@pytest.mark.parametrize("make", [resnet_block, unet])
def test_gradients(backend, make):
    x = np.random.default_rng(1).standard_normal((2, *DIM))
    check_gradients(make(), x, backend, step=1e-6, tolerance=1e-5)


def test_a_block_equals_its_layers_one_by_one(backend):
    net = resnet_block().eval()
    conv1, norm1, relu1, conv2, shortcut, _, _ = net.layers
    x = images(backend, 2, *DIM)
    expected = np.maximum(
        backend.to_numpy(conv2(relu1(norm1(conv1(x))))) + backend.to_numpy(shortcut(x)), 0
    )
    assert_same_bits(backend.to_numpy(net(x)), expected)


def test_dims_of_nodes_and_of_the_network(backend):
    net = unet()
    assert net.input.dim == net.input_dim == DIM
    assert net.output.dim == net.out_dim == (3, 6, 4)
    assert net.output_dim((2, 9, 7)) == (3, 9, 7)
    assert net.inputs == (net.input,)
    assert [layer.name for layer in net.layers][:3] == ["conv1", "pool", "inner"]


def test_one_network_runs_images_of_every_size(backend):
    """The same weights, whatever the size; the bits are those of a network built for it."""
    small, large = (
        segnet((1, 8, 8), 2, depth=2, channels=3),
        segnet((1, 21, 30), 2, depth=2, channels=3),
    )
    x = images(backend, 2, 1, 21, 30)
    y, expected = small(x), large(x)
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(expected))
    assert_same_bits(backend.to_numpy(small.backward(y)), backend.to_numpy(large.backward(y)))
    for one, two in zip(small.parameters, large.parameters, strict=True):
        assert_same_bits(backend.to_numpy(one.gradient), backend.to_numpy(two.gradient))
    assert small(images(backend, 2, 1, 8, 8)).shape == (2, 2, 8, 8)
    assert small.out_dim == (2, 8, 8)


def test_a_global_average_is_of_the_whole_image(backend):
    pool = GlobalAvgPool2D("pool", DIM)
    x = images(backend, 2, 2, 9, 5, dtype=np.float64)
    np.testing.assert_allclose(
        backend.to_numpy(pool(x))[..., 0, 0], backend.to_numpy(x).mean((2, 3)), rtol=1e-12
    )
    assert pool.backward(pool(x)).shape == x.shape


def test_sizes_and_channels_that_are_refused(backend):
    model = segnet((1, 8, 8), 2, depth=2, channels=3)
    with pytest.raises(ValueError, match=r"MaxPool2D\('pool1'\): a window of size .* spans 2"):
        model(images(backend, 1, 1, 1, 8))
    with pytest.raises(ValueError, match=r"must be \(samples, 1, height, width\)"):
        model(images(backend, 1, 2, 8, 8))
    conv1 = model.layers[0]
    y = conv1(images(backend, 2, 1, 9, 9))
    with pytest.raises(ValueError, match=r"gradient has shape .*; it must be \(2, 3, 9, 9\)"):
        conv1.backward(y[:, :, :8])


class TestInputsAndOutputs:
    def test_several_inputs(self, backend):
        net = Graph("two", (2, 4, 4), (1, 4, 4))
        left, right = net.inputs
        joined = net.add(Concat("concat"), right, left)
        net.add(conv("conv", joined.dim, 1))
        x, y = images(backend, 3, 2, 4, 4), images(backend, 3, 1, 4, 4)
        out = net(x, y)
        both = backend.xp.concatenate([y, x], 1)
        assert_same_bits(backend.to_numpy(out), backend.to_numpy(net.layers[1](both)))
        of_left, of_right = net.backward(out)
        expected = backend.to_numpy(net.layers[1].backward(out))
        assert_same_bits(backend.to_numpy(of_left), expected[:, 1:])
        assert_same_bits(backend.to_numpy(of_right), expected[:, :1])
        with pytest.raises(TypeError, match=r"Graph\('two'\) takes 2 inputs; got 1"):
            net(x)

    def test_several_inputs_inside_another_network(self, backend):
        inner = Graph("inner", DIM, DIM)
        inner.add(Add("add"), *inner.inputs)
        net = Graph("outer", DIM)
        net.add(inner, net.input, net.add(ReLU("relu")))
        x = images(backend, 2, *DIM)
        values = backend.to_numpy(x)
        assert_same_bits(backend.to_numpy(net(x)), values + np.maximum(values, 0))
        assert_same_bits(
            backend.to_numpy(net.backward(x)), values + np.where(values > 0, values, 0)
        )
        with pytest.raises(ValueError, match="takes 2 inputs; got 1 nodes"):
            Graph("other", DIM).add(Graph("inner", DIM, DIM))

    def test_another_output(self, backend):
        """Layers that do not lead to it are not run."""

        class Never(Layer):
            def forward(self, x):
                raise AssertionError

        net = Graph("net", DIM)
        features = net.add(conv("conv", DIM, 3))
        net.add(Never("never"))
        net.output = features
        assert (net.output, net.out_dim) == (features, (3, 6, 4))
        x = images(backend, 2, *DIM)
        y = net(x)
        assert_same_bits(backend.to_numpy(y), backend.to_numpy(net.layers[0](x)))
        assert net.backward(y).shape == x.shape

    def test_a_node_read_twice_by_one_layer(self, backend):
        net = Graph("net", DIM)
        net.add(Add("add"), net.input, net.input)
        x = images(backend, 1, *DIM)
        values = backend.to_numpy(x)
        assert_same_bits(backend.to_numpy(net(x)), values + values)
        assert_same_bits(backend.to_numpy(net.backward(x)), values + values)

    def test_the_output_may_be_read_too(self, backend):
        net = Graph("net", DIM)
        relu = net.add(ReLU("relu"))
        net.add(conv("conv", DIM, 2))
        net.output = relu
        x = images(backend, 1, *DIM)
        assert net(x).shape == x.shape

    def test_an_input_that_leads_nowhere(self, backend):
        net = Graph("net", DIM, DIM)
        net.add(ReLU("relu"), net.input)
        with pytest.raises(ValueError, match="no layer leads from input 1 to the output"):
            net(images(backend, 1, *DIM), images(backend, 1, *DIM))
        with pytest.raises(ValueError, match="no layer leads from input 0 to the output"):
            Graph("empty", DIM)(images(backend, 1, *DIM))

    def test_values_are_dropped_after_their_last_reader(self, backend):
        """When the last layer runs, only what it reads and what layers saved is left."""
        import gc
        import weakref

        class Note(Layer):
            alive = ()

            def forward(self, x):
                Note.alive = (*Note.alive, weakref.ref(x))
                self.seen = [ref() is not None for ref in Note.alive]
                return backend.xp.array(x)

        net = Graph("net", DIM)
        skip = net.add(Note("note0"))
        node = net.add(Note("note1"))
        node = net.add(Note("note2"))
        node = net.add(Add("add"), node, skip)
        last = Note("last")
        net.add(last)
        gc.disable()
        try:
            net(backend.xp.array(images(backend, 1, *DIM)))
        finally:
            gc.enable()
        # the network's input (which the caller holds), note0's output, note1's output, the sum
        assert last.seen == [True, False, False, True]


class TestBuilding:
    def test_a_refused_layer_changes_nothing(self, backend):
        net = Graph("net", DIM)
        net.add(ReLU("relu"))
        for wrong in (conv("conv", (3, 6, 4), 1), ReLU("relu")):
            with pytest.raises(ValueError, match=r"takes input_dim|must have its own name"):
                net.add(wrong)
        assert len(net.layers) == 1
        assert net.add(conv("conv", DIM, 1)).dim == (1, 6, 4)

    def test_a_layer_twice(self, backend):
        relu, other = ReLU("relu"), Sequential([ReLU("other")], name="inner")
        net = Graph("net", DIM)
        net.add(relu)
        net.add(other)
        for twice in (relu, other, other.layers[0], Sequential([other.layers[0]], name="new")):
            with pytest.raises(ValueError, match=r"\('\w+'\) is in Graph\('net'\) already"):
                net.add(twice)
        third = Sequential([ReLU("a")], name="third")
        net.add(third)
        third.add(wanted := ReLU("wanted"))
        other.add(wanted)
        with pytest.raises(ValueError, match=r"ReLU\('wanted'\) was added twice to Graph\('net'\)"):
            net(images(backend, 1, *DIM))

    def test_layers_are_added_not_appended(self, backend):
        net = Sequential([ReLU("relu")])
        with pytest.raises(AttributeError):
            net.layers.append(conv("conv", DIM, 1))
        with pytest.raises(AttributeError):
            net.layers = [conv("conv", DIM, 1)]
        net.add(conv("conv", DIM, 1))
        assert len(net.parameters) == 2
        assert net(images(backend, 1, *DIM)).shape == (1, 1, 6, 4)

    def test_how_many_inputs_a_layer_takes(self, backend):
        net = Graph("net", DIM)
        for layer in (conv("conv", DIM, 1), MaxPool2D("pool", DIM, 2, 2), ReLU("relu")):
            with pytest.raises(ValueError, match=r"one input; got 2|got 2 nodes; its forward"):
                net.add(layer, net.input, net.input)
        with pytest.raises(ValueError, match=r"Graph\('net'\): input_dims are missing"):
            Graph("net")

    @pytest.mark.parametrize("returned", [None, (), (1.0, 2.0), (None,)])
    def test_what_backward_must_return(self, backend, returned):
        class Wrong(Layer):
            def forward(self, x):
                return x

            def backward(self, in_gradient):
                return returned

        model = Sequential([Wrong("wrong")])
        x = model(images(backend, 1, *DIM))
        with pytest.raises(ValueError, match=r"Wrong\('wrong'\): backward returned \(.*one array"):
            model.backward(x)

    def test_shapes_that_are_not_known(self, backend):
        """Only the layers that lead to the output count; an unknown shape is not kept."""
        net = Graph("net", None, DIM)
        net.add(conv("conv", DIM, 3), net.inputs[1])
        assert net.out_dim == (3, 6, 4)
        net.add(ReLU("relu"), net.input)
        assert not hasattr(net, "out_dim")
        other = Graph("other", DIM)
        features = other.add(ReLU("relu"))
        other.add(MaxPool2D("pool", DIM, 4, 4))
        other.output = features
        assert other.output_dim((2, 3, 3)) == (2, 3, 3)

    def test_nodes_of_another_network(self, backend):
        net, other = Graph("net", DIM), Graph("other", DIM)
        with pytest.raises(ValueError, match=r"is not a node of Graph\('net'\)"):
            net.add(ReLU("relu"), other.input)
        with pytest.raises(TypeError, match="node is 'input'; it must be a Node"):
            net.add(ReLU("relu"), "input")
        with pytest.raises(TypeError, match=r"layer is <class .*; it must be a Layer object"):
            net.add(ReLU)
        with pytest.raises(ValueError, match=r"is not a node of Graph\('net'\)"):
            net.output = other.input

    def test_joins_refuse_other_shapes(self, backend):
        net = Graph("net", (2, 4, 4), (3, 4, 4), (2, 4, 5))
        with pytest.raises(ValueError, match=r"Add\('add'\): its inputs have dims .* equal"):
            net.add(Add("add"), *net.inputs[:2])
        with pytest.raises(ValueError, match=r"Concat\('concat'\): its inputs have dims"):
            net.add(Concat("concat"), net.inputs[0], net.inputs[2])
        x = images(backend, 2, 2, 4, 4)
        with pytest.raises(ValueError, match=r"Add\('add'\): input 1 has shape \(2, 2, 4, 3\)"):
            Add("add")(x, x[..., :3])
        with pytest.raises(ValueError, match=r"input 1 has shape .* \(2, channels, 4, 4\)"):
            Concat("concat")(x, x[:1])
        with pytest.raises(TypeError, match="inputs are missing"):
            Add("add")()
        add = Add("add")
        add(x, x)
        with pytest.raises(ValueError, match=r"'add'\): gradient has shape"):
            add.backward(x[:1])


class TestTies:
    def test_a_pool_outside_the_network(self, backend):
        pool = MaxPool2D("pool", DIM, 2, 2)
        decoder = Sequential([MaxUnpool2D("unpool", pool.out_dim, 2, 2, pool=pool)], name="decoder")
        y = pool(images(backend, 1, *DIM))
        for network in (decoder, decoder.replica()):
            with pytest.raises(
                ValueError,
                match=r"MaxUnpool2D\('unpool'\) is tied to MaxPool2D\('pool'\), which is not in "
                r"Sequential\('decoder'\)",
            ):
                network(y)
        assert Sequential([pool, decoder])(images(backend, 1, *DIM)).shape == (1, *DIM)
        assert decoder.layers[0](y).shape == (1, *DIM)  # outside a network, the last switches

    def test_a_tie_in_a_list(self, backend):
        class Tied(Layer):
            def __init__(self, name, pool):
                super().__init__(name)
                self.ties = [(Tie(pool),)]

        pool = MaxPool2D("pool", DIM, 2, 2)
        with pytest.raises(ValueError, match=r"Tied\('tied'\) is tied to MaxPool2D\('pool'\)"):
            Sequential([Tied("tied", pool)])(images(backend, 1, *DIM))

    def test_a_pool_after_its_unpool(self, backend):
        pool = MaxPool2D("pool", (2, 4, 4), 2, 2)
        unpool = MaxUnpool2D("unpool", (2, 2, 2), 2, 2, pool=pool)
        pool(images(backend, 1, 2, 4, 4))  # its last switches must not be taken
        model = Sequential([unpool, pool])
        with pytest.raises(RuntimeError, match=r"its MaxPool2D\('pool'\) needs a forward pass"):
            model(images(backend, 1, 2, 2, 2))

    def test_an_encoder_and_a_decoder(self, backend):
        pool = MaxPool2D("pool", DIM, 2, 2)
        encoder = Sequential([conv("conv", DIM, 2), pool], name="encoder")
        decoder = Sequential([MaxUnpool2D("unpool", pool.out_dim, 2, 2, pool=pool)], name="decoder")
        model = Sequential([encoder, decoder])
        x = np.random.default_rng(0).standard_normal((2, *DIM))
        check_gradients(model, x, backend, step=1e-6, tolerance=1e-5)
        assert model.output_dim((2, 9, 7)) == (2, 9, 7)
