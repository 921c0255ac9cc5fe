"""Numba's kernels for training and convolution, beside the generic ones on NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import peer
from support.chunks import backwards, use_small_compiled_chunks
from support.compare import assert_same_bits
from support.guarded import guarded
from support.strategies import geometries, laid_out
from tinyml_backends import Backend, Window, resolve
from tinyml_backends.generic import class_loss, convolution, norm, steps
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = pytest.mark.host

NUMPY = NumpyBackend()
LAYOUTS = st.sampled_from(["C", "F", "strided", "reversed"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def numba() -> Backend:
    peer("numba")
    return resolve("numba")


@pytest.fixture(params=["one chunk", "small chunks", "last items first"])
def chunked(request, numba, monkeypatch):
    """The backend, with items in one chunk; or in many, in three threads; or in reverse order."""
    from tinyml_backends.numba_backend import training

    if request.param == "last items first":
        monkeypatch.setattr(training, "run", backwards(2))
    if request.param == "small chunks":
        use_small_compiled_chunks(monkeypatch)
    return numba


@pytest.fixture(params=["one chunk", "last items first"])
def directly(request, numba, monkeypatch):
    """The backend, where direct kernels also compute rows of few outputs; items in either order."""
    from tinyml_backends.numba_backend import convolution as kernels

    monkeypatch.setattr(kernels, "WIDTH", 1)
    if request.param == "last items first":
        monkeypatch.setattr(kernels, "run", backwards(2))
    return numba


def close(actual, expected, dtype):
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    rtol = 2e-6 if dtype == np.float32 else 1e-13
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * float(largest))


def normal(rng, *shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


@DTYPES
@given(
    shape=st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(1, 40)] * 2),
    layout=LAYOUTS,
    special=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
@example(shape=(2, 3, 1, 1), layout="C", special=None)
@example(shape=(3, 2, 300, 301), layout="C", special=None)
def test_batch_norm(chunked, dtype, shape, layout, special):
    """Each step in float64 on NumPy, from the same numbers."""
    rng = np.random.default_rng(0)
    x, gradient = laid_out(3 + normal(rng, *shape, dtype=dtype), layout), normal(rng, *shape)
    gradient = laid_out(gradient.astype(dtype), layout)
    if special is not None:
        x[0, 0, 0, 0] = gradient[-1, -1, -1, -1] = special
    of_channels = [normal(rng, shape[1], dtype=dtype) for _ in range(4)]
    wide = [a.astype(np.float64) for a in (x, gradient, *of_channels)]
    with np.errstate(all="ignore"):
        for method, arrays in (
            ("sum_channels", [0]),
            ("scale_channels", [0, 2]),
            ("moments", [0]),
            ("normalize", [0, 2, 3, 4, 5]),
            ("normalize_sums", [1, 0]),
            ("normalize_gradient", [1, 0, 2, 3, 4]),
        ):
            given_ = [(x, gradient, *of_channels)[i] for i in arrays]
            found = getattr(chunked, method)(*given_)
            expected = getattr(norm, method)(NUMPY, *(wide[i] for i in arrays))
            if not isinstance(found, tuple):
                found, expected = (found,), (expected,)
            for ours, theirs in zip(found, expected, strict=True):
                close(ours, theirs, dtype)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_sums_do_not_depend_on_threads(numba, monkeypatch, threads):
    from tinyml_backends import threads as pool

    x = normal(np.random.default_rng(0), 5, 7, 300, 101, dtype=np.float32)
    monkeypatch.setattr(pool, "thread_count", lambda: 1)
    expected = [numba.sum_channels(x), *numba.moments(x), *numba.normalize_sums(x, x)]
    monkeypatch.setattr(pool, "thread_count", lambda: threads)
    for ours, theirs in zip(
        [numba.sum_channels(x), *numba.moments(x), *numba.normalize_sums(x, x)],
        expected,
        strict=True,
    ):
        assert_same_bits(ours, theirs)


def test_sums_are_accurate(numba):
    """The mean is large beside the deviation, and float32 holds whole numbers up to 2**24."""
    x = (1e4 + np.random.default_rng(0).standard_normal((2, 3, 500, 500))).astype(np.float32)
    mean, variance = numba.moments(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(variance, wide.var((0, 2, 3)), rtol=1e-6)
    ones = np.ones((9, 1, 2000, 1000), np.float32)
    assert numba.sum_channels(ones)[0] == 18_000_000
    assert numba.normalize_sums(ones, ones)[1][0] == 18_000_000


@DTYPES
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (7, 11), (123, 457)], ids=str)
def test_optimizers(chunked, dtype, shape):
    rng = np.random.default_rng(0)
    arrays = [guarded(normal(rng, *shape, dtype=dtype), at_end=True) for _ in range(3)]
    arrays.append(guarded(normal(rng, *shape, dtype=dtype) ** 2, at_end=False))
    for method, count, numbers in (
        ("sgd_step", 2, (None, 0.1, 0.0)),
        ("sgd_step", 3, (0.1, 0.9)),
        ("adam_step", 4, ((0.9, 0.999), 0.1, 0.5, 1e-8)),
    ):
        expected = [a.astype(np.float64) for a in arrays[:count]]
        getattr(steps, method)(NUMPY, *expected, *numbers)
        getattr(chunked, method)(*arrays[:count], *numbers)
        for ours, theirs in zip(arrays, expected, strict=False):
            close(ours, theirs, dtype)


def test_optimizers_of_other_arrays(numba):
    """A view, and arrays of two dtypes: NumPy's kernels update them in place."""
    whole = np.ones((4, 6), np.float32)
    numba.sgd_step(whole[:, ::2], np.ones((4, 3), np.float32), None, 0.5, 0.0)
    assert whole[0].tolist() == [0.5, 1, 0.5, 1, 0.5, 1]
    tensor, state = np.ones(3, np.float16), np.zeros((2, 3), np.float16)
    numba.adam_step(tensor, np.ones(3, np.float32), *state, (0.9, 0.999), 0.5, 1.0, 1e-8)
    assert tensor.dtype == np.float16
    assert (tensor != 1).all()


