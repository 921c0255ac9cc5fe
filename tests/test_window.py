"""`Window`: all shape arithmetic of pooling and convolution."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import reference
from support.strategies import geometries
from tinyml_backends import Window

pytestmark = pytest.mark.host


def input_cells(cells):
    """The input position for each (output position, cell number) of some `Cell` objects."""
    found = {}
    for cell in cells:
        boxes = [
            [
                range(10**6)[s] if s.stop is None else range(s.start, s.stop, s.step or 1)
                for s in box
            ]
            for box in (cell.outputs[1:], cell.inputs[1:])
        ]
        for output, place in zip(*map(_points, boxes), strict=True):
            found[output, cell.number] = place
    return found


def _points(box):
    points = [()]
    for along in box:
        points = [(*point, i) for point in points for i in along]
    return points


@given(case=geometries())
def test_slices_meet_exactly_the_inside_cells(case):
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    assert window.output_shape(shape) == reference.output_shape(shape, **geometry)
    expected = {
        (output, number): place
        for output, cells in reference.windows(shape, **geometry)
        for number, place in cells
    }
    assert input_cells(window.cells(shape)) == expected


@given(case=geometries())
def test_first_cells_along_an_axis(case):
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    along = [
        {
            (output[-1], cell.number): place[-1]
            for cell in window.cells_along(axis, shape, only_first=True)
            for (output, _), place in input_cells([_last_axis(cell)]).items()
        }
        for axis in range(len(shape))
    ]
    for output, cells in reference.windows(shape, **geometry):
        for axis in range(len(shape)):
            mine = {n: place for (i, n), place in along[axis].items() if i == output[axis]}
            assert list(mine.values()) == [cells[0][1][axis]]


def _last_axis(cell):
    return cell._replace(
        outputs=(slice(None), cell.outputs[-1]), inputs=(slice(None), cell.inputs[-1])
    )


@given(case=geometries(), data=st.data())
def test_some_rows_alone_are_as_in_the_whole(case, data):
    """The windows for some rows alone hold the same cells as those for the whole input."""
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    whole = input_cells(window.cells(shape))
    rows = window.output_shape(shape)[0]
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first, rows - 1))
    inputs, local = window.inputs_for(slice(first, last + 1), shape)
    inside = input_cells(local.cells((inputs.stop - inputs.start, *shape[1:])))
    assert {
        ((o[0] + first, *o[1:]), n): (p[0] + inputs.start, *p[1:]) for (o, n), p in inside.items()
    } == {(o, n): p for (o, n), p in whole.items() if first <= o[0] <= last}

    first = data.draw(st.integers(0, shape[0] - 1))
    last = data.draw(st.integers(first, shape[0] - 1))
    outputs, local = window.outputs_touching(slice(first, last + 1), shape)
    inside = {}
    if outputs.start < outputs.stop:
        inside = input_cells(local.cells((last + 1 - first, *shape[1:])))
    assert {
        ((o[0] + outputs.start, *o[1:]), n): (p[0] + first, *p[1:]) for (o, n), p in inside.items()
    } == {(o, n): p for (o, n), p in whole.items() if first <= p[0] <= last}


@given(case=geometries(valid=False))
def test_refused_exactly_where_no_pooling_is_defined(case):
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    expected = reference.output_shape(shape, **geometry)
    if expected is None:
        with pytest.raises(ValueError, match=r"more than the padded|would hold none"):
            window.pooled_shape(shape)
    else:
        assert window.pooled_shape(shape) == expected


@pytest.mark.parametrize("padding", [((2, 0),), ((0, 2),), ((5, 0),), ((10**15, 10**15),)])
def test_windows_of_padding_alone_are_refused_at_once(padding):
    with pytest.raises(ValueError, match="would hold none of them"):
        Window.of(1, 2, 1, padding).pooled_shape((4,))


@given(case=geometries())
def test_counts(case):
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    starts = window.starts(shape)
    inside = [window.counts(a, starts[a], shape, padding=False) for a in range(len(shape))]
    for output, cells in reference.windows(shape, **geometry):
        assert prod(inside[axis][i] for axis, i in enumerate(output)) == len(cells)


@given(case=geometries())
def test_unpooled_shape_is_the_smallest_that_pools_back(case):
    shape, geometry = case
    window = Window.of(len(shape), **{**geometry, "ceil_mode": False})
    try:
        pooled = window.output_shape(shape)
        smallest = window.unpooled_shape(pooled)
    except ValueError:
        return  # fits only with ceil_mode, or the smallest input is all padding
    assert all(a <= b for a, b in zip(smallest, shape, strict=True))
    assert all(
        (n + sum(p) - d * (k - 1) - 1) // s + 1 == out
        for n, p, d, k, s, out in zip(
            smallest,
            window.padding,
            window.dilation,
            window.size,
            window.stride,
            pooled,
            strict=True,
        )
    )


def test_huge_images_use_no_memory():
    window = Window.of(2, 2, 2, padding=1)
    assert window.output_shape((2**40, 2**31 + 1)) == (2**39 + 1, 2**30 + 1)
    assert window.cells((2**40, 2**31 + 1))[0].inputs[1] == slice(1, 2**40, 2)


def test_a_window_that_is_mostly_padding_costs_nothing():
    window = Window.of(2, 2**20 + 1, 1, padding=2**19)
    assert len(window.cells_along(0, (4, 4))) == 7
    assert window.pooled_shape((4, 4)) == (4, 4)


def test_a_last_window_in_the_padding_is_left_out():
    """PyTorch's rule for ceil_mode: the last window starts inside the input or its left padding."""
    assert Window.of(1, 1, 2, ceil_mode=True).output_shape((4,)) == (2,)
    assert Window.of(1, 2, 2, padding=1, ceil_mode=True).output_shape((4,)) == (3,)


def test_spatial_axes_must_agree():
    with pytest.raises(ValueError, match="the input has 3 spatial axes"):
        Window.of(2, 2).output_shape((4, 4, 4))
