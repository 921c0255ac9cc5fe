"""Tests of the CuPy backend alone, on emulated devices: waiting, devices, streams, launches.

The whole suite tests the rest: ``pytest --backend cupy-emulated``.
"""

import re

import numpy as np
import pytest

import tinyml
from emulation import EmulationError, cupy, record
from emulation.backend import EmulatedCupyBackend
from tinyml.core import Parameter
from tinyml.layers import BatchNorm2D, Conv2D, MaxPool2D, MaxUnpool2D, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam
from tinyml_backends.geometry import Window

pytestmark = [pytest.mark.host, pytest.mark.emulation]

NAME = "cupy-emulated"


@pytest.fixture(autouse=True)
def selected():
    tinyml.register_backend(NAME, EmulatedCupyBackend)
    tinyml.set_backend(NAME)
    yield
    tinyml.set_backend(None)


def images(*shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


class TestWaiting:
    """Only operations that must raise for bad values wait for the GPU."""

    @pytest.fixture(autouse=True)
    def counted(self):
        cupy.synchronisations = 0

    @pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
    @pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2)])
    def test_own_switches_never(self, layout, size, stride):
        x = tinyml.asarray(images(2, 4, 8, 8))
        y, switches = tinyml.max_pool(x, size, stride, layout=layout)
        for rule in ("last", "sum"):
            unpooled = tinyml.max_unpool(y, switches, rule)
            tinyml.max_unpool_gradient(unpooled, switches, rule)
        tinyml.max_pool_gradient(y, switches)
        tinyml.avg_pool(x, size, stride, layout=layout)
        switches.to("plane")
        assert cupy.synchronisations == 0

    def test_duplicates_error_does(self):
        y, switches = tinyml.max_pool(tinyml.asarray(images(2, 4, 8, 8)), 3, 2)
        with pytest.raises(tinyml.SwitchIndexError):
            tinyml.max_unpool(y, switches, "error")
        assert cupy.synchronisations > 0

    @pytest.mark.parametrize("convention", ["window", "plane", "tensor"])
    def test_indices_from_outside_once(self, convention):
        _, switches = tinyml.max_pool(tinyml.asarray(images(2, 4, 8, 8)), 2)
        indices = switches.to(convention)
        tinyml.Switches.of(indices, convention, size=2, input_shape=(8, 8))
        assert cupy.synchronisations == 1

    def test_plane_indices_once(self):
        import tinyml.functional as F

        y, indices = F.max_pool2d(tinyml.asarray(images(2, 4, 8, 8)), 2, return_indices=True)
        F.max_unpool2d(y, indices, 2)
        assert cupy.synchronisations == 1

    def test_a_network_never(self):
        pool = MaxPool2D("pool", (4, 8, 8), 2, 2)
        layers = [
            Conv2D("conv", (3, 8, 8), 4, 3, padding=1, rng=0),
            BatchNorm2D("norm", (4, 8, 8)),
            ReLU("relu"),
            pool,
            MaxUnpool2D("unpool", (4, 4, 4), 2, 2, pool=pool),
        ]
        model = Sequential(layers)
        y = model(tinyml.asarray(images(2, 3, 8, 8)))
        model.backward(y)
        SGD(0.1, 0.9).update(model.parameters)
        Adam(0.1).update(model.parameters)
        assert cupy.synchronisations == 0


def test_one_launch_for_each_operation():
    x = tinyml.asarray(images(2, 4, 8, 8))
    record.clear()
    y, switches = tinyml.max_pool(x, 2)
    tinyml.max_unpool(y, switches)
    tinyml.max_pool_gradient(y, switches)
    names = [re.match(r"\w+", launch.name)[0] for launch in record]
    assert names == ["max_pool_width2", "max_unpool_width2", "max_unpool_width2"]


@pytest.mark.parametrize(
    ("shape", "layout", "name"),
    [
        ((1, 2, 8, 8), "channels_first", "max_pool_width2<float, unsigned char, int, 4>"),
        ((1, 2, 9, 8), "channels_first", "max_pool_width2<float, unsigned char, int, 4>"),
        ((1, 2, 8, 6), "channels_first", "max_pool<float, unsigned char, int, 1>"),
        ((1, 8, 8, 8), "channels_last", "max_pool<float, unsigned char, int, 4>"),
        ((1, 8, 8, 6), "channels_last", "max_pool<float, unsigned char, int, 1>"),
    ],
)
def test_which_kernel_runs(shape, layout, name):
    record.clear()
    tinyml.max_pool(tinyml.asarray(images(*shape)), 2, layout=layout)
    assert [launch.name for launch in record] == [name]