@DTYPES
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    layout=LAYOUTS,
    special=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
@example(shape=(2, 3, 64, 24), layout="C", special=None)
def test_class_losses(chunked, dtype, shape, layout, special):
    rng = np.random.default_rng(0)
    logits = laid_out(5 * normal(rng, *shape, dtype=dtype), layout)
    counted = rng.random((shape[0], *shape[2:])) < 0.8
    classes = np.where(counted, rng.integers(0, shape[1], counted.shape), 0)
    if special is not None:
        logits[0, 0, 0, 0] = special
    before = logits.copy()
    with np.errstate(all="ignore"):
        found = chunked.class_losses(logits, classes, counted)
        expected = class_loss.class_losses(NUMPY, logits.astype(np.float64), classes, counted)
        for ours, theirs in zip(found, expected, strict=True):
            close(ours, theirs, dtype)
        given_ = found[1].copy(), found[2], classes, counted, 9
        wide = (expected[1], expected[2], classes, counted, 9)
        gradient = chunked.class_losses_gradient(*given_)
        assert gradient is given_[0]
        close(gradient, class_loss.class_losses_gradient(NUMPY, *wide), dtype)
    assert_same_bits(logits, before)


@DTYPES
@given(data=st.data())
def test_columns(numba, dtype, data):
    spatial, geometry = data.draw(geometries())
    shape = (data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3)), *spatial)
    geometry["ceil_mode"] = False  # convolution has none
    window = Window.of(len(spatial), **geometry)
    if all(n + sum(p) >= e for n, p, e in zip(spatial, window.padding, window.extent, strict=True)):
        same_columns(numba, shape, window, dtype)


