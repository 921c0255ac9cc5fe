"""Every convention of indices, against its definition, and against anything an array can hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits
from support.strategies import arrays, geometries
from tinyml import Switches, SwitchIndexError

CONVENTIONS = {
    "window": {},
    "plane": {},
    "tensor": {},
    "tensor, first axis fastest": {"order": "F"},
    "nhwc": {},
    "nhwc with batch": {"include_batch": True},
}


def convention_of(key):
    return key.partition(" ")[0].rstrip(",")


def defined(key, cell, full, shape, number):
    """The index of a cell: n, c and its place in the plane, by the convention's definition."""
    n, c, *place = cell
    samples, channels = full[:2]
    if key == "window":
        return number
    if key == "plane":
        return np.ravel_multi_index(place, shape)
    if key == "tensor":
        return np.ravel_multi_index(cell, (samples, channels, *shape))
    if key.startswith("tensor"):
        plane = np.ravel_multi_index(place, shape, order="F")
        return (n * channels + c) * int(np.prod(shape)) + plane
    inside = np.ravel_multi_index((*place, c), (*shape, channels))
    return inside + (n * int(np.prod(shape)) * channels if "batch" in key else 0)


def case_of(data, case, key):
    shape, geometry = case
    samples, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    x = data.draw(arrays((samples, channels, *shape)))
    _, winners, places = reference.max_pool(x.reshape(-1, *shape), **geometry)
    full = (samples, channels, *winners.shape[1:])
    winners, places = winners.reshape(full), places.reshape(full)
    indices = np.empty(full, np.int64)
    for at in np.ndindex(full):
        place = np.unravel_index(places[at], shape)
        indices[at] = defined(key, (*at[:2], *place), full, shape, winners[at])
    last = key.startswith("nhwc") or (
        not key.startswith("tensor") and data.draw(st.booleans(), label="channels last")
    )
    layout = "channels_last" if last else "channels_first"
    if last:
        x, indices = np.moveaxis(x, 1, -1), np.moveaxis(indices, 1, -1)
    return x, indices, layout


@pytest.mark.parametrize("key", CONVENTIONS)
@given(data=st.data(), case=geometries())
def test_both_ways_equal_the_definition(backend, key, data, case):
    shape, geometry = case
    x, indices, layout = case_of(data, case, key)
    options = CONVENTIONS[key]
    _, switches = tinyml.max_pool(backend.asarray(x.copy()), **geometry, layout=layout)
    ours = switches.to(convention_of(key), **options)
    assert_same_bits(backend.to_numpy(ours), np.ascontiguousarray(indices))
    again = Switches.of(
        backend.asarray(indices),
        convention_of(key),
        **geometry,
        **options,
        layout=layout,
        input_shape=shape,
    )
    assert again == switches


@pytest.mark.parametrize("key", CONVENTIONS)
@given(data=st.data(), case=geometries())
def test_no_index_reaches_outside_its_window(backend, key, data, case):
    """Arbitrary integers: refused, with the first invalid one named, unless all are valid."""
    shape, geometry = case
    x, indices, layout = case_of(data, case, key)
    indices = np.ascontiguousarray(indices)
    near = st.integers(-2, indices.max() + 3)
    anything = st.one_of(near, st.integers(-(2**63), 2**63 - 1))
    changed = data.draw(st.lists(st.tuples(st.integers(0, indices.size - 1), anything), min_size=1))
    for flat, value in changed:
        indices.flat[flat] = value
    samples = len(x)
    channels = x.shape[-1] if layout == "channels_last" else x.shape[1]
    full = (samples, channels)
    first = None
    cells = dict(reference.windows(shape, **geometry))
    for at in np.ndindex(indices.shape):
        n, c, output = (
            (at[0], at[-1], at[1:-1]) if layout == "channels_last" else (at[0], at[1], at[2:])
        )
        allowed = [defined(key, (n, c, *p), full, shape, k) for k, p in cells[output]]
        if indices[at] not in allowed:
            first = at
            break
    arguments = {
        **geometry,
        **CONVENTIONS[key],
        "layout": layout,
        "input_shape": shape,
    }
    given_indices = backend.asarray(indices)
    if first is None:
        switches = Switches.of(given_indices, convention_of(key), **arguments)
        ours = switches.to(convention_of(key), **CONVENTIONS[key])
        assert_same_bits(backend.to_numpy(ours), indices)
        return
    with pytest.raises(SwitchIndexError) as caught:
        Switches.of(given_indices, convention_of(key), **arguments)
    listed = ", ".join(map(str, first))
    assert str(caught.value).startswith(f"indices[{listed}] is {indices[first]};")
    named = str(caught.value).rpartition(" are ")[2]
    if "…" not in named:
        assert sorted(map(int, named.split(", "))) == sorted(map(int, allowed))


