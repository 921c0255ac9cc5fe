"""Sequential, and SegNet against PyTorch's."""

import copy
import pickle

import numpy as np
import pytest

import tinyml
from support.compare import assert_same_bits
from support.elsewhere import Elsewhere
from support.gradients import check_gradients, in_float64
from tinyml.layers import BatchNorm2D, Conv2D, MaxPool2D, MaxUnpool2D, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam


def small(**options):
    return segnet((1, 10, 12), 2, **{"depth": 2, "channels": 3, "rng": 0, **options})


def images(backend, n=2, shape=(1, 10, 12), seed=0):
    values = np.random.default_rng(seed).standard_normal((n, *shape), np.float32)
    return backend.asarray(values)


class TestSequential:
    def test_layers_run_in_order(self, backend):
        x = images(backend)
        conv, relu = Conv2D("conv", (1, 10, 12), 2, 3, rng=0), ReLU("relu")
        model = Sequential([conv, relu])
        y = model(x)
        assert_same_bits(backend.to_numpy(y), backend.to_numpy(relu(conv(x))))
        assert_same_bits(
            backend.to_numpy(model.backward(y)),
            backend.to_numpy(conv.backward(relu.backward(y))),
        )
        assert model.parameters == [conv.weight, conv.bias]
        assert (model.input_dim, model.out_dim) == ((1, 10, 12), (2, 8, 10))
        assert model.type == "Sequential"

    def test_gradients_through_unpooling(self, backend):
        pool = MaxPool2D("pool", (2, 5, 6), 2, 2)
        unpool = MaxUnpool2D("unpool", pool.out_dim, 2, 2, pool=pool)
        model = Sequential(
            [
                Conv2D("in", (1, 5, 6), 2, 3, padding=1, rng=1),
                BatchNorm2D("norm", (2, 5, 6)),
                ReLU("relu"),
                pool,
                unpool,
                Conv2D("out", (2, 5, 6), 2, 3, padding=1, rng=2),
            ]
        )
        assert unpool.out_dim == (2, 5, 6)
        x = np.random.default_rng(0).standard_normal((2, 1, 5, 6))
        check_gradients(model, x, backend, step=1e-6, tolerance=1e-5)

    def test_a_network_in_a_network(self, backend):
        inner = Sequential([Conv2D("conv", (1, 10, 12), 1, 3, rng=0), ReLU("relu")], name="inner")
        model = Sequential([inner, Conv2D("last", (1, 8, 10), 1, 3, rng=0)])
        assert model(images(backend)).shape == (2, 1, 6, 8)
        assert len(model.parameters) == 4
        model.eval()
        assert not inner.layers[0].training
        assert model(images(backend, shape=(1, 20, 20))).shape == (2, 1, 16, 16)
        assert model.output_dim((1, 20, 20)) == (1, 16, 16)

    def test_a_shared_parameter_counts_once(self, backend):
        one, two = Conv2D("one", (1, 8, 8), 1, 3), Conv2D("two", (1, 6, 6), 1, 3)
        two.weight = one.weight
        assert Sequential([one, two]).parameters == [one.weight, one.bias, two.bias]

    def test_layers_may_come_from_a_generator(self, backend):
        model = Sequential(la for la in [Conv2D("conv", (1, 10, 12), 2, 3), ReLU("relu")])
        assert len(model.parameters) == 2

    def test_a_refused_network_leaves_its_layers_as_they_were(self, backend):
        relu = ReLU("relu")
        conv, wrong = Conv2D("conv", (1, 8, 8), 2, 3), MaxPool2D("pool", (2, 8, 8), 2, 2)
        with pytest.raises(ValueError, match="takes input_dim"):
            Sequential([conv, relu, wrong])
        other = Conv2D("conv", (1, 10, 10), 2, 3)
        assert Sequential([other, relu, wrong]).out_dim == (2, 4, 4)

    def test_a_refused_size_leaves_the_network_as_it_was(self, backend):
        model = small()
        with pytest.raises(ValueError, match=r"'pool2'\): a window .* spans 2 cells"):
            model(images(backend, shape=(1, 2, 12)))
        assert model(images(backend)).shape == (2, 2, 10, 12)

    def test_train_and_eval(self, backend):
        model = small()
        norm = model.layers[1]
        model.eval()
        model(images(backend))
        assert not backend.to_numpy(norm.running_mean.tensor).any()
        model.train()
        model(images(backend))
        assert backend.to_numpy(norm.running_mean.tensor).any()

    def test_forget_and_backward(self, backend):
        model = small()
        y = model(images(backend))
        model.forget()
        with pytest.raises(RuntimeError, match=r"Conv2D\('classes'\): backward needs a forward"):
            model.backward(y)

    def test_copies(self, backend):
        model = small()
        x = images(backend)
        expected = backend.to_numpy(model.eval()(x))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.parameters[0] is not model.parameters[0]
            twin.parameters[0].tensor[...] = 9
            assert_same_bits(backend.to_numpy(model(x)), expected)

    def test_bad_networks(self, backend):
        conv = Conv2D("conv", (1, 8, 8), 2, 3)
        with pytest.raises(ValueError, match=r"Conv2D\('conv'\) is in Sequential\('model'\)"):
            Sequential([conv, conv])
        with pytest.raises(ValueError, match=r"are named \['a', 'a'\]; each must have its own"):
            Sequential([ReLU("a"), ReLU("a")])
        with pytest.raises(ValueError, match="layers is empty; there must be some"):
            Sequential([])
        with pytest.raises(
            ValueError, match=r"'pool'\) takes input_dim \(2, 8, 8\); .* \(2, 6, 6\)"
        ):
            Sequential([conv, MaxPool2D("pool", (2, 8, 8), 2, 2)])

    def test_bad_input_names_the_layer(self, backend):
        with pytest.raises(
            ValueError, match=r"'conv_encoder1'\): input has shape \(2, 3, 10, 12\)"
        ):
            small()(images(backend, shape=(3, 10, 12)))


