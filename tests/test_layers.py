"""MaxPool2D and MaxUnpool2D: the original signatures, attributes and errors."""

import inspect

import numpy as np
import pytest

import tinyml
from support import reference
from support.compare import assert_same_bits
from tinyml.layers import Layer, MaxPool2D, MaxUnpool2D


def image(backend, *shape, dtype=np.float32):
    values = np.random.default_rng(0).permutation(int(np.prod(shape)))
    return backend.asarray(values.astype(dtype).reshape(shape))


@pytest.mark.host
def test_the_original_signatures():
    """Positional, in the original's order; every further option is keyword-only."""
    for layer, names in (
        (MaxPool2D, ["name", "input_dim", "size", "stride", "return_index"]),
        (MaxUnpool2D, ["name", "input_dim", "size", "stride"]),
        (Layer, ["name"]),
    ):
        parameters = inspect.signature(layer).parameters.values()
        assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == names
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters if p.name not in names)


def test_the_worked_example(backend):
    x = backend.asarray(np.arange(1.0, 10.0).reshape(1, 1, 3, 3))
    pool = MaxPool2D("pool", (1, 3, 3), (2, 2), 1, return_index=True)
    y, indices = pool(x)
    assert_same_bits(backend.to_numpy(y), np.array([[[[5.0, 6.0], [8.0, 9.0]]]]))
    assert_same_bits(backend.to_numpy(indices), np.full((1, 1, 2, 2), 3))
    out = MaxUnpool2D("unpool", (1, 2, 2), (2, 2), 1)(y, indices)
    assert_same_bits(backend.to_numpy(out), np.array([[[[0, 0, 0], [0, 5, 6], [0, 8, 9]]]], float))


def test_attributes(backend):
    pool = MaxPool2D("pool", (3, 7, 8), (3, 2), 2)
    assert (pool.name, pool.type) == ("pool", "MaxPool2D")
    assert (pool.input_channel, pool.input_height, pool.input_width) == (3, 7, 8)
    assert (pool.size, pool.stride) == ((3, 2), 2)
    assert (pool.out_height, pool.out_width, pool.out_dim) == (3, 4, (3, 3, 4))
    pool(image(backend, 5, 3, 7, 8))
    assert pool.num_of_entries == 5
    unpool = MaxUnpool2D("unpool", (3, 3, 4), [3, 2], 2)
    assert (unpool.name, unpool.type) == ("unpool", "MaxUnpool2D")
    assert (unpool.size, unpool.stride) == ([3, 2], 2)
    assert (unpool.out_height, unpool.out_width, unpool.out_dim) == (7, 8, (3, 7, 8))


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (1, 4)])
def test_non_square_windows(backend, size):
    """The winner w of a window (kh, kw) is at row w // kw and column w % kw."""
    x = image(backend, 2, 3, 6, 12)
    geometry = {
        "size": size,
        "stride": size,
        "padding": ((0, 0),) * 2,
        "dilation": (1, 1),
        "ceil_mode": False,
    }
    pool = MaxPool2D("pool", (3, 6, 12), size, size, return_index=True)
    y, indices = pool(x)
    unpool = MaxUnpool2D("unpool", pool.out_dim, size, size)
    out = backend.to_numpy(unpool(y, indices))
    planes = backend.to_numpy(x).reshape(6, 6, 12)
    values, winners, _ = reference.max_pool(planes, **geometry)
    expected = reference.max_unpool(values, winners, (6, 12), **geometry)
    assert_same_bits(out.reshape(6, 6, 12), expected)


def test_switches_bring_odd_images_back(backend):
    x = image(backend, 2, 1, 5, 5)
    pool = MaxPool2D("pool", (1, 5, 5), (2, 2), 2)
    unpool = MaxUnpool2D("unpool", (1, 2, 2), (2, 2), 2)
    y = pool(x)
    assert unpool(y, pool.switches.to("window")).shape == (2, 1, 4, 4)
    out = unpool(y, pool.switches)
    assert out.shape == x.shape
    assert (unpool.out_height, unpool.out_width, unpool.out_dim) == (5, 5, (1, 5, 5))
    # plain indices give the smallest size that fits
    assert unpool(y, pool.switches.to("window")).shape == (2, 1, 4, 4)
    assert unpool.out_dim == (1, 4, 4)


