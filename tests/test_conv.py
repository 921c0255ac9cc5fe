"""Conv2D: values and gradients, in chunks and in threads."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import tinyml
from support.chunks import use_chunk_bytes
from support.compare import assert_same_bits
from support.gradients import check_gradients, in_float64
from support.strategies import laid_out
from tinyml.layers import Conv2D
from tinyml_backends import threads


@st.composite
def convolutions(draw):
    """A layer, and the number of samples."""
    groups = draw(st.sampled_from([1, 1, 2]))
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation = draw(st.tuples(st.sampled_from([1, 1, 2]), st.sampled_from([1, 1, 3])))
    pads = st.integers(0, 4)  # also more than the size: some windows hold only padding
    padding = draw(st.one_of(pads, st.tuples(st.tuples(pads, pads), st.tuples(pads, pads))))
    height, width = (
        d * (k - 1) + draw(st.integers(1, 6)) for d, k in zip(dilation, size, strict=True)
    )
    layer = Conv2D(
        "conv",
        (groups * draw(st.integers(1, 2)), height, width),
        groups * draw(st.integers(1, 2)),
        size,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        rng=draw(st.integers(0, 9)),
    )
    return layer, draw(st.integers(1, 3))


@given(data=st.data())
@pytest.mark.parametrize("chunk_bytes", [1, 700, 1 << 21])
def test_equals_pytorch(backend, torch, monkeypatch, chunk_bytes, data):
    use_chunk_bytes(monkeypatch, chunk_bytes)
    layer, samples = data.draw(convolutions())
    in_float64(layer, backend)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, *layer.input_dim))
    layout = data.draw(st.sampled_from(["C", "F", "strided", "reversed"]))
    y = layer(backend.asarray(laid_out(x, layout)))
    assert y.shape == (samples, *layer.out_dim)
    gradient = rng.standard_normal(y.shape)
    ours = layer.backward(backend.asarray(laid_out(gradient, layout)))

    tensors = [torch.from_numpy(x).requires_grad_()] + [
        torch.from_numpy(backend.to_numpy(p.tensor)).requires_grad_() for p in layer.parameters
    ]
    (top, bottom), (left, right) = layer.window.padding
    expected = torch.nn.functional.conv2d(
        torch.nn.functional.pad(tensors[0], (left, right, top, bottom)),
        *tensors[1:],
        stride=layer.window.stride,
        dilation=layer.window.dilation,
        groups=layer.groups,
    )
    expected.backward(torch.from_numpy(gradient))
    close = {"rtol": 1e-6, "atol": 1e-12}
    np.testing.assert_allclose(backend.to_numpy(y), expected.detach().numpy(), **close)
    np.testing.assert_allclose(backend.to_numpy(ours), tensors[0].grad.numpy(), **close)
    for parameter, tensor in zip(layer.parameters, tensors[1:], strict=True):
        np.testing.assert_allclose(
            backend.to_numpy(parameter.gradient), tensor.grad.numpy(), **close
        )


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (3, {"padding": 1}),
        ((2, 3), {"stride": 2, "padding": ((1, 0), (0, 2)), "bias": False}),
        (2, {"dilation": 2, "groups": 2}),
    ],
)
def test_gradients(backend, size, options):
    layer = Conv2D("conv", (2, 5, 6), 4, size, rng=0, **options)
    x = np.random.default_rng(1).standard_normal((2, 2, 5, 6))
    check_gradients(layer, x, backend)


def test_gradients_accumulate(backend):
    layer = Conv2D("conv", (1, 4, 4), 2, 3, rng=0)
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 1, 4, 4), np.float32))
    y = layer(x)
    layer.backward(y)
    once = [backend.to_numpy(p.gradient).copy() for p in layer.parameters]
    layer.backward(y)
    for parameter, gradient in zip(layer.parameters, once, strict=True):
        np.testing.assert_allclose(backend.to_numpy(parameter.gradient), 2 * gradient, rtol=1e-6)
    layer.zero_gradients()
    assert not any(backend.to_numpy(p.gradient).any() for p in layer.parameters)


def test_a_seed_means_the_same_weights(backend):
    def weights(rng):
        return backend.to_numpy(Conv2D("conv", (3, 8, 8), 4, 3, rng=rng).weight.tensor)

    assert_same_bits(weights(7), weights(7))
    assert_same_bits(weights(7), weights(np.random.default_rng(7)))
    assert (weights(7) != weights(8)).any()
    many = backend.to_numpy(Conv2D("conv", (64, 8, 8), 64, 3, rng=0).weight.tensor)
    assert many.dtype == np.float32
    assert many.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)  # He et al.


@pytest.mark.host
def test_threads_do_not_change_a_bit(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 8, 40, 50), np.float32)
    use_chunk_bytes(monkeypatch, 1 << 16)

    def run(count):
        monkeypatch.setattr(threads, "thread_count", lambda: count)
        layer = Conv2D("conv", (8, 40, 50), 8, 3, padding=1, rng=0)
        y = layer(x)
        return y, layer.backward(y), layer.weight.gradient

    for one, many in zip(run(1), run(4), strict=True):
        assert_same_bits(many, one)


@pytest.mark.host
def test_the_column_matrix_is_never_whole(monkeypatch):
    """Columns of the whole image would take 9 times its 16 MB; each thread has a chunk of them."""
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    layer = Conv2D("conv", (16, 512, 512), 1, 3, padding=1, rng=0)
    x = np.zeros((1, 16, 512, 512), np.float32)
    layer(x)
    tracemalloc.start()
    layer(x)
    forward = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    layer.backward(np.zeros((1, 1, 512, 512), np.float32))
    backward = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert forward < x.nbytes  # one output channel, and a few chunks
    assert backward < 2.5 * x.nbytes  # the gradient itself, and a few chunks


def test_bad_construction(backend):
    for groups, filters in ((2, 4), (3, 4)):
        with pytest.raises(ValueError, match=r"groups is .*; it must divide the 3 input channels"):
            Conv2D("conv", (3, 4, 4), filters, 3, groups=groups)
    for groups, filters in ((0, 3), (-1, 3), (1, 0)):
        with pytest.raises(ValueError, match=r"Conv2D\('conv'\): \w+ is .*; it must be at least 1"):
            Conv2D("conv", (3, 4, 4), filters, 3, groups=groups)
    with pytest.raises(ValueError, match="spans 5 cells of spatial axis 0"):
        Conv2D("conv", (3, 4, 4), 2, 5)
    with pytest.raises(ValueError, match="input_dim is"):
        Conv2D("conv", (3, 4), 2, 3)


def test_bad_input(backend):
    layer = Conv2D("conv", (3, 4, 4), 2, 3)
    good = backend.asarray(np.ones((2, 3, 4, 4), np.float32))
    layer(good)
    message = r"'conv'\): input has shape .* \(samples, 3, height, width\)"
    for shape in ((2, 1, 4, 4), (2, 4, 5, 4), (3, 4, 4)):
        with pytest.raises(ValueError, match=message):
            layer(backend.asarray(np.ones(shape, np.float32)))
    assert layer.saved is good
    with pytest.raises(TypeError, match="no array of a known library"):
        layer([[1.0]])
    with pytest.raises(ValueError, match=r"'conv'\): a window of .* spans 3 cells"):
        layer(good[:, :, :2])
    assert layer.saved is good
    with pytest.raises(ValueError, match=r"gradient has shape .*; it must be \(2, 2, 2, 2\)"):
        layer.backward(good)
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        Conv2D("conv", (3, 4, 4), 2, 3).backward(good)


def test_original_attributes(backend):
    layer = Conv2D("conv", (3, 9, 8), 5, (3, 2), 2, 1)
    assert (layer.type, layer.input_channel, layer.input_height, layer.input_width) == (
        *("Conv2D", 3, 9, 8),
    )
    assert (layer.size, layer.stride) == ((3, 2), 2)
    assert (layer.out_height, layer.out_width, layer.out_dim) == (5, 5, (5, 5, 5))
    layer(backend.asarray(np.ones((4, 3, 9, 8), np.float32)))
    assert layer.num_of_entries == 4


@pytest.mark.host
class TestThreads:
    def test_blas_gets_its_threads_back(self):
        threads._blas.cache_clear()  # libraries may have been loaded since

        def counts():
            return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

        with threadpool_limits(2, user_api="blas"):
            seen = []
            threads.run_in_order(lambda i: counts(), range(2), seen.append)
            assert all(set(c) == {1} for c in seen)
            assert set(counts()) == {2}

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_child_still_convolves(self):
        layer = Conv2D("conv", (4, 64, 64), 4, 3, padding=1, rng=0)
        x = np.ones((8, 4, 64, 64), np.float32)
        expected = layer(x)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, b"1" if (layer(x) == expected).all() else b"0")
            os._exit(0)
        assert os.read(read, 1) == b"1"
        os.waitpid(child, 0)
        assert tinyml.current_backend().name == "numpy"
