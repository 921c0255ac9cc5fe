"""Every backend has the same methods with the same signatures, and they return what they must."""

import inspect

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml_backends import Backend, Convention, Window

METHODS = {
    name: function
    for name, function in inspect.getmembers(Backend, inspect.isfunction)
    if not name.startswith("_")
}


def test_the_contract_has_methods(backend):
    assert len(METHODS) == 47
    assert isinstance(backend, Backend)


@pytest.mark.parametrize("method", METHODS)
def test_signatures_agree(backend, method):
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(bound).parameters.values()]
        for bound in (getattr(backend, method), getattr(Backend(), method))
    )
    assert ours == theirs
    assert METHODS[method].__doc__


def test_names(backend):
    assert isinstance(backend.name, str)
    assert isinstance(backend.library, str)


def test_arrays_in_and_out(backend):
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = backend.asarray(host)
    assert backend.handles(array)
    assert not backend.handles([1.0])
    assert not backend.handles(None)
    assert isinstance(backend.device(array), str)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(backend.to_numpy(array), host)
    assert type(backend.to_numpy(array)) is np.ndarray
    assert backend.handles(backend.asarray([[1, 2], [3, 4]]))


def test_kernels_return_the_backends_arrays(backend):
    window = Window.of(2, 2, 1)
    x = backend.asarray(np.arange(18, dtype=np.float32).reshape(2, 3, 3))
    y, winners = backend.max_pool(x, window)
    index, first_bad = backend.winners_from_indices(winners, Convention("window"), window, (3, 3))
    assert first_bad == -1
    cols = backend.im2col(x[None], window)
    for array in (
        y,
        winners,
        index,
        cols,
        backend.max_unpool(y, winners, window, (3, 3), "last"),
        backend.max_pool_gradient(y, winners, window, (3, 3)),
        backend.max_unpool_gradient(x, winners, window, "last"),
        backend.indices_from_winners(winners, Convention("plane"), window, (3, 3)),
        backend.col2im(cols, (1, 2, 3, 3), window, add=True),
    ):
        assert backend.handles(array)


def test_kernels_fill_and_return_what_they_are_given(backend):
    window = Window.of(2, 2, 1)
    x = backend.asarray(np.arange(18, dtype=np.float32).reshape(2, 3, 3))
    y, winners = backend.max_pool(x, window)
    calls = (
        (backend.max_unpool, y, winners, window, (3, 3), "last"),
        (backend.max_unpool, y, winners, window, (3, 3), "sum"),
        (backend.max_pool_gradient, y, winners, window, (3, 3)),
        (backend.max_unpool_gradient, x, winners, window, "last"),
        (backend.max_unpool_gradient, x, winners, window, "sum"),
        (backend.avg_pool, x, window, True, None),
        (backend.avg_pool_gradient, y, window, (3, 3), True, None),
    )
    for kernel, *arguments in calls:
        expected = kernel(*arguments)
        out = backend.asarray(np.full(expected.shape, 7, np.float32))
        assert kernel(*arguments, out=out) is out
        assert_same_bits(backend.to_numpy(out), backend.to_numpy(expected))
    out = (
        backend.asarray(np.full(y.shape, 7, np.float32)),
        backend.asarray(np.full(y.shape, 7, np.uint8)),
    )
    for given, returned, expected in zip(
        out, backend.max_pool(x, window, out=out), (y, winners), strict=True
    ):
        assert returned is given
        assert_same_bits(backend.to_numpy(given), backend.to_numpy(expected))


def test_activate(backend):
    x = np.array([[-2, -0.0, 0, 3], [np.nan, -np.inf, np.inf, 1e-30]], np.float32)
    y, positive = backend.activate("relu", backend.asarray(x))
    expected = np.array([[0, 0, 0, 3], [np.nan, 0, np.inf, 1e-30]], np.float32)
    np.testing.assert_array_equal(backend.to_numpy(y), expected)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(backend.to_numpy(positive), x > 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_gradient_of_relu_keeps_or_clears_all_bits(backend, dtype, order):
    """Where the input is not positive it is +0.0, never a product such as 0 · NaN or 0 · −1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 70, 80)).astype(dtype)
    gradient = rng.standard_normal(x.shape).astype(dtype)
    gradient.reshape(-1)[::7], gradient.reshape(-1)[1::7] = np.nan, -0.0
    _, positive = backend.activate("relu", backend.asarray(x))
    given = backend.asarray(np.asarray(gradient, order=order))
    result = backend.activate_gradient("relu", given, positive)
    assert_same_bits(backend.to_numpy(result), np.where(x > 0, gradient, dtype(0)))


def test_activations_refuse_what_they_do_not_know(backend):
    x = backend.asarray(np.zeros(3, np.float32))
    _, saved = backend.activate("relu", x)
    for call in (
        lambda kind, **options: backend.activate(kind, x, **options),
        lambda kind, **options: backend.activate_gradient(kind, x, saved, **options),
    ):
        with pytest.raises(ValueError, match="unknown activation 'rleu'; known are 'relu'"):
            call("rleu")
        with pytest.raises(ValueError, match="'relu' has no option 'slope'; it has none"):
            call("relu", slope=1)


def test_a_workspace_changes_no_result(backend):
    x = backend.asarray(np.arange(1 << 17, dtype=np.float32).reshape(1, -1) - 9)
    expected = backend.to_numpy(backend.activate("relu", x)[0])
    workspace = backend.workspace()
    for _ in range(2):
        with workspace.in_use():
            y, _ = backend.activate("relu", x)
        assert_same_bits(backend.to_numpy(y), expected)
        del y


def test_new_arrays_are_the_backends(backend):
    assert backend.handles(backend.array_module.zeros(3, np.float32))


def test_the_base_class_makes_no_arrays(backend):
    for method, arguments in (("handles", 1), ("device", 1), ("asarray", 1), ("to_numpy", 1)):
        with pytest.raises(NotImplementedError, match=method):
            METHODS[method](Backend(), arguments)