class TestTiedUnpooling:
    def test_without_a_pool(self, backend):
        unpool = MaxUnpool2D("unpool", (1, 2, 2), 2, 2)
        with pytest.raises(TypeError, match=r"max_indices are missing; .* with pool="):
            unpool(images(backend, shape=(1, 2, 2)))

    def test_before_its_pool_ran(self, backend):
        pool = MaxPool2D("pool", (1, 5, 5), 2, 2)
        unpool = MaxUnpool2D("unpool", (1, 2, 2), 2, 2, pool=pool)
        with pytest.raises(RuntimeError, match=r"MaxPool2D\('pool'\) needs a forward pass"):
            unpool(images(backend, shape=(1, 2, 2)))

    def test_another_window_or_size(self, backend):
        pool = MaxPool2D("pool", (1, 6, 6), 3, 3)
        with pytest.raises(
            ValueError, match=r"size \(3, 3\), .*; this layer's is of size \(2, 2\)"
        ):
            MaxUnpool2D("unpool", (1, 2, 2), 2, 2, pool=pool)
        with pytest.raises(ValueError, match=r"input_dim is \(1, 3, 3\); its .* to \(1, 2, 2\)"):
            MaxUnpool2D("unpool", (1, 3, 3), 3, 3, pool=pool)


class TestWhereAModelLives:
    def test_device_and_to(self, backend):
        model = small()
        place = backend.device(backend.asarray(np.zeros(1)))
        assert model.device == place
        y = model(images(backend))
        model.backward(y)
        Adam().update(model.parameters)
        before = [backend.to_numpy(p.tensor).copy() for p in model.parameters]
        assert model.to(backend.name) is model
        assert model.device == place
        for parameter, values in zip(model.parameters, before, strict=True):
            assert_same_bits(backend.to_numpy(parameter.tensor), values)
            assert backend.to_numpy(parameter.gradient).shape == values.shape
            assert parameter.state["steps"] == 1
        with pytest.raises(RuntimeError, match="backward needs a forward"):
            model.backward(y)  # what forward saved was dropped

    def test_everything_moves(self, backend):
        """To a backend that does not handle the first one's arrays, and returns its own type."""
        model = small()
        model.backward(model(images(backend)))
        Adam().update(model.parameters)
        model.to(Elsewhere())
        tensors = [b.tensor for b in (*model.parameters, *model.buffers)]
        tensors += [p.gradient for p in model.parameters]
        tensors += [p.state[key] for p in model.parameters for key in ("first", "second")]
        assert len(tensors) == 14 + 8 + 14 + 2 * 14
        assert all(isinstance(tensor, np.memmap) for tensor in tensors)

    def test_a_refused_move_changes_nothing(self, backend):
        model = small()
        y = model(images(backend))
        with pytest.raises(tinyml.BackendUnavailableError):
            model.to("cupy:99")
        model.backward(y)

    def test_input_from_elsewhere_is_named(self, backend, monkeypatch):
        model = small()
        x = images(backend)
        place = model.device
        conv = model.layers[0]
        monkeypatch.setattr(
            type(backend), "device", lambda self, a: place if a is conv.weight.tensor else "far:1"
        )
        message = (
            rf"Conv2D\('conv_encoder1'\) lives on {place} and its input on far:1; .*"
            rf"model\(tinyml.asarray\(x, '{place}'\)\), or .* model.to\('far:1'\)"
        )
        with pytest.raises(tinyml.MixedBackendError, match=message):
            model(x)


