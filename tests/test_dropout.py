"""Dropout of elements and of channels."""

import copy

import numpy as np
import pytest

import tinyml
from support.compare import assert_same_bits
from support.gradients import numerical_gradient
from tinyml.layers import Dropout, Dropout2D
from tinyml.net import Sequential

BOTH = pytest.mark.parametrize("make", [Dropout, Dropout2D])


def ones(backend, *shape, dtype=np.float32):
    return backend.asarray(np.ones(shape, dtype))


def test_elements_are_dropped_with_the_probability(backend):
    for probability in (0.1, 0.5, 0.9):
        y = backend.to_numpy(Dropout("drop", probability, rng=0)(ones(backend, 100, 100)))
        kept = np.float32(1 / (1 - probability))
        assert set(np.unique(y)) == {np.float32(0), kept}
        assert abs((y == 0).mean() - probability) < 0.02


def test_channels_are_dropped_whole(backend):
    y = backend.to_numpy(Dropout2D("drop", 0.25, rng=0)(ones(backend, 50, 40, 2, 3)))
    assert_same_bits(y, np.broadcast_to(y[:, :, :1, :1], y.shape).copy())
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.25) < 0.03


@BOTH
def test_a_seed_gives_the_same_masks_everywhere(backend, make):
    """The masks are those of NumPy's generator, one drawn after the other."""
    layer = make("drop", 0.5, rng=3)
    rng = np.random.default_rng(3)
    for samples in (2, 5):
        shape = (samples, 3, 4, 4)
        drawn = rng.random(shape if make is Dropout else (samples, 3, 1, 1), np.float32)
        expected = np.where(np.broadcast_to(drawn >= 0.5, shape), np.float32(2), np.float32(0))
        assert_same_bits(backend.to_numpy(layer(ones(backend, *shape))), expected)
    given = make("drop", 0.5, rng=np.random.default_rng(3))
    first = make("drop", 0.5, rng=3)(ones(backend, 1, 3, 4, 4))
    assert_same_bits(backend.to_numpy(given(ones(backend, 1, 3, 4, 4))), backend.to_numpy(first))


@BOTH
def test_backward_has_the_mask_of_forward(backend, make):
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 4))
    layer = make("drop", 0.3, rng=1)
    y = backend.to_numpy(layer(backend.asarray(x)))
    weights = np.random.default_rng(1).standard_normal(x.shape)
    ours = backend.to_numpy(layer.backward(backend.asarray(weights)))

    def loss(values):
        twin = make("drop", 0.3, rng=1)
        return float((backend.to_numpy(twin(backend.asarray(values))) * weights).sum())

    np.testing.assert_allclose(ours, numerical_gradient(loss, x, 1e-5), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(ours == 0, y == 0)


@BOTH
def test_eval_mode_changes_nothing_and_draws_nothing(backend, make):
    layer = make("drop", 0.9, rng=0)
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 3, 2, 4)))
    state = layer.rng.bit_generator.state
    layer.eval()
    assert_same_bits(backend.to_numpy(layer(x)), backend.to_numpy(x))
    assert_same_bits(backend.to_numpy(layer.backward(x)), backend.to_numpy(x))
    assert layer.rng.bit_generator.state == state
    assert make("drop", 0).train()(x) is x


@BOTH
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_dtypes(backend, make, training, dtype):
    layer = make("drop", np.float64(0.3), rng=0).train(training)
    x = ones(backend, 2, 3, 4, 4, dtype=dtype)
    y, back = layer(x), layer.backward(ones(backend, 2, 3, 4, 4, dtype=np.float64))
    wanted = np.dtype(dtype if dtype.startswith("float") else "float32")
    assert y.dtype == back.dtype == wanted
    scale = wanted.type(1 / 0.7) if training else wanted.type(1)
    for array in (y, back):
        values = backend.to_numpy(array)
        np.testing.assert_array_equal(values, np.where(values != 0, scale, wanted.type(0)))


@BOTH
def test_all_and_none(backend, torch, make):
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 4)))
    layer = make("drop", 1.0, rng=0)
    theirs = torch.nn.functional.dropout(torch.from_numpy(backend.to_numpy(x)), 1.0)
    np.testing.assert_array_equal(backend.to_numpy(layer(x)), theirs.numpy())
    np.testing.assert_array_equal(backend.to_numpy(layer.backward(x)), 0)


@BOTH
def test_copies_go_on_from_the_same_state(backend, make):
    layer = make("drop", 0.5, rng=0)
    x = ones(backend, 2, 3, 4, 4)
    layer(x)
    model = Sequential([layer])
    copies = [copy.deepcopy(layer), model.replica().layers[0]]
    expected = backend.to_numpy(layer(x))
    for twin in copies:
        assert twin.rng is not layer.rng
        assert_same_bits(backend.to_numpy(twin(x)), expected)


@BOTH
def test_errors(backend, make):
    for probability in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"'drop'\): probability is .*; it must be at least 0"):
            make("drop", probability)
    layer = make("drop", 0.5)
    x = ones(backend, 2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layer.backward(x)
    layer(x)
    with pytest.raises(ValueError, match=r"'drop'\): gradient has shape \(1, 3, 4, 4\)"):
        layer.backward(x[:1])
    with pytest.raises(TypeError, match="no array of a known library"):
        layer([1.0])


def test_dropout_2d_takes_images(backend):
    layer = Dropout2D("drop", 0.5, rng=0)
    state = layer.rng.bit_generator.state
    with pytest.raises(ValueError, match=r"'drop'\): input has shape \(2, 3\); it must be \(sam"):
        layer(ones(backend, 2, 3))
    assert layer.rng.bit_generator.state == state
    assert tinyml.to_numpy(layer(ones(backend, 0, 3, 4, 4))).shape == (0, 3, 4, 4)
