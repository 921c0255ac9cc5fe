"""Results written into arrays of the caller, and the errors for arrays that do not fit."""

import numpy as np
import pytest

import tinyml
import tinyml_backends
from support.compare import assert_same_bits
from tinyml.pooling import Switches
from tinyml.pooling.average import avg_pool_gradient_windowed, avg_pool_windowed
from tinyml.pooling.max import max_pool_windowed
from tinyml_backends.generic.indices import Convention

GEOMETRIES = {
    "2/2": {"size": (2, 2)},
    "3/2 padded": {"size": (3, 3), "stride": 2, "padding": 1},
    "1-D": {"size": (3,), "stride": 2},
    "3-D": {"size": (2, 1, 2)},
    "channels last": {"size": (2, 2), "layout": "channels_last"},
    "global": {"size": (7, 6)},
}


def pooled(backend, dtype=np.float32, **geometry):
    shape = (2, 3, *(7, 6, 5)[: len(geometry["size"])])
    if geometry.get("layout") == "channels_last":
        shape = (2, 7, 6, 3)
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.integers(-9, 9, shape).astype(dtype))
    return x, *tinyml.max_pool(x, **geometry)


def like(backend, array):
    """An array of the same shape and dtype, filled with another value."""
    host = backend.to_numpy(array)
    return backend.asarray(np.full(host.shape, 77, host.dtype))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_the_same_results(backend, geometry, dtype):
    x, y, switches = pooled(backend, dtype, **geometry)
    spatial = switches.input_shape

    out = like(backend, y), like(backend, switches.winners)
    values, written = tinyml.max_pool(x, **geometry, out=out)
    assert values is out[0]
    assert written == switches
    assert_same_bits(backend.to_numpy(values), backend.to_numpy(y))
    assert_same_bits(backend.to_numpy(out[1]), backend.to_numpy(switches.winners))

    calls = [
        (tinyml.max_unpool, y, switches),
        (tinyml.max_unpool, y, switches, "sum"),
        (tinyml.max_pool_gradient, y, switches),
        (tinyml.max_unpool_gradient, x, switches),
        (tinyml.max_unpool_gradient, x, switches, "sum"),
        (lambda a, out=None: tinyml.avg_pool(a, **geometry, out=out), x),
        (lambda a, out=None: tinyml.avg_pool_gradient(a, spatial, **geometry, out=out), y),
    ]
    for function, *arguments in calls:
        expected = function(*arguments)
        out = like(backend, expected)
        assert function(*arguments, out=out) is out
        assert_same_bits(backend.to_numpy(out), backend.to_numpy(expected))


def test_switches_are_a_view_of_the_winners(backend):
    x, y, switches = pooled(backend, size=(2, 2))
    winners = like(backend, switches.winners)
    _, written = tinyml.max_pool(x, 2, out=(like(backend, y), winners))
    kept = written.copy()
    winners[...] = 1
    assert bool((written.winners == 1).all())
    assert kept == switches
    assert getattr(winners.flags, "writeable", True)


def test_an_array_that_does_not_fit(backend):
    x, y, switches = pooled(backend, size=(2, 2))
    right = like(backend, x)
    wide = backend.asarray(np.zeros((2, 3, 7, 12), np.float32))
    cases = [
        (right.astype(np.float64), TypeError, "out has dtype float64; it must be float32"),
        (right[:1], ValueError, r"out has shape \(1, 3, 7, 6\); it must be \(2, 3, 7, 6\)"),
        (wide[..., ::2], ValueError, "out is not contiguous in row-major order"),
        ([1.0], TypeError, r"tinyml\.asarray"),
    ]
    for out, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            tinyml.max_unpool(y, switches, out=out)
        with pytest.raises(error, match=sentence):
            tinyml.max_pool_gradient(y, switches, out=out)
        with pytest.raises(error, match=sentence):
            tinyml.avg_pool_gradient(y, (7, 6), 2, out=out)
    with pytest.raises(ValueError, match=r"out has shape .* it must be \(2, 3, 3, 3\)"):
        tinyml.max_unpool_gradient(x, switches, out=right)
    with pytest.raises(ValueError, match=r"out has shape .* it must be \(2, 3, 3, 3\)"):
        tinyml.avg_pool(x, 2, out=right)


