"""The helpers that turn images into columns and back."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.compare import assert_same_bits
from tinyml.layers.convolution import col2im_indices, get_im2col_indices, im2col_indices
from tinyml.layers.unpooling import col2im_no_dup

HELPERS = (get_im2col_indices, im2col_indices, col2im_indices, col2im_no_dup)


@st.composite
def cases(draw):
    """x_shape, and the four geometry arguments that divide it."""
    fields = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding, stride = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    lengths = [f - 2 * padding + stride * draw(st.integers(0, 3)) for f in fields]
    lengths = [length + stride * (-(min(0, length - 1 - padding) // stride)) for length in lengths]
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 2)), *lengths)
    return shape, (*fields, padding, stride)


def loop_columns(x_shape, field_height, field_width, padding, stride):
    """For each column entry in row-major order: (n, c, row, column) in the padded image."""
    samples, channels, height, width = x_shape
    out_height = (height + 2 * padding - field_height) // stride + 1
    out_width = (width + 2 * padding - field_width) // stride + 1
    return [
        [
            (n, c, r * stride + fr, q * stride + fc)
            for r in range(out_height)
            for q in range(out_width)
            for n in range(samples)
        ]
        for c in range(channels)
        for fr in range(field_height)
        for fc in range(field_width)
    ]


@given(case=cases())
def test_columns_and_their_inverses_equal_plain_loops(backend, case):
    shape, geometry = case
    padding = geometry[2]
    pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    places = loop_columns(shape, *geometry)

    padded = np.pad(x, pads)
    expected = np.array([[padded[p] for p in row] for row in places], np.float32)
    cols = im2col_indices(backend.asarray(x), *geometry)
    assert_same_bits(backend.to_numpy(cols), expected.reshape(len(places), -1))

    values = np.random.default_rng(1).integers(-9, 9, expected.shape).astype(np.float32)
    added, assigned = np.zeros_like(padded), np.zeros_like(padded)
    for row, row_values in zip(places, values, strict=True):
        for place, value in zip(row, row_values, strict=True):
            added[place] += value
            assigned[place] = value  # the last row wins
    inside = (..., *(slice(padding, padding + n) for n in shape[2:]))
    for function, whole in ((col2im_indices, added), (col2im_no_dup, assigned)):
        out = function(backend.asarray(values), shape, *geometry)
        assert_same_bits(backend.to_numpy(out), whole[inside])


@given(case=cases())
def test_indices_gather_the_columns(backend, case):
    shape, geometry = case
    padding = geometry[2]
    x = np.random.default_rng(0).integers(-9, 9, shape)
    arrays = get_im2col_indices(shape, *geometry)
    assert all(map(backend.handles, arrays))
    k, i, j = map(backend.to_numpy, arrays)
    assert k.dtype == i.dtype == j.dtype == np.int64
    rows = shape[1] * geometry[0] * geometry[1]
    assert k.shape == (rows, 1)
    assert i.shape == j.shape
    assert len(i) == rows
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    cols = padded[:, k, i, j].transpose(1, 2, 0).reshape(rows, -1)
    ours = im2col_indices(backend.asarray(x), *geometry)
    assert_same_bits(backend.to_numpy(ours), cols)


def test_defaults(backend):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert im2col_indices(backend.asarray(x)).shape == (27, 40)


def test_a_geometry_that_does_not_divide(backend):
    x = backend.asarray(np.zeros((1, 1, 5, 4)))
    cols = backend.asarray(np.zeros((4, 4)))
    for call in (
        lambda: get_im2col_indices((1, 1, 5, 4), 2, 2, 0, 2),
        lambda: im2col_indices(x, 2, 2, 0, 2),
        lambda: col2im_indices(cols, (1, 1, 5, 4), 2, 2, 0, 2),
        lambda: col2im_no_dup(cols, (1, 1, 5, 4), 2, 2, 0, 2),
    ):
        with pytest.raises(ValueError, match=r"height of 5 .* is not a multiple of stride 2"):
            call()
    with pytest.raises(ValueError, match="width of 5"):
        get_im2col_indices((1, 1, 4, 5), 2, 2, 0, 2)


def test_bad_arguments(backend):
    with pytest.raises(ValueError, match=r"x has shape \(4, 4\); it must be \(samples, channels"):
        im2col_indices(backend.asarray(np.zeros((4, 4))), 2, 2)
    with pytest.raises(ValueError, match=r"cols has shape \(4, 5\); it must be \(4, 4\)"):
        col2im_indices(backend.asarray(np.zeros((4, 5))), (1, 1, 3, 3), 2, 2, 0)
    with pytest.raises(ValueError, match=r"x_shape is \(3, 3\)"):
        col2im_no_dup(backend.asarray(np.zeros((4, 4))), (3, 3), 2, 2, 0)
    with pytest.raises(TypeError, match=r"stride is \(1, 1\)|stride is 1.5"):
        get_im2col_indices((1, 1, 4, 4), stride=1.5)
    with pytest.raises(TypeError, match="x_shape is"):
        get_im2col_indices((1, 1, 4.0, 4.0))
    with pytest.raises(ValueError, match="stride is 0"):
        get_im2col_indices((1, 1, 4, 4), stride=0)
    with pytest.raises(TypeError, match="no array of a known library"):
        im2col_indices([[1.0]])


@pytest.mark.host
@pytest.mark.parametrize("helper", HELPERS)
def test_the_original_signatures(helper):
    parameters = inspect.signature(helper).parameters
    defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    assert defaults == {"field_height": 3, "field_width": 3, "padding": 1, "stride": 1}
    first = {get_im2col_indices: ["x_shape"], im2col_indices: ["x"]}
    assert list(parameters)[:-4] == first.get(helper, ["cols", "x_shape"])