@pytest.mark.parametrize("width", [1, 2, 5, 14, 16, 17, 28, 33, 50])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_columns_of_each_width(numba, width, stride, dilation):
    window = Window.of(2, (2, 3), (1, stride), ((1, 0), (3, 2)), dilation)
    same_columns(numba, (2, 3, 5, width), window, np.float32)


def test_columns_that_are_mostly_padding(numba):
    """Distances so large that no buffer could hold the padded input."""
    far = 10**9
    window = Window.of(1, 2, 1, [(0, far)], far)
    same_columns(numba, (1, 1, 4), window, np.float32)


def test_columns_of_cropped_windows(numba):
    """Windows for some rows of an image have a negative padding."""
    window = Window.of(2, 3, 1, 1)
    x = normal(np.random.default_rng(0), 2, 3, 9, 8)
    for first in range(0, 9, 2):
        rows, cropped = window.inputs_for(slice(first, first + 2), (9, 8))
        part = x[:, :, rows]
        cols = numba.patches(part, cropped)
        assert_same_bits(cols, convolution.Steps.patches(NUMPY, part, cropped))
        ours, theirs = x.copy(), x.copy()
        numba.add_patches(cols, ours[:, :, rows], cropped)
        convolution.Steps.add_patches(NUMPY, cols, theirs[:, :, rows], cropped)
        assert_same_bits(ours, theirs)


def same_columns(backend, shape, window, dtype):
    """The generic bits, from arrays that begin or end next to protected memory."""
    rng = np.random.default_rng(0)
    x = normal(rng, *shape, dtype=dtype)
    expected = convolution.Steps.patches(NUMPY, x, window)
    for at_end in (True, False):
        assert_same_bits(backend.patches(guarded(x, at_end), window), expected)
    cols = normal(rng, *expected.shape, dtype=dtype)
    total = x.copy()
    convolution.Steps.add_patches(NUMPY, cols, total, window)
    for at_end in (True, False):
        out = guarded(x.copy(), at_end)
        backend.add_patches(guarded(cols, at_end), out, window)
        assert_same_bits(out, total)


@DTYPES
@given(data=st.data())
def test_direct_convolution(directly, dtype, data):
    """Every geometry that has a direct kernel, beside matrix products in float64."""
    spatial, geometry = data.draw(geometries())
    stride = tuple(geometry["stride"]) if not isinstance(geometry["stride"], int) else None
    geometry["ceil_mode"] = False
    geometry["stride"] = (*(stride or (geometry["stride"],) * len(spatial))[:-1], 1)
    window = Window.of(len(spatial), **geometry)
    fit = [n + sum(p) >= e for n, p, e in zip(spatial, window.padding, window.extent, strict=True)]
    groups, channels = data.draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (3, 1)]))
    filters = groups * data.draw(st.sampled_from([1, 3, 10]))
    if all(fit):
        shape = (data.draw(st.integers(1, 3)), groups * channels, *spatial)
        same_convolution(directly, shape, filters, window, groups, dtype)


@DTYPES
@pytest.mark.parametrize("width", [1, 5, 14, 16, 17, 28, 40])
@pytest.mark.parametrize("filters", [1, 2, 6, 9, 16])
def test_direct_convolution_of_each_width(directly, dtype, width, filters):
    window = Window.of(2, (3, 5), 1, ((1, 1), (2, 2)))
    same_convolution(directly, (9, 2, 10, width), filters, window, 1, dtype)