class TestReplicas:
    def test_a_replica_shares_parameters_and_has_its_own_saved_state(self, backend):
        model = small()
        x, other = images(backend), images(backend, seed=1)
        y = model(x)
        twin = model.replica()
        assert all(a is b for a, b in zip(model.parameters, twin.parameters, strict=True))
        assert all(a is b for a, b in zip(model.buffers, twin.buffers, strict=True))
        assert all(layer.saved is None for layer in twin.walk())
        expected = backend.to_numpy(model.backward(y))
        model(x)
        twin(other)
        assert_same_bits(backend.to_numpy(model.backward(y)), expected)
        assert twin.layers[8].pool is twin.layers[7]
        assert twin.layers[8].pool is not model.layers[7]
        model.parameters[0].tensor *= 0
        assert not backend.to_numpy(twin.parameters[0].tensor).any()


class TestSegNet:
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (2, 15, 16)])
    @pytest.mark.parametrize(("depth", "size"), [(1, 1), (2, 3), (3, 5)])
    def test_shapes_come_back(self, backend, shape, depth, size):
        model = segnet(shape, 4, depth=depth, channels=2, size=size)
        assert model.out_dim == (4, *shape[1:])
        x = images(backend, shape=shape)
        y = model(x)
        assert y.shape == (2, 4, *shape[1:])
        assert model.backward(y).shape == x.shape

    def test_the_bits_of_its_layers_one_by_one(self, backend):
        """Forward, backward and all gradients are those of a loop over the layers."""
        model, alone = small(), small()
        x = images(backend)
        y = model(x)
        gradient = model.backward(y)
        expected = x
        for layer in alone.layers:
            expected = layer(expected)
        assert_same_bits(backend.to_numpy(y), backend.to_numpy(expected))
        for layer in reversed(alone.layers):
            expected = layer.backward(expected)
        assert_same_bits(backend.to_numpy(gradient), backend.to_numpy(expected))
        assert len(model.parameters) == 14
        for ours, theirs in zip(model.parameters, alone.parameters, strict=True):
            assert_same_bits(backend.to_numpy(ours.gradient), backend.to_numpy(theirs.gradient))

    def test_a_seed_means_the_same_weights(self, backend):
        def weights(rng):
            return [backend.to_numpy(p.tensor) for p in small(rng=rng).parameters]

        for one, two in zip(weights(3), weights(3), strict=True):
            assert_same_bits(one, two)
        assert (weights(3)[0] != weights(4)[0]).any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"depth": 0}, "depth is 0; it must be at least 1"),
            ({"channels": 0}, "channels is 0"),
            ({"size": 2}, "size is 2; it must be odd"),
            ({"depth": 4}, r"input_dim is \(1, 10, 12\); 4 poolings need .* at least 16"),
        ],
    )
    def test_bad_arguments(self, backend, arguments, message):
        with pytest.raises(ValueError, match=message):
            small(**arguments)

    @pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
    def test_fifty_steps_follow_pytorch(self, backend, torch, optimizer):
        from tinyml.bench.torch_network import torch_network

        model = in_float64(segnet((2, 13, 16), 3, depth=2, channels=4, rng=1), backend)
        theirs = torch_network(model.layers).double()
        ours, reference = {
            "SGD": (SGD(0.1, 0.9), torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)),
            "Adam": (Adam(0.01), torch.optim.Adam(theirs.parameters(), 0.01)),
        }[optimizer]
        learner = Learner(model, SoftmaxCrossEntropy(), ours)
        rng = np.random.default_rng(0)
        losses = []
        for _ in range(50):
            x = rng.standard_normal((3, 2, 13, 16))
            y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1)
            loss = torch.nn.functional.cross_entropy(
                theirs(torch.from_numpy(x)), torch.from_numpy(y)
            )
            reference.zero_grad()
            loss.backward()
            reference.step()
            losses.append((learner.step(backend.asarray(x), backend.asarray(y)), loss.item()))
        mine, expected = np.array(losses).T
        np.testing.assert_allclose(mine, expected, rtol=1e-4)
        assert expected[-1] < 0.7 * expected[0]
