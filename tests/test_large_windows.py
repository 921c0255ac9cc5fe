"""Windows of more cells than outputs, than the image, and than memory holds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits, assert_same_sums
from support.strategies import arrays

MIB = 1 << 20


@st.composite
def large_windows(draw):
    """Shape and geometry of windows with more than 64 cells, or larger than the padded input."""
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    least, most = {1: (65, 90), 2: (9, 13), 3: (5, 6)}[axes]

    def per_axis(strategy):
        return draw(st.tuples(*[strategy] * axes))

    size = per_axis(st.integers(least, most))
    geometry = {
        "size": size,
        "stride": per_axis(st.integers(1, most)),
        "padding": per_axis(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        "dilation": per_axis(st.sampled_from([1, 1, 2])),
        "ceil_mode": draw(st.booleans()),
    }
    shape = tuple(draw(st.integers(max(1, k - 7), k + 4)) for k in size)
    return shape, geometry


@given(data=st.data(), case=large_windows())
def test_every_operation_equals_plain_loops(backend, data, case):
    shape, geometry = case
    if reference.output_shape(shape, **geometry) is None:
        with pytest.raises(ValueError, match=r"more than the padded input|would hold none"):
            tinyml.max_pool(backend.asarray(np.zeros((1, 1, *shape))), **geometry)
        return
    given = data.draw(arrays((2, *shape), ("float16", "float32", "float64", "int8", "uint16")))
    channels_last = data.draw(st.booleans())
    layout = "channels_last" if channels_last else "channels_first"

    def made(stack):
        array = np.moveaxis(stack, 0, -1)[None] if channels_last else stack[None]
        return backend.asarray(np.ascontiguousarray(array))

    def stacked(array):
        array = tinyml.to_numpy(array)[0]
        return np.moveaxis(array, -1, 0) if channels_last else array

    x = made(given)
    y, switches = tinyml.max_pool(x, **geometry, layout=layout)
    values, winners, _ = reference.max_pool(given, **geometry)
    assert_same_bits(stacked(y), values)
    np.testing.assert_array_equal(stacked(switches.winners), winners)
    assert switches.winners.dtype == np.min_scalar_type(np.prod(geometry["size"]) - 1)
    assert_same_bits(
        stacked(tinyml.max_unpool(y, switches)),
        reference.max_unpool(values, winners, shape, **geometry),
    )
    assert_same_sums(
        stacked(tinyml.max_pool_gradient(y, switches)),
        reference.max_pool_gradient(values, winners, shape, **geometry),
    )
    assert_same_bits(
        stacked(tinyml.max_unpool_gradient(x, switches)),
        reference.max_unpool_gradient(given, winners, **geometry),
    )
    for options in ({}, {"count_include_pad": False}, {"divisor_override": 7}):
        mean = tinyml.avg_pool(x, **geometry, **options, layout=layout)
        expected = reference.avg_pool(given, **geometry, **options)
        assert_same_sums(stacked(mean), expected)
        back = tinyml.avg_pool_gradient(mean, shape, **geometry, **options, layout=layout)
        assert_same_sums(
            stacked(back), reference.avg_pool_gradient(expected, shape, **geometry, **options)
        )


ABSURD = [
    ((7, 7), {"size": 1280}),
    ((4, 4), {"size": 65_536}),
    ((4,), {"size": 2**63 - 1}),
    ((4,), {"size": 2**62, "padding": 3}),
    ((2, 3, 4), {"size": 10**6}),
    ((5, 4), {"size": (2, 2**60), "stride": (1, 2**60)}),
    ((4, 4), {"size": 3, "dilation": 2**40, "stride": 2**62}),
]


@pytest.mark.parametrize(("shape", "options"), ABSURD, ids=str)
def test_windows_larger_than_the_image_cost_what_it_holds(backend, shape, options):
    """A window beyond the input pools what one of the input's size pools, at its cost."""
    options = {**options, "ceil_mode": True}
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.standard_normal((1, 2, *shape), np.float32))

    def run():
        y, switches = tinyml.max_pool(x, **options)
        unpooled = tinyml.max_unpool(y, switches)
        tinyml.max_pool_gradient(y, switches)
        tinyml.max_unpool_gradient(x, switches)
        tinyml.avg_pool_gradient(tinyml.avg_pool(x, **options), shape, **options)
        return y, switches, unpooled

    run()  # compiles kernels
    tracemalloc.start()
    try:
        y, switches, unpooled = run()
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used < MIB
    planes = switches.to("plane").reshape(-1)
    places = tinyml.to_numpy(x).reshape(2, -1)
    np.testing.assert_array_equal(
        places[np.arange(2).repeat(len(planes) // 2), tinyml.to_numpy(planes)],
        tinyml.to_numpy(y).reshape(-1),
    )
    back = tinyml.Switches.of(switches.to("window"), "window", input_shape=shape, **options)
    np.testing.assert_array_equal(tinyml.to_numpy(back.winners), tinyml.to_numpy(switches.winners))
    np.testing.assert_array_equal(
        tinyml.to_numpy(tinyml.max_unpool(y, back)), tinyml.to_numpy(unpooled)
    )


@pytest.mark.parametrize("size", [2**63 + 1, (2**32, 2**32), (2**40, 2**40)])
def test_windows_of_more_cells_than_numbers_are_refused(backend, size):
    with pytest.raises(ValueError, match=r"^size is .*; a window may have at most 9223372036854"):
        tinyml.max_pool(backend.asarray(np.zeros((1, 1, 4, 4))), size, ceil_mode=True)


@pytest.mark.host
@pytest.mark.parametrize("size", [(2048, 2048), (2000, 2000)])
def test_memory_beside_the_results_does_not_grow_with_the_window(size):
    x = np.random.default_rng(0).standard_normal((1, 1, 2048, 2048), np.float32)
    y, switches = tinyml.max_pool(x, size, stride=40)
    mean = tinyml.avg_pool(x, size, stride=40)
    calls = [
        lambda: tinyml.max_pool(x, size, stride=40)[0],
        lambda: tinyml.max_unpool(y, switches),
        lambda: tinyml.max_pool_gradient(y, switches),
        lambda: tinyml.max_unpool_gradient(x, switches, "sum"),
        lambda: tinyml.avg_pool(x, size, stride=40),
        lambda: tinyml.avg_pool_gradient(mean, x.shape[2:], size, stride=40),
    ]
    for call in calls:
        tracemalloc.start()
        try:
            result = call()
            assert tracemalloc.get_traced_memory()[1] - result.nbytes <= 4 * MIB
        finally:
            tracemalloc.stop()