def test_a_view_that_is_not_aligned_takes_the_plain_kernel():
    flat = tinyml.asarray(images(2 * 64 + 1))
    x = flat[1:].reshape(1, 2, 8, 8)
    record.clear()
    y, _ = tinyml.max_pool(x, 2)
    assert record[0].name == "max_pool<float, unsigned char, int, 1>"
    with tinyml.use_backend("numpy"):
        expected, _ = tinyml.max_pool(tinyml.to_numpy(x), 2)
    np.testing.assert_array_equal(tinyml.to_numpy(y), expected)


class TestDevices:
    def test_new_arrays_are_made_where_the_name_says(self):
        with tinyml.use_backend(f"{NAME}:1") as backend:
            assert backend.device(backend.array_module.zeros(3)) == f"{NAME}:1"
            assert backend.device(tinyml.asarray([1.0])) == f"{NAME}:1"
            assert Conv2D("conv", (1, 4, 4), 2, 3).weight.gradient.device.id == 1

    @pytest.mark.parametrize("which", [NAME, f"{NAME}:0"])
    def test_an_operation_runs_where_its_arrays_are(self, which):
        x = tinyml.asarray(images(2, 3, 6, 6), f"{NAME}:1")
        with tinyml.use_backend(which):
            y, switches = tinyml.max_pool(x, 2)
            assert tinyml.max_unpool(y, switches).device.id == 1
            whole = tinyml.max_pool(tinyml.asarray(np.ones((1, 1, 4, 4), np.int32), f"{NAME}:1"), 2)
            assert whole[0].device.id == 1

    def test_training_elsewhere_than_new_arrays_are_made(self):
        """The optimizer's state is on the device of its parameter."""
        x, y = images(4, 1, 8, 8), (images(4, 8, 8) > 0).astype(np.int64)
        with tinyml.use_backend(f"{NAME}:0"):
            model = segnet((1, 8, 8), n_classes=2, depth=1, channels=4, rng=0)
        with tinyml.use_backend(f"{NAME}:1"):
            for optimizer in (Adam(0.01), SGD(0.1, 0.9)):
                Learner(model, SoftmaxCrossEntropy(), optimizer).fit((x, y))
        assert {p.state["velocity"].device.id for p in model.parameters} == {0}

    def test_the_array_module_of_a_device(self):
        with tinyml.use_backend(f"{NAME}:1") as backend:
            xp = backend.array_module
            array = xp.zeros(3, np.int32)
            xp.maximum.at(array, xp.asarray([0, 0]), xp.asarray([2, 1], np.int32))
            assert tinyml.to_numpy(array).tolist() == [2, 0, 0]
            assert "zeros" in dir(xp)
            assert xp.float32 is np.float32
            assert not hasattr(xp, "__array_interface__")

    def test_two_devices_in_one_operation_are_refused(self):
        y, _ = tinyml.max_pool(tinyml.asarray(images(1, 1, 4, 4), f"{NAME}:0"), 2)
        _, switches = tinyml.max_pool(tinyml.asarray(images(1, 1, 4, 4), f"{NAME}:1"), 2)
        with pytest.raises(tinyml.MixedBackendError, match=rf"{NAME}:0 and {NAME}:1"):
            tinyml.max_unpool(y, switches)

    def test_arrays_move_between_devices(self):
        first = tinyml.asarray(images(2, 3))
        cupy.synchronisations = 0
        second = tinyml.asarray(first, f"{NAME}:1")
        assert cupy.synchronisations == 2  # before the copy and after it
        assert (first.device.id, second.device.id) == (0, 1)
        np.testing.assert_array_equal(tinyml.to_numpy(second), tinyml.to_numpy(first))
        assert tinyml.asarray(second, f"{NAME}:1") is second
        assert tinyml.asarray(second, NAME) is second

    def test_a_device_that_is_not_there(self):
        with pytest.raises(tinyml.BackendUnavailableError, match=r"finds 2 CUDA GPUs, .* device 2"):
            tinyml.set_backend(f"{NAME}:2")

    def test_training_on_the_second_device(self):
        x, y = images(8, 1, 8, 8), (images(8, 8, 8) > 0).astype(np.int64)
        losses, weights = [], []
        for place in ("numpy", f"{NAME}:0", f"{NAME}:1"):
            with tinyml.use_backend(place):
                model = segnet((1, 8, 8), n_classes=2, depth=2, channels=4, rng=0)
            assert model.device == place
            learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.01))
            with tinyml.use_backend(place.partition(":")[0]):
                losses.append(learner.fit((x, y), batch_size=4, epochs=2)["loss"])
                learner.evaluate((x, y))
                assert isinstance(learner.predict(x), np.ndarray)
                on_device = tinyml.asarray(x, place)
                assert type(learner.predict(on_device)) is type(on_device)
            weights.append(
                np.concatenate([tinyml.to_numpy(p.tensor).ravel() for p in model.parameters])
            )
        for loss, weight in zip(losses[1:], weights[1:], strict=True):
            np.testing.assert_allclose(loss, losses[0], rtol=1e-4)
            np.testing.assert_allclose(weight, weights[0], atol=1e-4)


