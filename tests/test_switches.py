"""Switches: conventions, checks of indices from outside, immutability."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
from support import reference
from support.compare import assert_same_bits
from support.strategies import INTEGERS, arrays, geometries, laid_out
from tinyml import Switches, SwitchIndexError


@given(data=st.data(), case=geometries())
def test_conventions_go_both_ways(backend, data, case):
    shape, geometry = case
    x = data.draw(arrays((2, 1, *shape)))
    _, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    for convention in ("window", "plane"):
        indices = backend.to_numpy(switches.to(convention))
        assert indices.dtype == np.int64
        layout = data.draw(st.sampled_from(["C", "F", "strided", "reversed"]))
        dtype = data.draw(st.sampled_from(INTEGERS[1:4] + INTEGERS[5:]))
        again = Switches.of(
            backend.asarray(laid_out(indices.astype(dtype), layout)),
            convention,
            input_shape=shape,
            **geometry,
        )
        assert_same_bits(backend.to_numpy(again.winners), backend.to_numpy(switches.winners))
        assert again.window == switches.window
        assert again.input_shape == switches.input_shape


@given(data=st.data(), case=geometries())
def test_every_bad_index_is_refused_and_the_first_is_named(backend, data, case):
    shape, geometry = case
    convention = data.draw(st.sampled_from(["window", "plane"]))
    x = data.draw(arrays((2, 1, *shape)))
    _, switches = tinyml.max_pool(backend.asarray(x), **geometry)
    indices = backend.to_numpy(switches.to(convention)).copy()
    bad = data.draw(st.lists(st.integers(0, indices.size - 1), min_size=1, max_size=3))
    candidates = np.array([-(2**63), 2**63 - 1, -1, *range(-2, int(np.prod(shape)) + 8)])
    for flat in bad:
        indices.flat[flat] = data.draw(st.sampled_from(candidates.tolist()))

    cells = [c for _, c in reference.windows(shape, **geometry)] * 2
    valid = [
        value
        in [
            number if convention == "window" else np.ravel_multi_index(place, shape)
            for number, place in allowed
        ]
        for value, allowed in zip(indices.flat, cells, strict=True)
    ]
    arguments = {"input_shape": shape, **geometry}
    if all(valid):
        Switches.of(backend.asarray(indices), convention, **arguments)
    else:
        first = valid.index(False)
        position = ", ".join(map(str, map(int, np.unravel_index(first, indices.shape))))
        with pytest.raises(SwitchIndexError) as caught:
            Switches.of(backend.asarray(indices), convention, **arguments)
        assert f"indices[{position}] is {int(indices.flat[first])};" in str(caught.value)


@pytest.mark.parametrize("convention", ["window", "plane"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_extremes_of_every_integer_dtype(backend, dtype, convention):
    for value in {np.iinfo(dtype).min, np.iinfo(dtype).max} - {0}:
        indices = backend.asarray(np.array([[[0, value]]], dtype))
        with pytest.raises(SwitchIndexError, match=rf"indices\[0, 0, 1\] is {value};"):
            Switches.of(indices, convention, size=2, input_shape=(4,))


def test_the_message_names_position_value_and_range(backend):
    indices = np.array([[[[0, 3], [1, 7]]]])
    with pytest.raises(SwitchIndexError) as caught:
        Switches.of(backend.asarray(indices), "window", size=2, input_shape=(4, 4))
    assert str(caught.value) == (
        "indices[0, 0, 1, 1] is 7; the window there covers the input cells [2 to 3, 2 to 3] of "
        "(4, 4), whose window indices are 0, 1, 2, 3"
    )
    assert isinstance(caught.value, IndexError)
    with pytest.raises(SwitchIndexError, match=r"is 7; .* whose plane indices are 10, 11, 14, 15"):
        Switches.of(
            backend.asarray(np.array([[[[0, 3], [9, 7]]]])), "plane", size=2, input_shape=(4, 4)
        )


def test_a_winner_in_padding_is_refused(backend):
    """Cell 0 of the first window lies in the padding; cell 4 is its first inside the input."""
    indices = np.array([[[[0]]]])
    with pytest.raises(SwitchIndexError, match=r"is 0; .* whose window indices are 4, 5, 7, 8"):
        Switches.of(backend.asarray(indices), "window", size=3, padding=1, input_shape=(2, 2))


def test_a_winner_in_the_padding_behind_is_refused(backend):
    indices = np.array([[[[8]]]])
    with pytest.raises(SwitchIndexError, match=r"is 8; .* whose window indices are 0, 1, 3, 4"):
        Switches.of(
            backend.asarray(indices), "window", size=3, padding=((0, 1), (0, 1)), input_shape=(2, 2)
        )


def test_an_index_between_dilated_cells_is_refused(backend):
    indices = np.array([[[1]]])
    with pytest.raises(SwitchIndexError, match=r"is 1; .* whose plane indices are 0, 2"):
        Switches.of(backend.asarray(indices), "plane", size=2, dilation=2, input_shape=(3,))


def test_many_allowed_indices_are_elided(backend):
    indices = backend.asarray(np.full((1, 1, 3, 3), 6))
    with pytest.raises(SwitchIndexError) as caught:
        Switches.of(indices, "plane", size=5, input_shape=(15, 15))
    assert str(caught.value).endswith("indices are 0, 1, 2, 3, 4, 15, 16, 17, …, 61, 62, 63, 64")


@pytest.mark.parametrize("shape", [[4, 5], np.array([4, 5])])
def test_input_shapes_of_other_integers(backend, shape):
    indices = backend.asarray(np.zeros((1, 1, 2, 2), int))
    switches = Switches.of(indices, "window", size=2, input_shape=shape)
    assert switches.input_shape == (4, 5)
    assert all(type(n) is int for n in switches.input_shape)
    with pytest.raises(ValueError, match=r"gradient has shape \(1, 1, 2, 10\)"):
        tinyml.max_unpool_gradient(backend.asarray(np.zeros((1, 1, 2, 10))), switches)


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((4.0, 4.0), TypeError),
        (4, TypeError),
        ((), ValueError),
        ((0, 4), ValueError),
        ((4,) * 4, ValueError),
    ],
)
def test_bad_input_shapes(backend, shape, error):
    indices = backend.asarray(np.zeros((1, 1, 2, 2), int))
    with pytest.raises(error, match="input_shape is "):
        Switches.of(indices, "window", size=2, input_shape=shape)
    Switches.of(indices, "window", size=2, input_shape=(4, 4))  # nothing was half-changed


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (np.zeros((1, 1, 2, 2)), TypeError, "indices have dtype float64; they must be integers"),
        (np.zeros((1, 1, 2, 2), bool), TypeError, "indices have dtype bool"),
        (np.zeros((1, 1, 2, 3), int), ValueError, r"indices have shape \(1, 1, 2, 3\)"),
        (np.zeros((2, 2), int), ValueError, r"needs \(channels, 2, 2\) or \(samples"),
        ([[0]], TypeError, "no array of a known library"),
    ],
)
def test_bad_indices(backend, indices, error, message):
    if isinstance(indices, np.ndarray):
        indices = backend.asarray(indices)
    with pytest.raises(error, match=message):
        Switches.of(indices, "window", size=2, input_shape=(4, 5))


def test_unknown_convention(backend):
    indices = backend.asarray(np.zeros((1, 1, 2, 2), int))
    with pytest.raises(ValueError, match="convention is 'torch'; it must be one of"):
        Switches.of(indices, "torch", size=2, input_shape=(4, 4))


def test_immutable(backend):
    _, switches = tinyml.max_pool(backend.asarray(np.zeros((1, 1, 4, 4))), 2)
    for name in ("winners", "window", "geometry", "note"):
        with pytest.raises(AttributeError, match="cannot assign to field"):
            setattr(switches, name, None)
        with pytest.raises(AttributeError, match="cannot delete field"):
            delattr(switches, name)
    if backend.library == "numpy":
        with pytest.raises(ValueError, match="read-only"):
            switches.winners[...] = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(switches)


def test_only_checked_winners_become_switches(backend):
    _, switches = tinyml.max_pool(backend.asarray(np.zeros((1, 1, 4, 4))), 2)
    with pytest.raises(TypeError, match="come from tinyml"):
        Switches()
    with pytest.raises(TypeError):
        Switches(switches.winners, switches.geometry)
    with pytest.raises(TypeError):
        dataclasses.replace(switches, winners=switches.winners + 9)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, Switches.copy])
def test_copies_keep_their_winners(backend, duplicate):
    x = backend.asarray(np.arange(16.0).reshape(1, 1, 4, 4))
    y, switches = tinyml.max_pool(x, 2)
    winners = switches.winners.copy()
    _, view = tinyml.max_pool(x, 2, out=(y.copy(), winners))
    again = duplicate(view)
    winners[...] = 0
    assert again == switches
    assert view != switches
    if backend.library == "numpy":
        assert not again.winners.flags.writeable


def test_switches_of_some_samples(backend):
    x = backend.asarray(np.random.default_rng(0).standard_normal((3, 2, 5, 4)))
    y, switches = tinyml.max_pool(x, 2)
    assert len(switches) == 3
    for samples in (slice(1, 3), slice(None, None, 2), slice(0, 0), 1, np.int64(-1)):
        expected = tinyml.max_pool(x[samples], (2, 2))[1]
        assert switches[samples] == expected
        assert switches[samples].shape == y[samples].shape
        assert switches[samples].unpooled_shape == x[samples].shape
    with pytest.raises(TypeError, match="no batch axis"):
        len(switches[0])
    with pytest.raises(TypeError, match="no batch axis"):
        switches[0][0]


def test_the_users_indices_stay_his_own(backend):
    indices = backend.asarray(np.zeros((1, 1, 2, 2), np.uint8))
    switches = Switches.of(indices, "window", size=2, input_shape=(4, 4))
    indices[...] = 9
    assert not backend.to_numpy(switches.winners).any()


def test_pickling_checks_again(backend):
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 5))
    _, switches = tinyml.max_pool(backend.asarray(x), 3, 2, padding=1, ceil_mode=True)
    again = pickle.loads(pickle.dumps(switches))
    assert again.window == switches.window
    assert_same_bits(backend.to_numpy(again.winners), backend.to_numpy(switches.winners))
    rebuild, (winners, *geometry) = switches.__reduce__()
    forged = backend.to_numpy(winners).copy()
    forged[0, 0, 0, 0] = 255
    with pytest.raises(SwitchIndexError, match="is 255"):
        rebuild(backend.asarray(forged), *geometry)


def test_repr_shows_geometry_and_bytes(backend):
    _, switches = tinyml.max_pool(
        backend.asarray(np.zeros((2, 3, 7, 9))), 3, 2, ((1, 0), (0, 1)), 1, True
    )
    assert repr(switches) == (
        "Switches(shape (2, 3, 4, 5), size (3, 3), stride (2, 2), padding ((1, 0), (0, 1)), "
        "ceil_mode, input (7, 9), 120 bytes)"
    )