@pytest.mark.parametrize("flatten", [np.ravel, lambda a: a.reshape(2, -1), np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_indices_of_any_shape_and_dtype(backend, dtype, flatten):
    x = image(backend, 2, 3, 4, 4)
    pool = MaxPool2D("pool", (3, 4, 4), 2, 2, return_index=True)
    y, indices = pool(x)
    unpool = MaxUnpool2D("unpool", (3, 2, 2), 2, 2)
    expected = backend.to_numpy(unpool(y, pool.switches))
    given = flatten(backend.to_numpy(indices).astype(dtype))
    assert_same_bits(backend.to_numpy(unpool(y, backend.asarray(given))), expected)


@pytest.mark.parametrize(
    "options", [{}, {"padding": 1, "dilation": 2}, {"padding": ((1, 0), (0, 1))}]
)
def test_options_and_gradients(backend, options):
    x = image(backend, 2, 3, 9, 8)
    pool = MaxPool2D("pool", (3, 9, 8), 3, 2, **options, ceil_mode=True)
    y = pool(x)
    expected, switches = tinyml.max_pool(x, 3, 2, **options, ceil_mode=True)
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(expected))
    assert y.shape[1:] == pool.out_dim
    unpool = MaxUnpool2D("unpool", pool.out_dim, 3, 2, **options)
    out = unpool(y, pool.switches)
    assert_same_bits(backend.to_numpy(out), backend.to_numpy(tinyml.max_unpool(y, switches)))
    assert_same_bits(
        backend.to_numpy(pool.backward(y)), backend.to_numpy(tinyml.max_pool_gradient(y, switches))
    )
    assert_same_bits(
        backend.to_numpy(unpool.backward(x)),
        backend.to_numpy(tinyml.max_unpool_gradient(x, switches)),
    )


@pytest.mark.parametrize("dim", [[1, 4, 4], np.array([1, 4, 4])])
def test_dimensions_of_other_integers(backend, dim):
    pool = MaxPool2D("pool", dim, 2, 2)
    assert pool.out_dim == (1, 2, 2)
    assert all(type(n) is int for n in (*pool.input_dim, *pool.out_dim))
    assert pool(image(backend, 1, 1, 5, 9)).shape == (1, 1, 2, 4)


@pytest.mark.parametrize(
    ("dim", "error"),
    [
        ((1, 4.0, 4.0), TypeError),
        (4, TypeError),
        (None, TypeError),
        ((4, 4), ValueError),
        ((-1, 4, 4), ValueError),
    ],
)
def test_bad_dimensions(backend, dim, error):
    for layer in (MaxPool2D, MaxUnpool2D):
        with pytest.raises(error, match=r"input_dim is .*"):
            layer("layer", dim, 2, 2)
    MaxPool2D("pool", (1, 4, 4), 2, 2)  # nothing was half-changed


def test_the_original_keyword(backend):
    pool = MaxPool2D("pool", (1, 4, 4), 2, 2, return_index=True)
    y, indices = pool.forward(input=image(backend, 2, 1, 4, 4))
    unpool = MaxUnpool2D("unpool", (1, 2, 2), 2, 2)
    assert unpool.forward(input=y, max_indices=indices).shape == (2, 1, 4, 4)
    with pytest.raises(TypeError, match="no array of a known library"):
        pool([[1.0]])


def test_backward_before_forward(backend):
    gradient = image(backend, 1, 1, 2, 2)
    for layer in (MaxPool2D("a", (1, 4, 4), 2, 2), MaxUnpool2D("b", (1, 2, 2), 2, 2)):
        with pytest.raises(RuntimeError, match=r"'[ab]'\): backward needs a forward pass"):
            layer.backward(gradient)


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (1, 3, 5, 4), (1, 4, 4), (16,)])
def test_wrong_input_shape(backend, shape):
    pool = MaxPool2D("pool", (1, 4, 4), 2, 2)
    pool(image(backend, 3, 1, 4, 4))
    before = pool.switches
    with pytest.raises(ValueError, match=r"'pool'\): input has shape .*; it must be \(samples, 1,"):
        pool(image(backend, *shape))
    assert pool.switches is before
    assert pool.num_of_entries == 3
    with pytest.raises(ValueError, match=r"gradient has shape .*; it must be \(3, 1, 2, 2\)"):
        pool.backward(image(backend, *shape))


