"""Window: the one place that knows shapes."""

import pytest
from hypothesis import given

from support import reference
from support.strategies import geometries
from tinyml_backends import Window

pytestmark = pytest.mark.host


@given(case=geometries())
def test_slices_meet_exactly_the_inside_cells(case):
    shape, geometry = case
    window = Window.of(len(shape), **geometry)
    assert window.output_shape(shape) == reference.output_shape(shape, **geometry)
    for only_first in (False, True):
        expected = {}
        for output, cells in reference.windows(shape, **geometry):
            for number, place in cells[:1] if only_first else cells:
                expected[output, number] = place
        actual = {}
        for cell in window.first_cells(shape) if only_first else window.cells(shape):
            assert cell.outputs[0] == cell.inputs[0] == slice(None)
            boxes = [
                [range(s.start, s.stop, s.step or 1) for s in slices[1:]]
                for slices in (cell.outputs, cell.inputs)
            ]
            for output, place in zip(*map(_points, boxes), strict=True):
                actual[output, cell.number] = place
        assert actual == expected


def _points(box):
    points = [()]
    for along in box:
        points = [(*point, i) for point in points for i in along]
    return points


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
    assert window.offsets((2**40, 2**31 + 1))[-1] == 2**31 + 2
    assert window.cells((2**40, 2**31 + 1))[0].inputs[1] == slice(1, 2**40, 2)


def test_a_last_window_in_the_padding_is_left_out():
    """PyTorch's rule for ceil_mode: the last window starts inside the input or its left padding."""
    assert Window.of(1, 1, 2, ceil_mode=True).output_shape((4,)) == (2,)
    assert Window.of(1, 2, 2, padding=1, ceil_mode=True).output_shape((4,)) == (3,)


def test_spatial_axes_must_agree():
    with pytest.raises(ValueError, match="the input has 3 spatial axes"):
        Window.of(2, 2).output_shape((4, 4, 4))
