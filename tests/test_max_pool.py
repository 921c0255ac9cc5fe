"""Max-pooling: values, winners and indices, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits
from support.strategies import FLOATS, arrays, geometries, laid_out
from tinyml_backends import DTYPES

X = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_worked_example(backend, dtype, layout):
    x = backend.asarray(laid_out(X.astype(dtype).reshape(1, 1, 3, 3), layout))
    y, switches = tinyml.max_pool(x, (2, 2), 1)
    assert_same_bits(backend.to_numpy(y), np.array([[[[5, 6], [8, 9]]]], dtype))
    assert_same_bits(backend.to_numpy(switches.winners), np.full((1, 1, 2, 2), 3, np.uint8))
    assert_same_bits(backend.to_numpy(switches.to("window")), np.full((1, 1, 2, 2), 3))
    assert_same_bits(backend.to_numpy(switches.to("plane")), np.array([[[[4, 5], [7, 8]]]]))
    unpooled = np.array([[[[0, 0, 0], [0, 5, 6], [0, 8, 9]]]], dtype)
    assert_same_bits(backend.to_numpy(tinyml.max_unpool(y, switches)), unpooled)


@given(data=st.data(), case=geometries())
def test_equals_plain_loops(backend, data, case):
    shape, geometry = case
    samples, channels = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    x = data.draw(arrays((samples, channels, *shape)))
    before = x.copy()
    y, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    values, winners, planes = reference.max_pool(x.reshape(-1, *shape), **geometry)
    pooled = (samples, channels, *values.shape[1:])
    assert_same_bits(backend.to_numpy(y), values.reshape(pooled))
    assert_same_bits(backend.to_numpy(switches.winners), winners.astype(np.uint8).reshape(pooled))
    assert_same_bits(backend.to_numpy(switches.to("plane")), planes.reshape(pooled))
    assert switches.input_shape == shape
    assert_same_bits(x, before)


@given(data=st.data(), case=geometries(symmetric=True))
def test_equals_pytorch(backend, torch, data, case):
    shape, geometry = case
    dtypes = (*FLOATS, "int8", "int16", "int32", "int64", "uint8")
    x = data.draw(arrays((2, 2, *shape), dtypes))
    last = data.draw(st.booleans(), label="channels last")
    layout = "channels_last" if last else "channels_first"
    given_x = np.moveaxis(x, 1, -1) if last else x
    y, switches = tinyml.max_pool(backend.asarray(given_x), **geometry, layout=layout)
    y, places = (backend.to_numpy(a) for a in (y, switches.to("plane")))
    if last:
        y, places = np.moveaxis(y, -1, 1), np.moveaxis(places, -1, 1)
    padding = tuple(before for before, _ in geometry["padding"])
    pool = getattr(torch.nn.functional, f"max_pool{len(shape)}d")
    expected, indices = pool(
        torch.from_numpy(x.copy(order="C")),
        geometry["size"],
        geometry["stride"],
        padding,
        geometry["dilation"],
        geometry["ceil_mode"],
        return_indices=True,
    )
    assert_same_bits(y, expected.numpy())
    assert_same_bits(places, indices.numpy())


@pytest.mark.parametrize(
    ("window", "value", "winner"),
    [
        ([2.0, 3.0, 3.0, 1.0], 3.0, 1),  # a tie goes to the first
        ([-0.0, 0.0, -1.0, -2.0], -0.0, 0),  # 0.0 and -0.0 tie
        ([-1.0, 0.0, -0.0, -2.0], 0.0, 1),
        ([1.0, np.nan, 9.0, np.nan], np.nan, 3),  # the last NaN wins
        ([-np.inf] * 4, -np.inf, 0),
    ],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_window(backend, dtype, window, value, winner):
    x = np.array(window, dtype).reshape(1, 1, 2, 2)
    y, switches = tinyml.max_pool(backend.asarray(x), 2)
    assert_same_bits(backend.to_numpy(y), np.array(value, dtype).reshape(1, 1, 1, 1))
    assert int(switches.winners[0, 0, 0, 0]) == winner


def test_a_nan_keeps_its_payload(backend):
    x = np.array([0x7FC00001, 0x3F800000, 0xFFC00123, 0], np.uint32).view(np.float32)
    y, _ = tinyml.max_pool(backend.asarray(x.reshape(1, 1, 2, 2)), 2)
    assert backend.to_numpy(y).view(np.uint32).item() == 0xFFC00123


def test_padding_never_wins(backend):
    x = np.full((1, 1, 3, 3), -np.inf, np.float32)
    y, switches = tinyml.max_pool(backend.asarray(x), 3, 2, padding=1)
    assert_same_bits(backend.to_numpy(y), np.full((1, 1, 2, 2), -np.inf, np.float32))
    # the first cells inside the input: (0, 0), (0, 1), (1, 0), (1, 1)
    assert_same_bits(backend.to_numpy(switches.to("plane")), np.array([[[[0, 1], [3, 4]]]]))


@pytest.mark.parametrize(
    ("size", "dtype"), [(16, np.uint8), (17, np.uint16), ((256, 257), np.uint32)]
)
def test_winners_have_the_smallest_dtype(backend, size, dtype):
    x = np.zeros((1, 1, 300, 300), np.uint8)
    x[0, 0, 15, 15] = 1
    y, switches = tinyml.max_pool(backend.asarray(x), size, 300 if size == 17 else None)
    assert backend.to_numpy(switches.winners).dtype == dtype
    assert int(y[0, 0, 0, 0]) == 1
    assert int(switches.to("plane")[0, 0, 0, 0]) == 15 * 300 + 15


def test_batch_is_optional_with_a_tuple_size(backend):
    x = np.random.default_rng(0).standard_normal((3, 6, 8)).astype(np.float32)
    y, switches = tinyml.max_pool(backend.asarray(x), (2, 3))
    batched, _ = tinyml.max_pool(backend.asarray(x[None]), (2, 3))
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(batched)[0])
    assert tinyml.max_unpool(y, switches).shape == (3, 6, 8)
    # an int size means a batched array: one spatial axis here
    assert tinyml.max_pool(backend.asarray(x), 2)[0].shape == (3, 6, 4)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_empty_batch(backend, shape):
    x = backend.asarray(np.empty(shape, np.float16))
    y, switches = tinyml.max_pool(x, 2)
    assert y.shape == (*shape[:2], 2, 2)
    assert y.dtype == np.float16
    assert tinyml.max_unpool(y, switches).shape == shape
    assert tinyml.max_pool_gradient(y, switches).shape == shape
    assert tinyml.max_unpool_gradient(x, switches).shape == y.shape
    assert (
        tinyml.Switches.of(switches.to("plane"), "plane", size=2, input_shape=(4, 4)).shape
        == switches.shape
    )


@pytest.mark.parametrize("size", [2, 3])
def test_many_chunks_equal_one(backend, size):
    """Arrays larger than a chunk: the result does not depend on the chunks."""
    x = np.random.default_rng(1).integers(0, 4, (7, 5, 130, 131)).astype(np.float32)
    y, switches = tinyml.max_pool(backend.asarray(x), size, 2)
    for sample in range(len(x)):
        one, ours = tinyml.max_pool(backend.asarray(x[sample, 3:4]), (size, size), 2)
        assert_same_bits(backend.to_numpy(y[sample, 3:4]), backend.to_numpy(one))
        assert_same_bits(
            backend.to_numpy(switches.winners[sample, 3:4]), backend.to_numpy(ours.winners)
        )
        gradients = (
            tinyml.max_unpool_gradient(backend.asarray(g), s)
            for g, s in ((x, switches), (x[sample, 3:4], ours))
        )
        for whole, part in (
            tuple(gradients),
            (tinyml.max_unpool(y, switches), tinyml.max_unpool(one, ours)),
            (tinyml.max_pool_gradient(y, switches), tinyml.max_pool_gradient(one, ours)),
        ):
            assert_same_bits(backend.to_numpy(whole[sample, 3:4]), backend.to_numpy(part))


def test_global_pooling_is_a_window_as_large_as_the_image(backend):
    x = np.random.default_rng(0).integers(0, 50, (2, 3, 61, 47)).astype(np.float32)
    y, switches = tinyml.max_pool(backend.asarray(x), (61, 47))
    planes = x.reshape(2, 3, -1)
    assert_same_bits(backend.to_numpy(y)[..., 0, 0], planes.max(-1))
    assert_same_bits(backend.to_numpy(switches.to("plane"))[..., 0, 0], planes.argmax(-1))


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.longdouble])
def test_other_dtypes_are_refused(backend, dtype):
    # a library that has no such dtype refuses it earlier
    allowed = r"x has dtype .*; allowed are float16, .* uint64|a is .* with no array form"
    with pytest.raises(TypeError, match=allowed):
        tinyml.max_pool(tinyml.asarray(np.zeros((1, 1, 4, 4), dtype)), 2)


@pytest.mark.parametrize("x", [[[[[1.0]]]], 3.0, None, "abc"])
def test_other_types_are_refused(backend, x):
    with pytest.raises(TypeError, match=r"no array of a known library; make one with tinyml"):
        tinyml.max_pool(x, 1)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 3), (2, 2)), ((1, 3), 2), ((1, 1, 1, 4, 4), (2, 2)), ((4,), 1), ((1,) * 6, 1)],
)
def test_wrong_rank(backend, shape, size):
    with pytest.raises(ValueError, match=r"x has shape .* must have samples, channels and"):
        tinyml.max_pool(backend.asarray(np.zeros(shape)), size)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"size": 5},
            ValueError,
            r"spans 5 cells of spatial axis 0, more than the padded",
        ),
        ({"size": 2, "dilation": 4}, ValueError, r"spans 5 cells of spatial axis 0"),
        ({"size": (4, 5)}, ValueError, r"spans 5 cells of spatial axis 1"),
        ({"size": 0}, ValueError, r"size is 0; every value must be at least 1"),
        ({"size": (2, -1)}, ValueError, r"size is \(2, -1\); every value must be at least 1"),
        ({"size": 2, "stride": 0}, ValueError, r"stride is 0; every value must be at least 1"),
        ({"size": 2, "dilation": 0}, ValueError, r"dilation is 0; every value must be at least 1"),
        ({"size": 2, "padding": -1}, ValueError, r"padding is -1; every value must be at least 0"),
        ({"size": 2, "padding": 2}, ValueError, r"would hold none of them"),
        ({"size": 2, "padding": ((0, 2), (0, 0))}, ValueError, r"axis 0 is too large.*position 2"),
        ({"size": 2, "stride": (1, 1, 1)}, ValueError, r"stride is \(1, 1, 1\); it must be an int"),
        ({"size": 2, "padding": ((1, 1),)}, ValueError, r"2 pairs of ints \(before, after\)"),
        ({"size": 2.0}, TypeError, r"size is 2.0; it must be an int or 2 ints"),
        ({"size": np.True_}, TypeError, r"size is np.True_; it must be an int"),
        ({"size": "22"}, TypeError, r"size is '22'; it must be an int or 2 ints"),
        ({"size": True}, TypeError, r"size is True; it must be an int or 2 ints"),
        ({"size": 2, "stride": (1, None)}, TypeError, r"stride is \(1, None\)"),
    ],
)
def test_bad_windows(backend, arguments, error, message):
    with pytest.raises(error, match=message):
        tinyml.max_pool(backend.asarray(np.zeros((1, 1, 4, 4))), **arguments)


@pytest.mark.parametrize("name", ["size", "stride", "padding", "dilation"])
def test_a_cached_window_does_not_hide_a_bad_argument(backend, name):
    """1, 1.0 and True are equal, also in a tuple."""
    x = backend.asarray(np.zeros((1, 1, 4, 4)))
    good = {"size": (2, 2), "stride": 1, "padding": 0, "dilation": 1}
    for value in (1, (1, 1)):
        tinyml.max_pool(x, **{**good, name: value})
    for value in (1.0, True, (1.0, 1), (1, True)):
        with pytest.raises(TypeError, match=f"{name} is "):
            tinyml.max_pool(x, **{**good, name: value})
    for value in ([1, 1], np.int64(1), (np.int64(1), 1)):
        assert tinyml.max_pool(x, **{**good, name: value})[1].window == (
            tinyml.max_pool(x, **{**good, name: 1})[1].window
        )


def test_subnormals_are_kept(backend):
    """Nothing is flushed to zero: neither in a comparison nor in a sum."""
    tiny = np.finfo(np.float32).smallest_subnormal
    x = np.array([[[1, 2, 2, -1, 0, 1]]], np.float32) * tiny
    y, switches = tinyml.max_pool(backend.asarray(x), 2)
    assert_same_bits(backend.to_numpy(y), np.array([[[2, 2, 1]]], np.float32) * tiny)
    assert backend.to_numpy(switches.winners).tolist() == [[[1, 0, 1]]]
    gradient = tinyml.max_pool_gradient(y, switches)
    expected = np.array([[[0, 2, 2, 0, 0, 1]]], np.float32) * tiny
    assert_same_bits(backend.to_numpy(gradient), expected)
    mean = tinyml.avg_pool(backend.asarray(x * 2), 2)
    assert_same_bits(backend.to_numpy(mean), np.array([[[3, 1, 1]]], np.float32) * tiny)


@pytest.mark.parametrize("far", [2**30 - 1, 2**31, 2**40])
def test_geometries_larger_than_any_array(backend, far):
    x = backend.asarray(np.arange(10, dtype=np.float32).reshape(1, 1, 10))
    y, switches = tinyml.max_pool(x, 3, 1, padding=far, dilation=far)
    np.testing.assert_array_equal(backend.to_numpy(y)[0, 0], np.arange(10))
    assert set(backend.to_numpy(switches.winners).ravel().tolist()) == {1}
    np.testing.assert_array_equal(backend.to_numpy(tinyml.max_unpool(y, switches)), [[range(10)]])
    mean = tinyml.avg_pool(x, 3, 1, padding=far, dilation=far)
    np.testing.assert_allclose(backend.to_numpy(mean)[0, 0], np.arange(10) / 3, rtol=1e-6)
    mean = tinyml.avg_pool(x, 3, 1, padding=far, dilation=far, count_include_pad=False)
    np.testing.assert_array_equal(backend.to_numpy(mean)[0, 0], np.arange(10))
    y, _ = tinyml.max_pool(x, 2, far)
    np.testing.assert_array_equal(backend.to_numpy(y), [[[1]]])
