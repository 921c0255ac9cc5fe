"""Every backend has the same methods with the same signatures, and does what each promises."""

import inspect

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml_backends import Backend, Window
from tinyml_backends.generic.indices import Convention

METHODS = {
    name: function
    for name, function in vars(Backend).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def test_the_contract_has_methods(backend):
    assert len(METHODS) == 30
    assert isinstance(backend, Backend)


@pytest.mark.parametrize("method", METHODS)
def test_signatures_agree(backend, method):
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
        for function in (getattr(type(backend), method), METHODS[method])
    )
    assert ours == theirs


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


def test_the_base_class_makes_no_arrays(backend):
    for method, arguments in (("handles", 1), ("device", 1), ("asarray", 1), ("to_numpy", 1)):
        with pytest.raises(NotImplementedError, match=method):
            METHODS[method](Backend(), arguments)
