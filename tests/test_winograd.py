"""Winograd's algorithm: its error, values that are not finite, and the choice of the precision."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import tinyml
from support.compare import assert_same_bits
from tinyml.layers import Conv2D, ConvTranspose2D
from tinyml_backends import Window, resolve, threads

#: Bounds of docs/convolution.md on ‖y − exact‖ / ‖exact‖, up to so many summed channels.
BOUNDS = {64: 1e-6, 512: 1.8e-6}
OF_WEIGHT = 2e-6


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    """Use the algorithm also where it is not faster."""
    if find_spec("numba"):
        from tinyml_backends.numba_backend import winograd

        monkeypatch.setattr(winograd, "LEAST", 1)


def error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def case(rng, samples, channels, height, width, filters, rectified):
    x = rng.standard_normal((samples, channels, height, width), np.float32)
    deviation = np.float32((2 / (9 * channels)) ** 0.5)
    weight = deviation * rng.standard_normal((filters, channels, 3, 3), np.float32)
    x = np.maximum(x, 0) if rectified else x
    return x, weight, rng.standard_normal(filters, np.float32)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(
    ("shape", "filters", "padding"),
    [
        ((1, 16, 40, 50), 16, 1),
        ((1, 32, 9, 13), 32, 1),
        ((3, 40, 30, 21), 33, 0),
        ((2, 64, 33, 34), 64, 1),
        ((1, 64, 1, 50), 64, 1),
        ((5, 128, 14, 14), 96, ((0, 2), (2, 1))),
        ((1, 512, 10, 7), 512, 1),
    ],
)
def test_errors_are_within_the_bounds(backend, shape, filters, padding, rectified):
    x, weight, bias = case(np.random.default_rng(0), *shape, filters, rectified)
    window = Window.of(2, 3, 1, padding)
    arrays = [backend.asarray(a) for a in (x, weight, bias)]
    exact = [a.astype(np.float64) for a in (x, weight, bias)]
    numpy = resolve("numpy")
    y = backend.to_numpy(backend.conv(*arrays, window, 1))
    expected = numpy.conv(*exact, window, 1)
    assert y.dtype == np.float32
    bound = next(b for channels, b in BOUNDS.items() if max(shape[1], filters) <= channels)
    assert error(y, expected) < bound
    g = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    found = backend.conv_gradient(backend.asarray(g), *arrays[:2], window, 1)
    of_input, of_weight = numpy.conv_gradient(g.astype(np.float64), *exact[:2], window, 1)
    assert error(backend.to_numpy(found[0]), of_input) < bound
    assert error(backend.to_numpy(found[1]), of_weight) < OF_WEIGHT


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_stays_in_its_windows(backend, value):
    """Also sums that overflow in a transform, but not directly."""
    x, weight, bias = case(np.random.default_rng(0), 1, 32, 12, 12, 32, False)
    weight *= np.float32(1e-3)
    x[0, 3, 5, 6] = value
    conv = Conv2D("conv", (32, 12, 12), 32, 3, padding=1)
    conv.weight.tensor, conv.bias.tensor = backend.asarray(weight), backend.asarray(bias)
    y = backend.to_numpy(conv(backend.asarray(x)))
    clean = x.copy()
    clean[0, 3, 5, 6] = 0
    expected = backend.to_numpy(conv(backend.asarray(clean)))
    inside = np.zeros(y.shape, bool)
    inside[:, :, 4:7, 5:8] = True
    assert np.isfinite(y[~inside]).all()
    np.testing.assert_allclose(y[~inside], expected[~inside], rtol=1e-4, atol=1e-5)
    if not np.isfinite(value):
        assert not np.isfinite(y[inside]).any()
    gradient = np.ones_like(y)
    gradient[0, 2, 3, 3] = value
    conv.zero_gradients()
    back = backend.to_numpy(conv.backward(backend.asarray(gradient)))
    reached = np.zeros(back.shape, bool)
    reached[:, :, 2:5, 2:5] = True
    assert np.isfinite(back[~reached]).all()


@pytest.mark.parametrize("layer", [Conv2D, ConvTranspose2D])
def test_layers_and_precisions(backend, layer):
    """Both precisions agree with PyTorch's definition; "direct" is the more exact one."""
    one = layer("conv", (48, 18, 15), 40, 3, padding=1, rng=0)
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 48, 18, 15), np.float32))
    exact = layer("conv", (48, 18, 15), 40, 3, padding=1, rng=0)
    for p in exact.parameters:
        p.tensor = backend.asarray(backend.to_numpy(p.tensor).astype(np.float64))
    expected = backend.to_numpy(exact(x.astype(np.float64)))
    errors = {}
    for precision in ("high", "direct"):
        with tinyml.use_precision(precision):
            assert tinyml.current_precision() == precision
            errors[precision] = error(backend.to_numpy(one(x)), expected)
    assert errors["direct"] < 4e-7
    assert errors["high"] < 1e-6


