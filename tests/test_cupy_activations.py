"""The CUDA kernels of activations, which are made from the table of formulas."""

import re

import numpy as np
import pytest

from emulation import cupy, record
from emulation.backend import EmulatedCupyBackend
from emulation.memory import Memory
from support.compare import assert_same_bits
from support.strategies import laid_out
from tinyml_backends.cupy_backend import formulas
from tinyml_backends.cupy_backend.formulas import Functions, Symbol
from tinyml_backends.generic import activation
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = [pytest.mark.host, pytest.mark.emulation]

OPTIONS = {"leaky_relu": {"slope": 0.2}, "elu": {"alpha": 0.7}}
KINDS = [kind for kind, formula in activation.FORMULAS.items() if formula.is_elementwise]
DTYPES = ["float16", "float32", "float64"]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def emulated():
    record.clear()
    return EmulatedCupyBackend()


def numbers(dtype, count=64):
    """Numbers of all sizes, zeros, infinities and NaN."""
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1e-7, -1e-7, 60000, -60000]
    drawn = np.random.default_rng(0).standard_normal(count - len(special)) * 3
    return np.concatenate([special, drawn]).astype(dtype)


@each_kind
@each_dtype
@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
def test_equals_the_generic_code(emulated, kind, dtype, layout):
    """Within 6 ulp, which is the sum of both errors; gradients from the same saved array."""
    options, generic = OPTIONS.get(kind, {}), NumpyBackend()
    x = laid_out(numbers(dtype).reshape(4, 16), layout)
    gradient = laid_out(numbers(dtype)[::-1].reshape(4, 16), layout)
    with np.errstate(all="ignore"):
        y, saved = activation.activate(generic, kind, x, **options)
        back = activation.activate_gradient(generic, kind, gradient, saved, **options)
    ours, kept = emulated.activate(kind, cupy.asarray(x), **options)
    theirs = emulated.activate_gradient(
        kind, cupy.asarray(gradient), cupy.asarray(saved), **options
    )
    assert (kept.dtype, kept.shape) == (saved.dtype, saved.shape)
    eps = np.finfo(dtype).eps
    # the argument of GELU's exponential is a rounded square
    close = {"rtol": (100 if "gelu" in kind else 6) * eps, "atol": np.finfo(dtype).tiny}
    np.testing.assert_allclose(emulated.to_numpy(ours), y, **close)
    close["atol"] = 20 * eps
    np.testing.assert_allclose(emulated.to_numpy(theirs), back, **close)


@each_dtype
def test_relu_keeps_the_bits_of_nan(emulated, dtype):
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    payload = (np.array([np.nan, -np.nan], dtype).view(bits) + bits.type(5)).view(dtype)
    x = np.concatenate([payload, np.array([-1, 2], dtype)])
    y, positive = emulated.activate("relu", cupy.asarray(x))
    back = emulated.activate_gradient("relu", cupy.asarray(x), cupy.ones(4, bool))
    assert_same_bits(emulated.to_numpy(y), np.concatenate([payload, np.array([0, 2], dtype)]))
    assert_same_bits(emulated.to_numpy(back), x)
    np.testing.assert_array_equal(emulated.to_numpy(positive), [False, False, False, True])


@each_kind
@pytest.mark.parametrize(("count", "pack"), [(64, True), (63, False)])
@each_dtype
def test_one_launch_without_temporaries(emulated, kind, count, pack, dtype, monkeypatch):
    options = OPTIONS.get(kind, {})
    x, gradient = (cupy.asarray(numbers(dtype, count)) for _ in range(2))
    made = []
    init = Memory.__init__
    monkeypatch.setattr(Memory, "__init__", lambda self, n: (made.append(n), init(self, n))[1])
    _, saved = emulated.activate(kind, x, **options)
    emulated.activate_gradient(kind, gradient, saved, **options)
    assert made == [x.nbytes, *([count] if saved.dtype == bool else []), x.nbytes]
    names = [re.match(r"(\w+)<(\w+),.* (\d+)>", launch.name).groups() for launch in record]
    signed = "_signed" if saved.dtype == bool else ""
    adjacent = str(16 // x.itemsize if pack else 1)
    struct = formulas.struct_name(kind)
    assert names == [
        (f"activate{signed}", struct, adjacent),
        ("activate_gradient", struct, adjacent),
    ]


def test_an_array_that_is_not_aligned(emulated):
    x = cupy.asarray(numbers("float32", 65))
    y, _ = emulated.activate("tanh", x[1:])
    assert record[0].name == "activate<Tanh, float, float, int, 1>"
    expected, _ = emulated.activate("tanh", x[1:].copy())
    assert record[1].name == "activate<Tanh, float, float, int, 4>"
    assert_same_bits(emulated.to_numpy(y), emulated.to_numpy(expected))


def test_other_dtypes_and_shapes_run_the_generic_code(emulated):
    x = cupy.asarray(numbers("float32"))
    y, _ = emulated.activate("tanh", x)
    record.clear()
    assert emulated.activate_gradient("tanh", x.astype("f8"), y).dtype == np.float32
    assert emulated.activate_gradient("relu", x[:1], cupy.ones(3, bool)).shape == (3,)
    with pytest.raises(ValueError, match="broadcast"):
        emulated.activate_gradient("tanh", x[:3], y)
    with pytest.raises(TypeError, match="input has dtype complex64"):
        emulated.activate("tanh", x.astype("c8"))
    assert not record


def test_integers_are_computed_in_float32(emulated):
    y, _ = emulated.activate("sigmoid", cupy.asarray(np.arange(-4, 4)))
    assert y.dtype == np.float32
    assert record[0].name == "activate<Sigmoid, float, float, int, 4>"


def test_empty_arrays(emulated):
    for kind in KINDS:
        y, saved = emulated.activate(kind, cupy.ones((2, 0), "f4"), **OPTIONS.get(kind, {}))
        back = emulated.activate_gradient(kind, y, saved, **OPTIONS.get(kind, {}))
        assert y.shape == back.shape == (2, 0)


@pytest.mark.parametrize(
    ("dtype", "number", "text"),
    [
        ("float32", 0.1, "0.1f"),
        ("float32", 1, "1.0f"),
        ("float64", 0.1, "0.1"),
        ("float64", np.float64(1e-30), "1e-30"),
        ("float32", -1e-30, "-1e-30f"),
        ("float16", 0, "to_half(0.0f)"),
    ],
)
def test_numbers_have_the_type_of_the_other_operand(dtype, number, text):
    lines = []
    x = Symbol(lines, np.dtype(dtype), "x")
    Functions().maximum(x, number)
    assert f"larger(x, {text});" in lines[0]
