"""Both layouts and every rule for duplicates, with their gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.chunks import use_chunk_bytes
from support.compare import assert_same_bits, assert_same_sums
from support.gradients import numerical_gradient
from support.strategies import arrays, geometries
from tinyml import SwitchIndexError

LAYOUTS = ("channels_first", "channels_last")


def to_layout(array, layout):
    """(N, C, …) in the layout; channels last is a copy in that memory order."""
    return array if layout == "channels_first" else np.moveaxis(array, 1, -1).copy()


def from_layout(array, layout):
    return array if layout == "channels_first" else np.moveaxis(array, -1, 1)


def planes(array):
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def pooled(backend, x, layout, geometry):
    return tinyml.max_pool(backend.asarray(to_layout(x, layout)), **geometry, layout=layout)


def expected_unpool(rule, y, winners, shape, geometry):
    function = reference.max_unpool if rule == "last" else reference.max_pool_gradient
    return function(planes(y), winners, shape, **geometry)


@given(data=st.data(), case=geometries())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_operation_equals_plain_loops(backend, layout, data, case):
    shape, geometry = case
    lead = data.draw(st.tuples(st.integers(0, 2), st.integers(1, 3)))
    x = data.draw(arrays((*lead, *shape)))
    values, winners, indices = reference.max_pool(planes(x), **geometry)
    full = (*lead, *values.shape[1:])

    def back(array):
        return from_layout(backend.to_numpy(array), layout)

    y, switches = pooled(backend, x, layout, geometry)
    assert switches.layout == layout
    assert switches.shape == y.shape
    assert switches.unpooled_shape == to_layout(x, layout).shape
    assert_same_bits(back(y), values.reshape(full))
    assert_same_bits(back(switches.winners), winners.astype(np.uint8).reshape(full))
    assert_same_bits(back(switches.to("plane")), indices.reshape(full))

    y = data.draw(arrays(full))
    given_y = backend.asarray(to_layout(y, layout))
    for rule in ("last", "sum"):
        out = back(tinyml.max_unpool(given_y, switches, rule))
        expected = expected_unpool(rule, y, winners, shape, geometry).reshape(x.shape)
        (assert_same_bits if rule == "last" else assert_same_sums)(out, expected)
    out = back(tinyml.max_pool_gradient(given_y, switches))
    assert_same_sums(out, expected)

    gradient = data.draw(arrays(x.shape))
    given_gradient = backend.asarray(to_layout(gradient, layout))
    out = back(tinyml.max_unpool_gradient(given_gradient, switches, "last"))
    expected = reference.max_unpool_gradient(planes(gradient), winners, **geometry)
    assert_same_bits(out, expected.reshape(full))
    out = back(tinyml.max_unpool_gradient(given_gradient, switches, "sum"))
    gathered = planes(gradient).reshape(len(winners), int(np.prod(shape)))
    chosen = np.take_along_axis(gathered, indices.reshape(len(winners), int(np.prod(full[2:]))), 1)
    assert_same_bits(out, chosen.reshape(full))


@given(data=st.data(), case=geometries())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_error_names_the_first_cell_that_two_windows_chose(backend, layout, data, case):
    shape, geometry = case
    x = data.draw(arrays((2, 2, *shape)))
    _, switches = pooled(backend, x, layout, geometry)
    y = backend.asarray(np.ones(switches.shape, np.float32))
    gradient = backend.asarray(np.ones(switches.unpooled_shape, np.float32))
    # the cell of every window, in the order of the pooled array in its own layout
    owners = {}
    flat = backend.to_numpy(switches.to("plane"))
    for window in np.ndindex(switches.shape):
        place = np.unravel_index(int(flat[window]), shape)
        cell = (
            (*window[:2], *place) if layout == "channels_first" else (window[0], *place, window[-1])
        )
        owners.setdefault(tuple(map(int, cell)), []).append(window)
    twice = sorted(cell for cell, windows in owners.items() if len(windows) > 1)
    if not twice:
        last = tinyml.max_unpool(y, switches)
        assert_same_bits(
            backend.to_numpy(tinyml.max_unpool(y, switches, "error")), backend.to_numpy(last)
        )
        tinyml.max_unpool_gradient(gradient, switches, "error")
        return
    first, second = owners[twice[0]][:2]
    message = f"the windows at {first} and {second} both chose the cell {twice[0]};"
    for call in (
        lambda: tinyml.max_unpool(y, switches, "error"),
        lambda: tinyml.max_unpool_gradient(gradient, switches, "error"),
    ):
        with pytest.raises(SwitchIndexError) as caught:
            call()
        assert str(caught.value).startswith(message)


@given(data=st.data(), case=geometries())
@pytest.mark.parametrize("rule", ["last", "sum"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_derivatives(backend, layout, rule, data, case):
    shape, geometry = case
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.permutation(2 * int(np.prod(shape))).astype(np.float64).reshape(1, 2, *shape)
    y, switches = pooled(backend, x, layout, geometry)
    x, y = to_layout(x, layout), backend.to_numpy(y)

    weights = rng.standard_normal(x.shape)
    ours = tinyml.max_unpool_gradient(backend.asarray(weights), switches, rule)

    def unpooled(values):
        out = tinyml.max_unpool(backend.asarray(values), switches, rule)
        return float((backend.to_numpy(out) * weights).sum())

    numeric = numerical_gradient(unpooled, y, 0.25)
    np.testing.assert_allclose(backend.to_numpy(ours), numeric, rtol=1e-9, atol=1e-9)

    weights_y = rng.standard_normal(y.shape)
    ours = tinyml.max_pool_gradient(backend.asarray(weights_y), switches)

    def pooled_loss(values):
        out, _ = tinyml.max_pool(backend.asarray(values), **geometry, layout=layout)
        return float((backend.to_numpy(out) * weights_y).sum())

    numeric = numerical_gradient(pooled_loss, x, 0.25)
    np.testing.assert_allclose(backend.to_numpy(ours), numeric, rtol=1e-9, atol=1e-9)


def test_channels_last_without_a_batch(backend):
    x = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    y, switches = tinyml.max_pool(backend.asarray(x), (2, 3), layout="channels_last")
    batched, _ = tinyml.max_pool(backend.asarray(x[None]), (2, 3), layout="channels_last")
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(batched)[0])
    assert tinyml.max_unpool(y, switches).shape == x.shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 2, 700, 900), (5, 3, 90, 200)])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), (3, 1, 1), ((1, 5), (3, 2), 0)])
def test_chunks_do_not_show(backend, monkeypatch, window, shape, layout, dtype):
    """The same bits from chunks of some rows, of some planes, and from one chunk."""
    rng = np.random.default_rng(0)
    x = backend.asarray(to_layout(rng.integers(0, 9, shape).astype(dtype), layout))

    def run():
        y, switches = tinyml.max_pool(x, *window, layout=layout)
        return (
            y,
            switches.winners,
            tinyml.max_unpool(y, switches),
            tinyml.max_unpool(y, switches, "sum"),
            tinyml.max_unpool_gradient(x, switches),
            tinyml.max_unpool_gradient(x, switches, "sum"),
            tinyml.avg_pool(x, *window, layout=layout),
            switches.to("plane"),
            tinyml.Switches.of(
                switches.to("plane"),
                "plane",
                size=window[0],
                stride=window[1],
                padding=window[2],
                input_shape=shape[2:],
                layout=layout,
            ).winners,
        )

    expected = run()
    for size in (1 << 14, 1 << 30):
        use_chunk_bytes(monkeypatch, size)
        for ours, theirs in zip(run(), expected, strict=True):
            assert_same_bits(backend.to_numpy(ours), backend.to_numpy(theirs))


def test_bad_options(backend):
    x = backend.asarray(np.zeros((1, 1, 4, 4)))
    with pytest.raises(ValueError, match="layout is 'nchw'; it must be 'channels_first' or"):
        tinyml.max_pool(x, 2, layout="nchw")
    y, switches = tinyml.max_pool(x, 2)
    for call in (
        lambda: tinyml.max_unpool(y, switches, "add"),
        lambda: tinyml.max_unpool_gradient(x, switches, "add"),
    ):
        with pytest.raises(ValueError, match="duplicates is 'add'; it must be one of"):
            call()
