"""The CuPy backend compared with NumPy, on arrays of a useful size, on a real and an emulated GPU.

``-m gpu`` selects the real one. Without a GPU these tests are skipped, or fail if
``TINYML_REQUIRE=gpu``. The whole suite runs on a GPU too: ``pytest --backend cupy``.
"""

import numpy as np
import pytest
from click.testing import CliRunner

import tinyml
import tinyml.functional as F
from emulation.backend import EmulatedCupyBackend
from support.bench import SMALL
from support.compare import assert_same_bits, assert_same_sums
from tinyml.bench import measure, runner
from tinyml.bench.environment import environment
from tinyml.bench.results import Report
from tinyml.cli import main
from tinyml.layers import BatchNorm2D, Conv2D
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.optims import SGD, Adam

pytestmark = [pytest.mark.host, pytest.mark.emulation]

WINDOWS = {
    "2x2/2": {"size": 2},
    "3x3/2 pad 1": {"size": 3, "stride": 2, "padding": 1},
    "2x3/(3, 2) dilated": {"size": (2, 3), "stride": (3, 2), "dilation": (2, 1)},
    "3x3/1": {"size": 3, "stride": 1},
}


@pytest.fixture(params=["cupy-emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    """The selected backend, and the scale of its test arrays."""
    if request.param == "cupy":
        backend, scale = request.getfixturevalue("gpu"), 8
    else:
        backend, scale = EmulatedCupyBackend(), 1
        tinyml.register_backend("cupy-emulated", EmulatedCupyBackend)
    tinyml.set_backend(backend)
    backend.scale = scale
    yield backend
    tinyml.set_backend(None)


def values(*shape, dtype="float32"):
    """Values that include ties, signed zeros, infinities, NaNs and subnormals."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 1.0, tiny, 3 * tiny], dtype)
    chosen = rng.random(shape) < 0.2
    x[chosen] = rng.choice(special, int(chosen.sum()))
    return x


def both(operation, device, *arrays):
    """Results of an operation on the device and on NumPy, as NumPy arrays."""
    ours = operation(*(device.asarray(a) for a in arrays))
    with tinyml.use_backend("numpy"):
        expected = operation(*arrays)
    return tinyml.to_numpy(ours), expected


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("window", WINDOWS)
def test_pooling_family(device, dtype, layout, window):
    """All operations have NumPy's bits, but a NaN from a sum may be another NaN."""
    arguments = {**WINDOWS[window], "layout": layout}
    side = 16 * device.scale
    shape = (2, 8, side, side) if layout == "channels_first" else (2, side, side, 8)
    x = (values(*shape) * 50).clip(-100, 100)
    x = np.nan_to_num(x).astype(dtype) if dtype == "int32" else x.astype(dtype)
    y, expected = both(lambda a: tinyml.max_pool(a, **arguments)[0], device, x)
    assert_same_bits(y, expected)
    winners, expected = both(lambda a: tinyml.max_pool(a, **arguments)[1].winners, device, x)
    assert_same_bits(winners, expected)
    for rule in ("last", "sum"):
        ours, expected = both(
            lambda a: tinyml.max_unpool(*tinyml.max_pool(a, **arguments), rule),  # noqa: B023
            device,
            x,
        )
        assert_same_sums(ours, expected)
        ours, expected = both(
            lambda a: tinyml.max_unpool_gradient(a, tinyml.max_pool(a, **arguments)[1], rule),  # noqa: B023
            device,
            x,
        )
        assert_same_bits(ours, expected)
    ours, expected = both(
        lambda a: tinyml.max_pool_gradient(*tinyml.max_pool(a, **arguments)), device, x
    )
    assert_same_sums(ours, expected)
    ours, expected = both(lambda a: tinyml.avg_pool(a, **arguments), device, x)
    assert_same_sums(ours, expected)
    spatial = x.shape[2:] if layout == "channels_first" else x.shape[1:3]
    ours, expected = both(
        lambda a: tinyml.avg_pool_gradient(tinyml.avg_pool(a, **arguments), spatial, **arguments),
        device,
        x,
    )
    assert_same_sums(ours, expected)


@pytest.mark.parametrize("size", [(3,), (2, 2, 2)])
def test_one_and_three_axes(device, size):
    x = values(2, 4, *[8 * device.scale] * len(size))
    ours, expected = both(lambda a: tinyml.max_unpool(*tinyml.max_pool(a, size)), device, x)
    assert_same_bits(ours, expected)


def test_indices_of_any_cell(device):
    """Of many values for one cell the last one is stored, in any order of threads."""
    rng = np.random.default_rng(0)
    side = 8 * device.scale
    y = values(2, 4, side, side)
    indices = rng.integers(0, 4 * side * side, y.shape)
    indices[:, :2] %= 5
    ours, expected = both(lambda a, i: F.max_unpool2d(a, i, 2), device, y, indices)
    assert_same_bits(ours, expected)


def test_the_first_bad_index_is_named(device):
    indices = np.full((2, 4, 8, 8), 3)
    indices[1, 2, 3, 4] = indices[1, 3, 0, 0] = 77777
    for _ in range(3):
        with pytest.raises(tinyml.SwitchIndexError, match=r"indices\[1, 2, 3, 4\] is 77777"):
            F.max_unpool2d(device.asarray(values(2, 4, 8, 8)), device.asarray(indices), 2)
        with pytest.raises(tinyml.SwitchIndexError, match=r"indices\[1, 2, 3, 4\] is 77777"):
            tinyml.Switches.of(device.asarray(indices), "window", size=2, input_shape=(16, 16))
    ours, _ = tinyml.max_pool(device.asarray(values(1, 1, 4, 4)), 2)  # the context still works
    assert ours.shape == (1, 1, 2, 2)


def test_convolution(device):
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)
    results = []
    for backend in (device, "numpy"):
        with tinyml.use_backend(backend):
            layer = Conv2D("conv", (4, 9, 8), 6, 3, 2, 1, groups=2, rng=0)
            y = layer(tinyml.asarray(x))
            gradient = layer.backward(y)
            results.append([tinyml.to_numpy(a) for a in (y, gradient, layer.weight.gradient)])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(device, training):
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 9, 8)).astype(np.float32)
    results = []
    for backend in (device, "numpy"):
        with tinyml.use_backend(backend):
            layer = BatchNorm2D("norm", (5, 9, 8)).train(training)
            y = layer(tinyml.asarray(x))
            gradient = layer.backward(tinyml.asarray(x * x))
            arrays = (y, gradient, layer.scale.gradient, layer.running_variance.tensor)
            results.append([tinyml.to_numpy(a) for a in arrays])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), Adam(0.1)], ids=["SGD", "Adam"])