@pytest.mark.parametrize("key", CONVENTIONS)
def test_without_a_batch(backend, key):
    last = key.startswith("nhwc")
    layout = "channels_last" if last else "channels_first"
    x = np.random.default_rng(0).standard_normal((5, 6, 3) if last else (3, 5, 6))
    _, switches = tinyml.max_pool(backend.asarray(x), (2, 2), layout=layout)
    _, batched = tinyml.max_pool(backend.asarray(x[None]), (2, 2), layout=layout)
    options = CONVENTIONS[key]
    ours = switches.to(convention_of(key), **options)
    theirs = batched.to(convention_of(key), **options)
    assert_same_bits(backend.to_numpy(ours), backend.to_numpy(theirs)[0])
    arguments = {"size": 2, "input_shape": (5, 6), "layout": layout, **options}
    assert Switches.of(ours, convention_of(key), **arguments) == switches


@pytest.mark.parametrize(
    ("convention", "options", "message"),
    [
        ("plane", {"order": "F"}, "order='F' belongs to the convention 'tensor', not to 'plane'"),
        ("nhwc", {"order": "F"}, "order='F' belongs"),
        ("tensor", {"order": "K"}, "order is 'K'; it must be 'C' or 'F'"),
        ("plane", {"include_batch": True}, "include_batch belongs to the convention 'nhwc'"),
        ("tensor", {"layout": "channels_last"}, "'tensor' is of arrays channels_first"),
        ("plane", {"layout": "nhwc"}, "layout is 'nhwc'; it must be"),
        (
            "torch",
            {},
            "convention is 'torch'; it must be one of 'window', 'plane', 'tensor', 'nhwc'",
        ),
    ],
)
def test_options_that_do_not_belong(backend, convention, options, message):
    indices = backend.asarray(np.zeros((1, 1, 1, 1), int))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
        Switches.of(indices, convention, size=2, input_shape=(2, 2), **options)
    assert message in str(caught.value)


def test_layouts_of_conventions_cannot_be_mixed(backend):
    x = backend.asarray(np.zeros((1, 2, 4, 4)))
    _, switches = tinyml.max_pool(x, 2)
    with pytest.raises(
        ValueError, match="'nhwc' is of arrays channels_last; the layout is channels_f"
    ):
        switches.to("nhwc")


class TestSwitches:
    @pytest.fixture
    def switches(self, backend):
        x = np.random.default_rng(0).standard_normal((4, 2, 5, 5))
        return tinyml.max_pool(backend.asarray(x), 2)[1]

    def test_equality(self, backend, switches):
        x = np.random.default_rng(0).standard_normal((4, 2, 5, 5))
        assert switches == tinyml.max_pool(backend.asarray(x), 2)[1]
        assert switches != tinyml.max_pool(backend.asarray(-x), 2)[1]
        assert switches != tinyml.max_pool(backend.asarray(x), 2, 3)[1]
        assert switches != tinyml.max_pool(backend.asarray(x[..., :4]), 2)[1]
        assert switches != switches[:2]
        assert switches != tinyml.max_pool(backend.asarray(x), 2, layout="channels_last")[1]
        assert switches != "switches"
        with pytest.raises(TypeError, match="unhashable"):
            hash(switches)

    def test_slicing_along_the_batch(self, backend, switches):
        assert len(switches) == 4
        part = switches[1:3]
        assert part.shape == (2, 2, 2, 2)
        assert part.window == switches.window
        assert_same_bits(backend.to_numpy(part.winners), backend.to_numpy(switches.winners)[1:3])
        assert switches[-1].shape == (2, 2, 2)
        with pytest.raises(IndexError):
            switches[4]
        with pytest.raises(TypeError):
            switches["a"]
        with pytest.raises(TypeError, match="have no batch axis"):
            switches[0][0]
        y = backend.asarray(np.ones((2, 2, 2, 2)))
        assert tinyml.max_unpool(y, part).shape == (2, 2, 5, 5)

    def test_to_numpy_and_copy(self, backend, switches):
        host = switches.to_numpy()
        assert type(host.winners) is np.ndarray
        assert_same_bits(host.winners, backend.to_numpy(switches.winners))
        copied = switches.copy()
        assert copied == switches
        assert not np.shares_memory(
            backend.to_numpy(copied.winners), backend.to_numpy(switches.winners)
        )