def test_a_pair_that_does_not_fit(backend):
    x, y, switches = pooled(backend, size=(2, 2))
    values, winners = like(backend, y), like(backend, switches.winners)
    with pytest.raises(TypeError, match=r"out is a .*; it must be a pair of arrays"):
        tinyml.max_pool(x, 2, out=values)
    with pytest.raises(TypeError, match=r"out\[0\] has dtype uint8; it must be float32"):
        tinyml.max_pool(x, 2, out=(winners, values))
    with pytest.raises(TypeError, match=r"out\[1\] has dtype float32; it must be uint8"):
        tinyml.max_pool(x, 2, out=(values, values))
    with pytest.raises(ValueError, match=r"out\[1\] has shape \(1, 3, 3, 3\); it must be \(2, 3"):
        tinyml.max_pool(x, 2, out=(values, winners[:1]))


def test_memory_that_is_read(backend):
    buffer = backend.asarray(np.zeros((3, 3, 8, 8), np.float32))
    y, switches = tinyml.max_pool(buffer[:2], 2)
    memory = backend.asarray(np.zeros(2 * 3 * 4 * 4 * 4, np.uint8))
    values, winners = memory.view(np.float32).reshape(2, 3, 4, 4), memory[:96].reshape(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"out\[1\] shares memory with out\[0\], which is read"):
        tinyml.max_pool(buffer[:2], 2, out=(values, winners))
    with pytest.raises(ValueError, match=r"out shares memory with gradient, which is read"):
        tinyml.max_unpool_gradient(
            buffer[:2], switches, out=buffer.reshape(-1)[:96].reshape(y.shape)
        )
    with pytest.raises(ValueError, match="out shares memory with x, which is read"):
        tinyml.avg_pool(buffer[:2], 1, out=buffer[1:])


@pytest.mark.host  # only NumPy's arrays can be read-only
def test_memory_that_is_read_only():
    backend = tinyml.current_backend()
    x, y, switches = pooled(backend, size=(2, 2))
    out = like(backend, x)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        tinyml.max_unpool(y, switches, out=out)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_window_instead_of_its_arguments(backend, geometry):
    x, y, switches = pooled(backend, **geometry)
    options = dict(geometry)
    layout = options.pop("layout", "channels_first")
    window = tinyml_backends.Window.of(len(options["size"]), **options)
    values, winners = max_pool_windowed(x, window, layout)
    assert_same_bits(backend.to_numpy(values), backend.to_numpy(y))
    assert winners == switches
    out = like(backend, y), like(backend, switches.winners)
    values, winners = max_pool_windowed(x, window, layout, out)
    assert values is out[0]
    assert winners == switches
    again = Switches.from_indices(
        switches.to("window"), Convention("window"), window, switches.input_shape, layout
    )
    assert again == switches

    rest = (False, 3, layout)
    options |= {"count_include_pad": False, "divisor_override": 3, "layout": layout}
    mean = avg_pool_windowed(x, window, *rest)
    assert_same_bits(backend.to_numpy(mean), backend.to_numpy(tinyml.avg_pool(x, **options)))
    gradient = avg_pool_gradient_windowed(mean, switches.input_shape, window, *rest)
    expected = tinyml.avg_pool_gradient(mean, switches.input_shape, **options)
    assert_same_bits(backend.to_numpy(gradient), backend.to_numpy(expected))


def test_a_window_that_does_not_fit(backend):
    x = backend.asarray(np.zeros((4, 4)))
    for axes, layout, sentence in (
        (2, "channels_first", r"has shape \(4, 4\); it must have channels, or samples and"),
        (1, "nchw", "layout is 'nchw'"),
        (1, "channels_first", "more than the padded input's 4"),
    ):
        window = tinyml_backends.Window.of(axes, 5)
        for function in (max_pool_windowed, avg_pool_windowed):
            with pytest.raises(ValueError, match=sentence):
                function(x, window, layout=layout)
        with pytest.raises(ValueError, match=sentence):
            avg_pool_gradient_windowed(x, (4,) * axes, window, layout=layout)
    with pytest.raises(TypeError, match="no array of a known library"):
        max_pool_windowed([1.0], window)