def test_optimizers_have_numpys_bits(device, optimizer):
    """The kernels have NumPy's order of operations, and do not fuse them."""
    results = []
    for backend in (device, "numpy"):
        with tinyml.use_backend(backend):
            layer = Conv2D("conv", (4, 9, 8), 6, 3, rng=0)
            layer.weight.gradient += 0.3
            for _ in range(3):
                optimizer.update([layer.weight])
            state = [v for v in layer.weight.state.values() if hasattr(v, "dtype")]
            results.append([tinyml.to_numpy(a) for a in (layer.weight.tensor, *state)])
    for ours, expected in zip(*results, strict=True):
        assert_same_bits(ours, expected)


def test_training_follows_numpy(device):
    x = np.random.default_rng(0).standard_normal((16, 1, 16, 16)).astype(np.float32)
    y = (x[:, 0] > 0.3).astype(np.int64)
    histories = []
    for backend in (device, "numpy"):
        with tinyml.use_backend(backend):
            model = segnet((1, 16, 16), n_classes=2, depth=2, channels=4, rng=0)
            learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.01))
            histories.append(learner.fit((x, y), batch_size=8, epochs=2)["loss"])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-4)


@pytest.mark.cuda_checks
def test_the_demo_runs_to_its_end(device, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo", "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert f"backend   {device.name}" in result.output
    assert (tmp_path / "tinyml-demo.png").exists()


def test_a_stream_of_the_users(device):
    """Work is queued on CuPy's current stream."""
    cupy = device.xp
    x = values(1, 4, 32, 32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        on_device = device.asarray(x)
        y, switches = tinyml.max_pool(on_device, 2)
        back = tinyml.max_unpool(y, switches)
    stream.synchronize()
    with tinyml.use_backend("numpy"):
        assert_same_bits(tinyml.to_numpy(back), tinyml.max_unpool(*tinyml.max_pool(x, 2)))


@pytest.mark.gpu
def test_more_than_2_to_the_31_elements(gpu):
    """64-bit index arithmetic, on a GPU with enough memory."""
    length = 2**31 + 2**22
    free, _ = gpu.xp.cuda.runtime.memGetInfo()
    if free < 2.2 * 2 * length:
        pytest.skip(
            f"needs {2.2 * 2 * length / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} free"
        )
    x = gpu.xp.zeros((1, 1, length), np.float16)
    x[0, 0, -4:] = gpu.asarray(np.array([1, 5, 3, 2], np.float16))
    y, switches = tinyml.max_pool(x, 2)
    assert tinyml.to_numpy(y[0, 0, -2:]).tolist() == [5, 3]
    assert tinyml.to_numpy(switches.winners[0, 0, -2:]).tolist() == [1, 0]
    del x
    back = tinyml.max_unpool(y, switches)
    assert tinyml.to_numpy(back[0, 0, -4:]).tolist() == [0, 5, 3, 0]


@pytest.mark.cuda_checks
def test_the_benchmark(device, monkeypatch):
    """CUDA events time operations and a copy on the device; results are checked first."""
    monkeypatch.setattr(runner, "LEAST_COPIED", 0)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 1e-5)
    monkeypatch.setattr(measure, "SETTLED_SECONDS", 0.0)
    if device.name == "cupy-emulated":  # nothing is queued there, and filling takes a CPU's time
        monkeypatch.setattr(measure, "BUSY_BYTES", 1 << 12)
    report = Report(environment([device], []))
    assert report.environment[f"{device.name} CUDA"] >= 12000
    for measured in runner.run(report, SMALL, [device], [], rounds=7, budget=0, reuse=True):
        assert measured.errors == []
        copied = measured.size_in_bytes is not None
        forms = [timing.name for timing in measured.timings]
        assert forms[0] == device.name
        assert forms[-1] == ("copy on the device" if copied else device.name)
        assert {timing.place for timing in measured.timings} == {"gpu"}
    assert [measured.case for measured in report.measured] == list(map(str, SMALL))