class TestMovingALiveModel:
    def test_there_and_back(self):
        """Parameters, gradients, the optimizer's state and running statistics move."""
        x, y = images(8, 1, 8, 8), (images(8, 8, 8) > 0).astype(np.int64)
        results = []
        for places in (
            ["numpy"] * 3,
            ["numpy", NAME, "numpy"],
            ["numpy", f"{NAME}:1", f"{NAME}:0"],
        ):
            with tinyml.use_backend("numpy"):
                model = segnet((1, 8, 8), n_classes=2, depth=1, channels=4, rng=0)
            learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.1, 0.9))
            for place in places:
                model.to(place)
                assert model.device in (place, f"{place}:0")
                for parameter in model.parameters:
                    state = [v for v in parameter.state.values() if hasattr(v, "dtype")]
                    arrays = [parameter.tensor, parameter.gradient, *state]
                    assert {tinyml_device(a) for a in arrays} == {model.device}
                for buffer in model.buffers:
                    assert tinyml_device(buffer.tensor) == model.device
                with tinyml.use_backend(place):
                    learner.step(x, y)
            results.append([tinyml.to_numpy(b.tensor) for b in (*model.parameters, *model.buffers)])
        for moved in results[1:]:
            for ours, expected in zip(moved, results[0], strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def tinyml_device(array):
    from tinyml_backends import owner_of

    return owner_of(array).device(array)


def test_streams_are_cupys():
    """A launch names no stream, so it runs on CuPy's current one."""
    stream = cupy.cuda.Stream()
    with stream:
        y, _ = tinyml.max_pool(tinyml.asarray(images(1, 1, 4, 4)), 2)
    assert y.shape == (1, 1, 2, 2)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_gradients_of_another_shape(kind):
    """The kernels broadcast or refuse other shapes, as on NumPy; the optimizers refuse them."""
    results = []
    for place in (NAME, "numpy"):
        with tinyml.use_backend(place):
            backend = tinyml.current_backend()
            tensor, *state = (tinyml.asarray(np.full(8, n, np.float32)) for n in (1, 0, 0))

            def step(gradient, backend=backend, tensor=tensor, state=state):
                gradient = tinyml.asarray(gradient)
                if kind == "sgd":
                    backend.sgd_step(tensor, gradient, state[0], 0.1, 0.9)
                else:
                    backend.adam_step(tensor, gradient, *state, (0.9, 0.999), 0.1, 0.5, 1e-8)

            step(np.ones(1, np.float32))
            results.append(tinyml.to_numpy(tensor))
            with pytest.raises(ValueError, match="broadcast"):
                step(np.ones(3, np.float32))
            parameter = Parameter(tensor)
            parameter.gradient = tinyml.asarray(np.ones(3, np.float32))
            optimizer = SGD(0.1, 0.9) if kind == "sgd" else Adam(0.1)
            with pytest.raises(ValueError, match=r"gradient of a parameter has shape \(3,\)"):
                optimizer.update([parameter])
    np.testing.assert_array_equal(*results)


def test_invalid_winners_stay_inside():
    """Kernels do not check winners, but access nothing outside their arrays for any winner."""
    backend = tinyml.current_backend()
    window = Window.of(2, 3, 2, 1)
    y = cupy.ones((2, 4, 4), "f4")
    winners = cupy.full((2, 4, 4), 255, "u1")
    out = backend.max_unpool(y, winners, window, (7, 7), "last")
    np.testing.assert_array_equal(tinyml.to_numpy(out), np.zeros((2, 7, 7), "f4"))
    gradient = backend.max_unpool_gradient(cupy.ones((2, 7, 7), "f4"), winners, window, "sum")
    assert gradient.shape == (2, 4, 4)


def test_columns_of_padding_alone():
    """A chunk of a padded convolution may have outputs and no input row."""
    x = cupy.ones((1, 1, 2, 3), "f4")[:, :, :0]
    columns = tinyml.current_backend().im2col(x, Window.of(2, 1, 1, ((0, 1), (0, 0))))
    np.testing.assert_array_equal(tinyml.to_numpy(columns), np.zeros((1, 3), "f4"))


def test_the_strict_arrays_are_strict():
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(cupy.zeros(3))
    with pytest.raises(AttributeError):
        cupy.a_name_that_cupy_lacks  # noqa: B018
    with pytest.raises(EmulationError):
        cupy.zeros(3)[cupy.asarray([0, 0])] = cupy.asarray([1.0, 2.0])
