"""Checkpoints: what is saved is loaded again, to the bit, and errors name everything."""

import json
import os
import stat
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinyml
from support.compare import assert_same_bits
from test_float_errors import LAYERS
from tinyml import CheckpointError
from tinyml.arrays import to_numpy
from tinyml.checkpoint import read
from tinyml.core import Buffer
from tinyml.layers import Layer, Linear, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import autoencoder, inverse_vgg, lenet, mlp, resnet18, segnet, unet, vgg11
from tinyml.optims import SGD

MODELS = {
    "mlp": lambda: mlp((1, 8, 8), 3, dropout=0.5, rng=None),
    "lenet": lambda: lenet((1, 8, 8), 3),
    "resnet": lambda: resnet18((1, 32, 32), 3, width=4),
    "unet": lambda: unet((1, 8, 8), 3, depth=1, channels=4),
    "segnet": lambda: segnet((1, 9, 8), 3, depth=2, channels=4),
    "autoencoder": lambda: autoencoder((1, 9, 8), channels=(4, 8)),
    "inverse_vgg": lambda: inverse_vgg(vgg11((1, 32, 32), 3, width=4, hidden=8)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def changed(model, backend):
    """Other values in every parameter and buffer, as after training."""
    rng = np.random.default_rng(7)
    for buffer in (*model.parameters, *model.buffers):
        new = rng.uniform(0.5, 1, buffer.tensor.shape).astype(np.float32)
        buffer.tensor = backend.asarray(new)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_models_give_the_same_bits(backend, name, path):
    model = changed(MODELS[name](), backend).eval()
    dim = getattr(model, "input_dim", (1, 8, 8))
    x = np.random.default_rng(0).standard_normal((2, *dim), np.float32)
    tinyml.save(model, path)
    loaded = tinyml.load(path)
    assert type(loaded) is type(model)
    assert_same_bits(to_numpy(loaded(backend.asarray(x))), to_numpy(model(backend.asarray(x))))
    assert len(loaded.parameters) == len(model.parameters)  # shared ones are shared again
    assert [type(layer) for layer in loaded.walk()] == [type(layer) for layer in model.walk()]
    assert loaded.device == model.device


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(backend, name, path):
    layer = changed(LAYERS[name](), backend)
    layer.eval()
    tinyml.save(layer, path)
    loaded = tinyml.load(path)
    axes = {"1": 1, "3": 3}.get(name[-2], 2)
    x = np.random.default_rng(0).standard_normal((2, 2, *[6] * axes), np.float32)
    inputs = [backend.asarray(x)] * (2 if name in ("Add", "Concat") else 1)
    if "Unpool" in name:
        inputs.append(backend.asarray(np.zeros(x.shape, np.uint8)))
    assert_same_bits(to_numpy(loaded.forward(*inputs)), to_numpy(layer.forward(*inputs)))
    assert not loaded.training


def test_a_loaded_model_trains_as_the_saved_one(backend, path):
    model = segnet((1, 8, 8), 2, depth=1, channels=4)
    tinyml.save(model, path)
    x = backend.asarray(np.random.default_rng(0).standard_normal((4, 1, 8, 8), np.float32))
    y = backend.asarray(np.random.default_rng(1).integers(0, 2, (4, 8, 8)))
    for one in (model, tinyml.load(path)):
        learner = Learner(one, SoftmaxCrossEntropy(), SGD(0.1, 0.9))
        losses = [learner.step(x, y) for _ in range(3)]
        if one is model:
            expected = losses
    assert losses == expected


def test_saved_on_another_device_loads_on_numpy(backend, path):
    model = changed(segnet((1, 8, 8), 2, depth=1, channels=4), backend).eval()
    tinyml.save(model, path)
    with tinyml.use_backend("numpy"):
        loaded = tinyml.load(path)
    assert loaded.device == "numpy"
    for a, b in zip(loaded.parameters, model.parameters, strict=True):
        assert_same_bits(a.tensor, to_numpy(b.tensor))


def test_load_weights_keeps_device_and_dtype(backend, path):
    model, other = lenet((1, 8, 8), 3, rng=0), lenet((1, 8, 8), 3, rng=1)
    tinyml.save(model, path)
    for p in other.parameters:
        p.tensor = p.tensor.astype(np.float64)
    assert other.load_weights(path) == ([], [])
    for a, b in zip(other.parameters, model.parameters, strict=True):
        assert a.tensor.dtype == np.float64
        assert_same_bits(to_numpy(a.tensor).astype(np.float32), to_numpy(b.tensor))
    assert other.device == model.device


def test_buffers_that_are_not_floats(backend, path):
    class Counts(Layer):
        def __init__(self, name, values, dtype="int64"):
            super().__init__(name)
            self.counts = Buffer(backend.asarray(np.array(values, dtype)))
            self.mean = Buffer(backend.asarray(np.zeros(1, np.float32)))

    for dtype in ("int64", "bool", "uint8"):
        other = Counts("counts", [0, 0], dtype)
        tinyml.save(Counts("counts", [1, 0], dtype), path)
        other.load_weights(path)
        assert_same_bits(to_numpy(other.counts.tensor), np.array([1, 0], dtype))
    with pytest.raises(CheckpointError, match=r": counts has dtype uint8, not int64$"):
        Counts("counts", [0, 0]).load_weights(path)
    tinyml.save(Counts("counts", [1, 0], "float32"), path)
    with pytest.raises(CheckpointError, match=r": counts has dtype float32, not int64$"):
        Counts("counts", [0, 0]).load_weights(path)


@pytest.mark.host
class TestFile:
    def test_other_programs_read_it(self, path):
        model = resnet18((1, 32, 32), 3, width=4)
        tinyml.save(model, path)
        tensors = load_file(path)
        assert_same_bits(tensors["block1_1.conv1.weight"], model.layers[4].layers[0].weight.tensor)
        assert "norm.running_mean" in tensors

    def test_files_of_other_programs(self, path):
        model, other = lenet((1, 8, 8), 3, rng=0), lenet((1, 8, 8), 3, rng=1)
        tinyml.save(model, path)
        save_file(load_file(path), path)
        other.load_weights(path)
        assert_same_bits(other.parameters[0].tensor, model.parameters[0].tensor)
        with pytest.raises(CheckpointError, match="has weights, but not the network"):
            tinyml.load(path)

    def test_shared_tensors_are_stored_once(self, path):
        model = inverse_vgg(vgg11((1, 32, 32), 3, width=4, hidden=8))
        tinyml.save(model, path)
        assert len(load_file(path)) == len(model.parameters)
        loaded = tinyml.load(path)
        by_name = {layer.name: layer for layer in loaded.layers}
        assert by_name["inverse_conv1_1"].weight is by_name["conv1_1"].weight

    def test_dtypes_and_memory_order(self, path):
        linear = Linear("linear", 3, 2, rng=0)
        linear.weight.tensor = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        linear.bias.tensor = np.arange(2).astype(">f4")
        tinyml.save(linear, path)
        loaded = tinyml.load(path)
        assert_same_bits(loaded.weight.tensor, np.arange(6.0).reshape(2, 3))
        assert loaded.weight.gradient.dtype == np.float64
        assert_same_bits(loaded.bias.tensor, np.arange(2, dtype=np.float32))

    def test_info_and_extra(self, path):
        info = {"task": "classify", "classes": ["a", "b"], "scale": {"mean": [0.5]}}
        extra = {"optimizer.step": np.array([3])}
        tinyml.save(lenet((1, 8, 8), 2), path, info=info, extra=extra)
        found = read(path)
        assert found.info == info
        assert_same_bits(found.extra["optimizer.step"], np.array([3]))
        lenet((1, 8, 8), 2).load_weights(path)  # extra is not surplus
        with pytest.raises(CheckpointError, match="info must be what JSON can hold: Object of"):
            tinyml.save(lenet((1, 8, 8), 2), path, info={"a": np.zeros(2)})
        with pytest.raises(CheckpointError, match="extra has the names"):
            tinyml.save(lenet((1, 8, 8), 2), path, extra={"conv1.weight": np.zeros(2)})
        assert read(path).info == info  # the file is as it was

    def test_permissions_and_links(self, path, tmp_path):
        tinyml.save(lenet((1, 8, 8), 2), path)
        path.chmod(0o640)
        link = tmp_path / "link"
        link.symlink_to(path)
        tinyml.save(lenet((1, 8, 8), 3), link)
        assert link.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert tinyml.load(path).out_dim == (3,)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "model.safetensors"]

    def test_a_long_name(self, tmp_path):
        path = tmp_path / ("x" * 250)
        tinyml.save(lenet((1, 8, 8), 2), path)
        assert tinyml.load(path).out_dim == (2,)

    def test_a_folder_or_a_device_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        for name in ("pipe", "folder"):
            with pytest.raises(OSError, match=rf"a folder or a device, not a file: '.*{name}'"):
                tinyml.save(lenet((1, 8, 8), 2), tmp_path / name)
        assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_while_another_thread_trains(self, path):
        model, stop = mlp(64, 64, hidden=(256,)), threading.Event()

        def train():
            while not stop.is_set():
                for p in model.parameters:
                    p.tensor += 1

        thread = threading.Thread(target=train)
        thread.start()
        try:
            for _ in range(20):
                tinyml.save(model, path)
                tinyml.load(path)  # its checksum is right
        finally:
            stop.set()
            thread.join()

    def test_folder_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no/m\.safetensors'$"):
            tinyml.save(lenet((1, 8, 8), 2), tmp_path / "no" / "m.safetensors")
        with pytest.raises(FileNotFoundError):
            tinyml.load(tmp_path / "m.safetensors")


@pytest.mark.host
class TestErrors:
    def test_everything_that_differs_is_listed_and_nothing_changes(self, path):
        tinyml.save(mlp(4, 3, hidden=(5,)), path)
        model = mlp(4, 2, hidden=(5, 6))
        before = [p.tensor.copy() for p in model.parameters]
        with pytest.raises(CheckpointError) as caught:
            model.load_weights(path)
        for part in (
            "classes.weight has shape (3, 5), not (2, 6)",
            "classes.bias has shape (3,), not (2,)",
            "linear2.weight is missing",
            "linear2.bias is missing",
        ):
            assert part in str(caught.value)
        for p, tensor in zip(model.parameters, before, strict=True):
            assert_same_bits(p.tensor, tensor)

    def test_values_too_large_for_the_dtype(self, path):
        large, model = Linear("linear", 2, 2, rng=0), Linear("linear", 2, 2, rng=1)
        large.bias.tensor = np.full(2, 1e300)
        tinyml.save(large, path)
        with np.errstate(all="raise"):
            model.load_weights(path)
        assert_same_bits(model.weight.tensor, large.weight.tensor)
        assert_same_bits(model.bias.tensor, np.full(2, np.inf, np.float32))

    def test_not_strict(self, path):
        tinyml.save(mlp(4, 3, hidden=(5, 5)), path)
        model = mlp(4, 3, hidden=(5,), rng=1)
        with pytest.raises(CheckpointError, match=r"linear2.weight is surplus"):
            model.load_weights(path)
        missing, surplus = model.load_weights(path, strict=False)
        assert missing == []
        assert sorted(surplus) == ["linear2.bias", "linear2.weight"]

    def test_what_a_file_cannot_hold(self, path):
        for extra, message in (
            ({"a": np.zeros(2, np.complex128)}, "tensor 'a' has dtype complex128; it must be one"),
            ({"a": np.array([None])}, "tensor 'a' has dtype object; it must be one of float64, "),
            ({"__metadata__": np.zeros(2)}, "a tensor is named '__metadata__', which a file can"),
            ({"\ud800": np.zeros(2)}, "a tensor is named '.ud800', which a file cannot hold"),
        ):
            with pytest.raises(CheckpointError, match=message):
                tinyml.save(ReLU("relu"), path, extra=extra)
        with pytest.raises(CheckpointError, match=r"its header has \d+ entries in \d+ bytes, too"):
            tinyml.save(ReLU("relu"), path, info={"a": [0] * 200_000})
        assert not path.exists()

    def rewritten(self, path, change):
        """The file with another configuration and the checksum that belongs to it."""
        from tinyml.checkpoint import file

        contents = file.read(path)
        change(contents.described)
        file.write(path, contents.described, contents.tensors)

    def test_newer_format(self, path):
        tinyml.save(lenet((1, 8, 8), 2), path)
        self.rewritten(path, lambda d: d.update(format=99))
        with pytest.raises(CheckpointError, match=r"has format 99, and this version .* up to 1; "):
            tinyml.load(path)

    def test_sizes_that_are_not_those_of_the_tensors(self, path):
        tinyml.save(lenet((1, 8, 8), 2), path)

        def change(described):
            described["model"]["steps"][0]["layer"]["arguments"]["n_filters"] = 10**9

        self.rewritten(path, change)
        with pytest.raises(CheckpointError, match=r"cannot be loaded"):
            tinyml.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.pop("model"),
            lambda d: d.update(model=[]),
            lambda d: d.update(extra=["nothing"]),
            lambda d: d["model"]["steps"][0]["layer"].update({"class": "os"}),
            lambda d: d["model"]["steps"][0].update(reads=[50]),
            lambda d: d["model"]["steps"][0]["layer"]["arguments"].update(surprise=1),
            lambda d: d["model"]["steps"][0]["layer"]["arguments"].update(size={"code": "1"}),
            lambda d: d.update(shared={"conv1.weight": "none"}),
        ],
    )
    def test_configurations_that_are_not_valid(self, path, change):
        tinyml.save(lenet((1, 8, 8), 2), path)
        self.rewritten(path, change)
        with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be loaded"):
            tinyml.load(path)

    def test_damage(self, path):
        tinyml.save(lenet((1, 8, 8), 2), path)
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="damaged: its checksum is not that"):
            tinyml.load(path)
        with pytest.raises(CheckpointError, match="damaged: its checksum is not that"):
            lenet((1, 8, 8), 2).load_weights(path)
        path.write_bytes(data[:-100])
        with pytest.raises(CheckpointError, match="no valid safetensors file"):
            tinyml.load(path)
        path.write_bytes(b"PK\3\4 something else")
        with pytest.raises(CheckpointError, match="is no safetensors file, or is cut off"):
            tinyml.load(path)

    def test_deep_and_long_headers(self, path):
        for text in ("[" * 200_000 + "]" * 200_000, json.dumps([[]] * 100_000)):
            save_file({"a": np.zeros(2, np.float32)}, path, {"tinyml": text})
            with pytest.raises(CheckpointError, match=r"entries"):
                tinyml.load(path)
        save_file({"a": np.zeros(2, np.float32)}, path, {"tinyml": "[" * 9_000 + "]" * 9_000})
        with pytest.raises(CheckpointError, match=r"cannot be loaded"):
            tinyml.load(path)
