"""tinyml.functional against torch.nn.functional: signatures, values, indices, refusals."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyml
import tinyml.functional as F
from support.compare import assert_same_bits
from support.strategies import FLOATS, arrays, geometries
from tinyml import SwitchIndexError

FAMILIES = [
    "max_pool{}d",
    "max_pool{}d_with_indices",
    "max_unpool{}d",
    "avg_pool{}d",
    "adaptive_max_pool{}d",
    "adaptive_max_pool{}d_with_indices",
    "adaptive_avg_pool{}d",
]
NAMES = [family.format(axes) for family in FAMILIES for axes in (1, 2, 3)]


def names_and_defaults(function):
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", NAMES)
def test_signatures_equal_pytorch(backend, torch, name):
    theirs = getattr(torch.nn.functional, name)
    ours = names_and_defaults(getattr(F, name))
    assert getattr(F, name).__name__ == name
    assert name in getattr(F, name).__doc__
    if inspect.isbuiltin(theirs):  # the signature is in the first line of its text
        first = theirs.__doc__.strip().partition(" ->")[0]
        arguments = first[first.index("(") + 1 : -1].split(", ")
        expected = [part.partition("=")[0] for part in arguments]
        assert [n for n, _ in ours] == expected
        return
    if not name.endswith("_with_indices"):  # a dispatcher that hides its signature
        counterpart = getattr(torch.nn.functional, f"{name}_with_indices", theirs)
        theirs = counterpart
    assert ours == names_and_defaults(theirs)


@given(data=st.data(), case=geometries(symmetric=True))
def test_max_pool_and_unpool(backend, torch, data, case):
    shape, geometry = case
    axes = len(shape)
    dtypes = (*FLOATS, "int8", "int16", "int32", "int64", "uint8")
    lead = data.draw(st.sampled_from([(2, 1), (3,)]))
    x = data.draw(arrays((*lead, *shape), dtypes))
    padding = tuple(before for before, _ in geometry["padding"])
    arguments = (geometry["size"], geometry["stride"], padding, geometry["dilation"])
    tensor = torch.from_numpy(x.copy(order="C"))
    theirs = getattr(torch.nn.functional, f"max_pool{axes}d")
    ours = getattr(F, f"max_pool{axes}d")
    expected = theirs(tensor, *arguments, geometry["ceil_mode"], return_indices=True)
    y, indices = ours(backend.asarray(x), *arguments, geometry["ceil_mode"], return_indices=True)
    assert_same_bits(backend.to_numpy(y), expected[0].numpy())
    assert_same_bits(backend.to_numpy(indices), expected[1].numpy())
    alone = ours(backend.asarray(x), *arguments, geometry["ceil_mode"])
    assert_same_bits(backend.to_numpy(alone), expected[0].numpy())
    pair = getattr(F, f"max_pool{axes}d_with_indices")(backend.asarray(x), *arguments)
    assert len(pair) == 2

    if x.dtype.kind != "f":
        return
    # any cells of the plane, each once: PyTorch defines no other case
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pooled = tuple(y.shape[-axes:])
    sizes = [
        (n - 1) * s + k - 2 * p
        for n, s, k, p in zip(pooled, geometry["stride"], geometry["size"], padding, strict=True)
    ]
    low = [max(1, n - s + 1) for n, s in zip(sizes, geometry["stride"], strict=True)]
    high = [n + s - 1 for n, s in zip(sizes, geometry["stride"], strict=True)]
    if any(a > b for a, b in zip(low, high, strict=True)):
        return  # the range forgets dilation
    size = [data.draw(st.integers(a, b)) for a, b in zip(low, high, strict=True)]
    if int(np.prod(size)) < int(np.prod(pooled)):
        return
    planes = int(np.prod(lead))
    chosen = np.stack(
        [rng.permutation(int(np.prod(size)))[: int(np.prod(pooled))] for _ in range(planes)]
    ).reshape(y.shape)
    name = f"max_unpool{axes}d"
    rest = (geometry["size"], geometry["stride"], padding, tuple(size))
    expected = getattr(torch.nn.functional, name)(
        torch.from_numpy(backend.to_numpy(y)), torch.from_numpy(chosen), *rest
    )
    out = getattr(F, name)(y, backend.asarray(chosen), *rest)
    assert_same_bits(backend.to_numpy(out), expected.numpy())


def test_unpool_duplicates_keep_the_last(backend):
    y = backend.asarray(np.array([[[1.0, 2.0, 3.0]]]))
    indices = backend.asarray(np.array([[[4, 4, 0]]]))
    out = F.max_unpool1d(y, indices, 2)
    assert backend.to_numpy(out).tolist() == [[[3.0, 0, 0, 0, 2.0, 0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_indices_of_every_integer_dtype(backend, dtype):
    indices = np.array([[[[5, 7], [13, 15]]]], dtype)
    y = backend.asarray(np.arange(1, 5, dtype=np.float32).reshape(indices.shape))
    out = backend.to_numpy(F.max_unpool2d(y, backend.asarray(indices), 2)).reshape(-1)
    assert out[[5, 7, 13, 15]].tolist() == [1, 2, 3, 4]
    assert np.count_nonzero(out) == 4
    gradient = tinyml.adaptive_max_pool_gradient(y, backend.asarray(indices), (4, 4))
    assert_same_bits(backend.to_numpy(gradient).reshape(-1), out)


def test_unpool_takes_the_output_size_of_a_whole_shape(backend, torch):
    y = np.arange(4.0).reshape(1, 1, 2, 2)
    indices = np.array([[[[0, 3], [20, 24]]]])
    for size in (None, (5, 5), (1, 1, 5, 5), [5, 5]):
        theirs = torch.nn.functional.max_unpool2d(
            torch.from_numpy(y), torch.from_numpy(indices % 16), 2, output_size=size
        )
        ours = F.max_unpool2d(
            backend.asarray(y), backend.asarray(indices % 16), 2, output_size=size
        )
        assert_same_bits(backend.to_numpy(ours), theirs.numpy())


@given(
    data=st.data(),
    axes=st.integers(1, 3),
    size=st.integers(1, 4),
    ceil_mode=st.booleans(),
    include=st.booleans(),
)
def test_avg_pool(backend, torch, data, axes, size, ceil_mode, include):
    shape = data.draw(st.tuples(*[st.integers(size, 7)] * axes))
    x = data.draw(arrays((2, 1, *shape), ("float32", "float64")))
    stride = data.draw(st.sampled_from([None, 1, 2, 3]))
    padding = data.draw(st.integers(0, size // 2))
    if (size,) * axes == shape:
        return
    arguments = (size, stride, padding, ceil_mode, include)
    expected = getattr(torch.nn.functional, f"avg_pool{axes}d")(
        torch.from_numpy(x.copy(order="C")), *arguments
    ).numpy()
    ours = backend.to_numpy(getattr(F, f"avg_pool{axes}d")(backend.asarray(x), *arguments))
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(ours), ~number)
    assert_same_bits(ours[number], expected[number])


@pytest.mark.parametrize("size", [3, (3, 3), (None, 2), (4, None), (5, 7)])
def test_adaptive_sizes(backend, torch, size):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    for name in ("adaptive_max_pool2d", "adaptive_avg_pool2d"):
        expected = getattr(torch.nn.functional, name)(torch.from_numpy(x), size).numpy()
        ours = getattr(F, name)(backend.asarray(x), size)
        np.testing.assert_allclose(backend.to_numpy(ours), expected, rtol=1e-12)
    y, indices = F.adaptive_max_pool2d(backend.asarray(x), 3, return_indices=True)
    pair = F.adaptive_max_pool2d_with_indices(backend.asarray(x), 3)
    assert_same_bits(backend.to_numpy(y), backend.to_numpy(pair[0]))
    assert indices.dtype == np.int64


REFUSED = [
    ("max_pool2d", (4, 4), (2,)),  # rank
    ("max_pool2d", (1, 1, 1, 4, 4), (2,)),
    ("max_pool1d", (1, 1, 4, 4), (2,)),
    ("max_pool3d", (1, 4, 4), (2,)),
    ("max_pool2d", (1, 0, 4, 4), (2,)),  # empty
    ("max_pool2d", (1, 1, 0, 4), (2,)),
    ("max_pool2d", (1, 1, 4, 4), (5,)),  # too large
    ("max_pool2d", (1, 1, 4, 4), (2, 0)),  # stride
    ("max_pool2d", (1, 1, 4, 4), (2, 2, 2)),  # padding over half
    ("max_pool2d", (1, 1, 4, 4), (2, 2, -1)),
    ("max_pool2d", (1, 1, 4, 4), (2, 2, 0, 0)),  # dilation
    ("max_pool2d", (1, 1, 4, 4), ((2, 2, 2),)),
    ("max_pool2d", (1, 1, 4, 4), (0,)),
    ("avg_pool2d", (1, 1, 4, 4), (2, 2, 2)),
    ("avg_pool2d", (1, 1, 4, 4), (5,)),
    ("avg_pool2d", (1, 1, 4, 4), (2, None, 0, False, True, 0)),  # divisor
    ("avg_pool2d", (4, 4), (2,)),
    ("adaptive_max_pool2d", (4, 4), (2,)),
    ("adaptive_max_pool2d", (1, 1, 4, 4), ((2, 2, 2),)),
    ("adaptive_max_pool2d", (1, 1, 0, 4), (2,)),
    ("adaptive_avg_pool2d", (4, 4), (2,)),
    ("adaptive_avg_pool2d", (1, 1, 4, 4), ((3,),)),
    ("adaptive_max_pool3d", (1, 1, 4, 4, 4), ((3,),)),
    ("adaptive_max_pool1d", (1, 1, 4), (None,)),
    ("adaptive_max_pool1d", (1, 1, 4), ((None,),)),
    ("adaptive_avg_pool2d", (1, 1, 4, 4), (None,)),
    ("avg_pool3d", (4, 5, 2, 3), (3, 2, 1)),
]


@pytest.mark.parametrize("arguments", [((3,),), (3, (3,)), (3, 3, (0,))])
def test_unpooling_takes_one_int_or_all(backend, torch, arguments):
    y, indices = np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), int)
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        torch.nn.functional.max_unpool2d(torch.from_numpy(y), torch.from_numpy(indices), *arguments)
    with pytest.raises(ValueError, match="an int or 2 ints"):
        F.max_unpool2d(backend.asarray(y), backend.asarray(indices), *arguments)


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("adaptive_max_pool2d", (2, 3, 4, 5), 0),
        ("adaptive_avg_pool2d", (2, 3, 4, 5), (0, 2)),
        ("adaptive_avg_pool1d", (0, 4), 7),
        ("adaptive_max_pool2d", (0, 4, 7), (7, 7)),
        ("adaptive_avg_pool3d", (0, 2, 4, 4, 4), 2),
    ],
)
def test_empty_results(backend, torch, name, shape, size):
    x = np.zeros(shape)
    expected = getattr(torch.nn.functional, name)(torch.from_numpy(x), size).numpy()
    assert_same_bits(backend.to_numpy(getattr(F, name)(backend.asarray(x), size)), expected)


@pytest.mark.parametrize(("name", "shape", "arguments"), REFUSED)
def test_what_pytorch_refuses_is_refused(backend, torch, name, shape, arguments):
    x = np.zeros(shape)
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        getattr(torch.nn.functional, name)(torch.from_numpy(x), *arguments)
    with pytest.raises((ValueError, TypeError)):
        getattr(F, name)(backend.asarray(x), *arguments)


def test_the_range_of_output_sizes_is_named(backend):
    y = backend.asarray(np.zeros((1, 1, 2, 2)))
    indices = backend.asarray(np.zeros((1, 1, 2, 2), int))
    with pytest.raises(ValueError, match=r"output_size is \(7, 4\); .* may be 3 to 5, 3 to 5"):
        F.max_unpool2d(y, indices, 2, output_size=(7, 4))
    with pytest.raises(ValueError, match=r"output_size is .*; it must be"):
        F.max_unpool2d(y, indices, 2, output_size=(4,))


def test_an_unpooling_that_padding_leaves_empty(backend):
    y, indices = np.zeros((1, 1, 2)), np.zeros((1, 1, 2), int)
    with pytest.raises(SwitchIndexError, match="its plane is empty"):
        F.max_unpool1d(backend.asarray(y), backend.asarray(indices), 1, 1, 1)
    with pytest.raises(ValueError, match=r"output_size is \(5,\); its lengths may be 0 to 0"):
        F.max_unpool1d(backend.asarray(y), backend.asarray(indices), 1, 1, 1, (5,))


@pytest.mark.parametrize("value", [-1, 16, 2**63 - 1, -(2**63)])
def test_bad_indices(backend, value):
    y = backend.asarray(np.zeros((2, 1, 2, 2)))
    indices = np.zeros((2, 1, 2, 2), int)
    indices[1, 0, 0, 1] = value
    with pytest.raises(SwitchIndexError, match=rf"indices\[1, 0, 0, 1\] is {value}; .* 0 to 15"):
        F.max_unpool2d(y, backend.asarray(indices), 2)


def test_bad_unpool_arguments(backend):
    y = backend.asarray(np.zeros((1, 1, 2, 2)))
    with pytest.raises(TypeError, match="indices have dtype float64; they must be integers"):
        F.max_unpool2d(y, y, 2)
    with pytest.raises(ValueError, match="indices has shape"):
        F.max_unpool2d(y, backend.asarray(np.zeros((1, 1, 2, 3), int)), 2)
    with pytest.raises(TypeError, match="no array of a known library"):
        F.max_unpool2d(y, [[0]], 2)