def test_values_that_are_not_finite_reach_only_their_windows(directly):
    rng = np.random.default_rng(0)
    window = Window.of(2, 3, 1, 1)
    x, weight = normal(rng, 2, 2, 9, 20), normal(rng, 3, 2, 3, 3)
    gradient = normal(rng, 2, 3, 9, 20)
    x[0, 0, 0, 0], x[1, 1, 4, 19], gradient[1, 2, 8, 0] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        for method, arguments in (
            ("conv", (x, weight, None, window, 1)),
            ("conv_input", (gradient, weight, None, (9, 20), window, 1)),
            ("conv_weight", (gradient, x, weight.shape, window, 1)),
        ):
            found = getattr(directly, method)(*arguments)
            expected = getattr(convolution, method)(NUMPY, *arguments)
            close(found, expected, np.float64)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_direct_convolution_does_not_depend_on_threads(numba, monkeypatch, threads):
    from tinyml_backends import threads as pool
    from tinyml_backends.numba_backend import scheduling

    rng, window = np.random.default_rng(0), Window.of(2, 5, 1, 2)
    x, weight = (
        normal(rng, *shape, dtype=np.float32) for shape in ((21, 6, 14, 14), (16, 6, 5, 5))
    )
    monkeypatch.setattr(pool, "thread_count", lambda: 1)
    y = numba.conv(x, weight, None, window, 1)
    expected = y, *numba.conv_gradient(y, x, weight, window, 1)
    monkeypatch.setattr(pool, "thread_count", lambda: threads)
    monkeypatch.setattr(scheduling, "SHARED_BYTES", 0)
    monkeypatch.setattr(scheduling, "CHUNK_BYTES", 1)
    found = numba.conv(x, weight, None, window, 1), *numba.conv_gradient(y, x, weight, window, 1)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_bits(ours, theirs)


@pytest.mark.parametrize("stride", [2, 3])
def test_direct_kernel_with_strides_along_rows(directly, stride):
    """Rows are reordered, and each sample needs its padding again."""
    window = Window.of(2, 7, stride, 3, dilation=(1, 2))
    same_convolution(directly, (3, 3, 16, 31), 5, window, 1, np.float32)


def test_which_kernel_convolves(numba, monkeypatch):
    """The direct one, where channels and filters are few, as LeNet's are; else the implicit one."""
    from tinyml_backends.numba_backend import convolution as kernels

    ran = []
    monkeypatch.setattr(kernels, "run", lambda kernel, *_: ran.append(kernel))
    rng, direct, implicit = np.random.default_rng(0), kernels.direct.conv, kernels.implicit.conv
    for shape, filters, stride, expected in (
        ((2, 1, 28, 28), 6, 1, direct),
        ((2, 6, 14, 14), 16, 1, direct),
        ((1, 16, 64, 64), 16, 1, direct),
        ((1, 16, 64, 64), 16, 2, direct),
        ((1, 16, 64, 64), 40, 2, implicit),
        ((1, 128, 8, 8), 16, 1, implicit),
    ):
        x = normal(rng, *shape, dtype=np.float32)
        weight = normal(rng, filters, shape[1], 5, 5, dtype=np.float32)
        numba.conv(x, weight, None, Window.of(2, 5, stride, 2), 1)
        assert ran.pop() is expected
    assert not ran


def same_convolution(backend, shape, filters, window, groups, dtype):
    """Output and gradients, from arrays next to protected memory."""
    rng = np.random.default_rng(0)
    x = normal(rng, *shape, dtype=dtype)
    weight = normal(rng, filters, shape[1] // groups, *window.size, dtype=dtype)
    bias = normal(rng, filters, dtype=dtype)
    outputs = window.output_shape(shape[2:])
    gradient = normal(rng, shape[0], filters, *outputs, dtype=dtype)
    for at_end in (True, False):
        x_, weight_, bias_, gradient_ = (guarded(a, at_end) for a in (x, weight, bias, gradient))
        for method, arguments in (
            ("conv", (x_, weight_, bias_, window, groups)),
            ("conv", (x_, weight_, None, window, groups)),
            ("conv_input", (gradient_, weight_, None, shape[2:], window, groups)),
            ("conv_weight", (gradient_, x_, weight.shape, window, groups)),
            ("conv_gradient", (gradient_, x_, weight_, window, groups)),
        ):
            wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arguments]
            found = getattr(backend, method)(*arguments)
            expected = getattr(convolution, method)(NUMPY, *wide)
            if not isinstance(found, tuple):
                found, expected = (found,), (expected,)
            for ours, theirs in zip(found, expected, strict=True):
                close(ours, theirs, dtype)