@pytest.mark.host
class TestNumba:
    def arrays(self, seed=0):
        x, weight, bias = case(np.random.default_rng(seed), 3, 48, 50, 70, 40, False)
        gradient = np.random.default_rng(1).standard_normal((3, 40, 50, 70), np.float32)
        return x, weight, bias, gradient, Window.of(2, 3, 1, 1)

    def test_the_algorithm_is_used(self, monkeypatch):
        pytest.importorskip("numba")
        from tinyml_backends.numba_backend import winograd

        x, weight, bias, _, window = self.arrays()
        calls = []
        conv = winograd.conv
        monkeypatch.setattr(winograd, "conv", lambda *a: calls.append(1) or conv(*a))
        backend = resolve("numba")
        backend.conv(x, weight, bias, window, 1)
        with tinyml.use_precision("direct"):
            backend.conv(x, weight, bias, window, 1)
        backend.conv(x.astype(np.float64), weight.astype(np.float64), None, window, 1)
        backend.conv(x, weight, bias, Window.of(2, 3, 2, 1), 1)
        assert len(calls) == 1

    def test_any_number_of_threads_gives_the_same_bits(self, monkeypatch):
        pytest.importorskip("numba")
        x, weight, bias, gradient, window = self.arrays()
        backend, found = resolve("numba"), []
        for count in (1, 2, 5):
            monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
            y = backend.conv(x, weight, bias, window, 1)
            found.append([y, *backend.conv_gradient(gradient, x, weight, window, 1)])
        for others in found[1:]:
            for a, b in zip(found[0], others, strict=True):
                assert_same_bits(a, b)


@pytest.mark.host
class TestKeptWeights:
    """Transformed weights are kept between calls, and made again if any weight has changed."""

    @pytest.mark.parametrize("filters", [48, 40], ids=["transformed", "in blocks"])
    def test_changes_count(self, filters):
        pytest.importorskip("numba")
        from tinyml_backends.numba_backend.kept import kept_bytes

        rng = np.random.default_rng(0)
        precision = "high" if filters == 48 else "direct"
        conv = Conv2D("conv", (48, 20, 20), filters, 3, padding=1, rng=0)
        x = rng.standard_normal((1, 48, 20, 20), np.float32)

        def same_as_new():
            other = Conv2D("conv", (48, 20, 20), filters, 3, padding=1)
            other.weight.tensor, other.bias.tensor = weight.tensor.copy(), conv.bias.tensor
            for _ in range(3):
                assert_same_bits(conv.forward(x), other.forward(x))
                assert_same_bits(conv.backward(x[:, :filters]), other.backward(x[:, :filters]))

        weight = conv.weight
        with tinyml.use_backend("numba"), tinyml.use_precision(precision):
            same_as_new()
            assert kept_bytes(weight.tensor) >= weight.tensor.nbytes
            weight.tensor[3, 5, 1, 2] += 1
            same_as_new()
            weight.tensor[-1, -1, 2, 2] *= -1
            same_as_new()
            weight.tensor[:2] = weight.tensor[:2][::-1].copy()
            same_as_new()
            weight.tensor = weight.tensor * 2
            same_as_new()

    def test_only_what_is_used_again_is_kept(self):
        pytest.importorskip("numba")
        from tinyml_backends.numba_backend import kept

        arrays, made = [np.zeros(5, np.float32)], []

        def make():
            made.append(1)
            return arrays[0] * 2

        for count in (1, 2, 2):
            kept.kept(arrays[0], "double", make)
            assert len(made) == count
        assert kept.kept_bytes(arrays[0]) == 20
        kept.kept(arrays[0], "other", make)
        assert kept.kept_bytes(arrays[0]) == 20
        arrays[0][2] = -0.0
        assert kept.kept(arrays[0], "double", make).tobytes() == (arrays[0] * 2).tobytes()
        assert kept.kept_bytes(arrays[0]) == 0
        before = len(kept._all)
        arrays.clear()
        assert len(kept._all) == before - 2


@pytest.mark.host
class TestChoice:
    def test_unknown(self):
        with (
            pytest.raises(ValueError, match="precision is 'low'; it must be one of 'direct', 'hi"),
            tinyml.use_precision("low"),
        ):
            pass
        assert tinyml.current_precision() == "high"

    @pytest.mark.parametrize(("value", "said"), [("direct", "direct"), ("", "high")])
    def test_environment(self, value, said):
        code = "import tinyml; print(tinyml.current_precision())"
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TINYML_PRECISION": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == said

    def test_environment_that_is_not_valid(self, monkeypatch):
        monkeypatch.setenv("TINYML_PRECISION", "best")
        with pytest.raises(ValueError, match="TINYML_PRECISION is 'best'; it must be one of"):
            tinyml.current_precision()