class TestUnpoolInput:
    """A refused call changes nothing: switches and shapes are those of the call before."""

    @pytest.fixture
    def unpool(self, backend):
        layer = MaxUnpool2D("unpool", (1, 2, 2), (2, 2), 2)
        layer(image(backend, 3, 1, 2, 2), backend.asarray(np.zeros((3, 1, 2, 2), int)))
        self.switches = layer.switches
        yield layer
        assert layer.switches is self.switches
        assert (layer.num_of_entries, layer.out_dim) == (3, (1, 4, 4))

    @pytest.mark.parametrize(
        ("indices", "error", "message"),
        [
            (np.zeros(3, int), ValueError, r"max_indices have 3 elements \(3,\).* needs 4"),
            (np.zeros(4), TypeError, "indices have dtype float64; they must be integers"),
            (np.array([0, 1, 4, 0]), IndexError, r"indices\[0, 0, 1, 0\] is 4; .* 0, 1, 2, 3"),
            (np.array([0, -1, 0, 0]), IndexError, r"indices\[0, 0, 0, 1\] is -1"),
            (np.array([-(2**63), 0, 0, 0]), IndexError, r"is -9223372036854775808"),
            (np.array([0, 0, 0, 2**63 - 1]), IndexError, r"is 9223372036854775807"),
        ],
    )
    def test_indices(self, backend, unpool, indices, error, message):
        with pytest.raises(error, match=message):
            unpool(image(backend, 1, 1, 2, 2), backend.asarray(indices))

    def test_no_array(self, backend, unpool):
        with pytest.raises(TypeError, match="no array of a known library"):
            unpool(image(backend, 1, 1, 2, 2), [0, 0, 0, 0])

    def test_switches_of_another_window(self, backend, unpool):
        _, switches = tinyml.max_pool(image(backend, 1, 1, 6, 6), 3, 3)
        message = r"size \(3, 3\), stride \(3, 3\); this layer's is of size \(2, 2\)"
        with pytest.raises(ValueError, match=message):
            unpool(image(backend, 1, 1, 2, 2), switches)

    @pytest.mark.parametrize("options", [{"padding": 1}, {"dilation": 2}])
    def test_switches_of_other_padding_or_dilation(self, backend, unpool, options):
        _, switches = tinyml.max_pool(image(backend, 1, 1, 4, 4), 2, 2, **options)
        with pytest.raises(ValueError, match="max_indices are switches of a window of"):
            unpool(image(backend, 1, 1, 2, 2), switches)

    def test_switches_of_another_size(self, backend, unpool):
        _, switches = tinyml.max_pool(image(backend, 1, 1, 6, 6), 2, 2)
        with pytest.raises(ValueError, match=r"y has shape .*; it must be \(1, 1, 3, 3\)"):
            unpool(image(backend, 1, 1, 2, 2), switches)

    def test_input(self, backend, unpool):
        with pytest.raises(ValueError, match=r"input has shape \(1, 2, 3, 2\)"):
            unpool(image(backend, 1, 2, 3, 2), backend.asarray(np.zeros(12, int)))


@pytest.mark.host
@pytest.mark.parametrize("layer", [MaxPool2D, MaxUnpool2D])
@pytest.mark.parametrize(
    ("size", "stride", "options"),
    [(0, 1, {}), (2, 0, {}), (2, 1, {"padding": -1}), (2, 1, {"dilation": 0})],
)
def test_bad_construction(layer, size, stride, options):
    with pytest.raises(ValueError, match="every value must be at least"):
        layer("layer", (1, 4, 4), size, stride, **options)


@pytest.mark.host
def test_windows_that_do_not_fit():
    with pytest.raises(ValueError, match="more than the padded input"):
        MaxPool2D("pool", (1, 4, 4), 5, 1)
    with pytest.raises(ValueError, match="leaves an unpooled shape of"):
        MaxUnpool2D("unpool", (1, 1, 1), 2, 1, padding=1)
    with pytest.raises(ValueError, match="would hold none of them"):
        MaxUnpool2D("unpool", (1, 3, 3), 1, 1, padding=1)


@pytest.mark.host
def test_the_base_layer():
    layer = Layer("mine")
    assert (layer.name, layer.type, repr(layer)) == ("mine", "Layer", "Layer('mine')")
    with pytest.raises(NotImplementedError, match=r"Layer\.forward"):
        layer(1)
    with pytest.raises(NotImplementedError, match=r"Layer\.backward"):
        layer.backward(1)
